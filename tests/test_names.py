"""Names of models, suites, branches and tokens are text wherever they are shown, never markup."""

from __future__ import annotations

import html.parser
import io
import json
import shutil
import subprocess
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from markdown_it import MarkdownIt
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.myst_role import myst_role_plugin

from circuitbook.figures.abilities import task_panels
from circuitbook.figures.heads import attention_maps, kind_panels
from circuitbook.figures.panels import subplots
from circuitbook.figures.showing import nothing, show
from circuitbook.figures.tables import styled
from circuitbook.paths import checkout
from circuitbook.publishing.execute import execute_notebook
from circuitbook.publishing.publish import configuration
from circuitbook.studies.findings.report import as_html
from circuitbook.teaching.checking import Feedback
from circuitbook.wording import in_markdown

NAMES = (
    "<svg onload=alert(1)>",
    "<!--<script>",
    "KINDS",
    "AXIS",
    "FIRST",
    "$x$",
    r"$\frac{$",
    "a$b",
    "a|b",
    "`x`",
    "*x*",
    "**x",
    "_x_",
    "__proto__",
    "[x](javascript:1)",
    "![x](y)",
    "\"x\" 'y'",
    "&amp;",
    "a&lt;b",
    "a\u2028b\u2029c\x85d",
    "a\nb",
    "- x",
    "1. x",
    "# x",
    ":::{note}",
    "{eval}`1`",
    "% x",
    "+++",
    "a\\*b",
    "http://x.y/<z>",
    "~~x~~",
    "(x)=",
)


class Read(html.parser.HTMLParser):
    """The text of a page, its elements, and whatever in it could do something."""

    def __init__(self, page: str):
        super().__init__()
        self.text, self.tags, self.acts = "", set(), []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.acts += [item for item in attributes if item[0].startswith("on")]
        self.acts += [item for item in attributes if (item[1] or "").startswith("javascript")]

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        self.acts.append(("comment", data))


def rendered(markdown: str) -> Read:
    """Markdown as the book's parser reads it, raw HTML and formulas and all."""
    parser = MarkdownIt("commonmark", {"html": True, "typographer": True})
    parser.enable(["table", "strikethrough", "smartquotes"])
    parser.use(dollarmath_plugin).use(colon_fence_plugin).use(myst_role_plugin)
    return Read(parser.render(markdown))


def one_line(name: str) -> str:
    return " ".join(name.split())


# ------------------------------------------------------------------ Markdown and HTML


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("sentence", "tags"),
    [
        ("{}", {"p"}),
        ("In {}, more.", {"p"}),
        ("**{}**: more", {"p", "strong"}),
        ("- {}: more", {"ul", "li"}),
        ("*Figure, for {}.* More", {"p", "em"}),
    ],
)
def test_a_name_is_text_in_markdown(name, sentence, tags):
    page = rendered(sentence.format(in_markdown(name)))
    words = Read(rendered_by_hand(sentence)).text.format(one_line(name))
    assert page.text.strip() == words and page.tags == tags and not page.acts


def rendered_by_hand(sentence: str) -> str:
    return sentence.replace("*", "").removeprefix("- ")


@pytest.mark.parametrize("name", NAMES)
def test_a_paragraph_of_markdown_becomes_html_with_the_same_text(name):
    page = Read(as_html(f"**Suite {in_markdown(name)}**, models {in_markdown(name, 'b')}."))
    words = one_line(name)
    assert page.text == f"Suite {words}, models {words}, b."
    assert page.tags == {"p", "strong"} and not page.acts


def test_common_names_are_as_they_are():
    names = ["mini-xs", "mini-s-seed2", "pythia-1.4b", "owner/name_2", "SmolLM2-135M-Instruct"]
    assert in_markdown(*names) == ", ".join(names)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_check_says_of_a_learners_code_is_text(name):
    page = rendered(Feedback(False, f"f stops with KeyError: {name}")._repr_markdown_())
    assert page.text.strip() == one_line(f"Not right yet: f stops with KeyError: {name}")
    assert page.tags == {"p", "strong"} and not page.acts


def test_tables_are_text_in_cells_and_headings():
    names = list(NAMES)
    columns = pd.Index([*names, "number"], name="<b>columns")
    cells = [[*names, 0.123] for _ in names]
    table = pd.DataFrame(cells, index=pd.Index(names, name="<b>rows"), columns=columns)
    several = table.set_index("KINDS", append=True)
    for shown in (
        styled(table),
        styled(table).hide(axis="index"),
        styled(table).format(precision=2),
        styled(table).format({"number": "{:.0%}"}).hide(axis="columns"),
        styled(table).format("{:.0%}", subset=["number"]),
        styled(several),
    ):
        page = Read(shown.to_html())
        assert page.tags <= {"style", "table", "thead", "tbody", "tr", "th", "td"}
        assert not page.acts
    text = Read(styled(table).format(precision=2).to_html()).text
    assert all(text.count(name) >= 3 for name in names if "\n" not in name)
    assert "0.12" in text and "<b>rows" in text and "<b>columns" in text


def test_only_the_columns_that_are_named_are_html():
    table = pd.DataFrame({"model": ["<b>"], "page": ['<a href="x.html">x</a>'], "n": [0.5]})
    page = styled(table).html(["page"]).hide(axis="index").to_html()
    assert '<a href="x.html">x</a>' in page and "&lt;b&gt;" in page and "<b>" not in page


