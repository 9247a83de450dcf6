"""EAP and EAP-IG against a literal twin, against hannamw/EAP-IG's numbers, against TransformerLens,
and with themselves."""

import dataclasses
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from closeness import assert_close
from conftest import random_network
from literal import Literal
from safetensors.torch import load_file
from toys import toy_model, toy_pairs
from transformer_lens.tools.analysis import attribution_patching as lens

from circuitbook import evaluate_circuit, get_task, load_suite
from circuitbook.circuits import attribution
from circuitbook.circuits.attribution import attribute, gap_with_noise
from circuitbook.circuits.batches import chunks_of, first_difference
from circuitbook.circuits.circuit import Circuit
from circuitbook.circuits.prefixes import Prefixes
from circuitbook.circuits.quadrature import interpolation_points, where_losses_change
from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.model.architectures import network_of
from circuitbook.model.network import keys_and_values


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_model(tmp_path_factory.mktemp("toy"))


@pytest.mark.parametrize(
    "metric, how",
    [
        ("logit_difference", {"method": "eap"}),
        ("logit_difference", {"rule": "right", "points": 2}),
        ("logit_difference", {"rule": "left", "points": 2}),
        ("logit_difference", {"rule": "midpoint", "points": 1}),
        ("probability_difference", {"rule": "midpoint", "points": 1}),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "rows",  # two of different lengths, differing from other places; or all
    [[0, 3], pytest.param([0, 1, 2, 3], marks=pytest.mark.slow)],
    ids=["two", "all"],
)
@pytest.mark.filterwarnings("ignore:toy in toy")
def test_equals_shifting_every_edge_by_hand(toy, metric, how, rows):
    network, model = toy
    pairs = toy_pairs(metric).subset(rows)
    scores = attribute(model, pairs, **how)
    points = interpolation_points(scores.method, scores.rule, how.get("points", 1)).tolist()
    by_hand = Literal(network).score(pairs, scores.graph.edge_names, points)
    ours = torch.tensor([scores.of(name) for name in by_hand], dtype=torch.float64)
    theirs = torch.tensor(list(by_hand.values()), dtype=torch.float64)
    assert scores.values.dtype == torch.float64 and theirs.abs().max() > 0.01
    # what a central difference is good for
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=float(1e-6 * theirs.abs().max()))
    assert scores.values[~torch.from_numpy(scores.graph.mask)].abs().sum() == 0


DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def expected():
    return json.loads((DATA / "eap_ig_scores.json").read_text())


def model_of(record, folder):
    """The network that EAP-IG's numbers are about, weight for weight: torch draws others, by a
    last digit, where it has other vector instructions."""
    network = random_network(**record["network"])
    network.load_state_dict(load_file(DATA / record["weights"]))
    return toy_model(folder, network=network)


def pairs_of(record):
    pairs = toy_pairs(
        vocab=record["network"]["vocab"],
        seed=record["pairs_seed"],
        lengths=tuple(record["lengths"]),
        first=tuple(record["first"]),
    )
    assert pairs.clean.tolist() == record["clean"] and pairs.answers.tolist() == record["answers"]
    return pairs


@pytest.mark.filterwarnings("ignore:toy in toy")
def test_equals_the_scores_of_eap_ig(expected, tmp_path):
    network, model = model_of(expected, tmp_path)
    pairs, points = pairs_of(expected), expected["points"]
    for name, how in (("eap", {"method": "eap"}), ("eap-ig", {"rule": "right", "points": points})):
        table = expected["scores"][name]
        ours = attribute(model, pairs, **how)
        assert set(table) == set(ours.graph.edge_names)
        theirs = torch.tensor(list(table.values()), dtype=torch.float64)
        got = torch.tensor([ours.of(edge) for edge in table], dtype=torch.float64)
        # ours are float64, from the same weights on any machine; theirs keep scores in float32
        torch.testing.assert_close(got, theirs, rtol=1e-5, atol=float(1e-7 * theirs.abs().max()))
        single = attribute(
            load_suite(tmp_path).checkpoint("toy", 1).load(), pairs, **how
        )  # float32
        assert single.values.dtype == torch.float32
        got = torch.tensor([single.of(edge) for edge in table], dtype=torch.float64)
        assert_close(got, theirs, rounds=100, dtype=torch.float32)
    # the literal twin against theirs, too
    by_hand = Literal(network).score(pairs, list(table), [(k + 1) / points for k in range(points)])
    literal = torch.tensor(list(by_hand.values()), dtype=torch.float64)
    torch.testing.assert_close(literal, theirs, rtol=1e-5, atol=float(1e-6 * theirs.abs().max()))


