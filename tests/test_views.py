"""Interactive views: their scripts, what they hand over, names that look like markup or code."""

import json
import re
import time

import numpy as np
import pandas as pd
import pytest
import torch
from IPython.display import HTML
from pygments.lexers import JavascriptLexer
from pygments.token import Comment

from circuitbook.figures import scripts
from circuitbook.figures.explorer import circuit_explorer
from circuitbook.figures.scripts import MODULES, SCRIPTS, joined
from circuitbook.figures.views import attention_heads, beside, head_browser, script_json, view

NOT_OURS = ("circuitsvis.js",)
NASTY = ("<svg onload=alert(1)>", "<!--<script>", "KINDS", "$x$", "a&lt;b</script>", "__proto__")


def tables_of(*models: str) -> dict[str, pd.DataFrame]:
    table = pd.DataFrame(
        {
            "tokens_seen": [0, 10, 0, 10],
            "layer": [0, 0, 0, 0],
            "head": [0, 0, 1, 1],
            "induction": [0.1, 0.25, np.nan, 0.75],
            "previous": [0.1, 0.2, np.nan, np.nan],
        }
    )
    return dict.fromkeys(models, table)


def data_in(page: str) -> dict:
    """What a view hands over to its script."""
    return json.loads(re.search(r"<script type=\"application/json\"[^>]*>(.*?)</script>", page)[1])


# ------------------------------------------------------------------ scripts


@pytest.mark.parametrize(
    "entry",
    ["explorer.js", "head-browser.js", "attention-heads.js", "lab.js", "engine.js", "load-view.js"],
)
def test_joined_modules_share_a_scope_without_quarrels(entry, monkeypatch):
    # with its indentation, which tells what is declared at the top level
    monkeypatch.setattr(scripts, "_stripped", lambda source, name: source)
    script = joined.__wrapped__(entry)
    assert not re.search(r"^(import|export)\b", script, re.MULTILINE)
    declared = re.findall(r"^(?:async )?(?:function|const|let|class) (\w+)", script, re.MULTILINE)
    assert len(declared) == len(set(declared)) and len(declared) > 1 - (entry != "explorer.js")


def tokens_of(script: str) -> list[str]:
    """The script as pygments reads it, without comments and white space."""
    tokens = JavascriptLexer().get_tokens(script)
    return [text.strip() for kind, text in tokens if text.strip() and kind not in Comment]


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in NOT_OURS])
def test_a_script_loses_its_comments_and_nothing_else(name, monkeypatch):
    joined.cache_clear()
    script = SCRIPTS[name]()
    monkeypatch.setattr(scripts, "_stripped", lambda source, name: source)
    joined.cache_clear()
    whole = SCRIPTS[name]()
    joined.cache_clear()
    assert script.startswith("/*! circuitbook, MIT License */\n")
    assert tokens_of(whole) == tokens_of(script) and len(script) < 0.9 * len(whole)


def test_what_looks_like_a_comment_inside_a_string_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(scripts, "MODULES", tmp_path)
    kept = [
        'const a = "x // y";',
        "const b = `${a} // ${a}`;",
        "const c = /[/*]+ /.test(a);",
        "const d = 4 / 2; // as 'a' is",
    ]
    comments = ["/** What", " *  it is. */", "// and why", "", "/* one */"]
    (tmp_path / "a.js").write_text("\n".join(["  const z = 1; // one", *kept, *comments]))
    wanted = ["const z = 1;", *kept]
    assert joined.__wrapped__("a.js").splitlines()[3:-1] == wanted
    (tmp_path / "a.js").write_text("const a = `one\n  two`;\n")
    with pytest.raises(ValueError, match=r"a\.js: a template may not go on in the next line: con"):
        joined.__wrapped__("a.js")


