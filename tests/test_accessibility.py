"""axe-core runs in the browser of the tests and sees what it is for."""

import pytest

pytestmark = pytest.mark.browser
GOOD = "<label>steps <input></label>"
BAD = '<input name="bare"><div role="slider" tabindex="0">x</div><p style="color: #bbb">pale</p>'


def page_of(folder, body):
    file = folder / "page.html"
    file.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>x</title>'
        f'<main style="background: #fff"><h1>x</h1><svg></svg>{body}</main>',
        encoding="utf8",
    )
    return file.as_uri()


def test_axe_sees_what_it_is_for(browser, faults, tmp_path):
    browser.open(page_of(tmp_path, GOOD))
    assert faults() == []
    browser.open(page_of(tmp_path, f'{GOOD}<section id="bad">{BAD}</section><h4>skips two</h4>'))
    found = faults()
    rules = sorted(line.split()[1] for line in found)
    assert rules == ["aria-input-field-name", "aria-required-attr", "color-contrast", "label"]
    assert all(line.startswith(("serious: ", "critical: ")) for line in found)
    assert faults("#bad") and faults("label") == []
    assert [line for line in faults(impacts=("moderate",)) if "heading-order" in line]
