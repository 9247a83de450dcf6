"""Slips and traps: each is what it says, and does no harm where it should do none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from closeness import assert_close

from circuitbook import get_task, load_suite
from circuitbook.heads.swaps import metric_of, swap_heads
from circuitbook.model.architectures import network_of
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
from circuitbook.studies.errata_of_scores import last_batch, precision
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
