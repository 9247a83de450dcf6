"""AtP* against its definition: patterns with the patched query or key by hand, layers cut out."""

import numpy as np
import pytest
import torch
from closeness import assert_close
from conftest import random_network
from edge_gradients import assert_same_scores, edge_gradients, unchanged, written_on_both
from literal import Literal
from test_architectures import OF_METHODS, size_of
from toys import toy_model, toy_pairs

from circuitbook import attribute, get_task, load_suite
from circuitbook.circuits import atp
from circuitbook.heads.edge_patching import patch_edges
from circuitbook.model.memory import plan_memory


class ByPatterns(Literal):
    """`Literal` that scores edges as AtP* does. An edge into a query or key is worth what its head
    writes with the new pattern less what it wrote, times the gradient at the edges out of it."""

    def stream(self, written, layer):
        """What the heads of a layer read."""
        own = [value for name, value in written.items() if name == "input" or self.at(name) < layer]
        return sum(own) + sum(self.parts.output_bias(i) for i in range(layer))

    @staticmethod
    def at(name):
        return int(name[1:].split(".")[0])

    def through_pattern(self, layer, head, kind, written, change):
        """{head: what it writes with the query or key of the patched edge, less what it wrote}; the
        values and the other side stay. All heads of the layer where they share a norm behind them,
        which is linear here, as all that follows the pattern."""
        x, parts = self.stream(written, layer), self.parts

        def gives(head, **reads):
            q, k, v = (parts.projected(layer, head, name, reads.get(name, x)) for name in "qkv")
            q, k, v = parts.prepared(layer, q, k, v)
            later = torch.ones(len(x), len(x)).triu(1).bool()
            pattern = parts.scores(q, k).masked_fill(later, -torch.inf).softmax(-1)
            return pattern @ v @ parts.write(layer, head).T

        given = {h: gives(h) for h in range(parts.n_heads)}
        moved = {h: torch.zeros_like(x) for h in given}
        moved[head] = gives(head, **{kind: x + change}) - given[head]
        _, changes = torch.autograd.functional.jvp(
            lambda *z: tuple(parts.heads_write(layer, dict(zip(given, z, strict=True))).values()),
            tuple(given.values()),
            tuple(moved.values()),
        )
        return dict(zip(given, changes, strict=True))

    def changes(self, pairs, i, names):
        """{edge: {writer: change [pos, d]}}: of its source, or of what heads write."""
        clean, corrupted = written_on_both(self, pairs, i)
        out = {}
        for name in names:
            source, target = name.split("->")
            change = corrupted[source] - clean[source]
            out[name] = {source: change}
            if target[-3:] in ("<q>", "<k>"):
                layer, head = map(int, target[1:-3].split(".h"))
                of_heads = self.through_pattern(layer, head, target[-2], clean, change)
                out[name] = {f"a{layer}.h{h}": moved for h, moved in of_heads.items()}
        return out

    def of_prompt(self, pairs, i, edit=unchanged, changes=None):
        """{edge: score} of one prompt, with gradients under an edit."""
        gradients = edge_gradients(self, pairs, i, self.embed(pairs.clean[i]), edit)
        at_output = {}
        for name, gradient in gradients.items():
            source = name.split("->")[0]
            at_output[source] = at_output.get(source, 0) + gradient
        changes = changes or self.changes(pairs, i, gradients)
        scores = {}
        for name, gradient in gradients.items():
            target = name.split("->")[1]
            if target[-3:] in ("<q>", "<k>"):
                parts = [(at_output[head], change) for head, change in changes[name].items()]
            else:
                parts = [(gradient, changes[name][source]) for source in changes[name]]
            scores[name] = float(sum((g * change).sum() for g, change in parts))
        return scores

    def without_layer(self, pairs, i, dropped, changes):
        """The same when no gradient comes back through what a layer writes."""

        def detached(source, target, written):
            own = source != "input" and self.at(source) == dropped
            return written.detach() if own else written

        return self.of_prompt(pairs, i, detached, changes)

    def mean(self, pairs, of_prompt):
        prompts = [of_prompt(i) for i in range(len(pairs))]
        return {name: float(np.mean([scores[name] for scores in prompts])) for name in prompts[0]}

    def graddrop(self, pairs, i):
        """Mean of |score| over the layers that are cut out, other than the reader's own."""
        names = edge_gradients(self, pairs, i, self.embed(pairs.clean[i]))
        changes = self.changes(pairs, i, names)
        layers = range(len(self.parts.blocks))
        dropped = [self.without_layer(pairs, i, layer, changes) for layer in layers]
        scores = {}
        for name in dropped[0]:
            target = name.split("->")[1]
            own = None if target == "logits" else self.at(target)
            others = [abs(one[name]) for layer, one in enumerate(dropped) if layer != own]
            scores[name] = float(np.mean(others))
        return scores


@pytest.mark.parametrize("kind", OF_METHODS)
def test_the_pattern_is_computed_anew(tmp_path, kind):
    network, model = toy_model(tmp_path, architecture=kind, **size_of(kind))
    pairs = toy_pairs()
    scores = attribute(model, pairs, method="eap-qk")
    literal = ByPatterns(network)
    theirs = literal.mean(pairs, lambda i: literal.of_prompt(pairs, i))
    assert_same_scores(scores, theirs)
    plain = attribute(model, pairs, method="eap").values
    other = (scores.values - plain).abs() > 1e-6 * plain.abs().max()
    into = torch.tensor([name[-3:] in ("<q>", "<k>") for name in scores.graph.destination_names])
    assert other[:, into].any() and not other[:, ~into].any() and scores.points == 1


