"""Every architecture beside Pythia's: the logits are transformers' own; scores, circuits, paths and
heads equal brute force."""

import copy

import pytest
import test_heads
import test_patching
import torch
from closeness import assert_close
from conftest import random_network, save_checkpoint
from literal import Literal
from parts import BEHIND, GEMMA, Parts, exact, ungrouped
from test_circuits import random_circuit
from toys import toy_model, toy_pairs

from circuitbook import attribute, evaluate_circuit
from circuitbook.circuits.circuit import Circuit
from circuitbook.circuits.evaluation import evaluate_masks, patch_each
from circuitbook.heads.ablation import ablate
from circuitbook.heads.swaps import metric_of, swap_heads
from circuitbook.model.architectures import network_of
from circuitbook.model.graph import graph_of
from circuitbook.model.network import run
from circuitbook.model.shape import count_parameters, shape_of
from circuitbook.suites.finding import load_suite

OTHERS = (
    "gpt_neox sequential",
    "gpt2",
    "gpt2 scaled",
    "llama",
    "mistral",
    "olmo",
    "olmo clipped",
    "qwen2",
    "qwen3",
    "smollm3",
    "olmo2",  # and so OLMo 3, whose layers compute the same: `test_equality`
    "gemma2",
    "gemma3_text",
)
QUICK = ("gpt_neox", "gpt_neox sequential", "llama", "qwen3", "olmo2")
OF_METHODS = [
    *QUICK,
    *(pytest.param(kind, marks=pytest.mark.slow) for kind in OTHERS if kind not in QUICK),
]
"""What the twins of further methods are tried on."""


def size_of(kind, layers=2):
    """Four heads where some share keys and values, else two."""
    shared = kind in ("llama", "mistral", "qwen2", "qwen3", "smollm3")
    return dict(layers=layers, d_model=16, heads=4 if shared else 2)


SIZE = dict(layers=2, heads=4, d_model=16)
HEADS = dict(
    layers=3, heads=2, d_model=16
)  # what the twins of paths and of head scores are written for


