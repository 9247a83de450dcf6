"""Lab cells: what they ask and what is seen, by the library; a reader who types and presses."""

import json
import re
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from test_lab import Page, difference, numbers
from test_views import data_in

from circuitbook import attribute, find_circuit, get_task, load_suite
from circuitbook.circuits.circuit import Circuit
from circuitbook.circuits.evaluation import evaluate_circuit
from circuitbook.figures.lab_cell import answer, checkpoints_in_a_page, lab_cell, try_it
from circuitbook.figures.lab_weights import weights_files
from circuitbook.figures.scripts import SCRIPTS
from circuitbook.heads.ablation import ablate
from circuitbook.heads.names import head_name
from circuitbook.model.graph import graph_of
from circuitbook.store import Store
from circuitbook.studies.findings.lab_cells import outside_the_circuit, sentence_over_training
from circuitbook.studies.findings.lab_heads import (
    heads_off_over_training,
    line_said_twice,
    the_other_giver,
)
from circuitbook.studies.lab import FIRST, example_of
from circuitbook.studies.switching import answer_ids, measure, measure_switched, switched_logits

SUITE = load_suite("mini")
STEPS = (0, 1448, 3906)
XS = {"mini-xs": STEPS}


def a_chapter(store, models=("mini-xs",), steps=STEPS, **measured):
    """What makers of cells ask of a chapter."""
    return SimpleNamespace(
        suite=SUITE,
        store=store,
        models=tuple(models),
        main=list(models),
        steps=dict.fromkeys(models, tuple(steps)),
        recipe=SimpleNamespace(seed=42),
        **measured,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def model():
    return SUITE.checkpoint("mini-xs", 3906).load()


# ------------------------------------------------------------------ switches, by the library


def test_switched_heads_are_as_in_ablation(model):
    pairs = get_task("ioi").prompts(model.tokenizer, 6)
    for heads in ([(1, 2)], [(0, 0), (1, 1)]):
        for how, name in (("zero", "zero"), ("resample", "other")):
            wanted = ablate(model, pairs, heads, how)
            for i in range(len(pairs)):
                example = example_of(model.tokenizer, pairs, i)
                logits = switched_logits(
                    model,
                    text=example.text,
                    other=example.other,
                    switches=[{head_name(head): name for head in heads}],
                )
                ids = [answer_ids(model.tokenizer, text) for text in (example.right, example.wrong)]
                got = [float(measure(logits[which], *ids)) for which in ("own", "switched")]
                assert got == pytest.approx(
                    [float(wanted.before[i]), float(wanted.after[i])], abs=1e-4
                )
            assert (wanted.before - wanted.after).abs().mean() > 0.01


@pytest.mark.parametrize("task", ["ioi", "greater_than", "sva"])
def test_nodes_from_the_other_sentence_are_a_circuit_without_their_edges(model, task):
    """Edges out of a node that are not in a circuit carry what the other sentence has."""
    graph, nodes = graph_of(model), ["a0.h2", "a1.h2", "m0"]
    pairs = get_task(task).prompts(model.tokenizer, 3)
    mask = graph.mask.copy()
    mask[[graph.node_names.index(node) for node in nodes]] = False
    wanted = evaluate_circuit(model, pairs, Circuit(graph, mask)).numpy()
    seen = []
    for i in range(len(pairs)):
        example = example_of(model.tokenizer, pairs, i)
        logits = switched_logits(
            model, text=example.text, other=example.other, switches=[dict.fromkeys(nodes, "other")]
        )
        ids = [answer_ids(model.tokenizer, text) for text in (example.right, example.wrong)]
        seen.append([float(measure(logits[which], *ids)) for which in ("own", "switched")])
    seen = np.array(seen)
    np.testing.assert_allclose(seen[:, 1], wanted, atol=1e-4)
    assert np.abs(seen[:, 0] - seen[:, 1]).max() > 0.01


def test_an_mlp_that_writes_nothing_is_as_a_hook_makes_it(model):
    layers = model.hf_model.base_model.layers
    handle = layers[0].mlp.register_forward_hook(lambda module, inputs, out: 0 * out)
    tokens = torch.tensor([model.tokenizer(FIRST.text)["input_ids"]])
    wanted = model.logits(tokens)[0, -1]
    handle.remove()
    got = switched_logits(
        model, text=FIRST.text, other=FIRST.other, switches=[{"m0": "zero"}, {"m0": "other"}]
    )
    np.testing.assert_allclose(got["switched"][0], wanted, atol=1e-4)
    assert (got["switched"][1] - got["own"][0]).abs().max() > 0.01
    assert (wanted - got["own"][0]).abs().max() > 0.1


def test_switches_that_cannot_be_are_one_line(model):
    both = {"text": FIRST.text, "other": FIRST.other}
    with pytest.raises(ValueError, match="no head and no MLP 'a9.h0'"):
        switched_logits(model, **both, switches=[{"a9.h0": "zero"}])
    with pytest.raises(ValueError, match="no head and no MLP 'logits'"):
        switched_logits(model, **both, switches=[{"logits": "zero"}])
    with pytest.raises(ValueError, match="'frozen'; there are: zero, other"):
        switched_logits(model, **both, switches=[{"a0.h0": "frozen"}])
    with pytest.raises(ValueError, match="has 1 tokens and .* 15: they must have as many"):
        switched_logits(model, text=FIRST.text, other="Mary", switches=[])


# ------------------------------------------------------------------ what they ask and say


def test_a_sentence_over_training(store):
    cell = sentence_over_training(a_chapter(store), XS)
    wanted = [
        [difference("mini-xs", step, text) for step in STEPS] for text in (FIRST.text, FIRST.other)
    ]
    for column, values in zip((2, 4), wanted, strict=True):
        got = cell.table.iloc[:, column].astype(float).tolist()
        assert got == pytest.approx(values, abs=6e-3)
    told = [own > 0 > other for own, other in zip(*wanted, strict=True)]
    assert told == [False, False, True]
    assert "From 8M tokens on mini-xs prefers the one who receives" in cell.seen
    assert "At all 2 checkpoints before" in cell.seen and "Mary at 1 and John at 1" in cell.seen
    assert cell.step == 3906 and "mini-xs" in cell.question and "“Mary” (92%)" in cell.still
    early = sentence_over_training(a_chapter(store, steps=(0,)), {"mini-xs": (0,)})
    assert "does not name the receiver in both" in early.seen
    assert "load its other checkpoints" not in early.question


def test_what_a_circuit_leaves_out(store, model):
    pairs = get_task("ioi").prompts(model.tokenizer, 12)
    circuit = find_circuit(model, pairs, attribute(model, pairs), threshold=0.8)
    cell = outside_the_circuit(a_chapter(store), XS, model, pairs, circuit)
    nodes = set(graph_of(model).node_names) - {"input", "logits"}
    assert set(cell.switches) == nodes - set(circuit.nodes)
    (at,) = measure_switched(SUITE, "mini-xs", [3906], store, cell.example, [cell.switches])
    values = cell.table["logit difference"].astype(float).tolist()
    assert values[:3] == pytest.approx([at.own, at.other, at.switched[0]], abs=6e-3)
    assert len(values) == 3 + len(nodes & set(circuit.nodes))
    assert f"goes from {at.own:.2f} to {at.switched[0]:.2f}" in cell.seen
    assert outside_the_circuit(a_chapter(store), {"mini-xs": (0,)}, model, pairs, circuit) is None


def scored(**induction):
    """A table of heads of mini-xs whose induction scores are 0, unless told: a1h3=0.5."""
    heads = [(layer, head) for layer in range(2) for head in range(4)]
    return pd.DataFrame(
        {
            "model": "mini-xs",
            "layer": [layer for layer, _ in heads],
            "head": [head for _, head in heads],
            "induction": [induction.get(f"a{layer}h{head}", 0.0) for layer, head in heads],
            "previous": [0.25 if layer == 0 else 0.0 for layer, _ in heads],
        }
    )


def test_a_line_said_twice(store):
    cell = line_said_twice(a_chapter(store), XS, scored(a1h3=0.5))
    assert cell.node == "a1.h3" and "Head 1.3 has the highest" in cell.question
    line, other = cell.example.text.split(), cell.example.other.split()
    assert line[:7] == line[8:] and other[8:] == line[8:] and not set(line) & set(other[:8])
    assert cell.example.right == line[7] and cell.example.right in cell.question
    sets = [{"a1.h3": "zero"}, *({f"a0.h{head}": "zero"} for head in range(4))]
    (at,) = measure_switched(SUITE, "mini-xs", [3906], store, cell.example, sets)
    assert at.own == pytest.approx(dict(at.next_words())[cell.example.right], abs=1e-5)
    assert f"probability of {at.own:.0%}, and of {at.switched[0]:.0%} without head 1.3" in cell.seen
    needed = int(at.switched[1:].argmin())
    assert f"0.{needed} is missed most" in cell.seen and "score is 0.25" in cell.seen
    first = line_said_twice(a_chapter(store), XS, scored(a0h1=0.5))
    assert first.node == "a0.h1" and "earlier layers" not in first.seen


def of_heads(direct):
    """Scores at the last checkpoint; direct: of each head, below zero helps."""
    heads = [(layer, head) for layer in range(2) for head in range(4)]
    return SimpleNamespace(
        model="mini-xs", step=3906, heads=heads, score=lambda kind: np.array(direct)
    )


def test_heads_off_over_training(store):
    heads = [of_heads([0, 0, 0, 0, 0, 0, -0.9, -0.1])]
    cell = heads_off_over_training(a_chapter(store, heads=heads), XS)
    assert cell.switches == {"a1.h2": "zero"} and cell.node == "a1.h2"
    sets = [cell.switches, *(
        {**cell.switches, f"a{layer}.h{head}": "zero"}
        for layer in range(2) for head in range(4) if (layer, head) != (1, 2)
    )]  # fmt: skip
    seen = measure_switched(SUITE, "mini-xs", STEPS, store, FIRST, sets)
    for column, values in (("all on", [at.own for at in seen]),
                           ("without 1.2", [at.switched[0] for at in seen])):  # fmt: skip
        assert cell.table[column].astype(float).tolist() == pytest.approx(values, abs=6e-3)
    worst = float(seen[-1].switched[1:].min())
    assert cell.table.iloc[-1, -1] == f"{worst:.2f}" and f"{worst:.2f} without the two" in cell.seen
    assert "From 8M tokens on head 1.2 costs more than 1" in cell.seen
    assert ("John is ahead" in cell.seen) == (worst < 0)


def classes_with(rows, effects, patched=True):
    member = np.isin(np.arange(8), rows)
    heads = [(layer, head) for layer in range(2) for head in range(4)]
    return SimpleNamespace(
        model="mini-xs", step=3906, heads=heads, role=lambda row: "name mover",
        patched={"direct": 0} if patched else {},
        effects=lambda stage: np.array(effects), members=lambda stage: member,
    )  # fmt: skip


def test_the_other_giver(store):
    classes = classes_with([5, 6, 7], [0, 0, -0.9, 0, 0, 0.3, -0.5, -0.1])
    cell = the_other_giver(a_chapter(store, head_classes=[classes]), XS)
    assert cell.node == "a1.h2" and "*name mover*" in cell.question and not cell.switches
    (at,) = measure_switched(
        SUITE, "mini-xs", [3906], store, FIRST, [{"a1.h2": "other"}, {"a1.h2": "zero"}]
    )
    given, off = at.switched
    assert at.own > 0 > given and "prefers John" in cell.seen
    way = (at.own - given) / (at.own - at.other)
    assert f"{two(given)}, which is {way:.0%} of the way" in cell.seen and two(off) in cell.seen
    nobody = classes_with([5], [0, 0, 0, 0, 0, 0.3, 0, 0])
    assert the_other_giver(a_chapter(store, head_classes=[nobody]), XS) is None
    early = classes_with([], [0] * 8, patched=False)
    assert the_other_giver(a_chapter(store, head_classes=[early]), XS) is None


def two(value):
    return f"{value:.2f}"


def test_a_suite_that_a_page_cannot_run_gets_a_sentence(store, capsys):
    own = SimpleNamespace(name="mini", source=SimpleNamespace(root="elsewhere"))
    assert checkpoints_in_a_page(own) == checkpoints_in_a_page(SimpleNamespace(name="pythia")) == {}
    there = checkpoints_in_a_page(SUITE)
    assert len(there["mini-s"]) == 13 and 3906 in there["mini-l"]
    chapter = a_chapter(store, heads=[], head_classes=[])
    makers = (
        sentence_over_training, heads_off_over_training, the_other_giver,
        lambda chapter, there: line_said_twice(chapter, there, scored()),
    )  # fmt: skip
    assert [make(chapter, {}) for make in makers] == [None] * 4
    try_it(SUITE, None)
    assert "Markdown" in capsys.readouterr().out
