"""Marks for a class: each notebook in a process of its own, whatever is in it."""

import csv
import io
import json
import os
import time
from pathlib import Path

import nbformat
import pytest

from circuitbook.__main__ import main
from circuitbook.teaching import grading
from circuitbook.teaching.course import make_versions
from circuitbook.teaching.grading import FINISHED, as_csv, grade, grade_one, notebooks_in

ROOT = Path(__file__).resolve().parents[1]

RIGHT = """
from circuitbook.teaching import exercises

def jaccard(a, b):
    return len(a & b) / len(a | b) if a | b else {empty}

exercises.check_jaccard(jaccard)"""
GOOD, BAD = RIGHT.format(empty="0.0"), RIGHT.format(empty="1.5")  # two empty circuits: 0


def notebook(*cells, metadata=None):
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    made.metadata.update(metadata or {})
    return nbformat.writes(made)


ABOUT = {
    "circuitbook": {
        "chapter": "circuits-over-training",
        "exercises": [
            {"exercise": "3.1", "check": "jaccard"},
            {"exercise": "3.2", "check": "faithfulness"},
        ],
    }
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A class whose notebooks are as they are handed in, graded at once."""
    folder = tmp_path_factory.mktemp("class")
    files = {
        "ada/work.ipynb": notebook("import os", "1 / 0", GOOD, metadata=ABOUT),
        "ben/work.ipynb": notebook(GOOD, BAD, metadata=ABOUT),
        "=cmd|' ü {x}.ipynb": notebook(
            "exercises = 0", "from circuitbook.teaching import exercises", "def f(a, b): ...",
            "print(exercises.check_jaccard(f))",
        ),
        "crashes.ipynb": notebook(GOOD, "import os\nos._exit(0)", metadata=ABOUT),
        "broken.ipynb": "{not json",
        "other.ipynb": '{"cells": 3}',
        "empty.ipynb": "",
        "nothing.ipynb": notebook("1 + 1"),
        "nosy.ipynb": notebook(
            "import os, pathlib\nstore = pathlib.Path(os.environ['CIRCUITBOOK_STORE'])\n"
            "(store / 'mine').write_text('x')\n"
            "assert (store / 'abilities/kept').read_text() == 'kept'\n"
            "pathlib.Path('here').write_text(str(sorted(os.listdir())))",
            "input()", metadata=ABOUT,
        ),
    }  # fmt: skip
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf8")
    (folder / "ada/.ipynb_checkpoints").mkdir()
    (folder / "ada/.ipynb_checkpoints/work.ipynb").write_text(files["ben/work.ipynb"])
    store = tmp_path_factory.mktemp("store")
    (store / "abilities").mkdir()
    (store / "abilities/kept").write_text("kept")
    out = tmp_path_factory.mktemp("marks")
    found = grade(notebooks_in([folder]), out, minutes=5, jobs=2, store=store)
    return folder, store, out, {one.notebook: one for one in found}


def verdicts(one):
    return {mark.check: mark.verdict for mark in one.marks}


pytestmark = pytest.mark.slow


def test_each_has_its_marks_whatever_the_others_do(graded):
    _, _, _, found = graded
    ada = found["ada/work.ipynb"]
    assert ada.state == FINISHED and ada.chapter == "circuits-over-training"
    assert ada.failed == ("cell 2: ZeroDivisionError: division by zero",)
    assert [(mark.exercise, mark.check, mark.verdict) for mark in ada.marks] == [
        ("3.1", "jaccard", "right"),
        ("3.2", "faithfulness", "not run"),
    ]
    ben = found["ben/work.ipynb"]
    assert verdicts(ben)["jaccard"] == "not right" and "jaccard" in ben.marks[0].says
    odd = found["=cmd|' ü {x}.ipynb"]
    assert verdicts(odd) == {"jaccard": "not solved"} and odd.state == FINISHED


def test_what_crashes_keeps_the_marks_it_had(graded):
    _, _, _, found = graded
    crashes = found["crashes.ipynb"]
    assert crashes.state == "its Python process ended in cell 2, which begins 'import os'"
    assert verdicts(crashes)["jaccard"] == "right"


def test_what_hangs_is_stopped_with_all_that_it_has_started(tmp_path):
    late = tmp_path / "late"
    start = f"import subprocess\nsubprocess.Popen(['sh', '-c', 'sleep 60; touch {late}'])"
    file = tmp_path / "hangs.ipynb"
    file.write_text(notebook(start, "import time\ntime.sleep(600)", metadata=ABOUT))
    begun = time.monotonic()
    one = grade_one(file, "x", seconds=30, store=None)
    assert one.state == "stopped after 0.5 min in cell 2, which begins 'import time'"
    assert set(verdicts(one).values()) == {"not run"}
    time.sleep(max(0, 65 - (time.monotonic() - begun)))
    assert not late.exists()


def test_what_is_no_notebook_says_so(graded):
    _, _, _, found = graded
    for name in ("broken.ipynb", "other.ipynb", "empty.ipynb"):
        assert found[name].state.startswith("no notebook that can be read: "), found[name]
        assert found[name].marks == ()
    assert found["nothing.ipynb"].state == "no exercise with a check is in it"
    assert "ada/.ipynb_checkpoints/work.ipynb" not in found


def test_each_works_on_a_copy_of_the_store_and_in_an_empty_folder(graded):
    folder, store, _, found = graded
    nosy = found["nosy.ipynb"]
    assert set(verdicts(nosy).values()) == {"not run"} and nosy.state == FINISHED
    assert len(nosy.failed) == 1 and nosy.failed[0].startswith("cell 2: ")  # input() has none
    assert sorted(file.name for file in store.rglob("*")) == ["abilities", "kept"]
    assert not list(folder.rglob("here"))


def test_the_tables_name_everybody_and_no_cell_is_a_formula(graded):
    _, _, out, found = graded
    kept = json.loads((out / "marks.json").read_text())
    assert [one["notebook"] for one in kept] == sorted(found)
    rows = list(csv.DictReader(io.StringIO((out / "marks.csv").read_text("utf-8-sig"))))
    assert {row["notebook"].removeprefix("'") for row in rows} == set(found)
    assert not any(value[:1] in "=+-@" for row in rows for value in row.values() if value)
    assert as_csv(list(found.values())).count("\n") == len(rows) + 1


def test_what_was_graded_is_not_graded_again(graded, monkeypatch):
    folder, store, out, found = graded
    ran = []

    def count(file, name, **rest):
        ran.append(name)
        return grade_one(file, name, **rest)

    monkeypatch.setattr(grading, "grade_one", count)
    again = grade(notebooks_in([folder]), out, minutes=5, store=store)
    assert ran == [] and {one.notebook: one for one in again} == found
    (folder / "ben/work.ipynb").write_text(notebook(GOOD, metadata=ABOUT))
    again = {
        one.notebook: one for one in grade(notebooks_in([folder]), out, minutes=5, store=store)
    }
    assert ran == ["ben/work.ipynb"] and verdicts(again["ben/work.ipynb"])["jaccard"] == "right"


def test_the_command_sums_up_and_names_what_did_not_finish(tmp_path, capsys):
    (tmp_path / "a.ipynb").write_text(notebook(GOOD))
    (tmp_path / "b.ipynb").write_text("x")
    out = tmp_path / "marks"
    command = ["grade", str(tmp_path / "a.ipynb"), str(tmp_path / "b.ipynb"), "--out", str(out)]
    assert main([*command, "--store", str(tmp_path / "none")]) == 0
    said = capsys.readouterr().out
    assert f"{out / 'marks.csv'}: 2 notebooks, 1 of 1 checks right" in said
    assert "b.ipynb: no notebook that can be read" in said
    with pytest.raises(
        SystemExit, match="error: there is no .*c.ipynb; name notebooks, or folders"
    ):
        main(["grade", str(tmp_path / "c.ipynb")])
    with pytest.raises(SystemExit, match="error: --minutes must be more than 0"):
        main([*command, "--minutes", "0"])
    (tmp_path / "none").mkdir()
    with pytest.raises(SystemExit, match="error: there is no notebook in"):
        main(["grade", str(tmp_path / "none")])


def test_a_student_version_is_graded_by_its_numbers(tmp_path):
    """Nothing solved, and the chapter's cells fail at once: every exercise has its row all the
    same."""
    make_versions(ROOT, tmp_path, ["circuits-over-training"])
    file = tmp_path / "student/circuits-over-training.ipynb"
    handed_in = nbformat.read(file, as_version=4)
    for cell in handed_in.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source += "\nSUITE = 'nowhere'"
    nbformat.write(handed_in, file)
    one = grade_one(file, "x", seconds=200, store=None)
    assert one.state == FINISHED and one.failed
    numbers = [mark.exercise for mark in one.marks]
    assert len(numbers) == 2 and [number.split(".")[1] for number in numbers] == sorted(
        number.split(".")[1] for number in numbers
    )
    assert all(mark.verdict == "not solved" for mark in one.marks)
    assert os.environ.get("CIRCUITBOOK_CHECKS") is None
