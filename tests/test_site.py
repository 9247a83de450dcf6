"""What the book's own Sphinx extensions do to a page, on a small book with the real
configuration."""

import html
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import nbformat
import pytest
from test_build import REPOSITORY, book_of, frozen_package, notebook_of  # noqa: F401 (a fixture)

from circuitbook.publishing.build import chapters_of, stage
from circuitbook.publishing.errors import BuildError
from circuitbook.publishing.links import check_site
from circuitbook.publishing.site import build_site
from circuitbook.teaching.numbers import exercise_numbers

pytestmark = pytest.mark.slow


def with_outputs(notebook, **outputs):
    """The notebook as if executed: {number of the code cell: [(mime type, text), ...]}, numbers as
    "c0", "c1"."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for name, shown in outputs.items():
        notebook.metadata.language_info = {"name": "python", "pygments_lexer": "ipython3"}
        cells[int(name[1:])].outputs = [
            nbformat.v4.new_output("display_data", {mime: text, "text/plain": "<an object>"})
            for mime, text in shown
        ]
    return notebook


def site_of(root, front="# A Small Book\n", toc=None, prose=None, **notebooks):
    """A site made of executed copies, without executing them.

    toc: the whole _toc.yml; prose: {name of a page in book/: its text}.
    """
    book_of(root, **notebooks)
    shutil.copy(REPOSITORY / "_config.yml", root)
    shutil.copy(REPOSITORY / "book/references.bib", root / "book")
    for folder in ("_static", "_ext"):
        shutil.copytree(REPOSITORY / "book" / folder, root / "book" / folder, dirs_exist_ok=True)
    (root / "book/index.md").write_text(front)
    chapters = "".join(f"      - file: notebooks/{name}\n" for name in notebooks)
    (root / "_toc.yml").write_text(
        toc
        or f"format: jb-book\nroot: book/index\nparts:\n  - numbered: 1\n    chapters:\n{chapters}"
    )
    for name, text in (prose or {}).items():
        (root / f"book/{name}.md").write_text(text)
    for name, notebook in notebooks.items():
        target = root / f"_build/src/notebooks/{name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)
    stage(root, root / "_build/src", chapters_of(root))
    return build_site(root / "_build").parent


def figures_of(page):
    """[(anchor, caption)] of a page."""
    found = re.findall(
        r'<figure class="numbered[^>]*id="([^"]*)">.*?<figcaption>(.*?)</figcaption>',
        page,
        re.DOTALL,
    )
    texts = [
        re.sub(r"<a class=\"headerlink.*?</a>|<[^>]+>", "", caption, flags=re.DOTALL)
        for _, caption in found
    ]
    return [
        (anchor, html.unescape(" ".join(text.split())))
        for (anchor, _), text in zip(found, texts, strict=True)
    ]


IMAGE = (
    '<img alt="curves that rise &amp; fall." src="data:image/svg+xml;base64,'
    'PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciLz4=">'
)
VIEW = (
    '<div id="v1" class="light-card" role="group" aria-label="A view to click"></div>'
    '<script>let x = "<img>";</script>'
)


def test_figures_get_number_caption_and_anchor(tmp_path):
    in_a_table = "<img alt='in a table' src='data:image/gif;base64,AA'>"
    one = with_outputs(
        notebook_of(
            "# % # One",
            "show(1)",
            "# % *Bands* are intervals.\n\nNot the caption.",
            "#| figure:pair hide-input\nshow(2)",
            "# % **Strong** is no caption.",
            "# no figure",
        ),
        c0=[("text/html", IMAGE)],
        c1=[("text/html", IMAGE), ("text/markdown", "*In the cell* `x`."), ("text/html", VIEW)],
        c2=[("text/html", f"<table><tr><td>{in_a_table}</td></tr></table>")],
    )
    two = with_outputs(
        notebook_of("# % # Two\n\nSee {numref}`fig-pair` and {numref}`fig-pair-2`.", "show()"),
        c0=[("text/html", IMAGE)],
    )
    site = site_of(tmp_path, one=one, two=two)
    page = (site / "notebooks/one.html").read_text()
    assert figures_of(page) == [
        ("fig-one-1", "Figure 1.1 Bands are intervals."),
        ("fig-pair", "Figure 1.2 In the cell x."),
        ("fig-pair-2", "Figure 1.3 A view to click"),
    ]
    assert (
        page.count("Bands") == 1
        and page.count("In the cell") == 1
        and "an object" not in page
        and "<p>Not the caption.</p>" in page
    )
    other = (site / "notebooks/two.html").read_text()
    assert figures_of(other) == [("fig-two-1", "Figure 2.1 Curves that rise & fall.")]
    assert re.findall(
        r'href="one.html#(fig-pair[-2]*)"><span class="std std-numref">([^<]*)<', other
    ) == [("fig-pair", "Figure 1.2"), ("fig-pair-2", "Figure 1.3")]
    # a site without an address has no sitemap, and what it links to is in it
    lost = (site / "404.html").read_text()
    assert not (site / "sitemap.xml").exists() and "There is no such page" in lost
    assert '<link rel="canonical"' not in lost and check_site(site) == []


def test_an_image_without_text_fails_the_build(tmp_path):
    mute = with_outputs(
        notebook_of("# % # One", "show(1)"),
        c0=[("text/html", IMAGE.replace("curves that rise &amp; fall.", " "))],
    )
    with pytest.raises(
        BuildError, match=r"notebooks/one\.ipynb.*figure 1 of this page has no alt text"
    ):
        site_of(tmp_path, one=mute)


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_buttons_lead_to_the_notebook_on_this_branch(tmp_path):
    sentence = (
        'This book is about *small* things, and it takes its time to say which "things" they are. '
    )
    front = "# A Small Book\n\nShort.\n\n" + 4 * sentence
    subprocess.run(["git", "init", "-q", "-b", "next", str(tmp_path)], check=True)
    subprocess.run(
        ["git", "-C", str(tmp_path), "remote", "add", "origin", "https://github.com/Me/book.git"],
        check=True,
    )
    site = site_of(tmp_path, front, one=with_outputs(notebook_of("# % # One", "show()"), c0=[]))
    page = (site / "notebooks/one.html").read_text()
    for address in (
        "https://colab.research.google.com/github/Me/book/blob/next/notebooks/one.ipynb",
        "https://mybinder.org/v2/gh/Me/book/next?urlpath=lab/tree/notebooks/one.ipynb",
        "../_sources/notebooks/one.ipynb",
    ):
        assert f'href="{address}"' in page
    assert '<link rel="canonical" href="https://me.github.io/book/notebooks/one.html"' in page
    begins = (site / "book/index.html").read_text()
    assert "colab" not in begins
    assert '<meta property="og:url" content="https://me.github.io/book/book/index.html">' in begins
    about = re.search(
        r'<meta name="description" content="(This book is about small things[^"]*)">', begins
    )[1]
    assert about.endswith("...") and len(html.unescape(about)) <= 200
    names = "{http://www.sitemaps.org/schemas/sitemap/0.9}loc"
    listed = {place.text for place in ET.parse(site / "sitemap.xml").iter(names)}
    address = "https://me.github.io/book"
    assert listed == {f"{address}/book/index.html", f"{address}/notebooks/one.html"}
    lost = (site / "404.html").read_text()
    assert "There is no such page" in lost and 'href="/book/notebooks/one.html"' in lost
    asked = re.findall(r'<(?:a|link|script|img)\b[^>]* (?:href|src)="([^"#]+)', lost)
    assert len(asked) > 10 and all(link.startswith(("/book/", "https://")) for link in asked)


def test_exercises_have_the_books_numbers(tmp_path):
    """Chapters count on through numbered parts; a part without numbers counts no chapter."""

    def chapter(name, *titles):
        asked = "".join(
            f"\n\n:::{{exercise}} {title}\n:label: {name}-{i}\n\nDo it.\n:::"
            for i, title in enumerate(titles)
        )
        return with_outputs(notebook_of(f"# % # {name}{asked}", "1 + 1"), c0=[])

    made = {
        "one": chapter("one", "A", "B"),
        "two": chapter("two"),
        "three": chapter("three", "C"),
        "four": chapter("four", "D"),
        "five": chapter("five", "E", "F"),
    }
    toc = """format: jb-book
root: book/index
parts:
  - numbered: 1
    chapters:
      - file: notebooks/two
      - file: notebooks/one
  - chapters:
      - file: notebooks/four
  - numbered: 1
    chapters:
      - file: book/prose
      - file: notebooks/five
      - file: notebooks/three
"""
    site = site_of(tmp_path, toc=toc, prose={"prose": "# Prose\n"}, **made)
    shown = {}
    for name in made:
        page = (site / f"notebooks/{name}.html").read_text()
        found = re.findall(r'class="caption-number">Exercise ([\d.]+) </span> \((\w)\)', page)
        shown |= {title: number for number, title in found}
    numbers = exercise_numbers(tmp_path, {f"notebooks/{name}": nb for name, nb in made.items()})
    titles = dict(
        zip(["one-0", "one-1", "three-0", "four-0", "five-0", "five-1"], "ABCDEF", strict=True)
    )
    assert {titles[label]: number for label, number in numbers.items()} == shown
    assert shown["A"] == "2.1" and shown["C"] == "5.1" and len(shown) == 6
