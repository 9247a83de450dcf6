"""The chapters on precision, cost and speed: sentences, tables and pictures with known answers."""

from __future__ import annotations

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from test_cost import INNER, LAW, found, record, size_of

from circuitbook.figures.cost import seconds_by_size, similarity_in_dtypes
from circuitbook.figures.speed import cost_growth
from circuitbook.records.costs import PEAKS, fit, recorded_cost
from circuitbook.records.gpu import recorded_gpu
from circuitbook.records.speed import recorded_speed
from circuitbook.studies.findings import cost, gpu, precision, speed
from circuitbook.studies.head_scores import SCORE_KINDS, HeadScores
from circuitbook.studies.precision import every_second, measure_heads_in

A, B, C = "input->a0.h0<q>", "input->m0", "a0.h1->logits"

# ---- precision


def test_every_second_step_and_the_last():
    steps = {"even": (0, 1, 2, 3), "odd": (0, 1, 2), "one": (5,)}
    assert every_second(steps) == {"even": (0, 2, 3), "odd": (0, 2), "one": (5,)}


def test_the_table_of_dtypes():
    exact = [found(1, [A]), found(2, [A, B]), found(3, [])]
    narrow = {
        "bfloat16": ([found(1, [A, C]), found(2, [A, B, C]), found(3, [A])], ["NaN at step 4"]),
        "float16": ([found(3, [])], []),
    }
    (row,) = precision.dtype_table(exact, narrow).to_dict("records")
    assert row == {
        "dtype": "bfloat16",
        "circuits": 2,
        "same verdict": "2 of 3",
        "least correlation": "1.0000",
        "largest error of a score": "0.0%",
        "edges shared, mean": "58.3%",  # 1 / 2 and 2 / 3
        "edges shared, least": "50.0%",
        "size, ratio": "1.50–2.00",
        "not finite": 1,
    }


def test_how_the_similarity_of_neighbours_changes():
    table = pd.DataFrame({"before": [np.nan, 0.7, 0.9], "before_reference": [np.nan, 0.8, 0.6]})
    text = precision.similarity_changes({"bfloat16": table, "float16": table.head(1)})
    assert "type: bfloat16 +0.100 in the mean, 0.30 at most, over 2 pairs of checkpoints." in text
    assert "no two neighbouring checkpoints" in precision.similarity_changes({"f": table.head(1)})


def head_scores(previous):
    arrays = {kind: np.array([[0.0], [0.5]]) for kind in SCORE_KINDS}
    arrays["previous"] = np.array(previous)[:, None]
    arrays |= {"clean": np.zeros(1), "corrupted": np.ones(1), "direct": np.zeros((2, 1))}
    return HeadScores("toy", 1, 1, 2, arrays)


def test_errors_of_heads_stand_beside_the_range_of_the_score():
    table = precision.head_errors(
        [head_scores([0.1, 0.9])], {"bfloat16": [head_scores([0.1, 0.6])], "float16": []}
    )
    assert table.loc["Previous token"].tolist() == pytest.approx([0.8, 0.3])
    assert table.loc["Induction"].tolist() == [0.5, 0.0]
    assert list(table) == ["range of the score", "largest error, bfloat16"]
    assert "Direct effect on IOI" not in table.index  # IOI is not done here


def test_heads_that_overflow_are_a_sentence(monkeypatch):
    def spoilt(*_, **__):
        raise FloatingPointError("toy at step 1 has NaN in the MLP of layer 0")

    monkeypatch.setattr("circuitbook.studies.precision.measure_heads", spoilt)
    scores, overflow = measure_heads_in(None, None, ["toy"], None)
    assert scores == [] and overflow == "toy at step 1 has NaN in the MLP of layer 0"


def test_a_marker_per_task_and_a_panel_per_dtype():
    table = pd.DataFrame(
        {"task": ["ioi", "sva", "sva"], "before": [0.5, 0.6, np.nan], "before_reference": 0.4}
    )
    fig = similarity_in_dtypes({"bfloat16": table, "float16": table.head(0)}, ["ioi", "sva"])
    places = [points.get_offsets().tolist() for points in fig.axes[0].collections]
    assert places == [[[0.4, 0.5]], [[0.4, 0.6]]]
    assert [ax.get_title() for ax in fig.axes] == ["bfloat16", "float16"]
    assert not len(fig.axes[1].collections[0].get_offsets())
    plt.close(fig)


# ---- cost


def costed(**changes):
    rows = record()["rows"]
    rows[0]["dtype"] = "float32"
    about = {"date": "2026-01-02", "machine": {"cpu": "a CPU"}, "versions": {"torch": "2.9"}}
    return {"rows": rows} | about | changes


def test_how_the_cost_was_measured():
    text = cost.how_measured(costed(), fit(record(factor=2)))
    assert "on 2026-01-02 on a CPU, one core, torch 2.9, float32" in text
    assert text.startswith("*Predicted from the smaller sizes, the largest one that was measured")
    assert "(160m) comes out at 0.50 to 0.50 times" in text
    assert text.endswith("Plain forward passes of 160m reach 12 GFLOP/s.*")
    on_gpu = costed(machine={"cpu": "a CPU", "gpu": "a GPU"})
    assert "on 2026-01-02 on a GPU, torch" in cost.how_measured(on_gpu, fit(record()))


