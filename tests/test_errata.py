"""Slips and traps: each is what it says, and does no harm where it should do none."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from closeness import assert_close

from circuitbook import attribute, get_task, load_suite
from circuitbook.heads.successor import successor_hits, successor_pairs
from circuitbook.heads.swaps import metric_of, swap_heads
from circuitbook.model.architectures import network_of
from circuitbook.model.graph import graph_of
from circuitbook.model.network import run
from circuitbook.store.disk import Store
from circuitbook.studies.circuits import measure_circuits
from circuitbook.studies.errata import (
    published_swap,
    redraws,
    suppression_redraws,
    swap_effect,
    width_by_prompts,
    wrong_position,
)
from circuitbook.studies.errata_of_scores import (
    accumulation,
    in_dtype,
    last_batch,
    narrow_sums,
    precision,
)
from circuitbook.studies.errata_of_successors import (
    hits_in_own_dtype,
    successor_ways,
)
from circuitbook.studies.head_classes import measure_head_classes
from circuitbook.studies.head_scores import measure_heads

CASE = [("mini-xs", 3906)]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    suite, store = load_suite("mini"), Store(tmp_path_factory.mktemp("store"))
    steps = {"mini-xs": (2048, 3906)}
    return (
        suite,
        store,
        measure_heads(suite, ["mini-xs"], store, steps=steps, progress=False),
        # in float64, so that no rounding decides which of two near scores is the larger
        measure_circuits(
            suite,
            ["mini-xs"],
            ["ioi"],
            store,
            steps=steps,
            dtype=torch.float64,
            progress=False,
        ),
    )


def test_the_published_swap_takes_input_columns(measured):
    suite, store, scores, _ = measured
    target, source = (suite.checkpoint("mini-xs", step).load() for step in (2048, 3906))
    got = published_swap(target, source, [(1, 2)])
    ours, theirs, new = (m.hf_model.gpt_neox.layers[1].attention for m in (target, source, got))
    e = target.shape.d_head
    assert torch.equal(
        new.query_key_value.weight[:, 2 * e : 3 * e],
        theirs.query_key_value.weight[:, 2 * e : 3 * e],
    )
    assert torch.equal(
        new.query_key_value.weight[:, : 2 * e], ours.query_key_value.weight[:, : 2 * e]
    )
    assert torch.equal(
        new.query_key_value.bias[2 * e : 3 * e], theirs.query_key_value.bias[2 * e : 3 * e]
    )
    assert torch.equal(new.dense.weight, ours.dense.weight) and not torch.equal(
        ours.query_key_value.weight, new.query_key_value.weight
    )
    row = swap_effect(suite, scores, store, prompts=20).iloc[0]
    pairs = get_task("ioi").prompts(target.tokenizer, n=20)
    swapped = swap_heads(network_of(target), network_of(source), [(1, 2)])
    assert row["heads"] == "1.2"
    for name, metric in (
        ("own", pairs.metric(target.logits(pairs.clean, pairs.end))),
        ("published", pairs.metric(got.logits(pairs.clean, pairs.end))),
        ("right", metric_of(swapped, pairs)),
    ):
        assert_close(row[name], metric.mean(), rounds=100)
    assert abs(row["right"] - row["published"]) > 0.2


def test_other_draws_differ_and_more_sequences_differ_less(measured):
    suite, store, _, _ = measured
    table = redraws(suite, CASE, store, tasks=["greater_than"], prompts=40, seeds=range(5))
    spread = table.groupby("what")["value"].std()
    assert (
        len(table) == 15
        and spread["greater_than"] > 0
        and spread["induction, 32 sequences"] < spread["induction, 2 sequences"]
    )
    texts = suppression_redraws(
        suite, CASE, store, (1, 2), counts=(5, 20), draws=2, documents_for_mean=30
    )
    assert texts["value"].between(-1, 1).all() and len(texts) == 4 and texts["value"].nunique() == 4


def test_precision_is_nothing_at_the_same_precision(measured):
    suite, store, _, circuits = measured
    same = precision(suite, circuits, store, low=torch.float64).iloc[0]
    rough = precision(suite, circuits, store).iloc[0]
    assert_close(same["largest"], 0.0, rounds=1, dtype=torch.float32, size=1)  # as they are kept
    assert same["edges"] == 1
    assert 1e-4 < rough["largest"] < 0.1
    assert 1 - same["correlation"] < 1e-10 < 1 - rough["correlation"] < 0.01


def test_sums_taken_as_published_are_the_scores_where_nothing_is_rounded():
    model = load_suite("mini").checkpoint(*CASE[0]).load(dtype=torch.float64)
    pairs = get_task("ioi").prompts(model.tokenizer, n=8)
    ours = attribute(model, pairs, rule="right", points=5)
    theirs = narrow_sums(model, pairs, 5, 4, torch.float64)
    mask = ours.graph.mask
    assert_close(theirs[mask], ours.values[mask].float(), rounds=10)
    with pytest.raises(ValueError, match="8 prompts do not make batches of 3"):
        narrow_sums(model, pairs, 5, 3, torch.float64)


def test_adding_up_in_bfloat16_is_done_one_batch_and_point_after_the_other():
    """A literal sum of the products, rounded after every addition, of the last layer's edges into
    `logits`."""
    model = load_suite("mini").checkpoint(*CASE[0]).load()
    pairs = get_task("ioi").prompts(model.tokenizer, n=8)
    found = narrow_sums(model, pairs, 6, 4, torch.bfloat16)
    graph, total = graph_of(model), None
    for rows in torch.arange(8).split(4):
        part = pairs.subset(rows)
        for k in range(6):
            at = narrow_sums_of_one(model, part, (k + 1) / 6)
            total = at if total is None else (total + at).bfloat16()
    literal = (total / 2 / 6).bfloat16().float()
    logits = graph.n_dst - 1
    assert torch.equal(found.bfloat16().float(), found)  # nothing finer is kept
    off = (found[:, logits] - literal).abs()
    assert off.max() <= 2**-7 * literal.abs().max()  # one rounding, where two near ways part
    assert (off == 0).float().mean() > 0.5
    exact = attribute(model, pairs, rule="right", points=6).values[:, logits]
    # more than rounding the sum once would do
    assert ((literal - exact).abs() > 2**-8 * exact.abs()).any()


def narrow_sums_of_one(model, pairs, t):
    """Products of what sources write differently and the gradient at `logits`, for the mean loss of
    these prompts at one point, by autograd over the model's own pass; bfloat16 [src]."""
    network, graph = network_of(model), graph_of(model)
    end, rows = pairs.end, torch.arange(len(pairs))
    both = torch.stack([pairs.clean, pairs.corrupted], 1)
    x = network.embed(both, 0)
    written = [x]
    for layer, done in zip(network.layers, run(network, x, 0, None), strict=True):
        heads = torch.einsum("bvphe,hed->hbvpd", done.z, layer.w_out)
        written += [*heads, done.mlp_out]
    difference = torch.stack([w[:, 1] - w[:, 0] for w in written])[:, rows, end]
    start = x[:, :1] + t * (x[:, 1:] - x[:, :1])
    *_, last = run(network, start, 0, None)
    at_end = last.out[rows, 0, end].detach().requires_grad_()
    logits = network.norm_final(at_end) @ network.w_unembed.t()
    loss = -pairs.metric(logits).mean()
    (gradient,) = torch.autograd.grad(loss, at_end)
    products = difference.bfloat16().float() * gradient.bfloat16().float()
    assert len(products) == graph.n_src
    return products.sum((1, 2)).bfloat16()


