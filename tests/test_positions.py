"""Position-aware circuits against literal patching at each position, and a graph written out."""

import dataclasses

import networkx as nx
import numpy as np
import pytest
from closeness import assert_close
from literal import Literal
from toys import toy_model, toy_pairs

from circuitbook import attribute, get_task, load_suite
from circuitbook.circuits.evaluation import evaluate_masks
from circuitbook.circuits.positions import (
    first_positions,
    live_at_positions,
    position_curve,
    position_order,
)
from circuitbook.circuits.spans import SpanCircuit, each_position
from circuitbook.model.graph import Graph, graph_of

KINDS = ("gpt_neox", "gpt_neox sequential", "llama", "qwen3", "olmo2")
ALIGNED = dict(lengths=(7, 7, 7), first=(2, 4, 3))
END = 6


def random_mask(graph, share, seed, n_pos=7):
    rng = np.random.default_rng(seed)
    return (rng.random((n_pos, *graph.mask.shape)) < share) & graph.mask


def live(mask, graph):
    spans = each_position(toy_pairs(**ALIGNED))
    return live_at_positions(SpanCircuit(edges=mask, spans=spans), graph).edges


def patched_at_positions(network, pairs, graph, mask):
    """Metric [n]: every edge carries its source's corrupted output at the positions where it is not
    in the circuit."""
    literal, out = Literal(network), []
    for i in range(len(pairs)):
        corrupted, _ = literal.run(literal.embed(pairs.corrupted[i]))

        def patch(source, target, written, corrupted=corrupted):
            inside = mask[(slice(None), *graph.edge(f"{source}->{target}"))]
            return written.where(written.new_tensor(inside).bool()[:, None], corrupted[source])

        out.append(-float(literal.loss(pairs, i, literal.embed(pairs.clean[i]), patch)))
    return np.array(out)


@pytest.mark.parametrize("share", [0.2, 0.7])
@pytest.mark.parametrize("kind", KINDS)
def test_a_circuit_with_positions_is_patching_at_positions(tmp_path, kind, share):
    heads = 4 if kind in ("llama", "qwen3") else 2
    network, model = toy_model(tmp_path, architecture=kind, layers=2, heads=heads)
    pairs, graph = toy_pairs(**ALIGNED), graph_of(model)
    masks = [random_mask(graph, share, seed) for seed in range(2)]
    flat = random_mask(graph, share, 3)[0]  # circuits of both kinds share a batch
    got = evaluate_masks(model, pairs, [*masks, flat]).numpy()
    for mask, metric in zip([*masks, np.repeat(flat[None], 7, 0)], got, strict=True):
        assert_close(metric, patched_at_positions(network, pairs, graph, mask), rounds=100, size=9)
    small = evaluate_masks(model, pairs, masks, memory=30_000).numpy()
    assert_close(small, got[:2], rounds=100, size=9)


def test_the_same_edges_at_all_positions_are_the_circuit_without(tmp_path):
    _, model = toy_model(tmp_path, layers=3)
    pairs, graph = toy_pairs(**ALIGNED), graph_of(model)
    flat = random_mask(graph, 0.5, 1)[0]
    both = evaluate_masks(model, pairs, [flat, np.repeat(flat[None], 7, 0)])
    assert_close(both[1], both[0], rounds=100)
    assert both[0].std() > 0


def on_a_path(graph, mask, end):
    """Literally: a node for what each source writes and each destination reads at each position."""
    paths, n_pos = nx.DiGraph(), len(mask)
    for pos, src, dst in np.argwhere(mask):
        paths.add_edge(("out", src, pos), ("in", dst, pos))
    for dst, node in enumerate(graph.node_of[:-1]):
        kind = graph.destination_names[dst][-2]
        for pos in range(n_pos):
            for later in range(pos, n_pos if kind in "kv" else pos + 1):
                paths.add_edge(("in", dst, pos), ("out", int(node), later))
    starts = [("out", 0, pos) for pos in range(n_pos) if ("out", 0, pos) in paths]
    goal = ("in", graph.n_dst - 1, end)
    fed = set(starts).union(*(nx.descendants(paths, start) for start in starts))
    counts = (nx.ancestors(paths, goal) | {goal}) if goal in paths else set()
    live = np.zeros_like(mask)
    for pos, src, dst in np.argwhere(mask):
        live[pos, src, dst] = ("out", src, pos) in fed and ("in", dst, pos) in counts
    return live


