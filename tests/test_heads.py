"""Scores of heads: hand-made heads that must score 1 and 0, and literal twins in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from closeness import assert_close
from parts import Parts, bias_of, centred, deviation, exact, weight_of
from test_patching import hooked
from toys import toy_model

from circuitbook.heads import copy_suppression as suppressing
from circuitbook.heads.attention import REPEATED, attention_from_end, repeat_scores
from circuitbook.heads.copy_suppression import _Predictions, copy_suppression, function_tokens
from circuitbook.heads.copying import copy_hits
from circuitbook.heads.path_patching import path_patch
from circuitbook.heads.s_inhibition import s_inhibition
from circuitbook.heads.successor import successor_hits, successor_pairs
from circuitbook.model.architectures import network_of
from circuitbook.model.layers import Layer, rotate
from circuitbook.model.network import Network
from circuitbook.model.parts import MLP, Norm
from circuitbook.recipes import get_recipe
from circuitbook.store.disk import Store
from circuitbook.studies.head_scores import SCORE_KINDS, HeadScores, measure_heads, score_heads
from circuitbook.suites.finding import load_suite
from circuitbook.tasks.registry import get_task
from circuitbook.tasks.sequences import documents

D = torch.float64


def still(x, positions):
    """No rotary: cos 1, sin 0."""
    return torch.ones(1, positions.shape[1], 2, dtype=D), torch.zeros(
        1, positions.shape[1], 2, dtype=D
    )


def rotary_cos_sin(x, positions):
    """Four frequencies, so that one distance stands out."""
    angle = positions[..., None] * torch.tensor([0.7, 0.31, 0.11, 0.043], dtype=D)
    return torch.cat([angle, angle], -1).cos(), torch.cat([angle, angle], -1).sin()


def hand_made(
    values, outputs, embed, unembed, q=None, k=None, rotary=still, mlp=None, b_q=None, b_k=None
):
    """One layer of heads: values, outputs [h, d, d], no attention bias unless q, k or their biases
    are given."""
    values, outputs = (torch.as_tensor(part, dtype=D) for part in (values, outputs))
    h, d, _ = values.shape
    e = d
    zeros = torch.zeros(h, e, dtype=D)
    norm = Norm(torch.ones(d, dtype=D), torch.zeros(d, dtype=D), 1e-12)
    w_in = {
        "q": torch.zeros(h, e, d, dtype=D) if q is None else q,
        "k": torch.zeros(h, e, d, dtype=D) if k is None else k,
        "v": values.transpose(1, 2),
    }
    b_in = {"q": zeros if b_q is None else b_q, "k": zeros if b_k is None else b_k, "v": zeros}
    maps = mlp or (
        torch.zeros(1, d, dtype=D),
        torch.zeros(1, dtype=D),
        torch.zeros(d, 1, dtype=D),
        torch.zeros(d, dtype=D),
    )
    layer = Layer(
        norm_attention=norm,
        norm_mlp=norm,
        w_in=w_in,
        b_in=b_in,
        w_out=outputs,
        b_out=torch.zeros(d, dtype=D),
        mlp=MLP(
            **dict(zip(("w_in", "b_in", "w_out", "b_out"), maps, strict=True)),
            activation=lambda x: x,
        ),
    )
    return Network(
        w_embed=torch.as_tensor(embed, dtype=D),
        layers=(layer,),
        norm_final=norm,
        w_unembed=torch.as_tensor(unembed, dtype=D),
        rotary=rotary,
        scale=1.0,
    )


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    network, model = toy_model(tmp_path_factory.mktemp("heads"), layers=3, heads=2, d_model=16)
    return exact(network), model


@pytest.fixture(scope="module")
def mini():
    suite = load_suite("mini")
    return suite.checkpoint("mini-xs", suite.steps("mini-xs")[-1]).load(dtype=D)


# ------------------------------------------------------------------ repeated sequences


def test_a_head_that_looks_one_way_scores_one_for_that_and_zero_for_the_rest():
    length, distances = 12, (1, 12, 11)  # previous, duplicate, induction
    b_q = torch.full((3, 8), 40.0, dtype=D)
    b_k = torch.stack(
        [
            rotate(
                b_q[i][None, None],
                [
                    part[0, i : i + 1, None]
                    for part in rotary_cos_sin(None, torch.tensor([distances]))
                ],
            )[0, 0]
            for i in range(3)
        ]
    )
    network = hand_made(
        torch.zeros(3, 8, 8),
        torch.zeros(3, 8, 8),
        torch.ones(30, 8),
        torch.ones(30, 8),
        rotary=rotary_cos_sin,
        b_q=b_q,
        b_k=b_k,
    )
    tokens = torch.randint(30, (3, length), generator=torch.Generator().manual_seed(0)).repeat(1, 2)
    scores = torch.stack(
        [repeat_scores(network, tokens, length)[kind].mean(1) for kind in REPEATED]
    )
    assert torch.allclose(scores.diagonal(), torch.ones(3, dtype=D), atol=1e-3)
    assert (
        scores - scores.diagonal().diag()
    ).abs().max() < 0.05  # the second token can look back by one at most


@pytest.mark.parametrize("whole", [False, True])
def test_repeat_scores_are_means_along_diagonals(toy, whole):
    network, model = toy
    before = network.config._attn_implementation
    network.set_attn_implementation("eager")
    length, tokens = (
        6,
        torch.randint(1, 15, (3, 6), generator=torch.Generator().manual_seed(1)).repeat(1, 2),
    )
    patterns = torch.cat(network(tokens, output_attentions=True).attentions, 1)  # [n, head, t, s]
    network.set_attn_implementation(before)
    scores = repeat_scores(network_of(model), tokens, length, whole)
    for head in range(6):
        for i in range(3):
            p = patterns[i, head]
            expected = {
                "previous": [p[t, t - 1] for t in range(1, 12)],
                "duplicate": [p[t, t - 6] for t in range(6, 12)],
                "induction": [p[t, t - 5] for t in range(5 if whole else 6, 12)],
            }
            for kind, seen in expected.items():
                mean = sum(seen) / len(seen)  # eager takes softmax in float32
                assert_close(scores[kind][head, i], mean, rounds=10, dtype=torch.float32, size=1)


# ------------------------------------------------------------------ successor, copying


def test_hand_made_successor_and_name_movers():
    n = 12
    eye, after = torch.eye(n, dtype=D), torch.roll(torch.eye(n, dtype=D), 1, 1)  # row i -> i + 1
    identity = (eye, torch.zeros(n, dtype=D), eye, torch.zeros(n, dtype=D))
    network = hand_made(
        torch.stack([eye] * 4), torch.stack([after, eye, -eye, 0 * eye]), eye, eye, mlp=identity
    )
    pairs = torch.tensor([[i, i + 1] for i in range(3, 9)])
    lists = [("digits", pairs, pairs[:, 1])]
    for norms in (True, False):
        hits = successor_hits(network, lists, norms).double().mean(1)
        assert hits.tolist() == [1, 0, pytest.approx(hits[2]), 0] and hits[2] < 0.5
        assert successor_hits(network, lists, norms, ties=True)[
            3
        ].all()  # writing nothing ties with everything
        # the stream after the layer still holds the word, so that looking at it is copying
        tokens = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10]])
        raised, lowered = copy_hits(network, tokens, torch.tensor([[0, 1, 3]] * 2), norms)
        assert raised[1].tolist() == [1, 1] and lowered[2].tolist() == [1, 1]
        assert raised[2].tolist() == [0, 0] and lowered[1].tolist() == [0, 0]


@pytest.mark.parametrize("norms", [True, False])
def test_successor_is_its_definition(toy, norms):
    network, model = toy
    pairs = torch.tensor([[1, 2], [2, 3], [3, 4], [4, 5], [9, 10], [10, 11]])
    lists = [("one", pairs[:4], pairs[:4, 1]), ("two", pairs[4:], pairs[4:, 1])]
    got, parts = successor_hits(network_of(model), lists, norms), Parts(network)
    assert got.shape == (6, 6) and 0 < got.double().mean() < 1
    for row, (layer, head) in enumerate(itertools.product(range(3), range(2))):
        (w_v, _), w_o = parts.read(layer, head, "v"), parts.write(layer, head)
        for j, (word, after) in enumerate(pairs.tolist()):
            x = parts.words(torch.tensor(word))
            if norms:
                if layer:
                    x = x + parts.mlp_writes(0, x)
                given, unembed = w_o @ parts.value(layer, head, x), parts.unembedding()
                written = parts.heads_write(layer, {head: given})[head]
            else:
                written, unembed = w_o @ w_v @ parts.mlp[0](x), parts.unembed
            logits = unembed @ written
            targets = lists[0 if j < 4 else 1][2].tolist()
            assert bool(got[row, j]) == (max(targets, key=lambda t: float(logits[t])) == after)


@pytest.mark.parametrize("norms", [True, False])
def test_copy_score_is_its_definition(toy, norms, monkeypatch):
    network, model = toy
    monkeypatch.setattr("circuitbook.heads.copying.TOP", 3)
    parts, kept = Parts(network), {}
    tokens = torch.randint(1, 15, (4, 7), generator=torch.Generator().manual_seed(2))
    places = torch.tensor([[0, 2, 5]] * 4)
    with hooked(
        [
            (
                parts.blocks[0],
                False,
                lambda m, x, y: kept.__setitem__(0, y[0] if isinstance(y, tuple) else y),
            )
        ]
    ):
        network(tokens)
    raised, lowered = copy_hits(network_of(model), tokens, places, norms)
    unembed, bias = parts.unembedding(), parts.unembed @ bias_of(parts.norm_final)
    for row, (layer, head) in enumerate(itertools.product(range(3), range(2))):
        (w_v, _), w_o, norm = (
            parts.read(layer, head, "v"),
            parts.write(layer, head),
            parts.norm_attention[layer],
        )
        for i in range(4):
            for sign, got in ((1, raised), (-1, lowered)):
                hits = 0
                for place in (0, 2, 5):
                    x = kept[0][i, place]
                    value = (
                        parts.value(layer, head, x)
                        if norms
                        else w_v @ (x if norm is None else weight_of(norm) * centred(x, norm))
                    )
                    written = parts.heads_write(layer, {head: w_o @ value})[head]
                    logits = sign * (unembed @ written) + (0 if norms else bias)
                    hits += int(tokens[i, place]) in logits.topk(3).indices.tolist()
                assert got[row, i] == pytest.approx(hits / 3)
    assert 0 < raised.mean() < 1


def test_a_head_that_writes_nothing_copies_nothing():
    """All tokens are as far up, and as far down, as the name: that is no hit."""
    n = 40
    eye = torch.eye(n, dtype=D)
    network = hand_made(torch.stack([eye, eye]), torch.stack([eye, 0 * eye]), eye, eye)
    tokens = torch.arange(12).view(2, 6)
    raised, lowered = copy_hits(network, tokens, torch.tensor([[0, 2, 4]] * 2), True)
    assert raised[0].tolist() == [1, 1] and raised[1].tolist() == [0, 0]
    assert lowered[1].tolist() == [0, 0]


def test_word_lists_of_the_story_language(mini):
    lists = {name: (pairs, targets) for name, pairs, targets in successor_pairs(mini.tokenizer)}

    def word(i):
        return mini.tokenizer.decode([int(i)])

    assert set(lists) == {"days", "months", "number words", "ordinals", "letters"}
    assert [tuple(map(word, pair)) for pair in lists["days"][0][[0, -1]]] == [
        (" Monday", " Tuesday"),
        (" Sunday", " Monday"),
    ]
    assert word(lists["ordinals"][0][-1, 1]) == " tenth" and len(lists["letters"][0]) == 25


# ------------------------------------------------------------------ copy suppression


def literal_cspa(network, tokens, function, evaluate, share, as_published):
    """Per head and document, from the definition: one destination and source at a time, whole
    vectors."""
    parts, n, length = Parts(network), evaluate, tokens.shape[1]
    z, streams, last = {}, {}, {}
    before = network.config._attn_implementation
    network.set_attn_implementation("eager")
    hooks = [
        (out, True, lambda m, x, layer=layer: z.__setitem__(layer, x[0].clone()))
        for layer, out in enumerate(parts.output)
    ]
    hooks += [
        (block, True, lambda m, x, layer=layer: streams.__setitem__(layer, x[0].clone()))
        for layer, block in enumerate(parts.blocks)
    ]
    hooks += [(parts.norm_final, True, lambda m, x: last.__setitem__(0, x[0].clone()))]
    with hooked(hooks):
        out = network(tokens, output_attentions=True)
    network.set_attn_implementation(before)
    unembed = parts.unembedding()
    kept, ablated = torch.zeros(6, n, dtype=D), torch.zeros(6, n, dtype=D)
    for row, (layer, head) in enumerate(itertools.product(range(3), range(2))):
        w_o = parts.write(layer, head)
        wrote = parts.of_heads(layer, z[layer])[head]
        given = sum(z[layer][..., parts.place(h)] @ parts.write(layer, h).T for h in range(2))
        mean = wrote.mean(0)
        for i in range(n):
            for d in range(length):
                lens, first = {}, {}
                for s in range(length):
                    blocked = s > d or function[tokens[i, s]]
                    lens[s] = (
                        -1e9 if blocked else float(streams[layer][i, d] @ unembed[tokens[i, s]])
                    )
                    first[s] = -1e9 if tokens[i, s] in tokens[i, :s] else lens[s]
                bar = sorted(first.values(), reverse=True)[math.ceil(share * (d + 1)) - 1]
                new = mean[d].clone()
                for s in range(d + 1):
                    if lens[s] + 1e-6 >= bar and (as_published or lens[s] > -1e9):
                        value = w_o @ parts.value(layer, head, streams[layer][i, s])
                        rest = given[i, d] - value  # of what is normed together there
                        value = parts.heads_write(layer, {"s": value, "rest": rest})["s"]
                        part = out.attentions[layer][i, head, d, s] * (value - mean[d])
                        unit = unembed[tokens[i, s]] / unembed[tokens[i, s]].norm()
                        new = new + min(0.0, float(part @ unit)) * unit
                own = F.log_softmax(out.logits[i, d], -1)
                held = deviation(last[0][i, d], parts.norm_final)
                for result, where in ((new, kept), (mean[d], ablated)):
                    other = F.log_softmax(
                        out.logits[i, d] + unembed @ (result - wrote[i, d]) / held, -1
                    )
                    where[row, i] += (own.exp() * (own - other)).sum() / length
    return kept, ablated


@pytest.mark.parametrize("as_published", [False, True])
def test_copy_suppression_is_its_definition(toy, as_published):
    network, model = toy
    tokens = torch.randint(1, 15, (5, 9), generator=torch.Generator().manual_seed(3))
    function = torch.zeros(15, dtype=torch.bool)
    function[[1, 5]] = True
    got = copy_suppression(network_of(model), tokens, function, 2, 0.3, as_published)
    for ours, literal in zip(
        got, literal_cspa(network, tokens, function, 2, 0.3, as_published), strict=True
    ):
        assert ours.shape == (6, 2)
        assert literal.min() > 1e-4
        assert_close(ours / literal, 1.0, rounds=1000, dtype=torch.float32)  # eager's softmax


@pytest.mark.parametrize(
    "dtype, size, relative",
    [
        (D, 3, 1e-12),
        (torch.float32, 3, 1e-4),
        (torch.float32, 300, 1e-4),
        (torch.float32, 0.01, 1e-3),
    ],
)
def test_divergences_hold_for_changes_of_any_size(dtype, size, relative, monkeypatch):
    """Small ones too: of many tokens, float32's probabilities do not add up to 1."""
    monkeypatch.setattr(suppressing, "PART_BYTES", 6 * 700 * dtype.itemsize)  # in 8 parts
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 3, 5000, generator=generator, dtype=D)
    change = size * torch.randn(4, 2, 3, 5000, generator=generator, dtype=D)
    log_p = logits.log_softmax(-1)
    expected = (log_p.exp() * (log_p - (logits + change).log_softmax(-1))).sum(-1)
    predicted = _Predictions(log_p.to(dtype))
    assert len(predicted.p) == 8
    pieces = predicted.parts_of(change.to(dtype))
    got = predicted.divergence(
        lambda part: iter(pieces[part].clone()), (log_p.exp() * change).sum(-1).to(dtype)
    )
    assert expected.min() > 0
    torch.testing.assert_close(
        got.double() / expected, torch.ones(4, 2, 3, dtype=D), rtol=0, atol=relative
    )


