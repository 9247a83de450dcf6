"""The graph: counts, names and order are EAP-IG's, and what is alive is what repeated removal
leaves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitbook.model.graph import Graph

PYTHIA = {
    (6, 8): 3_580,
    (12, 12): 32_347,
    (24, 16): 231_493,
    (32, 32): 1_591_857,
    (36, 40): 3_131_263,
}


@pytest.mark.parametrize("shape", PYTHIA)
def test_edge_counts_of_pythia(shape):
    layers, heads = shape
    graph = Graph(layers, heads)
    closed = (
        sum((3 * heads + 1) * (1 + k * (heads + 1)) for k in range(layers))
        + 1
        + layers * (heads + 1)
    )
    assert graph.n_edges == closed == PYTHIA[shape]
    assert graph.mask.sum() == graph.n_edges


def test_names_and_order():
    graph = Graph(2, 2)
    assert graph.node_names == ("input", "a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1", "logits")
    assert graph.destination_names == (
        "a0.h0<q>",
        "a0.h1<q>",
        "a0.h0<k>",
        "a0.h1<k>",
        "a0.h0<v>",
        "a0.h1<v>",
        "m0",
        "a1.h0<q>",
        "a1.h1<q>",
        "a1.h0<k>",
        "a1.h1<k>",
        "a1.h0<v>",
        "a1.h1<v>",
        "m1",
        "logits",
    )
    assert len(set(graph.edge_names)) == graph.n_edges
    assert [graph.edge(name) for name in graph.edge_names] == [tuple(edge) for edge in graph.edges]
    assert graph.edge("m0->a1.h1<v>") == (graph.source(0), graph.destination(1, 1, "v"))


def test_a_sequential_block_has_edges_from_heads_to_their_mlp():
    graph, parallel = Graph(3, 4, parallel=False), Graph(3, 4)
    extra = set(graph.edge_names) - set(parallel.edge_names)
    assert extra == {f"a{k}.h{h}->m{k}" for k in range(3) for h in range(4)}
    assert set(parallel.edge_names) <= set(graph.edge_names)


@pytest.mark.parametrize(
    "name, says",
    [
        ("a1.h0->a0.h0<q>", "does not read"),
        ("a0.h0->m0", "does not read"),
        ("a0.h0->a1.h0", "say which input"),
        ("a5.h0->logits", "no node 'a5.h0'"),
        ("input->m7", "no input 'm7'"),
        ("nonsense", "no node 'nonsense'"),
    ],
)
def test_wrong_edge_names_say_why(name, says):
    with pytest.raises(ValueError, match=says):
        Graph(2, 2).edge(name)


def removed(graph, chosen):
    """Literal pruning: take away edges whose source has no way in or whose target has no way out,
    until none is left."""
    edges = {tuple(edge) for edge in np.argwhere(chosen & graph.mask)}
    while True:
        fed = {0} | {int(graph.node_of[dst]) for _, dst in edges}
        read = {graph.n_src} | {src for src, _ in edges}
        kept = {(src, dst) for src, dst in edges if src in fed and int(graph.node_of[dst]) in read}
        if kept == edges:
            return kept
        edges = kept


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.15, 0.4]), st.booleans())
def test_live_edges_are_what_repeated_removal_leaves(seed, share, parallel):
    graph = Graph(3, 2, parallel)
    chosen = np.random.default_rng(seed).random(graph.mask.shape) < share
    live = graph.live(chosen)
    assert {tuple(edge) for edge in np.argwhere(live)} == removed(graph, chosen)
    nodes = {
        0 if name == "input" else name
        for name, there in zip(graph.node_names, graph.nodes_of(live), strict=True)
        if there
    }
    assert len(nodes) == 0 or {0, "logits"} <= nodes