def test_every_module_is_used_and_small_enough_to_read():
    modules = {file.name: file.read_text() for file in MODULES.glob("*.js")}
    inline = ("load-view.js", "verdict-filter.js")
    shipped = "".join([*(read() for read in SCRIPTS.values()), *map(joined, inline)])
    for name, text in modules.items():
        first = re.search(r"^(?:export )?((?:async )?function \w+)", text, re.MULTILINE)[1]
        assert first in shipped, name
        assert text.count("\n") < 250, name


def test_modules_that_cannot_be_joined_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(scripts, "MODULES", tmp_path)
    (tmp_path / "a.js").write_text('import { b } from "./b.js";\n\nexport const a = b + 1;\n')
    (tmp_path / "b.js").write_text("export const b = 1;\n")
    together = '(() => { "use strict"; const b = 1; const a = b + 1; })();'
    assert " ".join(joined.__wrapped__("a.js").splitlines()[1:]) == together
    (tmp_path / "b.js").write_text('import { a } from "./a.js";\n\nexport const b = a;\n')
    with pytest.raises(ValueError, match=r"import each other: a\.js -> b\.js -> a\.js"):
        joined.__wrapped__("a.js")
    (tmp_path / "b.js").write_text("export default 1;\n")
    with pytest.raises(ValueError, match=r"b\.js cannot be joined with others: export default"):
        joined.__wrapped__("a.js")


# ------------------------------------------------------------------ what is handed over


def test_json_in_a_script_element_cannot_end_it():
    value = {name: [name, 1.5, None, "\u2028"] for name in NASTY}
    packed = script_json(value)
    assert json.loads(packed) == value and packed.isascii()
    assert "<" not in packed
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json([float("nan")])


def test_what_a_view_is_given_is_escaped(monkeypatch):
    monkeypatch.setenv("CIRCUITBOOK_PAGES", "1")
    page = view('a"b', '<b> & "c"', "[]", ["head-browser.js"]).data
    assert 'id="a&quot;b"' in page and 'aria-label="&lt;b&gt; &amp; &quot;c&quot;"' in page


def test_views_beside_one_another_keep_their_data_and_have_names():
    both = beside({"A & B": HTML("<i>one</i>"), "C": HTML("<i>two</i>")}).data
    assert re.findall(r"<strong>(.*?)</strong></p><i>(.*?)</i>", both) == [
        ("A &amp; B", "one"),
        ("C", "two"),
    ]


def test_the_head_browser_holds_every_score_and_shares_its_scripts(monkeypatch):
    monkeypatch.setenv("CIRCUITBOOK_PAGES", "1")
    kinds = {"induction": "Induction"}
    page = head_browser(tables_of("m</script>"), kinds, ("m</script>", 0, 1)).data
    assert data_in(page) == {
        "models": {
            "m</script>": {
                "tokens": [0, 10],
                "heads": {
                    "0.0": {"induction": [0.1, 0.25]},
                    "0.1": {"induction": [None, 0.75]},
                },
            }
        },
        "kinds": kinds,
        "start": ["m</script>", "0", "1"],
    }
    assert 'data-scripts="head-browser.js"' in page and page.count("</script") == 2
    assert "http" not in page and len(page) < 6000
    monkeypatch.delenv("CIRCUITBOOK_PAGES")
    alone = head_browser(tables_of("m"), kinds).data
    assert joined("head-browser.js") in alone and alone.count("</script") == 2
    with pytest.raises(ValueError, match="at least one model"):
        head_browser({}, kinds)