def test_float32_suffices_for_copy_suppression_on_a_large_vocabulary(tmp_path):
    tokens = torch.randint(30_000, (3, 12), generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(30_000, dtype=torch.bool)
    divergences = []
    for dtype in (torch.float32, D):
        _, model = toy_model(tmp_path / str(dtype), dtype, vocab=30_000, d_model=16)
        network = network_of(model)
        for layer in network.layers:
            layer.w_out.mul_(0.03)  # every head does little, as in a model with many of them
        divergences.append(copy_suppression(network, tokens, nothing))
    for single, double in zip(*divergences, strict=True):
        assert double.max() < 1e-3
        assert (single / double - 1).abs().max() < 0.02


def test_a_hand_made_copy_suppressor_scores_near_one_and_a_silent_head_zero():
    n = 60
    eye = torch.eye(n, dtype=D)
    network = hand_made(
        torch.stack([eye, eye, 0 * eye]), torch.stack([-0.3 * eye, 0.3 * eye, eye]), eye, 4 * eye
    )
    tokens = torch.stack(
        [torch.randperm(n, generator=torch.Generator().manual_seed(i))[:10] for i in range(40)]
    )
    kept, ablated = copy_suppression(
        network, tokens, torch.zeros(n, dtype=torch.bool), 8, candidates=1.0
    )
    assert (1 - kept.mean(1) / ablated.mean(1))[
        0
    ] > 0.95  # its mean over texts is not quite nothing
    assert (1 - kept.mean(1) / ablated.mean(1))[1] < 0.1  # copies, does not suppress
    arrays = {
        "cspa_kept": kept.numpy(),
        "cspa_ablated": ablated.numpy(),
        "previous": np.zeros((3, 1)),
    }
    assert HeadScores("m", 0, 0, 3, arrays).score("copy_suppression")[2] == 0


def test_documents_and_function_words(mini, tmp_path):
    docs = documents(mini, 6, 40)
    assert docs.shape == (6, 40) and (docs[:, 0] == mini.tokenizer.eos_token_id).all()
    assert torch.equal(docs, documents(mini, 6, 40)) and not torch.equal(
        docs, documents(mini, 6, 40, seed=1)
    )
    file = tmp_path / "text.txt"
    file.write_text(
        mini.tokenizer.decode(docs[0, 1:])
        + "\n\n the store\n\n"
        + mini.tokenizer.decode(docs[1, 1:])
    )
    assert torch.equal(documents(mini, 2, 40, str(file)), docs[:2])
    with pytest.raises(
        ValueError, match="holds 2 documents of at least 39 tokens, and 3 are needed"
    ):
        documents(mini, 3, 40, str(file))
    function = function_tokens(mini.tokenizer)

    def ids(*words):
        return [mini.tokenizer.convert_tokens_to_ids(word) for word in words]

    assert (
        function[ids(" the", ".", "<|endoftext|>", " to")].all()
        and not function[ids(" Mary", " ring", " Monday")].any()
    )


# ------------------------------------------------------------------ on IOI, and all together


def test_a_text_that_is_not_there_is_named_before_anything_is_measured(tmp_path):
    with pytest.raises(
        ValueError, match="there is no text file 'none.txt': give one with documents"
    ):
        measure_heads(
            load_suite("mini"), ["mini-xs"], Store(tmp_path), text="none.txt", progress=False
        )


def test_attention_from_end_and_s_inhibition(mini):
    pairs = get_task("ioi").prompts(mini.tokenizer, n=6)
    looked = attention_from_end(network_of(mini), pairs, ("IO", "S2"))
    _, cache = mini.bridge.run_with_cache(pairs.clean)
    for i in range(6):
        pattern = cache["pattern", 1][i]
        expected = pattern[1, pairs.end[i], pairs.positions["S2"][i]]
        assert_close(looked["S2"][5, i], expected, rounds=10, size=1)
    got = s_inhibition(mini, pairs, [(1, 0), (1, 2)])
    moved = get_task("ioi").prompts(mini.tokenizer, n=6, corruption="order")
    for row, sender in enumerate([(0, 0), (0, 1), (0, 2), (0, 3)]):
        one = path_patch(
            mini,
            moved,
            [sender],
            ["a1.h0<q>", "a1.h2<q>"],
            sender_at="END",
            receiver_at="END",
            watch=[(1, 0), (1, 2)],
            places=("S1",),
        )
        clean = pairs.metric(mini.logits(pairs.clean, pairs.end)).mean()
        before = attention_from_end(network_of(mini), pairs, ("S1",))["S1"][[4, 6]].mean()
        assert_close(got[row, 1], one.metric.mean() / clean - 1, rounds=100, size=1)
        assert_close(got[row, 3], one.attention.mean() / before - 1, rounds=100, size=1)
    assert (
        np.abs(got[:4, 0]).max() > 1e-5 and np.abs(got[4:]).max() < 1e-9
    )  # layer 1 comes too late for layer 1


def test_all_scores_of_a_checkpoint_are_kept(tmp_path):
    suite, store = load_suite("mini"), Store(tmp_path)
    steps = {"mini-xs": (0, suite.steps("mini-xs")[-1])}
    recipe = get_recipe("robust")
    found = measure_heads(suite, ["mini-xs"], store, recipe, steps, progress=False)
    again = measure_heads(suite, ["mini-xs"], store, recipe, steps, progress=False)
    assert [one.step for one in found] == list(steps["mini-xs"]) and found[1].heads[5] == (1, 1)
    table = found[1].table()
    assert (
        len(table) == 8 and table[["previous", "induction", "successor", "copy"]].max().min() > 0.2
    )
    assert table["to_S1"].between(0, 1).all() and (table["copy_suppression"] <= 1).all()
    assert all(
        np.array_equal(a, again[1].arrays[name], equal_nan=True)
        for name, a in found[1].arrays.items()
    )
    for kind in (*SCORE_KINDS, "direct"):
        n = found[1].items(kind)
        weighted, plain = found[1].score(kind, np.full((2, n), 1 / n)), found[1].score(kind)
        for row in weighted:
            assert_close(row, plain, rounds=100, dtype=torch.float32)
    paper = score_heads(
        suite.checkpoint("mini-xs", steps["mini-xs"][1]).load(), get_recipe("paper").heads
    )
    assert paper["previous"].shape == (8, 2)
    # the paper takes one number a head, the mean over its prompts
    assert_close(paper["to_IO"].mean(1), paper["to_IO"][:, 0], rounds=10)


def test_there_are_no_name_movers_before_the_task_is_done(tmp_path):
    suite = load_suite("mini")
    found = measure_heads(
        suite,
        ["mini-s-seed2"],
        Store(tmp_path),
        steps={"mini-s-seed2": (0, suite.steps("mini-s-seed2")[-1])},
        progress=False,
    )
    before, after = found
    assert not before.able and before.movers == [] and "s_inhibition" not in before.arrays
    assert before.table()["s_inhibition_through_q"].isna().all()
    assert after.able and after.movers and len(after.arrays["s_inhibition"]) == 12


def test_documents_in_pieces_change_nothing(toy, monkeypatch):
    _, model = toy
    tokens = torch.randint(1, 15, (7, 9), generator=torch.Generator().manual_seed(5))
    function, network = torch.zeros(15, dtype=torch.bool), network_of(model)
    whole = copy_suppression(network, tokens, function, 5, 0.3)
    monkeypatch.setattr(
        "circuitbook.heads.copy_suppression.DOCUMENT_BYTES", 8 * 9 * 16 * 12 * 2
    )  # two at a time
    pieces = copy_suppression(network, tokens, function, 5, 0.3)
    assert whole[0].shape == (6, 5)
    for a, b in zip(whole, pieces, strict=True):
        assert_close(a, b, rounds=100)
