"""The walk through the lab: its links, what is to be pressed, its numbers, its time."""

import re
import time
from dataclasses import replace

import pytest
from test_lab import Page, numbers
from test_lab_cells import near

from circuitbook import load_suite
from circuitbook.figures.lab import lab
from circuitbook.figures.lab_walk import walk_links
from circuitbook.figures.lab_weights import weights_files
from circuitbook.figures.scripts import SCRIPTS
from circuitbook.heads.names import head_name
from circuitbook.store import Store
from circuitbook.studies.findings.lab_walk import walk_through
from circuitbook.studies.lab import FIRST, measure_example
from circuitbook.studies.switching import measure_switched

SUITE = load_suite("mini")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def walk(store):
    return walk_through(SUITE, "mini-s", store)


def test_the_walk_leads_to_where_things_happen(walk, store):
    node = head_name(walk.head)
    seen = {
        at.step: at
        for at in measure_switched(
            SUITE, "mini-s", SUITE.steps("mini-s"), store, FIRST, [{node: "other"}]
        )
    }
    steps = [step.step for step in walk.steps]
    assert len(steps) == 5 and steps[0] == 0 and steps[3] == 3906 and steps[2] == steps[4]
    named, apart = seen[steps[1]], seen[steps[2]]
    before = [at for step, at in seen.items() if step < steps[1]]
    assert named.next_words()[0][0] in ("Mary", "John")
    assert not {at.next_words()[0][0] for at in before} & {"Mary", "John"}
    last_before = max(step for step in seen if step < apart.step)
    told = {step: at.own > 0 > at.other for step, at in seen.items() if step >= last_before}
    assert told == {step: step >= apart.step for step in told}
    others = [f"a{layer}.h{head}" for layer in range(3) for head in range(4)]
    (end,) = measure_switched(
        SUITE, "mini-s", [3906], store, FIRST, [{other: "other"} for other in others]
    )
    assert others[end.switched.argmin()] == node  # furthest to the other sentence, which is below
    assert walk.table.iloc[-1]["Mary less John"] == f"{end.own:.2f}"
    assert walk.table.iloc[-1].iloc[4] == f"{end.switched.min():.2f}"
    assert len(walk.table) == 13
    assert f"{(end.own - end.switched.min()) / (end.own - end.other):.0%} of the way" in walk.seen


def test_a_model_that_is_told_late_has_a_shorter_walk(store):
    short = walk_through(SUITE, "mini-xs", store)
    assert [step.step for step in short.steps] == [0, 362, 3906, 3906]
    assert "When the sentences part" not in short.seen


def test_outside_the_book_there_is_the_table_alone(walk, monkeypatch):
    monkeypatch.delenv("CIRCUITBOOK_PAGES", raising=False)
    text = walk_links(walk).data
    assert "<a " not in text and "<table" in text and "2.97M" in text
    monkeypatch.setenv("CIRCUITBOOK_PAGES", "1")
    sly = replace(walk, example=replace(walk.example, text='"><b>&'))
    text = walk_links(sly).data
    assert "<b>" not in text and text.count("<a href=") == 5


@pytest.fixture(scope="module")
def site(tmp_path_factory, walk, store):
    folder = tmp_path_factory.mktemp("site")
    (folder / "_static" / "lab").mkdir(parents=True)
    (folder / "notebooks").mkdir()
    for name in ("circuit-drawing.js", "lab.js", "lab-engine.js"):
        (folder / "_static" / name).write_text(SCRIPTS[name](), encoding="utf8")
    for name, text in weights_files(SUITE, {"mini-s": SUITE.steps("mini-s")}):
        (folder / "_static" / name).write_text(text, encoding="utf8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIRCUITBOOK_PAGES", "1")
        view = walk_links(walk).data + lab(SUITE, measure_example(SUITE, "mini-s", store)).data
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>x</title>'
    (folder / "notebooks" / "page.html").write_text(
        f"{head}<main><article>{view}</article></main>", encoding="utf8"
    )
    return folder


@pytest.mark.browser
def test_a_reader_walks(browser, site, walk, store):
    """Each link, and what the text says; the numbers are the library's. The page itself may take
    some seconds of the reader's two minutes."""
    page = Page(browser, (site / "notebooks" / "page.html").as_uri())
    page.open(start=False)
    node, label = head_name(walk.head), "{}.{}".format(*walk.head)
    waited = []
    for i, step in enumerate(walk.steps):
        begun = time.monotonic()
        browser.press(f"ol li:nth-child({i + 1}) a", "ENTER")
        if "Press Start" in step.to_do:
            browser.click("[name=start]")
        said = page.until(rf"step {step.step}\)\. .*{'With' if step.switches else ''}")
        if "twice" in step.to_do:
            assert page.text(".lb-looks h3") == f"Head {label}"
            for how in ("off", "from the other"):
                browser.click(f'[data-node="{node}"]')
                said = page.until(f"With {label} {how}")
        waited.append(time.monotonic() - begun)
        (at,) = measure_switched(SUITE, walk.model, [step.step], store, FIRST, [{node: "other"}])
        assert numbers(said)[:2] == near([at.own, at.other])
        switched = bool(step.switches) or "twice" in step.to_do
        assert (f"With {label} from the other" in said) == switched
        if switched:
            assert numbers(said)[2] == near(float(at.switched[0]))
        words = [word.strip() for word in page.bars()]
        assert at.next_words()[0][0] in words and f"step {step.step})" in said
        seen = browser.run("return document.querySelector('.lb').getBoundingClientRect().top")
        assert -5 < seen < 400  # the lab is in view
    assert re.search(r"lab\.switched=a\d\.h\d%3Aother", browser.run("return location.href"))
    print(f"the page needs {sum(waited):.1f} s in {len(waited)} steps")
    assert sum(waited) < 30 and browser.complaints() == []
