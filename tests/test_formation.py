"""When heads form and what becomes of them: closed forms, and the mini suite's own numbers against
literal ones."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from closeness import assert_close
from parts import Parts, centred, deviation, exact, weight_of
from test_patching import hooked
from toys import toy_model

from circuitbook import load_suite
from circuitbook.circuits.circuit import circuit_of
from circuitbook.heads.ablation import repair_over_text
from circuitbook.heads.swaps import metric_of, swap_heads
from circuitbook.model.architectures import network_of
from circuitbook.model.graph import Graph
from circuitbook.stats import Emergence, dated
from circuitbook.store.disk import Store
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.formation import (
    balance,
    fates,
    figure_2_head,
    formation,
    heads_in_circuits,
    lead,
    of_model,
)
from circuitbook.studies.head_scores import HeadScores, measure_heads
from circuitbook.studies.self_repair import measure_repair, measure_swaps
from circuitbook.tasks.registry import get_task
from circuitbook.tasks.sequences import documents


def made_up(
    curves: dict[tuple[int, int], list[float]], kind="induction", items=40, noise=0.0
) -> list[HeadScores]:
    """Head scores of a model "m" of 2 heads a layer that follow these curves, at 1, 2, 4, ...
    tokens."""
    heads, rng = sorted(curves), np.random.default_rng(0)
    out = []
    for i in range(len(curves[heads[0]])):
        arrays = {
            name: np.zeros((len(heads), items))
            for name in ("previous", "induction", "copy", "successor")
        }
        arrays[kind] = np.array(
            [[curves[head][i]] * items for head in heads]
        ) + noise * rng.standard_normal((len(heads), items))
        out.append(HeadScores("m", i, 2**i, 2, arrays))
    return out


def test_the_strongest_head_dates_the_kind_and_a_hand_over_is_no_delay():
    found = made_up({(0, 0): [0, 0.8, 0.8, 0, 0], (0, 1): [0, 0, 0, 0.8, 0.8]})
    e = formation(found, "m", "induction", draws=50)
    assert e.final == pytest.approx(0.8) and e.tokens == pytest.approx(
        2**0.5
    )  # half way in log tokens between 1 and 2
    assert (
        formation(
            made_up({(0, 0): [0, 0.2, 0.2], (0, 1): [0, 0, 0]}), "m", "induction", draws=50
        ).samples.size
        == 0
    )
    with pytest.raises(ValueError, match="no head scores of other were measured; there are m"):
        of_model(found, "other")


def test_dated_takes_a_share_of_the_largest_value():
    curve = np.array([0, 1, 0.2])
    e = dated(np.array([1, 4, 16]), curve, np.tile(curve, (10, 1)), 0.5, share_of="largest")
    assert e.tokens == pytest.approx(2) and 1 <= e.low < 2 < e.high <= 4 and e.final == 1
    assert (
        dated(np.array([1, 4, 16]), curve, np.tile(curve, (10, 1)), 0.5, min_value=0.3).samples.size
        == 0
    )  # of the final one


def test_lead_says_what_the_interval_allows():
    early = formation(
        made_up({(0, 0): [0, 0.9, 0.9, 0.9], (0, 1): [0] * 4}, noise=0.05),
        "m",
        "induction",
        draws=200,
    )
    late = formation(
        made_up({(0, 0): [0, 0, 0, 0.9], (0, 1): [0] * 4}, noise=0.05), "m", "induction", draws=200
    )
    never = formation(
        made_up({(0, 0): [0, 0, 0, 0.1], (0, 1): [0] * 4}), "m", "induction", draws=200
    )
    assert lead(early, late).answer == "before" and lead(early, late).ratio == pytest.approx(
        0.25, rel=0.05
    )
    assert lead(late, early).answer == "after" and lead(early, early).answer == "can't tell"
    assert lead(never, early).answer == "no such head" and lead(early, never).answer == "no ability"
    assert lead(Emergence.undated(0.5), early).answer == "perhaps no such head"


def test_fates_and_balance():
    found = made_up(
        {
            (0, 0): [0, 0.8, 0.8, 0.1],
            (0, 1): [0, 0, 0.3, 0.5],
            (1, 0): [0, 0.6, 0.5, 0.4],
            (1, 1): [0.1] * 4,
        }
    )
    table = fates(found, "m", "induction")
    assert table[["head", "formed", "fate"]].values.tolist() == [
        ["0.0", 2, "loses it"],
        ["1.0", 2, "fades"],
        ["0.1", 4, "keeps it"],
    ]
    moves = pd.DataFrame({"a": [0, 1, 0, 1.0], "b": [1, 0, 1, 0.0]})
    assert balance(moves) == 0 and balance(moves.assign(b=moves["a"])) == pytest.approx(2)
    assert np.isnan(balance(moves * 0)) and np.isnan(balance(moves.iloc[:2]))


def test_the_head_of_figure_2_is_the_first_in_the_circuit_to_reach_the_bar():
    found = made_up(
        {(0, 0): [0, 0.9, 0.9], (0, 1): [0, 0.2, 0.9], (1, 0): [0.1, 0.4, 0.4], (1, 1): [0, 0, 0.8]}
    )
    circuit = circuit_of(
        Graph(2, 2), ["input->a0.h1<q>", "a0.h1->logits", "input->a1.h1<v>", "a1.h1->logits"]
    )
    seen = [CircuitResult("m", 0, 1, "greater_than", circuit, 0.0)]
    assert (
        heads_in_circuits(seen, "m", "greater_than") == {(0, 1), (1, 1)}
        and heads_in_circuits(seen, "m", "ioi") == set()
    )
    assert figure_2_head(found, seen, "m", "induction") == (
        0,
        1,
    )  # 0.0 is earlier, but in no circuit
    assert figure_2_head(found, [], "m", "induction") is None


@pytest.mark.parametrize("architecture", ["gpt_neox", "olmo2"])
def test_repair_over_text_is_its_definition(tmp_path, architecture):
    network, model = toy_model(tmp_path, architecture=architecture, layers=2, heads=2, d_model=16)
    network = exact(network)
    tokens = torch.randint(1, 15, (4, 7), generator=torch.Generator().manual_seed(4))
    got, parts, kept = repair_over_text(model, tokens, share=0.2), Parts(network), {}
    hooks = [
        (out, True, lambda m, x, layer=layer: kept.__setitem__(layer, x[0].clone()))
        for layer, out in enumerate(parts.output)
    ]
    hooks += [(parts.norm_final, True, lambda m, x: kept.__setitem__("last", x[0].clone()))]
    with hooked(hooks):
        clean = network(tokens).logits
    final, held = parts.norm_final, deviation(kept["last"], parts.norm_final)

    def of_next(logits):  # centred, of the next token
        logits = logits - logits.mean(-1, keepdim=True)
        return logits[:, :-1].gather(2, tokens[:, 1:, None]).flatten()

    def straight(x):  # what a vector in the last stream adds to the centred logit of the next token
        return of_next(centred(x, final) / held * weight_of(final) @ parts.unembed.T)

    for row, (layer, head) in enumerate(itertools.product(range(2), range(2))):
        wrote = parts.of_heads(layer, kept[layer])[head]
        other = wrote.roll(1, 0)

        def swap(m, x, y, wrote=wrote, other=other):
            return y - wrote + other  # before the layer all is clean

        written = {}
        hooks = [
            (parts.mlp_adds(i), False, lambda m, x, y, i=i, to=written: to.__setitem__(i, y))
            for i in range(2)
        ]
        with hooked(hooks):
            network(tokens)
        before = dict(written)

        def keep_last(m, x, to=written):
            to["last"] = x[0].clone()

        with hooked([*hooks, (final, True, keep_last), (parts.adds(layer), False, swap)]):
            patched = network(tokens).logits
        # a norm's bias adds the same to both runs
        most = straight(wrote).topk(int(0.2 * 24)).indices
        direct = (straight(wrote) - straight(other))[most].mean()
        total = (of_next(clean) - of_next(patched))[most].mean()
        size = clean.abs().max()
        assert_close(got["direct"][row], direct, rounds=100, size=size)
        assert_close(got["total"][row], total, rounds=100, size=size)
        by_mlps = sum(straight(written[i] - before[i]) for i in range(2))
        assert_close(got["by_mlps"][row], by_mlps[most].mean(), rounds=100, size=size)
        left = written["last"]
        own = centred(left, final) / deviation(left, final) * weight_of(final)
        by_norm = of_next(own @ parts.unembed.T) - straight(left)
        assert_close(got["by_norm"][row], by_norm[most].mean(), rounds=100, size=size)
    made_up = got["by_heads"] + got["by_mlps"] + got["by_norm"]
    assert_close(made_up, got["direct"] - got["total"], rounds=100, size=size)
    assert got["by_heads"][2:].abs().max() == 0 < got["by_heads"][:2].abs().min()
    # in the last layer only the norm can repair; before it, more can
    assert (got["direct"] - got["total"]).abs().min() > 1e-6


def test_repair_and_swaps_over_training(tmp_path):
    suite, store = load_suite("mini"), Store(tmp_path)
    steps = {"mini-xs": suite.steps("mini-xs")[-2:]}
    found = measure_heads(suite, ["mini-xs"], store, steps=steps, progress=False)
    repaired = measure_repair(suite, found, store, "zero", prompts=20, texts=4, progress=False)
    assert [one.step for one in repaired] == list(steps["mini-xs"])
    assert (
        repaired[-1].carriers == [(1, 2)]
        and repaired[-1].ioi["before"].mean() > 1 > repaired[-1].ioi["after"].mean()
    )
    assert repaired[-1].text["direct"].shape == (8,)
    docs = documents(suite.checkpoint("mini-xs", steps["mini-xs"][1]).load(), 4, 61)
    assert docs.shape == (4, 61)
    groups = {"carrier": [(1, 2)], "all": list(itertools.product(range(2), range(4)))}
    swaps = measure_swaps(suite, "mini-xs", groups, store, steps["mini-xs"], prompts=20)
    assert len(swaps) == 2
    loaded = [suite.checkpoint("mini-xs", step).load() for step in steps["mini-xs"]]
    pairs = get_task("ioi").prompts(loaded[0].tokenizer, n=20)
    literal = metric_of(
        swap_heads(network_of(loaded[0]), network_of(loaded[1]), [(1, 2)]), pairs
    ).mean()
    one = swaps[swaps["group"] == "carrier"].iloc[0]
    own = pairs.metric(loaded[0].logits(pairs.clean, pairs.end)).mean()
    assert_close(one["metric"], literal, rounds=100)
    assert_close(one["own"], own, rounds=100)
    assert abs(one["metric"] - one["own"]) > 1e-3