# ------------------------------------------------------------------ figures


def texts_in(figure) -> list[str]:
    """What is written in a figure, as it is drawn, and where it is drawn as a formula."""
    figure.savefig(io.BytesIO(), format="svg")
    found = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    formulas = [text for text in found if text._preprocess_math(text.get_text())[1]]
    assert not formulas, [text.get_text() for text in formulas]
    return [text.get_text().removeprefix("\u2060") for text in found]


def test_names_are_text_in_figures():
    names = [*NAMES]
    frame = pd.DataFrame({"tokens_seen": [0.0, 1e3, 1e6], "score": [0.0, 0.5, 1.0]})
    figure = kind_panels({"a": dict.fromkeys(names, frame)}, {"a": "$x$"})
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == names and "$x$" in texts_in(figure)
    table = pd.concat([frame.assign(model=name, task="ioi") for name in names])
    figure = task_panels(table, "score", ["ioi"], names, r"$\frac{$")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    assert r"$\frac{$" in texts_in(figure)
    maps = attention_maps(names[:4], [np.eye(4)] * 2, ["$x$", r"$\frac{$"])
    assert {"$x$", r"$\frac{$", *names[:4]} <= set(texts_in(maps))
    assert r"$\frac{$" in texts_in(nothing(r"$\frac{$"))


def test_powers_of_ten_are_formulas_as_ever():
    figure, ax = subplots()
    ax.loglog([1, 1000], [1, 1000], label="$x$")
    ax.legend()
    figure.canvas.draw()
    labels = [label for label in ax.get_xticklabels() if "mathdefault" in label.get_text()]
    assert labels and all(label._preprocess_math(label.get_text())[1] for label in labels)
    (name,) = ax.get_legend().get_texts()
    assert name._preprocess_math(name.get_text()) == ("$x$", False)


def test_the_text_for_those_who_do_not_see_a_figure_is_text(capsys, monkeypatch):
    shown = []
    monkeypatch.setattr("circuitbook.figures.showing.display", shown.append)
    show(nothing("x"), f"A map of {NAMES[0]} \"and\" '{NAMES[1]}'")
    page = Read(shown[0].data)
    assert page.tags == {"img"} and not page.acts and page.text == ""


# ------------------------------------------------------------------ publishing


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
@pytest.mark.parametrize(
    "name", ['a"b', "<svg/onload=alert(1)>", "a&b", "a#b", "a%20b", "é", "$x$"]
)
def test_a_branch_in_an_address_is_quoted(tmp_path, name):
    subprocess.run(["git", "init", "-q", "-b", f"fix/{name}", str(tmp_path)], check=True)
    origin = ["remote", "add", "origin", "https://github.com/someone/book"]
    subprocess.run(["git", "-C", str(tmp_path), *origin], check=True)
    (tmp_path / "_config.yml").write_text("title: A\n")
    from urllib.parse import unquote

    quoted = yaml.safe_load(configuration(tmp_path))["repository"]["branch"]
    assert unquote(quoted) == f"fix/{name}" and quoted.startswith("fix/")
    assert not set(quoted) & set("\"'<>&#$ ")


# ------------------------------------------------------------------ whole chapters

MODELS = ("<svg onload=alert(1)>", "_$x$`[x](javascript:1)|a&amp;b\"'")
SUITE = r"<!--<script>$\frac{$"
ELEMENTS = {
    "text/markdown": {"p", "strong", "em", "ul", "li", "code"},
    "text/html": {
        *("style", "table", "thead", "tbody", "tr", "th", "td", "div", "img", "p"),
        *("details", "summary"),
    },
}


@pytest.fixture(scope="module")
def nasty_suite(tmp_path_factory) -> Path:
    """Two models of the mini suite under other names."""
    folder = tmp_path_factory.mktemp("suites") / SUITE
    mini = checkout() / "models" / "mini"
    for ours, theirs in zip(MODELS, ("mini-xs", "mini-s"), strict=True):
        for step in (0, 3906):
            shutil.copytree(mini / theirs / f"step{step}", folder / ours / f"step{step}")
    (folder / "suite.json").write_text(json.dumps({"tokens_per_step": 2048}))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("chapter", ["abilities", "circuits", "components"])
def test_a_chapter_takes_names_as_text(nasty_suite, chapter):
    book, out = checkout(), nasty_suite.parent
    parameters = {"SUITE": str(nasty_suite), "DEVICE": "cpu", "STORE": str(out / "store")}
    parameters |= {"PROMPTS": 20, "MODEL": MODELS[0]}
    executed = execute_notebook(
        book / "notebooks" / f"{chapter}.ipynb", out / f"{chapter}.ipynb", parameters, root=book
    )
    mentioned = 0
    for kind, content in outputs(executed):
        page = rendered(content) if kind == "text/markdown" else Read(content)
        assert page.tags <= ELEMENTS[kind] and not page.acts, content
        mentioned += sum(page.text.count(name) for name in MODELS)
        # no part of a name without the rest
        assert page.text.count("onload") == page.text.count(MODELS[0])
        assert page.text.count("javascript") == page.text.count(MODELS[1])
    assert mentioned > 0


def outputs(notebook: nbformat.NotebookNode):
    """(kind, content) of what the cells show, as the book takes it; not of interactive views, whose
    data is JSON."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for kind in ELEMENTS:
                if kind in data and "data-view=" not in data[kind]:
                    yield kind, data[kind]
                    break
