"""The compiled model does what it says, edge by edge; and what methods make of it."""

import itertools

import numpy as np
import pytest
import torch
from closeness import assert_close
from literal import Literal

from circuitbook import attribute, load_suite
from circuitbook.circuits.evaluation import evaluate_masks
from circuitbook.circuits.recovery import auroc, average_precision, strengths
from circuitbook.heads.edge_patching import patch_edges
from circuitbook.model.architectures import network_of
from circuitbook.model.compiled import KINDS, Design, save_compiled
from circuitbook.model.compiled_nodes import LETTERS, OFF, ON, WORDS, read, write
from circuitbook.model.graph import graph_of
from circuitbook.model.network import run
from circuitbook.recipes import get_recipe
from circuitbook.studies.known_circuit import (
    ALL,
    DESIGNS,
    METHODS,
    backups,
    compiled_model,
    graph_of_known,
    recovery_table,
    score_known,
    taken_apart,
    truth,
)
from circuitbook.tasks.marked_letters import CORRUPTIONS, marked_letters, right_answer

ROUNDING = 1e-9


@pytest.fixture(scope="module", params=DESIGNS)
def model(request):
    return compiled_model(DESIGNS[request.param])


@pytest.fixture(scope="module")
def sharp():
    return compiled_model(DESIGNS["sharp"])


def every_prompt():
    for marker in (ON, OFF):
        for letters in itertools.permutations(LETTERS, 4):
            yield from (" ".join([marker, *letters, again]) for again in letters[:3])


def test_every_prompt_is_answered_right(model):
    texts = list(every_prompt())
    assert len(texts) == 2 * 360 * 3
    rows = [[WORDS.index(f" {word}") for word in text.split()] for text in texts]
    assert model.tokenizer(f" {texts[0]}")["input_ids"] == rows[0]
    logits = model.logits(torch.tensor(rows), torch.full((len(rows),), 5))
    said = [WORDS[i].strip() for i in logits.argmax(1).tolist()]
    assert said == [right_answer(text) for text in texts]
    others = logits.clone().scatter_(1, logits.argmax(1, keepdim=True), -torch.inf)
    assert (logits.max(1).values - others.max(1).values).min() > 0.4


def test_the_task_by_hand():
    assert right_answer("! A F B C A") == "A" and right_answer(". A F B C A") == "F"
    assert right_answer("! A F B C D") is None
    pairs = marked_letters(40, seed=3)
    assert set(pairs.table["kind"]) == set(CORRUPTIONS)
    for row in pairs.table.itertuples():
        clean, corrupted = row.clean.split(), row.corrupted.split()
        assert sum(a != b for a, b in zip(clean, corrupted, strict=True)) == 1
        assert row.correct == right_answer(row.clean) and row.wrong != row.correct
        assert right_answer(row.corrupted) == (None if row.kind == "key" else row.wrong)
    assert (marked_letters(8, seed=3).clean == pairs.clean[:8]).all()
    with pytest.raises(ValueError, match="at least one"):
        marked_letters(0)


def test_blocks_do_not_overlap():
    assert read("found", 2) @ write("found", 2) == 1
    assert read("found", 2) @ write("found", 3) == read("found", 2) @ write("said", 2) == 0
    assert write("token", 0).sum() == 0


