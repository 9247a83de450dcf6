"""Path patching, ablation and swaps against three literal passes with torch's own hooks, in
float64."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from closeness import assert_close
from parts import Parts, bias_of, centred, deviation, exact, weight_of
from toys import toy_model, toy_pairs

from circuitbook.circuits import batches
from circuitbook.heads import path_patching
from circuitbook.heads.ablation import ablate
from circuitbook.heads.names import all_heads
from circuitbook.heads.passes import first_pass
from circuitbook.heads.path_patching import path_patch
from circuitbook.heads.swaps import metric_of, swap_heads
from circuitbook.model.architectures import network_of

SIZE = dict(layers=3, heads=2, d_model=16)
E_HEAD = 8  # of the toys that are swapped


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    network, model = toy_model(tmp_path_factory.mktemp("toy"), **SIZE)
    return exact(network), model, toy_pairs()


@contextlib.contextmanager
def hooked(hooks):
    handles = [
        module.register_forward_pre_hook(f) if pre else module.register_forward_hook(f)
        for module, pre, f in hooks
    ]
    yield
    for handle in handles:
        handle.remove()


PROJECTIONS = ("query_key_value", "c_attn", "q_proj", "k_proj", "v_proj", "q_norm", "k_norm")


def projection(parts, layer, head, kind):
    """The module that makes a head's q, k or v, and where in its output they are."""
    if parts.joint and kind != "v":  # the norm over those of all heads
        return f"{kind}_norm", parts.place(head)
    i, e = "qkv".index(kind), parts.d_head
    module, begin = {
        "gpt_neox": ("query_key_value", 3 * head + i),
        "gpt2": ("c_attn", i * parts.n_heads + head),
    }.get(parts.config.model_type, (f"{kind}_proj", head))
    return module, slice(begin * e, (begin + 1) * e)


class ThreePasses:
    """Path patching of one prompt as it is written down: whole prompts, plain transformers, one
    sender at a time."""

    def __init__(self, network, pairs, i):
        self.network, self.parts, self.pairs = network, Parts(network), pairs.subset([i])
        self.stop = int(pairs.end[i]) + 1
        self.clean, self.corrupted = (
            self.pairs.clean[:, : self.stop],
            self.pairs.corrupted[:, : self.stop],
        )
        (self.z, _), (self.z_bad, self.mlp_bad) = (
            self.record(self.clean),
            self.record(self.corrupted),
        )

    def record(self, tokens):
        z, mlp = {}, {}
        hooks = [
            (out, True, lambda m, x, layer=layer: z.__setitem__(layer, x[0].clone()))
            for layer, out in enumerate(self.parts.output)
        ]
        hooks += [
            (block, False, lambda m, x, y, layer=layer: mlp.__setitem__(layer, y.clone()))
            for layer, block in enumerate(self.parts.mlp)
        ]
        with hooked(hooks), torch.no_grad():
            self.network(tokens)
        return z, mlp

    def at(self, name):
        keep = torch.zeros(self.stop, dtype=torch.bool)
        keep[slice(None) if name is None else int(self.pairs.positions[name][0])] = True
        return keep[None, :, None]

    def patched(self, sender, receivers, sender_at, receiver_at):
        """(metric, attention patterns of pass 3 per layer)"""
        kind, own_layer, head = sender
        where, read = self.at(sender_at), {}

        def hold(layer):
            written = self.parts.of_heads(layer, self.z[layer])
            if kind == "head" and layer == own_layer:
                bad = self.parts.of_heads(layer, self.z_bad[layer])[head]
                written[head] = torch.where(where, bad, written[head])
            return sum(written.values()) + self.parts.output_bias(layer)

        hooks = [
            (self.parts.adds(layer), False, lambda m, x, y, layer=layer: hold(layer))
            for layer in range(len(self.parts.blocks))
        ]
        if kind == "mlp":
            hooks.append(
                (
                    self.parts.mlp[own_layer],
                    False,
                    lambda m, x, y: torch.where(where, self.mlp_bad[own_layer], y),
                )
            )
        for layer, attention in enumerate(self.parts.attention):
            for name in PROJECTIONS:
                if hasattr(attention, name):
                    hooks.append(
                        (
                            getattr(attention, name),
                            False,
                            lambda m, x, y, at=(name, layer): read.__setitem__(at, y.clone()),
                        )
                    )
        hooks += [
            (block, True, lambda m, x, layer=layer: read.__setitem__(("mlp", layer), x[0].clone()))
            for layer, block in enumerate(self.parts.mlp)
        ]
        with hooked(hooks), torch.no_grad():
            logits = self.network(self.clean).logits[:, -1]
        if receivers == ["logits"]:
            return self.pairs.metric(logits)[0], None

        put, hooks = self.at(receiver_at), []
        for name in receivers:
            layer = int(name[1])
            if name[0] == "m":
                hooks.append(
                    (
                        self.parts.mlp[layer],
                        True,
                        lambda m, x, layer=layer: (torch.where(put, read["mlp", layer], x[0]),),
                    )
                )
            else:
                module, part = projection(self.parts, layer, int(name[4]), name[6])

                def swap(m, x, y, at=(module, layer), part=part):
                    y = y.clone()
                    y[..., part] = torch.where(put, read[at][..., part], y[..., part])
                    return y

                hooks.append((getattr(self.parts.attention[layer], module), False, swap))
        with hooked(hooks), torch.no_grad():
            logits = self.network(self.clean).logits[:, -1]
            before = self.network.config._attn_implementation
            self.network.set_attn_implementation(
                "eager"
            )  # it tells its patterns, but takes softmax in float32
            patterns = self.network(self.clean, output_attentions=True).attentions
            self.network.set_attn_implementation(before)
        return self.pairs.metric(logits)[0], patterns