@pytest.mark.parametrize("kind", ("gpt_neox", "gpt_neox sequential", "qwen3", "olmo2"))
def test_each_layer_is_cut_out_of_the_gradient(tmp_path, kind):
    size = size_of(kind, layers=3 if kind.startswith("gpt_neox") else 2)
    network, model = toy_model(tmp_path, architecture=kind, **size)
    pairs = toy_pairs().subset([0, 3])
    scores = attribute(model, pairs, method="atp*")
    literal = ByPatterns(network)
    theirs = literal.mean(pairs, lambda i: literal.graddrop(pairs, i))
    assert_same_scores(scores, theirs)
    assert (scores.values >= 0).all() and scores.points == size["layers"]
    into_logits = [scores.graph.edge(f"{name}->logits") for name in scores.graph.source_names]
    signed = attribute(model, pairs, method="eap", per_prompt=True).per_prompt.abs().mean(0)
    for edge in into_logits:  # which no layer stands in the way of
        assert_close(scores.values[edge], signed[edge], rounds=100, size=signed.abs().max())


def errors(model, pairs):
    """{method: mean absolute error at the edges into queries and keys, and at the others}."""
    patched, error = torch.from_numpy(patch_edges(model, pairs)), {}
    for method in ("eap", "eap-qk"):
        scores = attribute(model, pairs, method=method)
        names = scores.graph.destination_names
        into = torch.tensor([name[-3:] in ("<q>", "<k>") for name in names])
        off = (scores.values - patched).abs()
        error[method] = (float(off[:, into].mean()), float(off[:, ~into].mean()))
    return error


@pytest.mark.parametrize("size", [1, 4])
def test_what_is_behind_the_pattern_alone_is_linear(tmp_path, size):
    """One layer whose heads write next to nothing, so that the last norm is as good as linear: the
    fix gives what patching does, also where attention is saturated and the gradient knows nothing.
    """
    network = random_network(layers=1, heads=2)
    with torch.no_grad():
        attention = network.gpt_neox.layers[0].attention
        attention.query_key_value.weight.view(2, 3, 8, 16)[:, :2] *= size
        attention.dense.weight *= 1e-5
    _, model = toy_model(tmp_path, network=network)
    error = errors(model, toy_pairs())
    assert error["eap-qk"][0] < 1e-3 * error["eap"][0]


def test_in_trained_models_it_is_closer_to_patching():
    model = load_suite("mini").checkpoint("mini-s", 3906).load()
    error = errors(model, get_task("ioi").prompts(model.tokenizer, n=12))
    assert error["eap-qk"][0] < 0.6 * error["eap"][0]
    assert error["eap-qk"][1] == pytest.approx(error["eap"][1], rel=1e-4)


def test_for_small_changes_it_is_the_gradient(tmp_path):
    """All words are nearly the same one: softmax and norm are then linear."""
    network = random_network(layers=2, heads=2).double()
    with torch.no_grad():
        words = network.gpt_neox.embed_in.weight
        words[1:] = words[1] + 1e-5 * torch.randn(words[1:].shape, dtype=torch.float64)
    _, model = toy_model(tmp_path, network=network)
    fixed, plain = (attribute(model, toy_pairs(), method=m).values for m in ("eap-qk", "eap"))
    assert 0 < (fixed - plain).abs().max() < 1e-3 * plain.abs().max()


def test_half_precision_comes_close():
    checkpoint = load_suite("mini").checkpoint("mini-s", 3906)
    exact = checkpoint.load()
    pairs = get_task("ioi").prompts(exact.tokenizer, n=6)
    expected = attribute(exact, pairs, method="atp*").values
    got = attribute(checkpoint.load(dtype=torch.bfloat16), pairs, method="atp*").values
    assert got.dtype == torch.float32
    assert (got - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("method", ["eap-qk", "atp*"])
def test_memory_and_what_is_kept_do_not_matter(tmp_path, method, monkeypatch):
    _, model = toy_model(tmp_path, layers=3, heads=2)
    pairs = toy_pairs()
    whole = attribute(model, pairs, method=method, per_prompt=True)
    assert_close(whole.per_prompt.mean(0), whole.values, rounds=100)
    least = plan_memory(model.shape, torch.float64, 8, 8, device="cpu", method=method).one_prompt
    assert_close(
        attribute(model, pairs, method=method, memory=least).values, whole.values, rounds=100
    )
    monkeypatch.setattr(atp, "SOURCES", 3)
    assert_close(attribute(model, pairs, method=method).values, whole.values, rounds=100)
    with pytest.raises(ValueError, match="allows less; give more"):
        attribute(model, pairs.subset([0, 1]), method=method, memory=least // 2)
    with pytest.raises(ValueError, match="no scores per position"):
        attribute(model, pairs, method=method, per_position=True)


def test_one_layer_has_nothing_to_cut_out(tmp_path):
    _, model = toy_model(tmp_path, layers=1)
    with pytest.raises(ValueError, match='take "eap-qk"'):
        attribute(model, toy_pairs(), method="atp*")