def test_a_norm_gives_the_stream_back(model):
    """On clean and corrupted prompts, at every position, up to what attention that finds nothing
    sees beside the marker: exp(-sharpness / 2) of each other position."""
    network, pairs = network_of(model), marked_letters(8)
    tokens = torch.stack([pairs.clean, pairs.corrupted], 1)
    leak = 2 * 5 * np.exp(-32)
    for layer, done in zip(network.layers, run(network, network.embed(tokens)), strict=True):
        assert (layer.norm_attention(done.x) - done.x).abs().max() < leak
        assert (layer.norm_mlp(done.x_mlp) - done.x_mlp).abs().max() < leak
    assert (network.norm_final(done.out) - done.out).abs().max() < leak
    assert done.out.abs().max() > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_the_literal_twin_sees_what_an_edge_of_a_kind_does(model, kind):
    """One corruption each, one edge patched, alone and beside its backup."""
    twin, graph, pairs = Literal(model.hf_model), graph_of(model), marked_letters(8, seed=1)
    names = set(graph.edge_names)
    whole = pairs.metric(model.logits(pairs.clean, pairs.end))
    edge = KINDS[kind][0]
    alone = (twin.circuit(pairs, names - {edge}) - whole).abs().max()
    masks = np.stack([graph.mask.copy() for _ in range(2)])
    masks[(slice(None), *graph.edge(edge))] = False
    if "backup" not in kind:
        assert alone > 0.1
    else:
        masks[1] &= ~backups(graph)[graph.edge(edge)]
        beside = {graph.edge_name(*e) for e in np.argwhere(backups(graph)[graph.edge(edge)])}
        without = (twin.circuit(pairs, names - beside - {edge}) - whole).abs().max()
        assert without > 0.6 > 0.4 > alone
        got = evaluate_masks(model, pairs, masks[1:])[0]
        assert_close(got, twin.circuit(pairs, names - beside - {edge}), rounds=100, size=2)
    got = evaluate_masks(model, pairs, masks[:1])[0]
    assert_close(got, twin.circuit(pairs, names - {edge}), rounds=100, size=2)


def test_patching_gives_what_the_construction_says(sharp):
    """Three of four corruptions turn the answer round (2), one takes it away (1)."""
    pairs, graph = marked_letters(16), graph_of_known()
    lost = patch_edges(sharp, pairs)
    for edge, effect in {
        "m2->logits": 7 / 4,
        "a1.h0->m2": 5 / 4,
        "m1->m2": 2 / 4,
        "input->a1.h0<q>": 2 / 4,
        "input->a1.h0<v>": 2 / 4,
        "input->a0.h2<v>": 0,
        "a0.h0->a1.h0<k>": 0,
    }.items():
        assert lost[graph.edge(edge)] == pytest.approx(effect, abs=1e-9), edge
    assert lost[graph.edge("a1.h1->logits")] == pytest.approx(-lost[graph.edge("a1.h2->logits")])


@pytest.mark.slow
def test_outside_the_circuit_nothing_matters_whatever_else_is_patched():
    """All edges, in the whole model, without each backup, and in random halves of it."""
    model, pairs = compiled_model(DESIGNS["norms"]), marked_letters(4)
    graph, rng = graph_of(model), np.random.default_rng(0)
    outside = graph.mask & ~truth(graph)
    contexts = [
        graph.mask,
        *(graph.mask & ~others for others in list(backups(graph).values())[::4]),
    ]
    contexts += [graph.mask & (rng.random(graph.mask.shape) < 0.8) | truth(graph)]
    for context in contexts:
        each = [context.copy() for _ in range(int(outside.sum()))]
        for mask, edge in zip(each, np.argwhere(outside), strict=True):
            mask[tuple(edge)] = ~mask[tuple(edge)]
        metric = evaluate_masks(model, pairs, [context, *each])
        assert (metric[1:] - metric[0]).abs().max() < ROUNDING


def test_random_orders_leave_the_four_circuits_that_brute_force_finds(sharp):
    pairs, graph = marked_letters(8), graph_of_known()
    needed = truth(graph, "needed")
    optional = [graph.edge(e) for kind in KINDS if "backup" in kind for e in KINDS[kind]]
    masks = []
    for chosen in itertools.product([False, True], repeat=len(optional)):
        mask = needed.copy()
        for edge, there in zip(optional, chosen, strict=True):
            mask[edge] = there
        masks.append(mask)
    metric = evaluate_masks(sharp, pairs, masks).mean(1)
    clean, corrupted = evaluate_masks(sharp, pairs, [graph.mask, graph.mask & False]).mean(1)
    kept = ((metric - corrupted) / (clean - corrupted)).tolist()
    passing = [mask for mask, value in zip(masks, kept, strict=True) if value > 0.95]
    smallest = [m for m in passing if not any((o < m).any() and not (o > m).any() for o in passing)]
    assert len(smallest) == 4 and {int(m.sum()) for m in smallest} == {9}
    left = taken_apart(sharp, pairs, seed=0)
    assert {m.tobytes() for m in left} == {m.tobytes() for m in smallest}