SENDERS = [
    ("head", 0, 0),
    ("head", 0, 1),
    ("mlp", 0, 0),
    ("head", 1, 1),
    ("mlp", 1, 0),
    ("head", 2, 0),
]
NAMES = ["a0.h0", "a0.h1", "m0", "a1.h1", "m1", "a2.h0"]


@pytest.mark.parametrize(
    "receivers", [["logits"], ["a2.h0<q>"], ["a1.h0<k>", "a2.h1<v>", "m2"], ["m1"], ["a0.h0<q>"]]
)
@pytest.mark.parametrize(
    "sender_at, receiver_at", [(None, None), ("END", "END"), ("END", None), (None, "END")]
)
def test_path_patching_is_the_three_passes(toy, receivers, sender_at, receiver_at):
    network, model, pairs = toy
    watch = [] if receivers == ["logits"] else [(1, 0), (2, 1)]
    got = path_patch(
        model,
        pairs,
        NAMES,
        receivers,
        sender_at=sender_at,
        receiver_at=receiver_at,
        watch=watch,
        places=("END",) if watch else (),
    )
    assert got.senders == tuple(NAMES)
    moved, metrics = 0, torch.zeros(len(SENDERS), len(pairs), dtype=torch.float64)
    for i in range(len(pairs)):
        twin = ThreePasses(network, pairs, i)
        clean = pairs.subset([i]).metric(network(twin.clean).logits[:, -1])[0]
        for k, sender in enumerate(SENDERS):
            metric, patterns = twin.patched(sender, receivers, sender_at, receiver_at)
            metrics[k, i] = metric
            moved += abs(float(metric - clean)) > 1e-6
            for w, (layer, head) in enumerate(watch):
                seen = patterns[layer][0, head, -1, -1]  # of a softmax in float32
                assert_close(
                    got.attention[k, w, 0, i], seen, rounds=10, dtype=torch.float32, size=1
                )
    assert_close(got.metric, metrics, rounds=100)
    assert (
        moved > 0 if receivers != ["a0.h0<q>"] else moved == 0
    )  # nothing lies before layer 0 but the embedding


def test_chunks_change_nothing(toy):
    _, model, pairs = toy
    whole = path_patch(model, pairs, NAMES, ["a2.h0<q>"], watch=[(2, 0)], places=("END",))
    pieces = path_patch(
        model, pairs, NAMES, ["a2.h0<q>"], watch=[(2, 0)], places=("END",), memory=150_000
    )
    assert_close(pieces.metric, whole.metric, rounds=100)
    assert_close(pieces.attention, whole.attention, rounds=100)


