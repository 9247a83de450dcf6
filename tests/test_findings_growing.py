"""Growing a model, and a suite of one's own: sentences and pictures with known answers."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from circuitbook.circuits.circuit import Circuit, circuit_of
from circuitbook.figures.growing import (
    abilities_over_steps,
    circuit_size_over_steps,
    heads_over_steps,
    loss_curve,
    said_table,
)
from circuitbook.model.graph import Graph
from circuitbook.stats import Emergence
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.findings import growing
from circuitbook.studies.findings.own_suite import at_the_last_checkpoints
from circuitbook.studies.head_scores import HeadScores
from circuitbook.studies.lab import FIRST
from circuitbook.studies.talking import BEGINNING, NAMES, WORDS, Said, what_it_says
from circuitbook.suites import load_suite
from circuitbook.tasks.lexicon import STORIES

GRAPH = Graph(1, 2)


def result(step, edges, model="own", task="ioi"):
    circuit = Circuit(GRAPH, circuit_of(GRAPH, edges).mask, reason="" if edges else "it does not")
    return CircuitResult(model, step, 1000 * step, task, circuit, 0.0)


def scores(step, clean=4.0, direct=(0.0, -2.0, 0.5, -0.1)):
    """Four heads in two layers. direct: change of the logit difference, which is `clean`, and -1
    on corrupted prompts."""
    by_head = {
        "previous": [0.1, 0.2, 0.3, 0.4],
        "induction": [0.0, 0.75, 0.0, 0.0],
        "copy": [0.0, 0.0, 0.9, 0.0],
        "to_IO": [0.2, 0.1, 0.0, 0.5],
        "to_S1": [0.0, 0.2, 0.0, 0.2],
        "to_S2": [0.1, 0.6, 0.0, 0.3],
        "direct": clean + np.array(direct),
    }
    arrays = {kind: np.array(values)[:, None] for kind, values in by_head.items()}
    arrays |= {"clean": np.array([clean]), "corrupted": np.array([clean - 5])}
    return HeadScores("own", step, step, 2, arrays)


CURVES = pd.DataFrame(
    [("ioi", 0, 0.0, -0.5, 0.5), ("ioi", 10, 3.0, 2.5, 3.5), ("repetition", 10, 0.2, 0.1, 0.3)],
    columns=["task", "step", "mean", "low", "high"],
)


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        (
            [5000.0],
            "**IOI has emerged:** a logit difference of 3.00 [2.50, 3.50] at the end. Half of it "
            "was there after 5k tokens, step 5 of 10.",
        ),
        (
            [],
            "**IOI has not emerged** in 10 steps: the logit difference is 3.00 [2.50, 3.50] at the "
            "end. Raise STEPS_TO_TRAIN.",
        ),
    ],
)
def test_whether_ioi_has_emerged(samples, text):
    half = Emergence(
        share=0.5, final=3.0, tokens=5000.0, low=4000.0, high=6000.0, samples=np.array(samples)
    )
    assert growing.ioi_emergence(CURVES, half, tokens_per_step=1000, steps=10) == text


def test_heads_that_carry_ioi_help_and_come_in_order():
    # shares: 0, -0.4, 0.1, -0.02; and with a larger effect of the last head, -0.6
    assert growing.heads_that_carry_ioi(scores(1)) == [(0, 1)]
    assert growing.heads_that_carry_ioi(scores(1, direct=(0, -2, 0, -3))) == [(1, 1), (0, 1)]
    assert growing.heads_that_carry_ioi(scores(1, direct=(0, -2, 0, -3)), n=1) == [(1, 1)]
    assert growing.heads_that_carry_ioi(scores(1, clean=0.0)) == []  # IOI is not done


def test_the_strongest_heads_in_words():
    text = growing.strongest_heads(scores(1), [(0, 1), (1, 1)])
    assert text == (
        "At the end the strongest induction score is 0.75 (head 0.1), the strongest copy score "
        "0.90 (head 1.0). Head 0.1 makes 40% of the effect on IOI directly; from END it looks most "
        "at S2; Head 1.1 makes 2% of the effect on IOI directly; from END it looks most at IO."
    )
    assert growing.strongest_heads(scores(1), []).endswith("0.90 (head 1.0).")


def test_when_the_circuit_appears():
    run = [result(1, []), result(2, ["input->logits"]), result(3, ["input->m0", "m0->logits"])]
    assert growing.circuit_appears(run) == (
        "2 of 3 checkpoints have a circuit, of 1 edges at first (step 2) and 2 at the end, of "
        f"{GRAPH.n_edges} there are."
    )
    assert growing.circuit_appears(run[:1]) == (
        "0 of 1 checkpoints have a circuit. At the last: it does not."
    )


def claim(means, found, carriers=((0, 1),), direct=None):
    """means: of the logit difference at steps 0, 10, ...; found: steps with a circuit; direct: what
    head 0.1 writes at each, else all of it."""
    steps = [10 * i for i in range(len(means))]
    curves = pd.DataFrame({"task": "ioi", "step": steps, "mean": means})
    heads = [
        scores(step, mean, (0.0, -written, 0.0, 0.0))
        for step, mean, written in zip(steps, means, direct or means, strict=True)
    ]
    circuits = [result(step, ["input->logits"] if step in found else []) for step in steps]
    return growing.claim_in_words(curves, heads, list(carriers), circuits)


def test_the_claim_is_tested_part_by_part():
    sudden = [0.0] * 7 + [2.2, 4.0, 4.0, 4.0]
    assert claim(sudden, [70, 80, 90, 100]) == (
        "**The claim holds in this run.** There is half of the score at step 70, half of what its "
        "heads write at step 70 and a first circuit at step 70. For 60% of the training the score "
        "stays below a tenth of what it will be; in the next 20% it reaches nine tenths."
    )
    assert claim(sudden, [100]).startswith("**The claim holds in part: not together.**")
    late = [0.0] * 9 + [2.2, 4.0]
    assert "not together.**" in claim(sudden, [70], direct=late)
    gradual = [0.4 * i for i in range(11)]
    assert claim(gradual, [50]).startswith(
        "**The claim holds in part: not in a short time and not after a long quiet time.**"
    )
    assert claim(gradual, [10]).startswith("**The claim fails in this run.**")
    assert claim(sudden, []) == ("**The claim can't be tested in this run**: there is no circuit.")
    assert "no head that carries it" in claim(sudden, [70], carriers=())


def test_circuits_at_the_last_checkpoints_of_two_suites():
    circuits = [
        result(2, ["input->m0", "m0->logits"], "own"),
        result(1, ["input->logits"], "own"),
        result(1, [], "mini"),
        result(1, [], "own", "sva"),
    ]
    text = at_the_last_checkpoints(circuits, ["sva", "ioi"])
    assert text.startswith(
        "At the last checkpoint here: Subject-Verb Agreement: none in own; Indirect Object "
        f"Identification: none in mini, 2 of {GRAPH.n_edges} edges in own. The example has more"
    )


# ---- what it says


def test_what_a_model_says_is_greedy_and_its_best_names():
    """Against transformers' own generation, on a model of the mini suite."""
    model = load_suite("mini").checkpoint("mini-s", 3906).load()
    said = what_it_says(model)
    tokens = torch.tensor([model.tokenizer(BEGINNING)["input_ids"]])
    whole = model.hf_model.generate(
        tokens, attention_mask=torch.ones_like(tokens), do_sample=False, max_new_tokens=WORDS
    )[0]
    assert (
        model.tokenizer(" " + said.continuation)["input_ids"] == whole[tokens.shape[1] :].tolist()
    )
    logits = model.logits(torch.tensor([model.tokenizer(FIRST.text)["input_ids"]]))[0, -1]
    best = logits.softmax(-1).topk(562)
    words = [model.tokenizer.decode([i]).strip() for i in best.indices.tolist()]
    names = [(word, p) for word, p in zip(words, best.values.tolist(), strict=True)
             if word in STORIES.people][:NAMES]  # fmt: skip
    assert [name for name, _ in said.names] == [name for name, _ in names]
    assert [p for _, p in said.names] == pytest.approx([p for _, p in names])
    assert said.step == 3906 and said.names[0][0] == "Mary"


