"""The execution record: from the metadata of executed copies to a table, with what differs said and
what is shared said once."""

import json

from circuitbook.publishing.build import stage
from circuitbook.publishing.execute import METADATA
from circuitbook.publishing.executions import PLACE, execution_record

HERE = {"cpu": "Some CPU", "cores": 2, "gpu": None}


def executed(
    src,
    name,
    seconds,
    used,
    measured,
    machine=HERE,
    versions=None,
    date="2026-03-02T10:00:00+00:00",
):
    file = src / f"{name}.ipynb"
    file.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "seconds": seconds,
        "date": date,
        "machine": machine,
        "versions": versions or {"python": "3.11", "torch": "2.1"},
        "measurements": {"used": used, "measured": measured, "seconds": 65.0 * used},
    }
    file.write_text(json.dumps({"metadata": {METADATA: record}}))


def cells(text):
    lines = [line.replace("\u00a0", " ") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_row_per_chapter_and_a_sum(tmp_path):
    executed(tmp_path, "notebooks/one", 16.2, 2, 0)
    executed(tmp_path, "notebooks/two", 100, 1000, 250)
    executed(tmp_path, "notebooks/no-measurements", 1, 0, 0, date="2026-11-24T10:00:00+00:00")
    text = execution_record(
        tmp_path,
        ["notebooks/two", "notebooks/one", "notebooks/absent", "notebooks/no-measurements"],
    )
    head, _, *rows = cells(text)
    assert head == ["chapter", "ran in", "measurements", "new", "they took", "date"]
    assert rows == [
        ["{doc}`/notebooks/two`", "1 min 40 s", "1,000", "250", "18 h 3 min", "2 Mar 2026"],
        ["{doc}`/notebooks/one`", "16 s", "2", "0", "2 min 10 s", "2 Mar 2026"],
        ["{doc}`/notebooks/no-measurements`", "1 s", "0", "0", "", "24 Nov 2026"],
        ["**all**", "1 min 57 s", "1,002", "250", "", ""],
    ]
    assert text.endswith("All on Some CPU (2 cores, no GPU). All with python 3.11, torch 2.1.")


def test_machines_and_versions_that_differ_are_said_where_they_do(tmp_path):
    executed(tmp_path, "notebooks/one", 5, 1, 1)
    executed(
        tmp_path,
        "notebooks/two",
        5,
        1,
        1,
        {"cpu": "Other", "cores": 1, "gpu": "1 x GPU"},
        {"python": "3.11", "torch": "2.2"},
    )
    text = execution_record(tmp_path, ["notebooks/one", "notebooks/two"])
    assert [row[-1] for row in cells(text)] == [
        "machine",
        "---",
        "Some CPU (2 cores, no GPU)",
        "Other (1 core, 1 x GPU)",
        "",
    ]
    assert "All on" not in text
    assert text.endswith(
        "Made with python 3.11, torch 2.1. But {doc}`/notebooks/two` with torch 2.2."
    )


def test_staging_puts_it_in_its_place(tmp_path):
    root, src = tmp_path / "root", tmp_path / "src"
    (root / "book").mkdir(parents=True)
    for name in ("_toc.yml", "_config.yml"):
        (root / name).write_text("title: A Book\n")
    (root / "book/execution.md").write_text(f"# Record\n\n{PLACE}\n\nAfter.\n")
    stage(root, src, ["notebooks/one"])
    assert (
        src / "book/execution.md"
    ).read_text() == "# Record\n\nNo chapter has been executed yet.\n\nAfter.\n"
    executed(src, "notebooks/one", 5, 1, 1)
    stage(root, src, iter(["notebooks/one"]))
    assert "| {doc}`/notebooks/one` | 5\u00a0s | 1 | 1 |" in (src / "book/execution.md").read_text()