def test_how_far_the_cost_is_extrapolated():
    assert cost.measured_sizes({"rows": costed()["rows"][::-1]}) == ["14m", "31m", "70m", "160m"]
    assert cost.extrapolation(costed()) == pytest.approx(INNER["12b"] / INNER["160m"])


def test_the_table_of_a_replication():
    runs = {"a": ("70m", 10), "b": ("12b", 2)}
    table = cost.replication_table(record(), fit(record()), runs, utilisation=0.5)
    seconds = sum(law(*size_of("70m", INNER["70m"])) for law in LAW.values())
    gpu_hours = 10 * seconds / 3600 * 12e9 / (0.5 * PEAKS["T4"])
    first, second, total = table.to_dict("records")
    assert first["core-hours"] == cost.rounded(10 * seconds / 3600)
    assert first["T4, hours"] == cost.rounded(gpu_hours)
    assert [row["hours are"] for row in (first, second, total)] == ["measured", "extrapolated", ""]
    assert total["run"] == "in all" and total["steps"] == "12"
    assert list(table)[-3:] == [f"{card}, hours" for card in PEAKS]


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1,234"), (10, "10"), (9.96, "10"), (0.0512, "0.051"), (4, "4")]
)
def test_two_digits_where_there_are_fewer(value, text):
    assert cost.rounded(value) == text


def test_seconds_against_size_are_measured_and_fitted():
    fits = fit(record())
    ax = seconds_by_size(fits).axes[0]
    assert len(ax.lines) == 2 * len(fits)
    fitted, measured = ax.lines[:2]
    assert measured.get_label() == fits[0].part
    assert list(measured.get_xdata()) == [INNER[size] for size in ("14m", "31m", "70m", "160m")]
    assert fitted.get_ydata()[-1] == fits[0].predicted("12b")
    plt.close("all")


# ---- speed