@pytest.mark.parametrize("receivers", [["logits"], ["a2.h0<q>", "m1"]])
@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])  # apart, and two heads' keys shared
def test_senders_in_pieces_change_nothing(architecture, receivers, tmp_path, monkeypatch):
    _, model = toy_model(tmp_path, architecture=architecture, layers=3, heads=4, d_model=16)
    pairs, senders, runs = toy_pairs(), ["m0", *all_heads(model), "m1"], []

    def counted(network, part, *rest):
        runs.append(len(part))
        return first_pass(network, part, *rest)

    pieces = []

    def in_pieces(model, clean, group, n_senders, *rest):
        pieces.append(n_senders)
        return (slice(i, i + 3) for i in range(0, n_senders, 3))

    whole = path_patch(model, pairs, senders, receivers)
    assert whole.metric.std(0).min() > 1e-3
    monkeypatch.setattr(path_patching, "first_pass", counted)
    monkeypatch.setattr(path_patching, "_senders_at_once", in_pieces)
    assert_close(path_patch(model, pairs, senders, receivers).metric, whole.metric, rounds=100)
    assert sum(runs) == len(pairs) and max(pieces) > 3  # clean and corrupted: once for all senders
    backwards = path_patch(model, pairs, senders[::-1], receivers)
    assert_close(backwards.metric.flip(0), whole.metric, rounds=100)


@pytest.mark.parametrize("receivers", [["logits"], ["a2.h0<q>"]])
def test_padding_between_prompts_changes_nothing(toy, receivers, monkeypatch):
    _, model, pairs = toy
    apart = [path_patch(model, pairs.subset([i]), NAMES, receivers).metric for i in range(4)]
    for padding in (0, 10**6):
        for module in (path_patching, batches):
            monkeypatch.setattr(module, "PADDING", padding)
        got = path_patch(model, pairs, NAMES, receivers).metric
        assert_close(got, torch.cat(apart, 1), rounds=100)


