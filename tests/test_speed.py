"""The benchmark runs, and its record holds what the page shows. No timing is asserted."""

import importlib.util
import json
import runpy
from pathlib import Path

import pytest

from circuitbook.paths import DATA
from circuitbook.records.speed import recorded_speed

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "speed.py"


@pytest.fixture(scope="module")
def speed():
    spec = importlib.util.spec_from_file_location("speed", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["speed", "cost"])
def test_a_new_record_goes_where_the_record_is(name):
    script = runpy.run_path(str(SCRIPT.with_name(f"{name}.py")))
    assert script["RESULTS"] == DATA / f"{name}.json" and script["RESULTS"].is_file()


def test_the_record_is_whole(tmp_path):
    record = recorded_speed()
    rows = [
        record["ratio"],
        record["memory"],
        *record["prompts"],
        *record["points"],
        *record["length"],
        *record["models"],
    ]
    assert all(0 < row["seconds"] < 600 for row in rows)
    assert all(0.1 < row["loaded_gb"] <= row["peak_gb"] for row in rows if "peak_gb" in row)
    assert record["circuits"]["400"]["edges"] == 400 and record["circuits"]["forward"] > 0
    assert "host" not in record["machine"]
    (tmp_path / "old.json").write_text(json.dumps({"ratio": {}}))
    with pytest.raises(ValueError, match="lacks busy, circuits, .*make bench"):
        recorded_speed(tmp_path / "old.json")
    with pytest.raises(ValueError, match="no record of benchmarks/speed.py"):
        recorded_speed(tmp_path / "none.json")


@pytest.mark.slow
def test_cases_measure_something(speed, tmp_path, monkeypatch):
    monkeypatch.setitem(speed.SHAPES, "tiny", (2, 2, 16))
    assert speed.case(str(tmp_path), kind="attribution", shape="tiny") == {}  # writes the weights
    for kind in ("attribution", "plain", "ratio"):
        found = speed.case(
            str(tmp_path), kind=kind, shape="tiny", prompts=4, points=2, shift=3, repeat=1
        )
        assert found["seconds"] > 0
