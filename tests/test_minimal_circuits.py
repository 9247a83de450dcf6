"""Minimal circuits: none of their edges may go; and what is said of how much they share."""

import numpy as np
import pandas as pd
import pytest

from circuitbook import load_suite
from circuitbook.circuits.evaluation import evaluate_masks
from circuitbook.circuits.minimal import minimal_circuit, sample_minimal
from circuitbook.circuits.pruning import MetricOfCircuits
from circuitbook.circuits.similarity import jaccard
from circuitbook.figures.known_circuit import circuits_shared
from circuitbook.model.graph import Graph
from circuitbook.studies.findings import equally_good as words
from circuitbook.studies.held_out import next_prompts
from circuitbook.studies.minimal_circuits import (
    MinimalCircuits,
    find_minimal,
    measure_minimal,
    minimal_table,
)
from circuitbook.tasks import get_task

GRAPH = Graph(2, 1)


@pytest.fixture(scope="module")
def model():
    return load_suite("mini").checkpoint("mini-xs", 3906).load()


@pytest.fixture(scope="module")
def metric(model):
    return MetricOfCircuits(model, get_task("sva").prompts(model.tokenizer, n=8))


def kept(model, pairs, masks):
    """Normalised faithfulness, from evaluation alone."""
    graph = MetricOfCircuits(model, pairs).graph
    ends = evaluate_masks(model, pairs, [graph.mask, np.zeros_like(graph.mask)]).double().mean(1)
    values = evaluate_masks(model, pairs, masks).double().mean(1)
    return ((values - ends[1]) / (ends[0] - ends[1])).numpy()


def test_no_edge_may_go(model, metric):
    circuits = list(sample_minimal(metric, 0.8, draws=3, away=1, seed=0))
    assert len({mask.tobytes() for mask in circuits}) > 1
    for mask in circuits:
        fewer = []
        for edge in np.argwhere(mask):
            fewer.append(mask.copy())
            fewer[-1][tuple(edge)] = False
        assert kept(model, metric.pairs, [mask])[0] >= 0.8 > kept(model, metric.pairs, fewer).max()
        assert (metric.graph.live(mask) == mask).all()
    again = list(sample_minimal(metric, 0.8, draws=3, away=1, seed=0))
    assert all((a == b).all() for a, b in zip(circuits, again, strict=True))


def test_small_scores_go_first(metric):
    graph = metric.graph
    first = minimal_circuit(metric, graph.mask, 0.8, np.random.default_rng(0))
    kept_last = np.where(first, 1.0, 1e-9)  # so that all else goes before
    same = minimal_circuit(metric, graph.mask, 0.8, np.random.default_rng(1), kept_last)
    assert jaccard(first, same) == 1


def test_too_little_to_start_from_is_refused(metric):
    with pytest.raises(ValueError, match="start from more"):
        minimal_circuit(metric, metric.graph.mask & False, 0.8, np.random.default_rng(0))


def test_what_is_measured_is_what_its_parts_give(model):
    task, found = get_task("sva"), np.zeros_like(MetricOfCircuits(
        model, get_task("sva").prompts(model.tokenizer, n=2)).graph.mask)  # fmt: skip
    found[0, -1] = True
    how = {"prompts": 16, "few": 8, "seed": 42, "found": found, "threshold": 0.8}
    got = find_minimal(model, task=task, draws=2, away=1, **how)
    every = [found, *got["masks"], *got["away"], *got["random"]]
    pairs = task.prompts(model.tokenizer, n=16, seed=42)
    few, fresh = pairs.subset(slice(8)), next_prompts(task, model.tokenizer, 16, 42)
    assert got["kept"] == pytest.approx(kept(model, few, every), abs=1e-5)
    assert got["fresh"] == pytest.approx(kept(model, fresh, every), abs=1e-5)
    assert (got["random"].sum((1, 2)) >= got["masks"].sum((1, 2))).all()


