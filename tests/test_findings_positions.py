"""Circuits at positions: what is measured, and what is said where the right words are known."""

import pandas as pd
import pytest
from closeness import assert_close

from circuitbook import attribute, get_task, load_suite
from circuitbook.circuits.evaluation import evaluate_masks
from circuitbook.circuits.faithfulness import faithfulness_curve
from circuitbook.circuits.positions import find_at_positions
from circuitbook.circuits.spans import spans_of
from circuitbook.store import Store
from circuitbook.studies.circuits import measure_circuits
from circuitbook.studies.findings import positions as findings
from circuitbook.studies.held_out import next_prompts
from circuitbook.studies.positions import COLUMNS, KINDS, measure_positions


def test_circuits_at_positions_are_those_of_each_kind_by_itself(tmp_path):
    suite, store = load_suite("mini"), Store(tmp_path)
    steps = {"mini-xs": suite.steps("mini-xs")[-1:]}
    circuits = measure_circuits(suite, ["mini-xs"], ["ioi"], store, steps=steps, progress=False)
    table = measure_positions(suite, circuits, store, progress=False).set_index("kind")
    assert list(table.index) == list(KINDS) and table["normalised"].min() >= 0.8
    model = suite.checkpoint("mini-xs", steps["mini-xs"][0]).load()
    pairs = get_task("ioi").prompts(model.tokenizer, n=48, corruption="abc")
    fresh = next_prompts(get_task("ioi"), model.tokenizer, 48, 42, corruption="abc")
    how = dict(method="eap-ig", rule="midpoint", points=5, tolerance=0.02)
    scores = attribute(model, pairs, **how)
    size = int(table.loc["everywhere", "edges"])
    plain = faithfulness_curve(model, pairs, scores, [size], selection="top")
    want = {"normalised": plain["normalised"][0], "edges": plain["edges"][0]}
    for name, value in want.items():
        assert_close(float(table.loc["everywhere", name]), value, rounds=1000, dtype=model.dtype)
    scores = attribute(model, pairs, **how, spans=spans_of(pairs), between="gradient")
    circuit, _ = find_at_positions(model, pairs, scores)
    assert table.loc["between", "edges"] == circuit.edges.sum() + circuit.between.sum()
    names = scores.graph.destination_names
    seen = [
        f"{circuit.spans.names[to]}: {names[dst]} at {circuit.spans.names[at]}"
        for to in range(len(circuit.spans))
        for at in range(len(circuit.spans))
        for dst in range(len(names))
        if circuit.between[to, at, dst]
    ]
    assert table.loc["between", "seen"] == "; ".join(seen) and seen
    again = type(circuit)(edges=circuit.edges, between=circuit.between, spans=spans_of(fresh))
    graph = scores.graph
    metric, none, full = (
        evaluate_masks(model, fresh, [again, graph.mask & False, graph.mask]).double().mean(1)
    )
    kept = float((metric - none) / (full - none))
    assert_close(float(table.loc["between", "fresh"]), kept, rounds=1000, dtype=model.dtype)


SEEN = "S2: a0.h1<k> at S1; END: a1.h2<v> at after IO; END: a1.h2<k> at after IO"


def made(changed=(), models=("mini-s", "mini-m")):
    """Rows as they are measured; changed: {(model, kind): {column: value}}."""
    known = {
        "everywhere": (40, 0, 400.0, 900.0, 0.81, 0.80),
        "numbers": (300, 0, 240.0, 700.0, 0.80, 0.75),
        "spans": (50, 0, 60.0, 100.0, 0.82, 0.82),
        "between": (70, 20, 50.0, 20.0, 0.83, 0.79),
    }
    rows = []
    for model in models:
        for kind, numbers in known.items():
            row = dict(zip(COLUMNS, (model, 1, kind, *numbers, pd.NA), strict=True))
            if kind == "between":
                row["seen"] = (
                    "S2: a0.h1<k> at S1; END: a1.h2<v> at after IO; END: a1.h2<k> at after IO"
                )
            rows.append(row | dict(changed).get((model, kind), {}))
    return pd.DataFrame(rows, columns=COLUMNS).convert_dtypes()


FAILED = dict.fromkeys(("edges", "at_positions", "pairs", "normalised", "fresh"), pd.NA)


@pytest.mark.parametrize(
    ("table", "says", "never"),
    [
        (made(),
         ["**Most edges of a prompt are not needed: at the right spans, 15% of",
          "In mini-s and mini-m that circuit has 40 edges, which are 400 on a prompt",
          "with spans there are 60", "it takes 240", "over 100 pairs", "20 are left",
          "of a prompt are 50", "spans keep 82%", "between spans 79%", "positions 80%"],
         ["With positions:"]),
        (made({("mini-s", "spans"): {"at_positions": 300.0}}),
         ["**With positions: at the right spans, 15% to 75%", "there are 60 to 300"],
         ["not needed"]),
        (made({("mini-s", "numbers"): FAILED}), ["In mini-m that circuit"], ["mini-s"]),
        (made({("mini-s", "numbers"): FAILED}, ["mini-s"]), ["we can't compare"], ["**"]),
        (pd.DataFrame(columns=COLUMNS), ["nothing to ask"], ["**"]),
    ],
)  # fmt: skip
def test_positions_in_words(table, says, never):
    said = findings.positions_in_words(table)
    assert all(part in said for part in says), said
    assert not any(part in said for part in never), said


def test_where_queries_look():
    table = made(models=["mini-s"])
    rows = findings.seen_table(table).to_dict("records")
    assert rows == [
        {"model": "mini-s", "from": "S2", "at": "S1", "keys": "0.1", "values": ""},
        {"model": "mini-s", "from": "END", "at": "after IO", "keys": "1.2", "values": "1.2"},
    ]
    said = findings.seen_in_words(table)
    assert said == "In mini-s END looks at what follows IO (1 head); queries also look from S2."
    nothing = made({("mini-s", "between"): {"seen": ""}}, ["mini-s"])
    assert findings.seen_table(nothing).empty and findings.seen_in_words(nothing) == ""
    assert findings.seen_in_words(pd.DataFrame(columns=COLUMNS)) == ""
    shown = findings.positions_table(table)
    assert shown["edges are in"].tolist() == list(findings.KIND_TITLES.values())
