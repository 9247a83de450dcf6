"""Gradients by other rules equal a literal network that states each rule where it computes."""

import pytest
import torch
from closeness import assert_close
from literal import Literal
from parts import GEMMA, bias_of, capped, centred, deviation, weight_of
from toys import toy_model, toy_pairs

from circuitbook import attribute
from circuitbook.circuits.rules import RULES_OF, with_rules
from circuitbook.model.architectures import network_of
from circuitbook.model.network import last_stream

KINDS = (
    "gpt_neox",
    "gpt_neox sequential",
    "gpt2",
    "llama",
    "olmo clipped",
    "qwen3",
    "olmo2",
    *GEMMA,
)
ALL_AT_ONCE = dict(layers=2, heads=2, d_model=16)


class Times(torch.autograd.Function):
    """What it is given; the gradient by a factor."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factor, None


class FlatSoftmax(torch.autograd.Function):
    """softmax(x); back as through softmax(x / T), times T."""

    @staticmethod
    def forward(ctx, x, temperature):
        ctx.flat = (x / temperature).softmax(-1)
        return x.softmax(-1)

    @staticmethod
    def backward(ctx, gradient):
        inner = (gradient * ctx.flat).sum(-1, keepdim=True)
        return ctx.flat * (gradient - inner), None


class Slope(torch.autograd.Function):
    """An activation whose slope is its value over its input."""

    @staticmethod
    def forward(ctx, x, activation):
        value = activation(x)
        ctx.slope = value / (x + 1e-6 * torch.where(x >= 0, 1.0, -1.0))
        return value

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.slope, None


def held_norm(x, norm):
    if norm is None:
        return x
    return centred(x, norm) / deviation(x, norm).detach() * weight_of(norm) + bias_of(norm)


class ByRules(Literal):
    """`Literal` with the rules of one method; every edge carries a zero whose gradient is asked."""

    def __init__(self, network, method):
        super().__init__(network)
        self.gim, self.zeros = method == "gim", {}

    def mlp(self, layer, x):
        mlp, kind = self.parts.mlp[layer], self.parts.config.model_type
        act = mlp.act if kind in ("gpt_neox", "gpt2") else mlp.act_fn

        def activation(x):
            return act(x) if self.gim else Slope.apply(x, act)

        if kind == "gpt_neox":
            return mlp.dense_4h_to_h(activation(mlp.dense_h_to_4h(x)))
        if kind == "gpt2":
            return mlp.c_proj(activation(mlp.c_fc(x)))
        return mlp.down_proj(Times.apply(activation(mlp.gate_proj(x)) * mlp.up_proj(x), 0.5))

    def prepared(self, layer, q, k, v):
        parts, config = self.parts, self.parts.config
        if config.model_type in ("qwen3", "gemma3_text"):
            attention = parts.attention[layer]
            q, k = held_norm(q, attention.q_norm), held_norm(k, attention.k_norm)
            q, k = parts.rotated(layer, q, k)
        else:
            q, k, v = parts.prepared(layer, q, k, v)
        if self.gim:
            q, k, v = (Times.apply(x, f) for x, f in ((q, 0.25), (k, 0.25), (v, 0.5)))
        return q, k, v

    def projected(self, layer, head, kind, x):
        parts, x = self.parts, held_norm(x, self.parts.norm_attention[layer])
        weight, bias = parts.read(layer, head, kind)
        made = x @ weight.T + bias
        if not parts.joint or kind == "v":
            return made
        norm = getattr(parts.attention[layer], f"{kind}_norm")
        whole = getattr(parts.attention[layer], f"{kind}_proj").weight
        first = (head if kind == "q" else head // parts.group) * parts.d_head
        return made / deviation(x @ whole.T, norm).detach() * norm.weight[first:][: parts.d_head]

    def logits(self, embeddings):
        parts, written, bias = self.parts, {"input": embeddings}, 0

        def read(target):
            total = bias
            for source, value in written.items():
                zero = torch.zeros_like(value, requires_grad=True)
                self.zeros[f"{source}->{target}"] = zero
                total = total + value + zero
            return total

        for i in range(len(parts.blocks)):
            new = {}
            for h in range(parts.n_heads):
                qkv = []
                for kind in "qkv":
                    qkv.append(self.projected(i, h, kind, read(f"a{i}.h{h}<{kind}>")))
                q, k, v = self.prepared(i, *qkv)
                scores = parts.scores(q, k)
                scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), float("-inf"))
                pattern = FlatSoftmax.apply(scores, 2.0) if self.gim else scores.softmax(-1)
                new[f"a{i}.h{h}"] = pattern @ v @ parts.write(i, h).T
            if parts.behind:  # each its share of what is normed together
                norm = parts.adds(i)
                root = deviation(sum(new.values()), norm).detach()
                new = {name: value / root * weight_of(norm) for name, value in new.items()}
            if not parts.parallel:
                written |= new
                bias = bias + parts.output_bias(i)
            of_mlp = self.mlp(i, held_norm(read(f"m{i}"), parts.norm_mlp[i]))
            new[f"m{i}"] = held_norm(of_mlp, parts.mlp_adds(i)) if parts.behind else of_mlp
            written |= new
            if parts.parallel:
                bias = bias + parts.output_bias(i)
        logits = held_norm(read("logits"), parts.norm_final) @ parts.unembed.T
        return capped(logits, getattr(parts.config, "final_logit_softcapping", None))

    def scores(self, pairs):
        """{edge: mean over prompts}: the change of its source times the gradient, at clean."""
        total = {}
        for i in range(len(pairs)):
            before, after = (
                self.run(self.embed(tokens[i]))[0] for tokens in (pairs.clean, pairs.corrupted)
            )
            logits = self.logits(self.embed(pairs.clean[i]))[pairs.end[i]]
            loss = -pairs.subset([i]).metric(logits[None])[0]
            gradients = torch.autograd.grad(loss, list(self.zeros.values()))
            for name, gradient in zip(self.zeros, gradients, strict=True):
                source = name.split("->")[0]
                score = float(((after[source] - before[source]) * gradient).sum())
                total[name] = total.get(name, 0) + score / len(pairs)
        return total


@pytest.mark.parametrize("method", ["relp", "gim"])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_the_literal_rules(tmp_path, kind, method):
    size = ALL_AT_ONCE | ({"heads": 4} if kind in ("llama", "qwen3", "olmo2") else {})
    network, model = toy_model(tmp_path, architecture=kind, **size)
    pairs = toy_pairs()
    scores, plain = attribute(model, pairs, method=method), attribute(model, pairs, method="eap")
    literal = ByRules(network, method).scores(pairs)
    got = torch.tensor([float(scores.values[scores.graph.edge(name)]) for name in literal])
    want = torch.tensor(list(literal.values()))
    assert len(literal) == scores.graph.n_edges
    assert_close(got.double(), want.double(), rounds=100, size=want.abs().max())
    assert (scores.values - plain.values).abs().max() > 0.01 * plain.values.abs().max()


@pytest.mark.parametrize("method", ["relp", "gim"])
def test_nothing_changes_on_the_way_forward(tmp_path, method):
    _, model = toy_model(tmp_path, architecture="qwen3", layers=2, heads=4)
    network, tokens = network_of(model), toy_pairs().clean[:, None]
    other = with_rules(network, RULES_OF[method])
    x = network.embed(tokens)
    assert_close(
        other.logits(last_stream(other, x)), network.logits(last_stream(network, x)), rounds=100
    )


def test_batches_and_prefixes_change_nothing(tmp_path):
    _, model = toy_model(tmp_path, layers=2)
    pairs = toy_pairs()
    whole = attribute(model, pairs, method="gim", per_prompt=True, per_position=True)
    small = attribute(model, pairs, method="gim", memory=200_000)
    assert_close(small.values, whole.values, rounds=100)
    assert_close(whole.per_prompt.mean(0), whole.values, rounds=100)
    assert_close(whole.per_position.sum(0), whole.values, rounds=100)
    assert whole.points == 1 and "gim," in repr(whole)
