"""Precision and cost: comparisons against hand-made numbers, fits that must find a known law,
Pythia's published counts."""

import json

import numpy as np
import pytest
import torch

from circuitbook import load_suite
from circuitbook.circuits.circuit import Circuit
from circuitbook.model.graph import Graph
from circuitbook.records.costs import cost_table, fit, inner_parameters, rate, recorded_cost
from circuitbook.store.disk import Store
from circuitbook.studies.circuits import CircuitResult, measure_circuits
from circuitbook.studies.head_scores import HeadScores, measure_heads
from circuitbook.studies.precision import against, decided_alike, heads_against, measure_in
from circuitbook.suites.pythia import PYTHIA_SHAPES

# non-embedding parameters, from the table in Pythia's README
PUBLISHED = {
    "70m": 18_915_328,
    "160m": 85_056_000,
    "410m": 302_311_424,
    "1b": 805_736_448,
    "1.4b": 1_208_602_624,
    "2.8b": 2_517_652_480,
    "6.9b": 6_444_163_072,
    "12b": 11_327_027_200,
}
GRAPH = Graph(1, 2)


def found(step, edges, scores=None, task="ioi"):
    mask = np.zeros(GRAPH.mask.shape, bool)
    for edge in edges:
        mask[GRAPH.edge(edge)] = True
    values = np.where(
        GRAPH.mask, np.arange(mask.size).reshape(mask.shape) / 10 if scores is None else scores, 0.0
    )
    return CircuitResult(
        "toy",
        step,
        step,
        task,
        Circuit(GRAPH, mask, values, reason="" if edges else "nothing"),
        0.0,
    )


def test_against_is_what_it_says():
    a, b, c = "input->a0.h0<q>", "input->m0", "a0.h1->logits"
    fine = [found(1, [a]), found(2, [a, b]), found(3, [])]
    rough = np.arange(GRAPH.mask.size).reshape(GRAPH.mask.shape) / 10
    rough = np.where(
        rough == rough[GRAPH.mask].max(), rough * 0.75, rough
    )  # the largest score is a quarter too small
    low = [
        found(1, [a, c], rough),
        found(2, [a, b, c], rough),
        found(3, [a], rough),
        found(1, [a], task="sva"),
    ]
    table = against(fine, low)
    assert table["step"].tolist() == [1, 2] and table["edges"].tolist() == [
        0.5,
        pytest.approx(2 / 3),
    ]
    assert (
        table["ratio"].tolist() == [2, 1.5]
        and table["largest"].tolist() == [pytest.approx(0.25)] * 2
    )
    assert (
        np.isnan(table["before"][0])
        and table["before"][1] == pytest.approx(2 / 3)
        and table["before_reference"][1] == 0.5
    )
    x = fine[0].circuit.scores[GRAPH.mask]
    y = low[0].circuit.scores[GRAPH.mask]
    expected = ((x - x.mean()) * (y - y.mean())).mean() / (x.std() * y.std())
    assert table["correlation"][0] == pytest.approx(expected) and expected < 0.999
    assert decided_alike(fine, low) == (2, 3)
    assert against(fine, []).empty


def test_bfloat16_on_a_mini_model_and_what_is_not_finite(tmp_path, monkeypatch):
    suite, store = load_suite("mini"), Store(tmp_path)
    steps = {"mini-xs": (suite.steps("mini-xs")[-1],)}
    fine = measure_circuits(suite, ["mini-xs"], ["sva"], store, steps=steps, progress=False)
    low, failed = measure_in(torch.bfloat16, suite, ["mini-xs"], ["sva"], store, steps=steps)
    table = against(fine, low)
    assert (
        failed == []
        and len(table) == 1
        and 0.99 < table["correlation"][0] < 1
        and 1e-4 < table["largest"][0] < 0.1
    )

    def spoilt(*_, **__):
        raise FloatingPointError("mini-xs at step 1 has NaN in the MLP of layer 0")

    monkeypatch.setattr("circuitbook.studies.precision.measure_circuits", spoilt)
    assert measure_in(torch.float16, suite, ["mini-xs"], ["sva", "ioi"], store, steps=steps) == (
        [],
        ["mini-xs at step 1 has NaN in the MLP of layer 0"] * 2,
    )


def test_heads_against(tmp_path):
    suite = load_suite("mini")
    one = measure_heads(
        suite, ["mini-xs"], Store(tmp_path), steps={"mini-xs": (0,)}, progress=False
    )[0]
    arrays = one.arrays | {"previous": one.arrays["previous"].copy()}
    arrays["previous"][3] += 0.25
    other = HeadScores(one.model, one.step, one.tokens_seen, one.n_heads, arrays)
    table = heads_against([one], [other]).set_index("score")
    assert table["largest"]["previous"] == pytest.approx(0.25) and table["mean"][
        "previous"
    ] == pytest.approx(0.25 / 8)
    assert (
        table["largest"].drop("previous").max() == 0 and "direct" not in table.index
    )  # IOI is not done at step 0
    assert table["range"]["previous"] == pytest.approx(np.ptp(one.score("previous")))