def test_the_table_of_what_it_says_has_a_row_per_checkpoint_in_order():
    said = [Said(20, "Mary <b>gave</b>", (("Mary", 0.5), ("John", 0.25))), Said(0, "the", ())]
    text = said_table(said).to_html()
    assert text.index(">0</td>") < text.index(">20</td>") and "Mary 50%, John 25%" in text
    assert "<b>" not in text and BEGINNING in text


# ---- pictures


def lines_of(ax):
    return [(line.get_label(), list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines]


def test_the_loss_is_a_mean_and_checkpoints_are_marked():
    ax = loss_curve([4.0, 2.0, 3.0], checkpoints=(0, 2), window=2).axes[0]
    assert ax.lines[0].get_ydata().tolist() == [4.0, 3.0, 2.5]
    assert [line.get_xdata()[0] for line in ax.lines[1:]] == [0, 2]
    plt.close("all")


def test_two_abilities_over_steps():
    ioi, repetition = abilities_over_steps(CURVES).axes
    assert lines_of(ioi)[0] == ("ioi", [0, 10], [0.0, 3.0])
    assert lines_of(repetition)[0] == ("repetition", [10], [0.2])
    assert ioi.get_ylabel() == "logit difference" and len(ioi.collections) == 1
    plt.close("all")


def test_heads_over_steps():
    run = [scores(1, clean=0.0), scores(2), scores(3)]
    strongest, direct = heads_over_steps(run, [(0, 1)]).axes
    assert lines_of(strongest)[0] == ("Induction", [1, 2, 3], [0.75] * 3)
    label, steps, shares = lines_of(direct)[0]
    assert label == "0.1" and steps == [2, 3] and shares == pytest.approx([0.4, 0.4])
    strongest, direct = heads_over_steps(run, []).axes
    assert "IOI is not there" in direct.get_xlabel() and not direct.lines
    plt.close("all")


def test_circuit_sizes_with_crosses_where_there_is_none():
    table = pd.DataFrame({"step": [1, 2, 3], "found": [False, True, True], "edges": [np.nan, 4, 6]})
    ax = circuit_size_over_steps(table, steps=3).axes[0]
    by_label = {label: (x, y) for label, x, y in lines_of(ax)}
    assert by_label["circuit"] == ([2, 3], [4, 6]) and by_label["no circuit"] == ([1], [0])
    plt.close("all")
