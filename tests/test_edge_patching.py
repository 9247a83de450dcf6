"""Every edge patched by itself in one batch per input: the same numbers as one evaluation each."""

import numpy as np
import pytest
import torch
from closeness import assert_close
from conftest import random_network
from literal import Literal
from toys import toy_model, toy_pairs

from circuitbook import get_task, load_suite
from circuitbook.circuits.evaluation import patch_each
from circuitbook.heads.edge_patching import patch_edges
from circuitbook.model.graph import graph_of

ARCHITECTURES = (
    "gpt_neox",
    "gpt_neox sequential",
    "gpt2 scaled",
    "llama",
    "olmo clipped",
    "qwen3",
    "smollm3",
    "olmo2",
)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_edge_is_what_the_literal_twin_gives(tmp_path, architecture):
    # Keys and values that heads share make an edge of one of them no edge of the file's; then the
    # twin has them apart, as the graph has.
    network = random_network(architecture=architecture, layers=2, heads=2)
    network, model = toy_model(tmp_path, network=network)
    pairs, graph = toy_pairs(), graph_of(model)
    literal, names = Literal(network), set(graph.edge_names)
    whole = literal.circuit(pairs, names)
    clean, size = whole.mean(), whole.abs().max()  # which prompts may cancel in the mean
    got = patch_edges(model, pairs)
    assert (got[~graph.mask] == 0).all() and np.abs(got[graph.mask]).min() > 0
    for name in graph.edge_names[::3]:
        expected = clean - literal.circuit(pairs, names - {name}).mean()
        assert_close(got[graph.edge(name)], expected, rounds=100, size=size)


@pytest.mark.parametrize("metric", ["logit_difference", "probability_difference"])
def test_equals_one_evaluation_for_each_edge(tmp_path, metric):
    _, model = toy_model(tmp_path, layers=3)
    pairs = toy_pairs(metric)
    slow, fast = patch_each(model, pairs), patch_edges(model, pairs)
    assert_close(fast, slow, rounds=100, size=10)
    assert_close(patch_edges(model, pairs, memory=400_000), fast, rounds=100, size=10)
    with pytest.raises(ValueError, match="give more"):
        patch_edges(model, pairs, memory=100)


def test_equals_one_evaluation_for_each_edge_of_a_mini_model():
    model = load_suite("mini").checkpoint("mini-xs", 3906).load(dtype=torch.float64)
    pairs = get_task("ioi").prompts(model.tokenizer, n=6)
    slow = patch_each(model, pairs)
    assert_close(patch_edges(model, pairs), slow, rounds=100)
    assert np.abs(slow).max() > 1