def test_parameters_outside_embeddings_are_pythias():
    assert {size: inner_parameters(PYTHIA_SHAPES[size]) for size in PUBLISHED} == PUBLISHED


def size_of(name, n):
    """The terms of Pythia's shapes, written out."""
    layers, heads, width = {
        "14m": (6, 4, 128),
        "31m": (6, 8, 256),
        "70m": (6, 8, 512),
        "160m": (12, 12, 768),
        "12b": (36, 40, 5120),
    }[name]
    vocabulary = 50688 if name == "12b" else 50304
    edges = (
        sum((3 * heads + 1) * (1 + layer * (heads + 1)) for layer in range(layers))
        + 1
        + layers * (heads + 1)
    )
    return layers, layers * heads, width, vocabulary, edges, n


INNER = PUBLISHED | {"14m": 1_189_888, "31m": 4_739_072}
LAW = {
    "abilities": lambda layers, heads, d, v, e, n: 3e-7 * n + 1e-6 * v * d / 1e3,
    "attribution": lambda layers, heads, d, v, e, n: 2e-7 * n + 5e-8 * e * d,
    "circuit search": lambda layers, heads, d, v, e, n: 1e-7 * n + 1e-3 * layers * d,
    "head scores": lambda layers, heads, d, v, e, n: 4e-9 * heads * n + 1e-6 * heads * v,
    "copy suppression": lambda layers, heads, d, v, e, n: 1e-8 * heads * v * d,
    "path patching": lambda layers, heads, d, v, e, n: 5e-9 * heads * n + 1e-5 * heads * layers * d,
}


def record(sizes=("14m", "31m", "70m", "160m"), factor=1.0):
    rows = []
    for size in sizes:
        seconds = {
            part: law(*size_of(size, INNER[size])) * (factor if size == sizes[-1] else 1)
            for part, law in LAW.items()
        }
        rows.append(
            {
                "shape": size,
                "parts": {part: {"seconds": s / 4, "times": 4} for part, s in seconds.items()},
                "forward": {"flop": 6e9, "seconds": 0.5},
            }
        )
    return {"rows": rows}


def test_a_fit_finds_the_law_and_reads_off_what_was_measured():
    for one in fit(record()):
        assert one.off == pytest.approx(1, abs=1e-3) and min(one.rates) >= 0
        assert one.predicted("12b") == pytest.approx(
            LAW[one.part](*size_of("12b", INNER["12b"])), rel=1e-3
        ), one.part
    for one in fit(record(factor=2)):  # the largest took twice what the law says
        expected = LAW[one.part](*size_of("160m", INNER["160m"]))
        assert one.off == pytest.approx(0.5, abs=1e-3) and one.seconds("160m") == pytest.approx(
            2 * expected
        ) != one.predicted("160m")
    assert rate(record()) == pytest.approx(12e9)


def test_the_table_adds_up():
    table = cost_table(fit(record()), {"a": ("70m", 10), "b": ("12b", 2)}, here=1e10, there=1e13)
    hours = [
        sum(law(*size_of(size, INNER[size])) for law in LAW.values()) * k / 3600
        for size, k in (("70m", 10), ("12b", 2))
    ]
    assert table["core_hours"].tolist() == pytest.approx([*hours, sum(hours)], rel=1e-3)
    assert table["gpu_hours"].tolist() == pytest.approx(
        [h / 1000 for h in (*hours, sum(hours))], rel=1e-3
    )
    assert table["measured"].tolist() == [True, False, False]
    whole = PUBLISHED["12b"] + 2 * 50688 * 5120
    assert table["download_gb"][1] == pytest.approx(2 * whole * 2 / 1e9)
    graph = Graph(36, 40)
    assert table["store_gb"][1] == pytest.approx(2 * 4 * 5 * graph.n_src * graph.n_dst / 1e9)


def test_a_record_that_is_none_is_refused(tmp_path):
    for content in ("no json", json.dumps({"rows": []}), json.dumps(record(("14m", "31m")))):
        (tmp_path / "r.json").write_text(content)
        with pytest.raises(
            ValueError,
            match="r.json is no record of benchmarks/cost.py .*"
            "make one with python benchmarks/cost.py",
        ):
            recorded_cost(tmp_path / "r.json")