def test_attention_views_share_one_script_in_the_book_and_bring_it_elsewhere(monkeypatch):
    patterns = torch.eye(3).expand(2, 3, 3)
    monkeypatch.setenv("CIRCUITBOOK_PAGES", "1")
    page = attention_heads(["a", "</script>", "c"], patterns, ["0.1", "1.0"]).data
    assert data_in(page) == {
        "tokens": ["a", "</script>", "c"],
        "attention": patterns.tolist(),
        "names": ["0.1", "1.0"],
    }
    assert 'data-scripts="attention-heads.js"' in page
    assert len(page) < 5000 and "http" not in page and page.count("</script") == 2
    monkeypatch.delenv("CIRCUITBOOK_PAGES")
    alone = attention_heads(["a", "b", "c"], patterns, ["0.1", "1.0"]).data
    assert joined("attention-heads.js") in alone and alone.count("</script") == 2
    assert "window.CircuitsVis" in alone and "circuitsvis" not in page.lower()
    with pytest.raises(ValueError, match=r"patterns must be \[1, 3, 3\]"):
        attention_heads(["a", "b", "c"], patterns, ["0.1"])


# ------------------------------------------------------------------ in a browser


@pytest.fixture(params=["in the book", "alone"])
def address_of(request, tmp_path, monkeypatch):
    """Writes views into a page, in the book or elsewhere: address_of(view, ...) -> its address."""
    if request.param == "in the book":
        monkeypatch.setenv("CIRCUITBOOK_PAGES", "1")
        (tmp_path / "_static").mkdir()
        for name, read in SCRIPTS.items():
            (tmp_path / "_static" / name).write_text(read(), encoding="utf8")
    else:
        monkeypatch.delenv("CIRCUITBOOK_PAGES", raising=False)

    def write(*draw):
        page = tmp_path / "notebooks" / "page.html"
        page.parent.mkdir()
        body = "".join(
            f'<section id="view{i}">{make().data}</section>' for i, make in enumerate(draw, 1)
        )
        head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>x</title>'
        page.write_text(head + body, encoding="utf8")
        return page.as_uri()

    return write


OPTIONS = (
    "return [...document.querySelectorAll(`#${arguments[0]} [name=${arguments[1]}] option`)]"
    ".map(option => option.value)"
)
STRANGERS = "return document.querySelectorAll('[role=group] script, svg[onload]').length"


def choose(browser, css: str, value: str) -> None:
    browser.run(
        "const menu = document.querySelector(arguments[0]); menu.value = arguments[1]; "
        "menu.dispatchEvent(new Event('change'))",
        css,
        value,
    )


@pytest.mark.browser
def test_the_head_browser_shows_the_chosen_head_and_takes_names_as_text(browser, address_of):
    kinds = {"induction": "KINDS <b>DATA</b> $x$", "previous": "Previous & <svg onload=alert(1)>"}
    browser.open(
        address_of(
            lambda: head_browser(tables_of("m", *NASTY), kinds, ("m", 0, 1)),
            lambda: head_browser(tables_of("other"), kinds),
        )
    )
    sentence = "return document.querySelector(`#${arguments[0]} .words`).textContent"
    assert browser.run(OPTIONS, "view1", "model") == ["m", *NASTY]
    assert browser.run(OPTIONS, "view1", "head") == ["0", "1"]
    end = "at the end: highest is kinds <b>data</b> $x$, "
    assert browser.run(sentence, "view1") == f"Head 0.1 of m {end}0.75."
    for name in NASTY:
        choose(browser, "#view1 [name=model]", name)
        assert browser.run(sentence, "view1") == f"Head 0.1 of {name} {end}0.75."
    choose(browser, "#view1 [name=head]", "0")
    assert browser.run(sentence, "view1") == f"Head 0.0 of {NASTY[-1]} {end}0.25."
    assert browser.run(sentence, "view2") == f"Head 0.0 of other {end}0.25."
    told = (
        "return [...document.querySelectorAll('#view1 .scores path > title')].map(title => "
        "[title.textContent, "
        "Number(title.parentElement.getAttribute('transform').split(/[ )]/)[1])])"
    )
    said, heights = zip(*browser.run(told), strict=True)
    induction, previous = kinds.values()
    assert said == (
        f"{induction}: 0.10 after 0 tokens",
        f"{induction}: 0.25 after 10 tokens",
        f"{previous}: 0.10 after 0 tokens",
        f"{previous}: 0.20 after 10 tokens",
    )
    assert heights[0] == heights[2] > heights[3] > heights[1]  # downwards
    legend = "return [...document.querySelectorAll('#view1 ul li')].map(l => l.textContent.trim())"
    assert browser.run(legend) == list(kinds.values())
    assert browser.run(STRANGERS) == 0 and browser.complaints() == []