@pytest.mark.filterwarnings("ignore:toy in toy")
def test_circuits_equal_those_of_eap_ig(expected, tmp_path):
    _, model = model_of(expected, tmp_path)
    pairs = pairs_of(expected)
    scores = attribute(model, pairs, rule="right", points=expected["points"])
    order = edge_order(scores.values, scores.graph)
    for n, theirs in expected["circuits"].items():
        circuit = Circuit(scores.graph, first_edges(order, scores.graph, int(n)))
        assert set(circuit.edges) == set(theirs["edges"])
        metric = torch.tensor(theirs["metric"], dtype=torch.float64)
        got = evaluate_circuit(model, pairs, circuit)  # float64, beside numbers made once
        torch.testing.assert_close(got, metric, rtol=1e-6, atol=1e-8)


def lens_name(source, target):
    names = {
        "embed": "input",
        "attn_head_out": f"a{source.layer}.h{source.head}",
        "mlp_out": f"m{source.layer}",
    }
    head = f"a{target.layer}.h{target.head}"
    ends = {f"{k}_input": f"{head}<{k}>" for k in "qkv"} | {
        "mlp_in": f"m{target.layer}",
        "logits": "logits",
    }
    return f"{names[source.kind]}->{ends[target.kind]}"


def test_plain_eap_equals_transformer_lens():
    model = load_suite("mini").checkpoint("mini-xs", 3906).load()
    pairs = get_task("ioi").prompts(model.tokenizer, n=2)
    ours = attribute(model, pairs, method="eap", per_prompt=True)
    for i in range(2):
        one, stop = pairs.subset([i]), int(pairs.end[i]) + 1
        result = lens.attribution_patch(  # theirs takes the gradient at "corrupt", towards "clean"
            model.bridge,
            one.corrupted[:, :stop],
            one.clean[:, :stop],
            lambda logits, one=one: one.metric(logits[:, -1]).sum(),
            lens.EdgeAttributionConfig(granularity="edge"),
        )
        table = {}
        for (source, target), value in result.edge_scores.items():
            table[lens_name(source, target)] = table.get(lens_name(source, target), 0.0) - float(
                value
            )
        assert set(table) == set(ours.graph.edge_names)
        theirs = torch.tensor([table[name] for name in ours.graph.edge_names])
        got = ours.per_prompt[i][torch.from_numpy(ours.graph.mask)]
        assert_close(got, theirs, rounds=100)
    again = attribute(model, pairs, method="eap")  # no hooks were left behind, and ours need none
    assert_close(again.values, ours.values, rounds=100)


@pytest.mark.filterwarnings("ignore:toy in toy")
def test_batching_order_and_what_is_kept_do_not_matter(toy):
    _, model = toy
    pairs, how = toy_pairs(), {"rule": "midpoint", "points": 6}
    plain = attribute(model, pairs, **how)
    full = attribute(model, pairs, **how, per_prompt=True, per_position=True)
    assert plain.per_prompt is None and plain.per_position is None
    assert_close(full.values, plain.values, rounds=100)
    assert_close(full.per_prompt.mean(0), plain.values, rounds=100)
    assert_close(full.per_position.sum(0), plain.values, rounds=100)
    prompts = attribute(model, pairs, **how, per_prompt=True)
    assert_close(prompts.per_prompt, full.per_prompt, rounds=100)
    positions = attribute(model, pairs, **how, per_position=True)
    assert_close(positions.per_position, full.per_position, rounds=100)
    assert full.per_position[0].abs().max() > 0  # one prompt differs from its first token on
    for memory in (60_000, 200_000):
        small = attribute(model, pairs, **how, memory=memory)
        assert_close(small.values, plain.values, rounds=100)
    turned = attribute(model, pairs.subset([3, 1, 0, 2]), **how, per_prompt=True)
    assert_close(turned.per_prompt, full.per_prompt[[3, 1, 0, 2]], rounds=100)
    alone = [attribute(model, pairs.subset([i]), **how).values for i in range(4)]
    assert_close(torch.stack(alone), full.per_prompt, rounds=100)