@pytest.fixture(scope="module", params=OTHERS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def toy(kind, tmp_path_factory):
    return toy_model(tmp_path_factory.mktemp("toy"), architecture=kind, **SIZE)


@pytest.fixture(scope="module")
def small(kind, tmp_path_factory):
    network, model = toy_model(tmp_path_factory.mktemp("small"), architecture=kind, **HEADS)
    return ungrouped(exact(network)), model


def test_logits_equal_transformers_and_the_bridge(kind, tmp_path):
    network = random_network(seed=3, architecture=kind, **SIZE)
    save_checkpoint(tmp_path / "toy" / "step1", network)
    model = load_suite(tmp_path).checkpoint("toy", 1).load()
    tokens = torch.randint(1, 15, (3, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(tokens).logits

        def ours():
            net = network_of(model)
            return net.logits(list(run(net, net.embed(tokens)[:, None]))[-1].out[:, 0])

        assert expected.std() > 0.5
        assert_close(ours(), expected, rounds=100)
        assert_close(model.logits(tokens), expected, rounds=100)
        assert_close(model.bridge(tokens), expected, rounds=100)
        assert_close(ours(), expected, rounds=100)  # with the bridge around it
    shape = model.shape
    assert (shape.n_layers, shape.n_heads, shape.d_model, shape.d_head, shape.d_mlp) == (
        2,
        4,
        16,
        8 if kind in ("qwen3", *GEMMA) else 4,
        64,
    ) and not shape.parallel
    assert shape.gated == (not kind.startswith("gpt")) and shape == shape_of(
        network.config.to_dict()
    )
    assert count_parameters(network.config.to_dict()) == sum(
        weight.numel() for weight in network.parameters()
    )


@pytest.mark.parametrize(
    ("rule", "at"), [("midpoint", 0.5), pytest.param("right", 1.0, marks=pytest.mark.slow)]
)
@pytest.mark.filterwarnings("ignore:toy in toy")
def test_scores_equal_shifting_every_edge_by_hand(toy, kind, rule, at):
    network, model = toy
    epsilon = 1e-6 if kind == "olmo clipped" else 1e-4  # small steps seldom cross a kink
    pairs = toy_pairs().subset([0, 2])
    scores = attribute(model, pairs, rule=rule, points=1)
    by_hand = Literal(network).score(pairs, scores.graph.edge_names, [at], epsilon)
    ours = torch.tensor([scores.of(name) for name in by_hand], dtype=torch.float64)
    theirs = torch.tensor(list(by_hand.values()), dtype=torch.float64)
    assert len(by_hand) == scores.graph.n_edges and any(
        name.startswith("a1.h0->m1") for name in by_hand
    )
    assert theirs.abs().max() > 0.01 and (theirs.abs() > 1e-9).double().mean() > 0.9
    # what a central difference is good for
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=float(1e-6 * theirs.abs().max()))


@pytest.mark.filterwarnings("ignore:toy in toy")
def test_the_edges_out_of_input_add_up_to_the_change_of_the_loss(toy, kind):
    many = 4000 if kind == "olmo clipped" else 400  # across kinks the sum converges as 1 / points
    gaps = [
        attribute(toy[1], toy_pairs(), rule="midpoint", points=points).relative_gap
        for points in (4, many)
    ]
    assert abs(gaps[1]) < 1e-3 < abs(gaps[0])


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
def test_circuits_equal_patching_every_absent_edge(toy, share):
    network, model = toy
    pairs, graph = toy_pairs(), graph_of(model)
    circuits = [random_circuit(graph, share, seed) for seed in range(2)]
    got = evaluate_masks(model, pairs, [circuit.mask for circuit in circuits])  # they share a batch
    for circuit, metric in zip(circuits, got, strict=True):
        assert_close(metric, Literal(network).circuit(pairs, set(circuit.edges)), rounds=100)
    logits = exact(network)(pairs.clean).logits[torch.arange(4), pairs.end]
    whole = evaluate_circuit(model, pairs, Circuit(graph, graph.mask))
    assert_close(whole, pairs.metric(logits), rounds=100)


@pytest.mark.parametrize("receivers", [["logits"], ["a1.h0<k>", "a2.h1<v>", "m2"], ["m1"]])
def test_path_patching_is_the_three_passes(small, receivers):
    network, model = small
    for places in ((None, None), (None, "END")):
        test_patching.test_path_patching_is_the_three_passes(
            (network, model, toy_pairs()), receivers, *places
        )


@pytest.mark.parametrize("how", ["zero", "resample"])
def test_ablation_is_its_definition(small, how):
    if small[1].shape.capped:
        with pytest.raises(ValueError, match="the ablation of heads: .* logits are capped"):
            ablate(small[1], toy_pairs(), [(0, 0)], how)
        return
    test_patching.test_ablation_and_direct_effects((*small, toy_pairs()), how)


def test_head_scores_are_their_definitions(small, monkeypatch):
    test_heads.test_repeat_scores_are_means_along_diagonals(small, False)
    if small[1].shape.capped:
        with pytest.raises(ValueError, match="copy suppression: .* logits are capped"):
            test_heads.test_copy_suppression_is_its_definition(small, False)
    else:
        test_heads.test_copy_suppression_is_its_definition(small, False)
    for norms in (True, False):
        test_heads.test_successor_is_its_definition(small, norms)
        test_heads.test_copy_score_is_its_definition(small, norms, monkeypatch)


def test_a_swap_moves_rows_and_columns_and_no_norm(small, kind, tmp_path):
    network, model = small
    other, other_model = toy_model(tmp_path, architecture=kind, seed=8, **HEADS)
    literal, heads, pairs = copy.deepcopy(network), [(0, 1), (2, 0)], toy_pairs()
    ours, theirs = Parts(literal), Parts(ungrouped(exact(other)))
    with torch.no_grad():
        for layer, head in heads:
            for read in "qkv":
                for own, new in zip(
                    ours.read(layer, head, read), theirs.read(layer, head, read), strict=True
                ):
                    own.copy_(new)
            ours.write(layer, head).copy_(theirs.write(layer, head))
        at_end = torch.arange(len(pairs)), pairs.end
        before, after = (one(pairs.clean).logits[at_end] for one in (network, literal))
    got = metric_of(swap_heads(network_of(model), network_of(other_model), heads), pairs)
    assert_close(got, pairs.metric(after), rounds=100)
    assert (got - pairs.metric(before)).abs().max() > 1e-3


@pytest.mark.parametrize("kind", BEHIND)
def test_patching_an_edge_of_a_layer_with_a_norm_behind_it_is_literal(kind, tmp_path):
    """Each edge by itself carries what its source writes on the corrupted prompt; the norm that the
    heads share is taken anew. What a head writes, summed over the heads, is what the layer adds."""
    network, model = toy_model(tmp_path, architecture=kind, layers=2, heads=2, d_model=16)
    pairs, graph = toy_pairs().subset([0, 3]), graph_of(model)
    effect, literal = patch_each(model, pairs), Literal(network)
    every = {graph.edge_name(*edge) for edge in graph.edges}
    clean = literal.circuit(pairs, every).mean()
    for src, dst in graph.edges[::3]:
        alone = literal.circuit(pairs, every - {graph.edge_name(src, dst)}).mean()
        assert abs(effect[src, dst] - float(clean - alone)) < 1e-9
    assert (abs(effect[graph.mask]) > 1e-6).mean() > 0.8
    layer = network_of(model).layers[0]
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(5, *layer.w_out.shape[:2], dtype=torch.float64, generator=generator)
    written = torch.einsum("phe,hed->pd", layer.scaled(z), layer.w_written)
    assert_close(written, layer.attention(z), rounds=100)