@pytest.mark.parametrize("graph", [Graph(2, 2), Graph(3, 2, parallel=False)], ids=str)
def test_dead_edges_are_on_no_path(graph):
    shares = []
    for seed in range(12):
        mask = random_mask(graph, 0.03 * (seed + 1), seed)
        got = live(mask, graph)
        assert (got == on_a_path(graph, mask, END)).all()
        shares.append(got.sum() / mask.sum())
    assert min(shares) < 0.1 and max(shares) > 0.3


def test_dead_edges_change_nothing(tmp_path):
    _, model = toy_model(tmp_path, layers=2)
    pairs, graph = toy_pairs(**ALIGNED), graph_of(model)
    mask = random_mask(graph, 0.4, 5)
    alive = live(mask, graph)
    both = evaluate_masks(model, pairs, [mask, alive])
    assert 0 < alive.sum() < mask.sum()
    assert_close(both[1], both[0], rounds=100)


def test_the_order_and_its_circuits(tmp_path):
    _, model = toy_model(tmp_path, layers=2)
    pairs, graph = toy_pairs(**ALIGNED), graph_of(model)
    scores = attribute(model, pairs, method="eap", per_position=True)
    order = position_order(scores)
    assert (order[:, 0] == order[:, 1]).all()  # none between positions
    order = order[:, 1:]
    values = np.abs(scores.per_position.numpy())[tuple(order.T)]
    assert (np.diff(values) <= 0).all() and len(order) == (scores.per_position != 0).sum()
    assert order[:, 0].min() == 2  # where the first prompt begins to differ
    into_logits = order[order[:, 2] == graph.n_dst - 1]
    assert (into_logits[:, 0] == END).all()
    signed = position_order(scores, absolute=False, limit=5)
    best = np.sort(scores.per_position.numpy().ravel())[::-1][:5]
    np.testing.assert_array_equal(scores.per_position.numpy()[tuple(signed[:, 1:].T)], best)
    circuit = first_positions(position_order(scores), graph, each_position(pairs), 40)
    assert 0 < circuit.edges.sum() <= 40 and circuit.between is None


def test_a_circuit_with_positions_needs_fewer_places():
    """On IOI's prompts of one template: a curve whose ends are known, and a smaller circuit."""
    model = load_suite("mini").checkpoint("mini-s", 3906).load()
    pairs = get_task("ioi").prompts(model.tokenizer, n=48)
    pairs = pairs.subset((pairs.end == pairs.end.mode().values).nonzero()[:, 0])
    scores = attribute(model, pairs, method="eap-ig", rule="midpoint", points=5, per_position=True)
    order = position_order(scores)
    curve = position_curve(model, pairs, scores, [0, 20, 80, 320, len(order)])
    assert_close(curve["normalised"].iloc[[0, -1]], np.array([0.0, 1.0]), rounds=1000, size=9,
                 dtype=scores.values.dtype)  # fmt: skip
    assert (curve["edges"] <= curve["size"]).all() and (curve["anywhere"] <= curve["edges"]).all()
    assert curve["normalised"].iloc[3] > 0.8 and curve["anywhere"].iloc[3] < curve["edges"].iloc[3]


def test_what_does_not_match_is_refused(tmp_path):
    _, model = toy_model(tmp_path, layers=2)
    graph, pairs = graph_of(model), toy_pairs()
    scores = attribute(model, pairs, method="eap", per_position=True)
    mask = random_mask(graph, 0.5, 0, n_pos=8)
    with pytest.raises(ValueError, match="these end at 4, 5, 6, 7; take those of one template"):
        evaluate_masks(model, pairs, [mask])
    with pytest.raises(ValueError, match="take those of one template"):
        position_curve(model, pairs, scores, [3])
    with pytest.raises(ValueError, match="and the prompts 7 positions"):
        evaluate_masks(model, toy_pairs(**ALIGNED), [mask])
    with pytest.raises(ValueError, match="per_position=True"):
        position_order(dataclasses.replace(scores, per_position=None))