@pytest.mark.parametrize(
    ("design", "says"),
    [(Design(sharpness=0), "not above 0"), (Design(sharpness=4, norms=True), "32 or more")],
)
def test_what_cannot_be_built_is_refused(tmp_path, design, says):
    with pytest.raises(ValueError, match=says):
        save_compiled(tmp_path / "compiled" / "step0", design)


def test_it_is_a_checkpoint_like_any_other(tmp_path):
    save_compiled(tmp_path / "compiled" / "step0", Design())
    model = load_suite(tmp_path).checkpoint("compiled", 0).load()  # float32
    pairs = marked_letters(8)
    assert_close(
        pairs.metric(model.logits(pairs.clean, pairs.end)), 1.0, rounds=100, dtype=torch.float32
    )


# ------------------------------------------------------------------ measures


def test_areas_equal_their_definitions():
    rng = np.random.default_rng(0)
    for _ in range(20):
        strength, inside = rng.integers(0, 6, 30).astype(float), rng.random(30) < 0.3
        inside[:2] = True, False
        won = [(a > b) + (a == b) / 2 for a in strength[inside] for b in strength[~inside]]
        assert auroc(strength, inside) == pytest.approx(np.mean(won))
        area, before = 0.0, 0.0  # step by step down the thresholds
        for bar in sorted(set(strength), reverse=True):
            recall = inside[strength >= bar].sum() / inside.sum()
            area += (recall - before) * inside[strength >= bar].mean()
            before = recall
        assert average_precision(strength, inside) == pytest.approx(area)


def test_areas_need_edges_inside_and_outside():
    for inside in (np.ones(3, bool), np.zeros(3, bool)):
        with pytest.raises(ValueError, match="nothing to tell apart"):
            auroc(np.arange(3.0), inside)
    with pytest.raises(ValueError, match="nothing to find"):
        average_precision(np.arange(3.0), np.zeros(3, bool))


def test_rounding_counts_as_nothing():
    assert strengths(np.array([-2.0, 1e-5, 1e-7])).tolist() == [2.0, 1e-5, 0.0]
    assert strengths(np.zeros(3)).tolist() == [0, 0, 0]


def test_scores_are_those_of_each_method_by_itself():
    recipe = get_recipe("robust")
    how = {"attribution": recipe.attribution, "prompts": 4, "brute": 2, "seed": 42}
    got = score_known(design=DESIGNS["soft"], **how)
    model, pairs = compiled_model(DESIGNS["soft"]), marked_letters(4, 42)
    for method in set(METHODS) - {"patching", "random"}:
        options = recipe.attribution if method == "eap-ig" else {"method": method}
        assert_close(got[method], attribute(model, pairs, **options).values, rounds=100)
    assert_close(got["patching"], patch_edges(model, pairs), rounds=100)
    assert got["right"] == 1 and abs(got["gap"]) < 0.02
    few = [np.abs(patch_edges(model, pairs.subset([i]))) for i in range(2)]
    assert_close(got["alone"], np.max(few, axis=0), rounds=100)
    table = recovery_table({"soft": got}).set_index(["method", "kind"])
    assert table.loc[("eap-ig", ALL), "auroc"] == 1 == table.loc[("eap-ig", ALL), "first"]
    assert table.loc[("patching", "backup in an MLP"), "auroc"] == 0.5
    assert table.loc[("random", ALL), "auroc"] == pytest.approx(0.5, abs=0.05)


def test_the_first_scores_of_a_kind_with_ties():
    graph = graph_of_known()
    scores = np.zeros(graph.mask.shape)
    scores[graph.edge(KINDS["needed"][0])] = 5
    scores[graph.edge("input->m0")] = 4
    made = {name: scores for name in METHODS}
    table = recovery_table({"sharp": made}).set_index(["method", "kind"])
    tied = 4 / (250 - 2)  # of the 248 zeros the other four needed edges
    assert table.loc[("eap", "needed"), "first"] == pytest.approx((1 + 3 * tied) / 5)
    assert table.loc[("eap", "cancelling"), "auroc"] == pytest.approx(0.5 * 244 / 245)
