"""The book's prose has none of the turns of phrase that readers stumbled on."""

import json

import prose
import pytest


@pytest.mark.parametrize(
    "text",
    [
        "How does the inside of a language model come to be?",
        "Each claim is asked of the models here.",
        "Of these, 17 cannot be told.",
        "What the one does hangs on the other.",
        "Whoever knows which of them was just named, and lowers it, is done.",
        "In this figure one can see it.",
        "All of them but for the last.",
    ],
)
def test_a_phrase_that_stumbles_is_found(text):
    assert list(prose.stumbles(text))


def test_plain_sentences_pass():
    for text in ("No one can try all of them.", "It depends on the other.", "You can see it."):
        assert not list(prose.stumbles(text))


def test_code_formulas_and_names_are_no_prose(tmp_path, monkeypatch):
    page = (
        "A.\n\n```python\nhangs = on\n```\n\n`hangs on` and $x$ {doc}`b <c>`.\n\n:::{card} D\n:::"
    )
    assert prose.markdown_text(page).split() == ["A.", "code", "and", "math", "b."]
    (tmp_path / "notebooks").mkdir()
    cells = [{"cell_type": "markdown", "source": ["It hangs on it."]}, {"cell_type": "code"}]
    (tmp_path / "notebooks/a.ipynb").write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    assert list(prose.paragraphs()) == [("notebooks/a.ipynb", "It hangs on it.")]
    assert len(list(prose.findings())) == 1


def test_a_computed_sentence_is_read_without_docstrings_and_names():
    source = '"""It hangs on it."""\nx = f"In {n} of {m} cases " f"it {verb}."\ny = "a_name"'
    assert list(prose.sentences(source)) == ["In ... of ... cases it ...."]


def test_the_book_has_none():
    said = [
        f"{where}: {what}" for where, text in prose.paragraphs() for what in prose.stumbles(text)
    ]
    assert not said, "\n".join(said)


def test_proselint_is_asked():
    pytest.importorskip("proselint")
    assert any("repeated" in said for said in prose.proselint("It is at at the end."))
    assert not list(prose.proselint("It is at the end."))
