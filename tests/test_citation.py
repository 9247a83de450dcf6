"""CITATION.cff, the page on citing and the README say the same, and what the package and the
bibliography say."""

import re
from pathlib import Path

import pytest
import tomllib
import yaml
from pybtex.database import parse_string

ROOT = Path(__file__).resolve().parents[1]
CFF = yaml.safe_load((ROOT / "CITATION.cff").read_text())
BOOKS = parse_string((ROOT / "book/references.bib").read_text(), "bibtex").entries


def entries(name):
    return {
        key: entry
        for block in re.findall(r"```bibtex\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
        for key, entry in parse_string(block, "bibtex").entries.items()
    }


def test_the_cff_has_what_the_format_asks_for():
    assert (
        CFF["cff-version"] == "1.2.0"
        and CFF["message"]
        and CFF["title"]
        and CFF["type"] == "software"
    )
    assert all(author.get("name") or author.get("family-names") for author in CFF["authors"])
    known = {
        "cff-version",
        "message",
        "title",
        "type",
        "version",
        "license",
        "authors",
        "keywords",
        "references",
        "abstract",
        "date-released",
        "url",
        "repository-code",
        "identifiers",
        "doi",
        "contact",
        "commit",
        "license-url",
        "preferred-citation",
        "repository",
        "repository-artifact",
    }
    assert set(CFF) <= known
    for reference in CFF["references"]:
        assert {"type", "title", "authors"} <= set(reference)


def test_it_is_of_this_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert CFF["version"] == project["version"] and CFF["license"] == project["license"]["text"]


@pytest.mark.parametrize("name", ["book/cite.md", "README.md"])
def test_the_bibtex_entries_are_those_of_the_bibliography_and_the_cff(name):
    found = entries(name)
    assert set(found) == {"tigges2024llm", "circuitbook"}
    paper, ours = found["tigges2024llm"], found["circuitbook"]
    assert paper == BOOKS["tigges2024llm"]
    assert ours.fields["title"] == CFF["title"] and ours.fields["version"] == CFF["version"]
    assert str(ours.persons["author"][0]).strip("{}") == CFF["authors"][0]["name"]
    (reference,) = CFF["references"]
    assert (
        reference["year"] == int(paper.fields["year"]) and reference["url"] == paper.fields["url"]
    )
    assert reference["title"] == paper.fields["title"].replace("{", "").replace("}", "")
    assert [f"{a['family-names']}, {a['given-names']}" for a in reference["authors"]] == [
        str(p) for p in paper.persons["author"]
    ]