@pytest.mark.browser
def test_the_explorer_takes_names_as_text(browser, address_of):
    from test_explorer import found_of, listed, none_of, status

    models = [found_of(name, 1, seed=i) for i, name in enumerate(NASTY)]
    nothing = [none_of("nothing", 1)]
    browser.open(
        address_of(
            lambda: circuit_explorer([*nothing, *models], start=(NASTY[0], "ioi"), name=NASTY[1])
        )
    )
    assert browser.run(OPTIONS, "view1", "model") == ["nothing", *NASTY]
    for result in models:
        choose(browser, "#view1 [name=model]", result.model)
        assert status(browser, "view1").startswith(f"{result.model}, Indirect Object")
        assert set(listed(browser, "view1")) == set(result.circuit.edges)
    choose(browser, "#view1 [name=model]", "nothing")
    assert "The model does not do the task <here>." in status(browser, "view1")
    assert browser.run(STRANGERS) == 0 and browser.complaints() == []


@pytest.mark.browser
def test_an_attention_view_says_what_the_chosen_head_looks_at(browser, address_of):
    patterns = torch.stack([torch.eye(3), torch.tensor([[1, 0, 0], [1, 0, 0], [0.25, 0, 0.75]])])
    browser.open(address_of(lambda: attention_heads([*NASTY[:2], "c"], patterns, ["0.1", "1.0"])))
    looks = "return document.querySelector('.ah-looks').textContent"
    assert browser.run(looks) == "From “c”, head 0.1 looks at “c” 100%."
    browser.press(".ah-from [name=head]", "DOWN")
    assert browser.run(looks) == f"From “c”, head 1.0 looks at “c” 75%, “{NASTY[0]}” 25%."
    browser.press(".ah-from [name=from]", "UP")
    assert browser.run(looks) == f"From “{NASTY[1]}”, head 1.0 looks at “{NASTY[0]}” 100%."
    maps = "return document.querySelectorAll('.ah-map canvas').length"
    end = time.monotonic() + 15  # circuitsvis comes when it is needed
    while not browser.run(maps) and time.monotonic() < end:
        time.sleep(0.1)
    assert browser.run(maps) > 1
    assert "1.0" in browser.run("return document.querySelector('.ah-map').innerText")
    assert browser.run(STRANGERS) == 0 and browser.complaints() == []


@pytest.mark.browser
def test_a_view_is_drawn_where_a_notebook_puts_it_in_by_script(browser, tmp_path, monkeypatch):
    """As JupyterLab does: scripts that came as text are made again, one by one. An output may be
    shown twice, and both then have the same id."""
    from test_explorer import found_of, listed

    monkeypatch.delenv("CIRCUITBOOK_PAGES", raising=False)
    result = found_of()
    output = script_json(circuit_explorer([result]).data)
    page = tmp_path / "notebook.html"
    page.write_text(
        '<!doctype html><meta charset="utf-8"><section id="view1"></section>'
        f'<section id="view2"></section><script>const output = {output};'
        """
        for (const section of document.querySelectorAll("section")) {
          section.innerHTML = output;
          for (const old of section.querySelectorAll("script")) {
            const script = document.createElement("script");
            for (const { name, value } of old.attributes) script.setAttribute(name, value);
            script.textContent = old.textContent;
            old.replaceWith(script);
          }
        }</script>""",
        encoding="utf8",
    )
    browser.open(page.as_uri())
    for place in ("view1", "view2"):
        assert set(listed(browser, place)) == set(result.circuit.edges)
    assert browser.complaints() == []