def test_what_is_not_there_is_named(toy):
    _, model, pairs = toy
    for wrong, message in (
        (dict(senders=["a9.h0"], receivers=["logits"]), "sender 'a9.h0' is no head"),
        (dict(senders=["input"], receivers=["logits"]), "sender 'input'"),
        (dict(senders=["a0.h0"], receivers=["a1.h0"]), "receiver 'a1.h0' reads nothing"),
        (dict(senders=["a0.h0"], receivers=["logits", "m1"]), "'logits' must be the only receiver"),
        (dict(senders=[], receivers=["logits"]), "needs a sender and a receiver"),
        (
            dict(senders=["a0.h0"], receivers=["m1"], sender_at="S2"),
            "no position 'S2'; there are END",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            path_patch(model, pairs, **wrong)


def literal_logits(network, pairs, hooks):
    with hooked(hooks), torch.no_grad():
        logits = network(pairs.clean).logits
    return logits[torch.arange(len(pairs)), pairs.end]


@pytest.mark.parametrize("how", ["zero", "resample"])
def test_ablation_and_direct_effects(toy, how):
    network, model, pairs = toy
    gone = [(1, 0), (2, 1)]
    got = ablate(model, pairs, gone, how)
    parts = Parts(network)

    def z_of(tokens):
        kept = {}
        with (
            hooked(
                [
                    (out, True, lambda m, x, layer=layer: kept.__setitem__(layer, x[0].clone()))
                    for layer, out in enumerate(parts.output)
                ]
            ),
            torch.no_grad(),
        ):
            network(tokens)
        return kept

    clean_z, bad_z = z_of(pairs.clean), z_of(pairs.corrupted)

    now = {}

    def without(layer):
        written = parts.of_heads(layer, now[layer])
        for at, head in gone:
            if at == layer:
                bad = parts.of_heads(layer, bad_z[layer])[head]
                written[head] = 0 * bad if how == "zero" else bad
        return sum(written.values()) + parts.output_bias(layer)

    taken = [
        hook
        for layer, out in enumerate(parts.output)
        for hook in (
            (out, True, lambda m, x, layer=layer: now.__setitem__(layer, x[0])),
            (parts.adds(layer), False, lambda m, x, y, layer=layer: without(layer)),
        )
    ]
    after = literal_logits(network, pairs, taken)
    before = literal_logits(network, pairs, [])
    assert_close(got.after, pairs.measures(after)["logit_difference"], rounds=100)
    assert_close(got.before, pairs.measures(before)["logit_difference"], rounds=100)
    assert (got.after - got.before).abs().max() > 1e-3

    # a head's direct effect: take what it writes at END out of the last stream, with the last
    # norm's deviation held
    last = {}
    literal_logits(
        network, pairs, [(parts.norm_final, True, lambda m, x: last.__setitem__(0, x[0].clone()))]
    )
    b, norm = torch.arange(len(pairs)), parts.norm_final
    stream = last[0][b, pairs.end]
    held = deviation(stream, norm)

    def difference(x):
        normed = centred(x, norm) / held * weight_of(norm) + bias_of(norm)
        return pairs.measures(normed @ network.lm_head.weight.T)["logit_difference"]

    for layer, head in ((0, 1), (2, 1)):
        wrote = parts.of_heads(layer, clean_z[layer][b, pairs.end])[head]
        direct = difference(stream) - difference(stream - wrote)
        size = difference(stream).abs().max()
        assert_close(got.direct_before[layer, head], direct, rounds=100, size=size)
    shift = sum(got.direct_before[h] - got.direct_after[h] for h in gone)
    assert_close(got.compensation, got.after - got.before + shift, rounds=100)

    # who makes up for it: what later parts write more, taken out of the stream in the same way, and
    # the norm's own deviation
    kept = {}
    hooks = [
        (parts.mlp_adds(i), False, lambda m, x, y, i=i: kept.__setitem__(i, y))
        for i in range(len(parts.blocks))
    ]
    literal_logits(network, pairs, hooks)
    mlps_before = {i: y[b, pairs.end] for i, y in kept.items()}
    ends = (parts.norm_final, True, lambda m, x: last.__setitem__(1, x[0].clone()))
    literal_logits(network, pairs, [*hooks, *taken, ends])
    left = last[1][b, pairs.end]
    for i, y in kept.items():
        more = difference(stream + y[b, pairs.end] - mlps_before[i]) - difference(stream)
        assert_close(got.by_mlps[i], more, rounds=100, size=size)
    own = centred(left, norm) / deviation(left, norm) * weight_of(norm) + bias_of(norm)
    own = pairs.measures(own @ network.lm_head.weight.T)["logit_difference"]
    assert_close(got.by_norm, own - difference(left), rounds=100, size=size)
    parts_of_it = got.by_heads + got.by_mlps.sum(0) + got.by_norm
    assert_close(parts_of_it, got.compensation, rounds=100, size=size)
    for part in (got.by_heads, got.by_mlps, got.by_norm):
        assert part.abs().max() > 1e-3
    if how == "zero":
        assert float(got.direct_after[1, 0].abs().max()) == 0
    nobody = ablate(model, pairs, [], how)
    assert_close(nobody.after, nobody.before, rounds=100)
    for nothing in (nobody.compensation, nobody.by_heads, nobody.by_mlps, nobody.by_norm):
        assert_close(nothing, 0.0, rounds=100, size=nobody.before.abs().max())
    with pytest.raises(ValueError, match="cannot ablate by 'mean'"):
        ablate(model, pairs, gone, "mean")


def test_a_swap_moves_the_rows_and_columns_of_that_head_alone(toy, tmp_path):
    network, model, pairs = toy
    other, other_model = toy_model(tmp_path, seed=8, **SIZE)
    other = copy.deepcopy(other).double()
    heads = [(0, 1), (2, 0)]
    got = metric_of(swap_heads(network_of(model), network_of(other_model), heads), pairs)
    literal = copy.deepcopy(network)
    with torch.no_grad():
        for layer, head in heads:
            ours, theirs = (
                literal.gpt_neox.layers[layer].attention,
                other.gpt_neox.layers[layer].attention,
            )
            rows, columns = (
                slice(3 * head * E_HEAD, 3 * (head + 1) * E_HEAD),
                slice(head * E_HEAD, (head + 1) * E_HEAD),
            )
            ours.query_key_value.weight[rows] = theirs.query_key_value.weight[rows]
            ours.query_key_value.bias[rows] = theirs.query_key_value.bias[rows]
            ours.dense.weight[:, columns] = theirs.dense.weight[:, columns]
    before = pairs.metric(literal_logits(network, pairs, []))
    assert_close(got, pairs.metric(literal_logits(literal, pairs, [])), rounds=100)
    assert (got - before).abs().max() > 1e-3
    itself = swap_heads(network_of(model), network_of(model), all_heads(model))
    assert_close(metric_of(itself, pairs), metric_of(network_of(model), pairs), rounds=100)
    with pytest.raises(ValueError, match="head 5.0 cannot be swapped"):
        swap_heads(network_of(model), network_of(other_model), [(5, 0)])