def test_times_over_plain_passes():
    circuits = {"forward": 2.0, "kind": "circuits"} | {
        str(n): {"edges": n, "nodes": n // 2, "known": n / 100, "whole": n / 50}
        for n in (2000, 400, 50)
    }
    made = {"ratio": {"seconds": 3.0, "plain": 6.0, "plain_with_weights": 12.0}}
    table = speed.ratios(made | {"circuits": circuits})
    assert table["ratio"].tolist() == ["0.50", "0.25", "0.25", "2.00", "10.00", "4.00"]
    assert table["our aim: at most"].tolist() == ["1.3", "", "0.7", "0.7", "", ""]
    assert table["what"][2] == "a circuit of 50 edges (25 nodes), against one forward pass"
    assert table["what"][5] == "a circuit of 400 edges, with the corrupted run it starts from"


def test_a_real_vocabulary_and_busy_cores_in_words():
    made = {
        "real": {
            "to_logits": {"seconds": 3.25, "ratio": 5.317, "peak_gb": 1.5},
            "attribution": {"seconds": 5.0, "ratio": 0.8, "peak_gb": 1.9},
        },
        "busy": [
            {"model": "mini", "alone": 2, "busy": 4, "spinning_alone": 1, "spinning_busy": 60},
            {"model": "smollm2", "alone": 2, "busy": 5, "spinning_alone": 2, "spinning_busy": 7},
        ],
    }
    table = speed.real_ratios(made)
    assert table["plain passes"].tolist() == ["0.8", "5.32"]
    assert table["our aim: at most"].tolist() == ["0.7", "4"]
    said = speed.beside_others(made)
    assert "2.0 times as long for mini-xs (60.0 times" in said
    assert "2.5 times as long for SmolLM2-135M (3.5 times" in said
    assert "Alone, threads that sleep take 2.0 and 1.0 times as long" in said
    assert speed.measured_apart(made, "real") == ""
    about = {"date": "2026-01-02", "machine": {"cpu": "another CPU"}}
    assert "2026-01-02 on another CPU" in speed.measured_apart(
        made | {"apart": {"real": about}}, "real"
    )


def test_where_the_speed_was_measured_and_what_it_needs():
    made = recorded_speed() | {
        "date": "2026-01-02",
        "machine": {"cpu": "a CPU"},
        "ratio": {"seconds": 2.25},
        "memory": {"peak_gb": 1.5, "loaded_gb": 1.25},
    }
    assert "Measured on 2026-01-02 on a CPU, 2 threads" in speed.measured_on(made)
    text = speed.seconds_and_memory(made)
    assert "takes 2.2 s" in text and "1.50 GB at its peak, of which 1.25 GB are the" in text


def test_what_fits_says_none_where_nothing_does():
    table = speed.what_fits(["70m", "12b"])
    assert table["model"].tolist() == ["pythia-70m"] * 2 + ["pythia-12b"] * 2
    largest = table.iloc[2]  # float32
    assert largest["T4 (16 GB)"] == "none" and int(largest["H100 (80 GB)"]) > 0
    assert float(largest["weights"]) == pytest.approx(4 * 11.8, rel=0.01)


def test_the_four_panels_of_speed():
    rows = [
        {"prompts": n, "points": n, "shift": n, "seconds": n / 2, "peak_gb": 3, "loaded_gb": 1}
        for n in (4, 16)
    ]
    models = [{"shape": "70m", "seconds": 1, "plain": 2, "peak_gb": 3}]
    made = dict.fromkeys(("prompts", "points", "length"), rows) | {"models": models}
    axes = cost_growth(made).axes
    assert [line.get_ydata().tolist() for line in axes[2].lines] == [[2, 8], [2, 2]]
    assert axes[2].get_xscale() == "linear" and axes[0].get_xscale() == "log"
    assert [line.get_ydata().tolist() for line in axes[3].lines] == [[1], [2], [3]]
    plt.close("all")


# ---- a GPU


def test_the_record_of_a_gpu_is_whole(tmp_path):
    rows = recorded_gpu()["speed"]
    places = [(row["shape"], row["dtype"]) for row in rows]
    assert len(set(places)) == len(places) and {dtype for _, dtype in places} == {
        "bfloat16",
        "float32",
    }
    for row in rows:
        assert 0 < row["attribution"] < 60 and row["one_prompt_planned"] > 1e8
    (tmp_path / "old.json").write_text(json.dumps({"date": "2026-01-02"}))
    with pytest.raises(ValueError, match="old.json lacks checkpoints, difference_model"):
        recorded_gpu(tmp_path / "old.json")
    with pytest.raises(ValueError, match="none.json is no record of a GPU"):
        recorded_gpu(tmp_path / "none.json")


def on_gpu(**changes):
    row = {"shape": "70m", "dtype": "float32", "attribution": 0.5, "circuit": 0.25, "heads": 48}
    row |= {"path_patching": 1.0, "one_prompt_planned": 2e9, "one_prompt_peak": 2.5e9}
    larger = row | {"shape": "160m", "one_prompt_planned": 10e9, "one_prompt_peak": 9e9}
    return recorded_gpu() | {"speed": [larger, row]} | changes


def test_a_real_model_on_a_gpu():
    rows = recorded_gpu()["real"]["rows"]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["seconds"] / row["units"] / row["plain"], rel=0.01)
    table = gpu.real_on_gpu(recorded_gpu())
    assert len(table) == len(speed.REAL) == len(rows) and table["what"].is_unique
    draws = {"machine": {"gpu": None}, "seconds": [30.2, 26.1], "prompts": {"ioi": 70}}
    assert "a draw of the record" not in gpu.real_measured_on(recorded_gpu(), draws)
    draws["machine"] = {"gpu": "1 x Card"}
    said = gpu.real_measured_on(recorded_gpu(), draws)
    assert "on 70 prompts" in said and said.endswith("took 26 to 30 s.")


def test_the_gpu_in_a_table_and_in_words():
    table = gpu.gpu_table(on_gpu())
    assert table.iloc[1].tolist() == ["70m", "float32", "0.50", "0.25", "1.00", 48, "2.00", "2.50"]
    text = gpu.peak_over_plan(on_gpu())
    assert text.endswith("by +25% for 70m in float32 and by -10% for 160m in float32.")
    differences = [
        {"dtype": "bfloat16", "scores": 0.02, "circuits": 0.3, "path patching": 0.04},
        {"dtype": "float32", "scores": 2e-7, "circuits": 3e-6, "path patching": 4e-5},
    ]
    text = gpu.largest_differences(on_gpu(differences=differences))
    assert "in float32 the scores of edges differ by at most 2e-07 of the largest" in text
    assert text.endswith("circuits keep by 0.3, and effects by path patching by 0.04.")
    assert "nothing of Pythia's own" in gpu.gpu_measured_on(on_gpu())


def test_the_estimate_against_the_gpu():
    seconds = sum(law(*size_of("70m", INNER["70m"])) for law in LAW.values())
    estimate = seconds * 12e9 / (0.25 * gpu.PEAK)
    took = {"shape": "70m", "dtype": "bfloat16", "seconds": 3 * estimate}
    took |= {"forward_flop": gpu.PEAK, "forward_seconds": 50.0}
    made = on_gpu(checkpoints=[took])
    text = gpu.estimate_against_gpu(made, record(), fit(record()), utilisation=0.25)
    assert "3.0 times the estimate for an H100 at a share of 0.25" in text
    assert "forward passes reach 2.0%" in text and text.endswith("sizes are too few.")
    slow = gpu.estimate_against_gpu(made, record(), fit(record()), utilisation=0.05)
    assert "0.6 times" in slow and "too few" not in slow


def test_the_records_that_come_with_the_library_fit_together():
    made = recorded_cost()
    shapes = {row["shape"] for row in recorded_gpu()["checkpoints"]}
    assert shapes <= set(cost.measured_sizes(made))  # so that the estimate is no extrapolation
