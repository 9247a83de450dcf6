"""The chapters' sources: stored clean, with parameters, and in the table of contents."""

import importlib.util
import itertools
import re
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_source_is_clean_and_parameterized(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and not any(cell.outputs or cell.execution_count for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    for cell in code:
        compile(
            "\n".join(line for line in cell.source.splitlines() if not line.startswith("%")),
            str(path),
            "exec",
        )


def test_every_notebook_is_a_chapter():
    text = (ROOT / "_toc.yml").read_text()
    chapters = {c["file"] for part in yaml.safe_load(text)["parts"] for c in part["chapters"]}
    assert {f"notebooks/{p.stem}" for p in NOTEBOOKS} <= chapters
    assert all((ROOT / f"{c}.md").exists() or (ROOT / f"{c}.ipynb").exists() for c in chapters)


def test_next_leads_to_the_next_page():
    """From the front page's first chapter to the appendix, as the table of contents has it."""
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]
    pages = [c["file"] for p in parts if p.get("numbered") for c in p["chapters"]]
    for page, after in itertools.pairwise(pages):
        path = ROOT / f"{page}.ipynb"
        text = path.read_text("utf8") if path.exists() else (ROOT / f"{page}.md").read_text("utf8")
        found = re.findall(r"\*\*Next:\*\*.*?\{doc\}`(?:[^`<]*<)?/([^`>]+)", text)
        assert found == [after] or page in LAST, page


LAST = ("notebooks/speed",)  # then come the records
PAGES = [
    path
    for path in (ROOT / "README.md", *sorted((ROOT / "book").glob("*.md")), *NOTEBOOKS)
    if "from circuitbook" in path.read_text(encoding="utf8")
]


def test_pages_import_what_is_tried():
    assert len(PAGES) > 12


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_what_a_page_imports_is_there(path):
    """Also in what no build runs: README, pages without code cells, cells that are only shown."""
    text = path.read_text(encoding="utf8")
    if path.suffix == ".ipynb":
        text = "\n".join(cell.source for cell in nbformat.reads(text, as_version=4).cells)
    for module, several, one in re.findall(
        r"^ *from (circuitbook[\w.]*) import (?:\(([^)]*)\)|([^(\n#]*))", text, re.MULTILINE
    ):
        for name in (several or one).replace("\n", " ").split(","):
            if name := name.split(" as ")[0].strip():
                home = importlib.import_module(module)
                assert hasattr(home, name) or importlib.util.find_spec(f"{module}.{name}"), name