def test_the_edges_out_of_input_add_up_to_the_change_of_the_loss(toy):
    _, model = toy
    pairs, gaps = toy_pairs(), {}
    for points in (4, 32, 256):
        scores = attribute(model, pairs, rule="midpoint", points=points)
        size = scores.values[0].abs().max()
        assert_close(scores.values[0].sum(), scores.from_input.mean(), rounds=100, size=size)
        gaps[points] = abs(scores.relative_gap)
    change = pairs.metric(model.logits(pairs.clean, pairs.end)) - pairs.metric(
        model.logits(pairs.corrupted, pairs.end)
    )
    assert_close(scores.change, change, rounds=100)
    assert scores.change.abs().min() > 0.01
    torch.testing.assert_close(scores.from_input, scores.change, rtol=1e-3, atol=1e-3)
    assert gaps[256] < gaps[32] < gaps[4] and gaps[256] < 1e-4


# ---------------------------------------------------------------- as many points as are needed


def loss_at(literal, pair, t):
    clean, corrupted = literal.embed(pair.clean[0]), literal.embed(pair.corrupted[0])
    return float(literal.loss(pair, 0, clean + t * (corrupted - clean)))


def taken_first(toy, tolerance, points=3, **how):
    _, model = toy
    return attribute(model, toy_pairs(), rule="midpoint", points=points, tolerance=tolerance, **how)


@pytest.mark.filterwarnings("ignore:toy in toy")
def test_points_are_added_until_the_gap_is_small(toy):
    _, model = toy
    enough = taken_first(toy, 1e9, per_prompt=True)
    plain = attribute(model, toy_pairs(), rule="midpoint", points=3, per_prompt=True)
    assert enough.points == 3 and (enough.per_prompt == plain.per_prompt).all()
    assert gap_with_noise(enough) > 0.02
    taken = []
    for tolerance in (0.05, 0.01, 0.002):
        scores = taken_first(toy, tolerance)
        assert gap_with_noise(scores) <= tolerance
        taken.append(scores.points)
    assert taken == sorted(taken) and set(taken) <= {3, 3 + 6, 3 + 6 + 12, 3 + 6 + 12 + 24, 93, 189}


@pytest.mark.filterwarnings("ignore:toy in toy")
def test_the_added_points_lie_where_the_loss_of_each_prompt_changes(toy, monkeypatch):
    monkeypatch.setattr(attribution, "MOST_POINTS", 6)
    network, model = toy
    pairs = toy_pairs().subset([0, 3])
    how = {"rule": "midpoint", "points": 2, "tolerance": 1e-9}
    got = attribute(model, pairs, **how, per_prompt=True, per_position=True)
    assert got.points == 2 + 4
    for i in range(2):  # by hand: losses at the ends and at the two midpoints, then each edge
        pair, literal = pairs.subset([i]), Literal(network)
        known = [0.0, 0.25, 0.75, 1.0]
        points = where_losses_change(
            torch.tensor([known], dtype=torch.float64),
            torch.tensor([[loss_at(literal, pair, t) for t in known]], dtype=torch.float64),
            4,
        )
        by_hand = torch.zeros(got.graph.n_edges, dtype=torch.float64)
        for t, weight in zip(points.t[0].tolist(), points.weights[0].tolist(), strict=True):
            scores = literal.score(pair, got.graph.edge_names, [t])
            by_hand += weight * torch.tensor(list(scores.values()), dtype=torch.float64)
        ours = got.per_prompt[i][torch.from_numpy(got.graph.mask)]
        torch.testing.assert_close(ours, by_hand, rtol=1e-5, atol=float(1e-6 * by_hand.abs().max()))
    assert_close(got.per_position.sum(0), got.values, rounds=100)
    in_pieces = attribute(model, pairs, **how, memory=1 << 16)
    assert_close(in_pieces.values, got.values, rounds=1000)