def test_one_draw_is_refused():
    with pytest.raises(ValueError, match="2 or more"):
        measure_minimal(None, [], None, draws=1)


# ------------------------------------------------------------------ in words


def circuit(*edges):
    mask = np.zeros(GRAPH.mask.shape, bool)
    for i in edges:
        mask[tuple(GRAPH.edges[i])] = True
    return mask


def made(
    masks, *, fresh=0.85, found_fresh=0.9, random_fresh=0.0, task="ioi", random=None, away=None
):
    """away: the circuit that was made to differ; by default it has no edge of the others."""
    masks = np.array(masks)
    one = {"minimal": np.full(len(masks), fresh), "found": np.array([found_fresh])}
    one |= {"away": np.full(1, fresh), "random": np.full(len(masks), random_fresh)}
    return MinimalCircuits(
        model="mini-s",
        step=1,
        task=task,
        found=circuit(0, 1, 2, 3),
        masks=masks,
        away=np.array([circuit(4, 5, 6) if away is None else away]),
        random=np.array(random or [circuit(7, 8), circuit(9, 10)]),
        kept=one,
        fresh=one if fresh is not None else {},
    )


HALF = [circuit(0, 1, 2), circuit(0, 1, 3)]
SAME = [circuit(0, 1), circuit(0, 1)]


def test_the_table_counts():
    row = minimal_table([made(HALF)]).iloc[0]
    assert (row["iou"], row["furthest"], row["chance"], row["found"]) == (0.5, 0, 0, 0.75)
    assert (row["core"], row["some"], row["edges"], row["different"]) == (2, 4, 3, 2)
    assert (row["fresh"], row["fresh_found"], row["fresh_random"]) == (0.85, 0.9, 0)
    assert made(HALF).away_pairs.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("of", "says", "never"),
    [
        ([made(HALF)],
         ["keep 80%, 50% are in both in", "random ones 0%", "67% of a circuit"], ["Every order"]),
        ([made(SAME, away=SAME[0])],
         ["**Every order of removal leads to the same", "keeps 80%"], ["are in both"]),
        ([made(SAME)], ["100% are in both", "furthest apart 0%"], ["Every order"]),
        ([made(HALF), made(SAME, task="sva", away=SAME[0])],
         ["keep 80%, 50% are in both in", "same circuit for SVA in mini-s"], ["removal"]),
        ([], ["No circuit was found"], ["are in both"]),
    ],
)  # fmt: skip
def test_minimal_in_words(of, says, never):
    table = minimal_table(of) if of else pd.DataFrame()
    said = words.minimal_in_words(table, 0.8)
    assert all(part in said for part in says) and not any(part in said for part in never)


@pytest.mark.parametrize(
    ("of", "says", "never"),
    [
        (made(HALF), ["keeps 85%, below 80% in 0 of 1", "in 1.", "keep 0% at most"], ["special"]),
        (made(HALF, fresh=0.7), ["keeps 70%, below 80% in 1 of 1"], []),
        (made(HALF, found_fresh=0.8), ["the minimal ones in 0"], []),
        (made(HALF, random_fresh=0.7), ["little is special"], ["at most"]),
        (made(HALF, fresh=None), ["No prompts are left"], ["keeps"]),
    ],
)
def test_fresh_in_words(of, says, never):
    said = words.fresh_in_words(minimal_table([of]), 0.8)
    assert all(part in said for part in says) and not any(part in said for part in never)


def test_the_figure_has_a_mark_for_every_pair():
    figure = circuits_shared([made(HALF), made(HALF, task="sva")])
    by_label = {line.get_label(): len(line.get_xdata()) for line in figure.axes[0].lines}
    assert list(by_label.values()) == [2, 4, 4, 2]
    assert len(words.minimal_shown(minimal_table([made(HALF, fresh=None)]))) == 1
    assert circuits_shared([]).axes[0].texts[0].get_text() == "no circuit was found"