def test_adding_up_in_bfloat16_is_worse_than_a_model_in_it(measured):
    suite, store, _, circuits = measured
    table = accumulation(suite, circuits, store, prompts=16, batch=8, points=10)
    table = table.set_index("sums")
    assert list(table.index) == ["in float32", "in bfloat16"]
    assert table.loc["in bfloat16", "largest"] > 2 * table.loc["in float32", "largest"] > 0
    assert (table["edges"] > 0.5).all() and table.loc["in bfloat16", "correlation"] < 1
    assert accumulation(suite, [], store).empty


def test_a_tie_is_a_hit_only_where_ties_count(measured):
    suite, store, _, _ = measured
    model = in_dtype(suite.checkpoint(*CASE[0]).load(), torch.bfloat16)
    lists, network = successor_pairs(model.tokenizer), network_of(model)
    strict, ties = (hits_in_own_dtype(network, lists, ties=ties) for ties in (False, True))
    assert (ties >= strict).all() and model.hf_model.dtype == torch.bfloat16
    zero = copy.deepcopy(network.w_unembed)
    network.w_unembed.zero_()  # every logit is 0
    assert hits_in_own_dtype(network, lists, ties=True).all()
    assert not hits_in_own_dtype(network, lists, ties=False).any()
    network.w_unembed.copy_(zero)
    whole = network_of(suite.checkpoint(*CASE[0]).load(dtype=torch.float64))
    exact = hits_in_own_dtype(whole, lists, ties=False)
    assert torch.equal(exact, successor_hits(whole, lists, norms=False))
    ways = successor_ways(suite, CASE, store)
    assert len(ways) == 8 and (ways["ties"] >= ways["strict"]).all()
    assert np.allclose(ways["ties"], ties.double().mean(1))


def test_the_last_batch_weighs_more(measured):
    suite, store, _, circuits = measured
    row = last_batch(suite, circuits, store, prompts=20, batch=16).iloc[0]
    assert row["weight"] == 4 and 0 < row["edges"] <= 1
    even = last_batch(suite, circuits, store, prompts=20, batch=10, dtype=torch.float64).iloc[0]
    assert even[["weight", "edges"]].tolist() == [1, 1]


def test_the_last_column_is_not_end(measured):
    suite, store, _, _ = measured
    row = wrong_position(suite, CASE, store, prompts=30).iloc[0]
    model = suite.checkpoint(*CASE[0]).load()
    pairs = get_task("ioi").prompts(model.tokenizer, n=30)
    lengths = [
        len(model.tokenizer(text, add_special_tokens=False)["input_ids"])
        for text in pairs.table["clean"]
    ]
    assert (
        row["padded"] == pytest.approx(np.mean(np.array(lengths) < max(lengths)))
        and row["right"] > row["wrong"] + 1
    )


def test_fewer_prompts_are_less_sure(measured):
    suite, store, scores, circuits = measured
    anatomies = measure_head_classes(suite, scores, circuits, store, progress=False)
    width = width_by_prompts(anatomies, (10, 90), draws=300).set_index("prompts")["width"]
    assert width[10] / width[90] == pytest.approx(3, rel=0.35)  # like the root of the number