def test_gaps_that_cancel_are_not_trusted(toy):
    _, model = toy
    scores = attribute(model, toy_pairs(), rule="midpoint", points=8)
    gaps = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    change = scores.change.abs().mean()
    cancelled = dataclasses.replace(scores, from_input=scores.change + gaps)
    assert cancelled.relative_gap == pytest.approx(0, abs=1e-12)
    assert gap_with_noise(cancelled) == pytest.approx(0.5 / change)  # 1 / sqrt(4)
    shifted = dataclasses.replace(scores, from_input=scores.change + 2)
    assert gap_with_noise(shifted) == pytest.approx(2 / change)


def test_points_that_crowd_at_a_step_count_as_one():
    """Also two between which there is no number, as a sharp step leaves them."""
    known = torch.tensor([[0.0, 0.9, np.nextafter(0.9, 1), 1.0]], dtype=torch.float64)
    losses = torch.tensor([[0.0, 0.2, 0.2, 1.0]], dtype=torch.float64)
    points = where_losses_change(known, losses, 6)
    alone = where_losses_change(known[:, [0, 1, 3]], losses[:, [0, 1, 3]], 6)
    assert (points.t - alone.t).abs().max() < 1e-8
    assert (points.weights - alone.weights).abs().max() < 1e-8


def test_points_are_dense_where_the_loss_changes():
    known = torch.linspace(0, 1, 9, dtype=torch.float64).repeat(3, 1)
    losses = torch.stack([torch.sigmoid(40 * (known[0] - at)) for at in (0.3, 0.8, 0.55)])
    losses[2] = 1.7  # does not change at all
    points = where_losses_change(known, losses, 10)
    shuffled = torch.randperm(9)
    again = where_losses_change(known[:, shuffled], losses[:, shuffled], 10)
    assert (again.t == points.t).all() and (again.weights == points.weights).all()
    assert (points.t.diff(dim=1) > 0).all() and (points.t > 0).all() and (points.t < 1).all()
    for row, at in ((0, 0.3), (1, 0.8)):
        near = (points.t[row] - at).abs() < 0.125
        assert near.sum() >= 5 and points.weights[row].argmin() in near.nonzero()
        # the integral of the loss's slope, which 10 equal steps miss by more
        truth = float(torch.sigmoid(torch.tensor(40 * (1.0 - at))))
        truth -= float(torch.sigmoid(torch.tensor(40 * (0.0 - at))))

        def slope(t, at=at):
            p = torch.sigmoid(40 * (t - at))
            return 40 * p * (1 - p)

        error = abs(float((points.weights[row] * slope(points.t[row])).sum()) - truth)
        equal = interpolation_points("eap-ig", "midpoint", 10)
        assert error < 0.02 < abs(float(slope(equal).mean()) - truth)
    torch.testing.assert_close(points.t[2], interpolation_points("eap-ig", "midpoint", 10))
    torch.testing.assert_close(points.weights[2], torch.full((10,), 0.1, dtype=torch.float64))


def test_points_that_do_not_suffice_warn(toy, monkeypatch):
    monkeypatch.setattr(attribution, "MOST_POINTS", 10)
    with pytest.warns(UserWarning, match="with 9 points, midpoint rule"):
        scores = taken_first(toy, 1e-12)
    assert scores.points == 9


def test_a_large_gap_warns_and_is_shown(toy):
    _, model = toy
    with pytest.warns(
        UserWarning, match="toy in toy at step 1: the scores miss .* 1 points, left rule"
    ):
        scores = attribute(model, toy_pairs(), rule="left", points=1)
    assert f"{scores.relative_gap:+.2%}" in repr(scores)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attribute(model, toy_pairs(), method="eap")  # EAP does not claim to be complete


@pytest.mark.parametrize("dtype, close", [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_half_precision_comes_close(dtype, close):
    checkpoint = load_suite("mini").checkpoint("mini-s", 3906)
    exact = checkpoint.load()
    pairs = get_task("ioi").prompts(exact.tokenizer, n=6)
    expected = attribute(exact, pairs, rule="midpoint", points=5).values
    got = attribute(checkpoint.load(dtype=dtype), pairs, rule="midpoint", points=5).values
    assert got.dtype == torch.float32
    assert (got - expected).norm() < close * expected.norm()


def test_a_pair_without_difference_scores_zero(toy):
    _, model = toy
    pairs = toy_pairs()
    pairs.corrupted[2] = pairs.clean[2]
    scores = attribute(model, pairs, rule="midpoint", points=4, per_prompt=True)
    assert (
        scores.per_prompt[2].abs().max() == 0 == scores.change[2]
        and scores.per_prompt[1].abs().max() > 0
    )
    assert first_difference(pairs).tolist() == [0, 4, int(pairs.end[2]), 5]


def test_a_bridge_around_the_model_changes_nothing(tmp_path):
    _, model = toy_model(tmp_path)
    before = attribute(model, toy_pairs(), points=3).values
    assert hasattr(model.bridge.blocks[0].attn, "q") and hasattr(
        model.hf_model.base_model.layers[0].attention, "q"
    )
    assert_close(attribute(model, toy_pairs(), points=3).values, before, rounds=100)


@pytest.mark.parametrize(
    "spoil, says",
    [
        (
            lambda layers: layers[1].mlp.dense_4h_to_h.weight,
            "NaN or infinity in the MLP of layer 1 on prompt 0 of toy",
        ),
        (
            lambda layers: layers[0].attention.query_key_value.weight[16:],
            "NaN or infinity in the heads of layer 0 on prompt",
        ),
        (
            lambda layers: layers[1].attention.dense.weight,
            "NaN or infinity in the residual stream of layer 1 on prompt",
        ),
    ],
)
def test_nan_names_checkpoint_prompt_and_layer(tmp_path, spoil, says):
    _, model = toy_model(tmp_path)
    with torch.no_grad():
        spoil(model.hf_model.base_model.layers)[0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match=says) as error:
        attribute(model, toy_pairs(), points=2)
    assert str(error.value).startswith("toy at step 1 has")


@pytest.mark.parametrize(
    "how, says",
    [
        ({"method": "ig"}, "unknown method 'ig'; there are: eap, eap-ig"),
        ({"rule": "simpson"}, "unknown rule 'simpson'"),
        ({"points": 0}, "0 points"),
        ({"points": 2.5}, "2.5 points"),
        ({"memory": 1000}, "memory=0 MB allows less"),
        ({"tolerance": 0.02, "rule": "right"}, "a tolerance needs"),
        ({"tolerance": 0.02, "rule": "midpoint", "method": "eap"}, "a tolerance needs"),
    ],
)
def test_bad_arguments_give_one_error(toy, how, says):
    with pytest.raises(ValueError, match=says):
        attribute(toy[1], toy_pairs(), **how)


def test_prompts_of_another_tokenizer_are_refused(toy):
    with pytest.raises(ValueError, match="not in the vocabulary of toy"):
        attribute(toy[1], toy_pairs(vocab=500))


def test_chunks_hold_everything_once_and_stay_within_memory():
    pairs = toy_pairs(lengths=(5, 8, 7, 6, 5, 8, 4), first=(0, 4, 3, 5, 2, 7, 1))
    row, prompt = (lambda positions, length: 10 * positions), (lambda positions: 7 * positions)
    for memory in (500, 1000, 100_000):
        seen = set()
        for rows, points in chunks_of(pairs, 12, row, prompt, memory):
            part = pairs.subset(rows)
            span = int(part.end.max()) + 1 - int(first_difference(part).min())
            size = len(range(12)[points])
            assert len(rows) * (size * row(span, 8) + prompt(span)) <= memory
            new = {(int(i), k) for i in rows for k in range(12)[points]}
            assert not new & seen
            seen |= new
        assert len(seen) == 7 * 12


def test_prefixes_are_those_of_each_chunk_run_alone(tmp_path):
    """Kept for all prompts or made chunk by chunk, as memory allows."""
    _, model = toy_model(tmp_path)
    pairs, network = toy_pairs(), network_of(model)
    rows, start = torch.tensor([3, 1]), 3
    expected = keys_and_values(network, pairs.clean[rows, :start])
    for memory in (0, 1 << 30):
        prefixes = Prefixes(network, pairs, memory)
        assert (prefixes.known is None) is (memory == 0)
        for got, alone in zip(prefixes.before(rows, start), expected, strict=True):
            for ours, theirs in zip(got, alone, strict=True):
                assert ours.abs().max() > 0.01
                assert_close(ours, theirs, rounds=100)
        assert not prefixes.before(rows, 0)
