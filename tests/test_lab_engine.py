"""The lab's engine in headless Chromium against the library: logits, switches, circuits, tokens;
and how long it takes.

A page opened from disk, as the lab's may be, with the weights' files beside it.
"""

import json
import random
import time

import numpy as np
import pytest
import torch

from circuitbook import get_task, load_suite
from circuitbook.circuits.attribution import attribute
from circuitbook.circuits.circuit import Circuit
from circuitbook.circuits.evaluation import evaluate_circuit
from circuitbook.circuits.search import find_circuit
from circuitbook.figures.lab_weights import key_of, shape_of, shipped, weights_files
from circuitbook.figures.scripts import SCRIPTS, joined
from circuitbook.heads.ablation import ablate
from circuitbook.mini.tokenizer import build_tokenizer
from circuitbook.model.architectures import network_of
from circuitbook.model.graph import graph_of
from circuitbook.model.network import run

pytestmark = pytest.mark.browser
TASKS = ("ioi", "gendered_pronoun", "greater_than", "sva")
EACH = 13  # prompts of each task: 52
SUITE = load_suite("mini")
MODELS = SUITE.models
STEPS = {model: SUITE.steps(model) for model in MODELS}


def at_three(model: str) -> list[int]:
    """First, middle and last checkpoint."""
    steps = STEPS[model]
    return [steps[0], steps[len(steps) // 2], steps[-1]]


@pytest.fixture
def engine(browser, tmp_path):
    """A page with the engine, and no weights yet."""
    folder = tmp_path
    (folder / "lab-engine.js").write_text(SCRIPTS["lab-engine.js"](), encoding="utf8")
    (folder / "page.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>x</title>'
        '<script src="lab-engine.js"></script><script>LabEngine();</script>'
        '<div id="view" role="group"><svg></svg></div>',
        encoding="utf8",
    )
    return Engine(browser, folder)


class Engine:
    def __init__(self, browser, folder):
        self.browser, self.folder = browser, folder
        self.browser.open((folder / "page.html").as_uri())

    def load(self, model: str, *steps: int) -> None:
        """Through script elements, as the lab loads them."""
        for name, text in weights_files(SUITE, {model: steps}):
            file = self.folder / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf8")
        for step in steps:
            key = key_of(model, step)
            loaded = self.browser.driver.execute_async_script(
                """
                const [key, shape, done] = arguments;
                const script = document.createElement("script");
                script.src = `lab/${key}.js`;
                script.onerror = () => done("not loaded");
                script.onload = () => {
                  const text = labWeights[key];
                  delete labWeights[key];
                  labEngine.answer({ what: "weights", key, shape, text });
                  done("loaded");
                };
                document.head.append(script);""",
                key,
                shape_of(SUITE.checkpoint(model, step).fetch()),
            )
            assert loaded == "loaded"

    def ask_all(self, messages: list[dict], pick: str) -> list:
        """Answers, of each what `pick` says of `answer` in JavaScript."""
        text = self.browser.run(
            f"return JSON.stringify(arguments[0].map(labEngine.answer).map(answer => {pick}))",
            messages,
        )
        return json.loads(text)


def prompts(model, each=EACH):
    return [get_task(task).prompts(model.tokenizer, each, seed=7) for task in TASKS]


def rows(pairs, which="clean"):
    """Token ids of each prompt, without padding."""
    return [
        row[: int(end) + 1].tolist()
        for row, end in zip(getattr(pairs, which), pairs.end, strict=True)
    ]


def looks(key, pairs, switches=None, **more):
    return [
        {"what": "look", "key": key, "tokens": own, "other": other, "switches": switches or {}}
        | more
        for own, other in zip(rows(pairs), rows(pairs, "corrupted"), strict=True)
    ]


LAST = "Array.from(answer.{}.logits)"


# ------------------------------------------------------------------ numbers


@pytest.mark.parametrize("model", MODELS)
def test_logits_are_the_librarys_on_every_model(engine, model):
    worst = 0.0
    for step in at_three(model):
        loaded = SUITE.checkpoint(model, step).load()
        engine.load(model, step)
        for pairs in prompts(loaded):
            asked = looks(key_of(model, step), pairs)
            for which, name in (("clean", "own"), ("corrupted", "second")):
                got = np.array(engine.ask_all(asked, LAST.format(name)))
                wanted = loaded.logits(getattr(pairs, which), pairs.end).numpy()
                worst = max(worst, float(np.abs(got - wanted).max()))
    print(f"{model}: logits differ by at most {worst:.1e}")
    assert worst < 1e-3


def test_attention_patterns_are_the_librarys(engine):
    model = SUITE.checkpoint("mini-s", 3906).load()
    engine.load("mini-s", 3906)
    pairs = get_task("ioi").prompts(model.tokenizer, 3)
    answers = engine.ask_all(
        looks("mini-s-3906", pairs), "answer.own.patterns.map(l => l.map(p => Array.from(p)))"
    )
    for tokens, got in zip(rows(pairs), answers, strict=True):
        tokens = torch.tensor([tokens])
        model.hf_model.set_attn_implementation("eager")
        wanted = model.hf_model(tokens, output_attentions=True).attentions
        shaped = np.array(got).reshape(len(wanted), -1, tokens.shape[1], tokens.shape[1])
        np.testing.assert_allclose(shaped, torch.cat(wanted).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize(("how", "engines"), [("zero", "zero"), ("resample", "other")])
@pytest.mark.parametrize("model", ["mini-xs", "mini-s", "mini-l"])
def test_heads_taken_out_are_as_in_ablation(engine, model, how, engines):
    loaded, key = SUITE.checkpoint(model, 3906).load(), key_of(model, 3906)
    engine.load(model, 3906)
    pairs = get_task("ioi").prompts(loaded.tokenizer, 20)
    graph = graph_of(loaded)
    for heads in ([(1, 0)], [(0, 1), (1, 2), (1, 3)], [(graph.n_layers - 1, h) for h in range(4)]):
        switches = {f"a{layer}.h{head}": engines for layer, head in heads}
        asked = looks(key, pairs, switches)
        for message, right, wrong in zip(asked, *answers_of(pairs), strict=True):
            message |= {"what": "curve", "answers": {"right": right, "wrong": wrong}}
        got = np.array(engine.ask_all(asked, "[answer.own, answer.switched]"))
        wanted = ablate(loaded, pairs, heads, how)
        assert np.abs(wanted.before.numpy() - wanted.after.numpy()).mean() > 0.01
        print(f"{key} {heads} {how}: {np.abs(got[:, 1] - wanted.after.numpy()).max():.1e}")
        np.testing.assert_allclose(got[:, 0], wanted.before, atol=1e-3)
        np.testing.assert_allclose(got[:, 1], wanted.after, atol=1e-3)


def answers_of(pairs):
    """Ids of the right and of the wrong answers of each prompt."""
    return tuple(
        [
            answers[signs * sign > 0].tolist()
            for answers, signs in zip(pairs.answers, pairs.signs, strict=True)
        ]
        for sign in (1, -1)
    )


def test_mlps_means_and_frozen_patterns_are_as_hooks_make_them(engine):
    """Hooks on transformers' own modules: what they give out is replaced."""
    model = SUITE.checkpoint("mini-s", 3906).load()
    engine.load("mini-s", 3906)
    pairs = get_task("ioi").prompts(model.tokenizer, 6)
    network = network_of(model)
    reference = rows(get_task("sva").prompts(model.tokenizer, 5))
    written = [list(run(network, network.embed(torch.tensor([row]))[:, None])) for row in reference]
    mean_z = torch.cat([done[1].z[0, 0, :, 2] for done in written]).mean(0)
    mean_mlp = torch.cat([done[1].mlp_out[0, 0] for done in written]).mean(0)
    layers = model.hf_model.base_model.layers
    for tokens, other, message in zip(
        rows(pairs),
        rows(pairs, "corrupted"),
        looks("mini-s-3906", pairs, reference=reference),
        strict=True,
    ):
        tokens, other = torch.tensor([tokens]), torch.tensor([other])
        of_other = list(run(network, network.embed(other)[:, None]))

        def swap_z(value):
            def hook(module, inputs):
                z = inputs[0].clone()
                z[..., 48:72] = value
                return (z,)

            return layers[1].attention.dense.register_forward_pre_hook(hook)

        def swap_mlp(value):
            return layers[1].mlp.register_forward_hook(
                lambda module, inputs, out: value.expand_as(out)
            )

        for switches, hooks in (
            ({"a1.h2": "mean"}, [(swap_z, mean_z)]),
            ({"m1": "mean"}, [(swap_mlp, mean_mlp)]),
            ({"m1": "zero"}, [(swap_mlp, torch.zeros(96))]),
            ({"m1": "other", "a1.h2": "zero"}, [(swap_mlp, of_other[1].mlp_out[0]), (swap_z, 0.0)]),
        ):
            handles = [make(value) for make, value in hooks]
            wanted = model.logits(tokens)[0, -1]
            for handle in handles:
                handle.remove()
            (got,) = engine.ask_all([message | {"switches": switches}], LAST.format("switched"))
            np.testing.assert_allclose(got, wanted, atol=1e-3)
            assert (wanted - model.logits(tokens)[0, -1]).abs().max() > 0.01


def test_a_frozen_head_attends_as_before(engine):
    """By the library's own pieces: a head whose pattern is kept while an earlier one is off."""
    model = SUITE.checkpoint("mini-s", 3906).load()
    engine.load("mini-s", 3906)
    network = network_of(model)
    pairs = get_task("ioi").prompts(model.tokenizer, 5)
    moved = []
    for message in looks("mini-s-3906", pairs, {"a0.h1": "zero", "a2.h3": "frozen", "m0": "zero"}):
        tokens = torch.tensor([message["tokens"]])
        own = list(run(network, network.embed(tokens)[:, None]))
        kept = pattern_of(own[2], network.scale)[3]
        off = with_off(network, tokens, None)
        moved.append((pattern_of(off[2], network.scale)[3] - kept).abs().max())
        z = off[2].z.clone()
        z[0, 0, :, 3] = kept @ off[2].inputs["v"][0, 0, :, 3]
        wanted = network.logits(with_off(network, tokens, z)[-1].out[0, 0, -1])
        (got,) = engine.ask_all([message], LAST.format("switched"))
        np.testing.assert_allclose(got, wanted, atol=1e-3)
    assert max(moved) > 0.05


def with_off(network, tokens, z2):
    """Head 0.1 and MLP 0 write nothing; the heads of layer 2 write z2, if it is given."""
    x, done = network.embed(tokens)[:, None], []
    for i, _ in enumerate(network.layers):

        def edit(what, layer, tensor):
            if (what, layer) == ("z", 0):
                tensor = tensor.clone()
                tensor[..., 1, :] = 0
            if (what, layer) == ("z", 2) and z2 is not None:
                return z2
            return tensor

        (layer,) = run(network, x, edit=edit, first=i, stop=i + 1)
        done.append(layer)
        x = layer.out - (layer.mlp_out if i == 0 else 0)
    return done


def pattern_of(layer, scale):
    """[head, query, key] of a one-prompt run."""
    scores = torch.einsum("qhe,khe->hqk", layer.q[0, 0], layer.k[0, 0]) * scale
    later = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -torch.inf).softmax(-1)


# ------------------------------------------------------------------ direct effects


@pytest.mark.parametrize("task", ["ioi", "greater_than"])
def test_direct_effects_are_the_librarys(engine, task):
    """On the answers, as `ablate` has them before anything is taken out."""
    model = SUITE.checkpoint("mini-s", 3906).load()
    engine.load("mini-s", 3906)
    pairs = get_task(task).prompts(model.tokenizer, 8)
    wanted = ablate(model, pairs, [(0, 1)], "zero").direct_before
    answers = list(zip(*answers_of(pairs), strict=True))
    for layer, head in [(0, 2), (1, 2), (2, 1), (2, 2)]:
        asked = looks("mini-s-3906", pairs, nodes=[f"a{layer}.h{head}"], what="writes")
        got = np.array(engine.ask_all(asked, "Array.from(answer)"))
        on_answers = [
            row[right].mean() - row[wrong].mean()
            for row, (right, wrong) in zip(got, answers, strict=True)
        ]
        np.testing.assert_allclose(on_answers, wanted[layer, head], atol=1e-4)
        assert np.abs(on_answers).max() > 0.01


def test_what_a_node_writes_is_as_hooks_in_float64_see_it(engine):
    """Of every word: each module's own output, through the final norm at the run's deviation. All
    nodes and biases together are the logits."""
    model = SUITE.checkpoint("mini-s", 3906).load(dtype=torch.float64)
    engine.load("mini-s", 3906)
    pairs = get_task("ioi").prompts(model.tokenizer, 4)
    body, unembed = model.hf_model.base_model, model.hf_model.get_output_embeddings().weight
    norm, n_heads = body.final_layer_norm, model.hf_model.config.num_attention_heads
    size = unembed.shape[1] // n_heads
    seen = {}

    def keep(name, given=False):
        def hook(module, inputs, out):
            seen[name] = (inputs[0] if given else out)[0, -1]

        return hook

    handles = [
        body.embed_in.register_forward_hook(keep("input")),
        norm.register_forward_hook(keep("last", given=True)),
    ]
    for i, layer in enumerate(body.layers):
        handles.append(layer.attention.dense.register_forward_hook(keep(f"z{i}", given=True)))
        handles.append(layer.mlp.register_forward_hook(keep(f"m{i}")))
    for message in looks("mini-s-3906", pairs):
        logits = model.logits(torch.tensor([message["tokens"]]))[0, -1]
        written = {name: value for name, value in seen.items() if name[0] in "im"}
        for i, layer in enumerate(body.layers):
            z, weight = seen[f"z{i}"], layer.attention.dense.weight
            for head in range(n_heads):
                part = slice(head * size, (head + 1) * size)
                written[f"a{i}.h{head}"] = weight[:, part] @ z[part]
        sd = (seen["last"].var(unbiased=False) + norm.eps).sqrt()

        def effect(vector, sd=sd):
            on_words = unembed @ ((vector - vector.mean()) / sd * norm.weight)
            return (on_words - on_words.mean()).detach().numpy()

        nodes = list(written)
        asked = [message | {"what": "writes", "nodes": [node]} for node in nodes]
        asked.append(message | {"what": "writes", "nodes": ["a1.h0", "m2"]})
        got = np.array(engine.ask_all(asked, "Array.from(answer)"))
        wanted = np.array([effect(written[node]) for node in nodes])
        assert (np.abs(wanted).max(1) > 0.01).all()
        np.testing.assert_allclose(got[:-1], wanted, atol=1e-5)
        np.testing.assert_allclose(got[-1], effect(written["a1.h0"] + written["m2"]), atol=1e-5)
        biases = sum(layer.attention.dense.bias for layer in body.layers)
        of_norm = (unembed @ norm.bias).detach().numpy()
        whole = got[:-1].sum(0) + effect(biases) + of_norm - of_norm.mean()
        np.testing.assert_allclose(whole, (logits - logits.mean()).detach().numpy(), atol=1e-4)
    for handle in handles:
        handle.remove()


# ------------------------------------------------------------------ circuits


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", ["mini-xs", "mini-s", "mini-m", "mini-l"])
def test_circuits_are_as_evaluated(engine, model, task):
    """Random ones of several sizes, one that a search found, all edges and none."""
    loaded, key = SUITE.checkpoint(model, 3906).load(), key_of(model, 3906)
    engine.load(model, 3906)
    graph = graph_of(loaded)
    pairs = get_task(task).prompts(loaded.tokenizer, 4, seed=3)
    rng = np.random.default_rng(5)
    masks = [
        graph.mask & (rng.random(graph.mask.shape) < share) for share in (0.05, 0.3, 0.7, 0.95)
    ]
    found = find_circuit(loaded, pairs, attribute(loaded, pairs), threshold=0.5)
    masks += [graph.mask, graph.mask & False, found.mask]
    seen = []
    for mask in masks:
        wanted = evaluate_circuit(loaded, pairs, Circuit(graph, mask)).numpy()
        asked = [
            {"what": "circuit", "key": key, "tokens": own, "other": other,
             "edges": np.argwhere(mask).tolist()}
            for own, other in zip(rows(pairs), rows(pairs, "corrupted"), strict=True)
        ]  # fmt: skip
        logits = torch.tensor(engine.ask_all(asked, "Array.from(answer)"))
        metric = pairs.metric(logits).numpy()
        print(f"{key} {task}, {mask.sum()} edges: {np.abs(metric - wanted).max():.1e}")
        np.testing.assert_allclose(metric, wanted, atol=1e-3)
        seen.append(wanted)
    assert np.ptp(seen, axis=0).max() > 0.1


# ------------------------------------------------------------------ tokens


def test_tokens_are_the_tokenizers(browser, tmp_path):
    tokenizer = build_tokenizer()
    words = [word for word, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    special = tokenizer.all_special_tokens
    script = joined("tokenizer.js").replace(
        "})();", "globalThis.ids = (words, special, texts) => texts.map(text => "
        "tokensOf(tokenizerOf(words, special), text).map(({ id }) => id));\n})();"
    )  # fmt: skip
    (tmp_path / "page.html").write_text(
        f'<!doctype html><meta charset="utf-8"><div role="group" id="x"><svg></svg></div>'
        f"<script>{script}</script>",
        encoding="utf8",
    )
    rng = random.Random(3)
    pieces = [*words, " ", "  ", "\n", "'", "7", " 7", "٣", "é", "Ünx", "…", "\u00a0", "\u0085",
              "\ufeff", "\u2028", "isn't", "x", "<", "😀",
              "<|endoftext", "_", "²", "½"]  # fmt: skip
    texts = ["".join(rng.choices(pieces, k=rng.randrange(1, 9))) for _ in range(3000)]
    for task in TASKS:
        pairs = get_task(task).prompts(tokenizer, 50)
        texts += [tokenizer.decode(row) for row in rows(pairs)]
        assert [tokenizer(text)["input_ids"] for text in texts[-len(pairs) :]] == rows(pairs)
    browser.open((tmp_path / "page.html").as_uri())
    got = browser.run("return ids(...arguments)", words, special, texts)
    wanted = tokenizer(texts)["input_ids"]
    for text, mine, theirs in zip(texts, got, wanted, strict=True):
        assert mine == theirs, repr(text)
    assert browser.complaints() == []


# ------------------------------------------------------------------ weights, speed


def test_what_lies_beside_the_site_fits(tmp_path):
    chosen = shipped(SUITE)
    assert all(chosen[model] == list(STEPS[model]) for model in ("mini-xs", "mini-s"))
    assert set(chosen) == set(MODELS) and all(3906 in steps for steps in chosen.values())
    size = sum(len(text) for _, text in weights_files(SUITE))
    print(f"weights beside the site: {size / 1e6:.1f} MB")
    assert size <= 30e6
    assert shipped(SUITE, 7_000_000) == {
        "mini-xs": [3906], "mini-s": [3906], "mini-m": [3906], "mini-l": [3906]
    }  # fmt: skip
    assert shipped(SUITE, 0) == {}


def test_it_is_fast_enough_to_type_along(engine):
    """Best of a few: the machine has other things to do, too."""
    sentence = "Then, Mary and John went to the store. John gave a ring to"
    tokens = build_tokenizer()(sentence)["input_ids"]
    engine.load("mini-l", 3906)
    engine.load("mini-s", *STEPS["mini-s"])
    script = """
        const [keys, tokens] = arguments;
        const times = Array.from({ length: 7 }, () => {
          const begun = performance.now();
          for (const key of keys) {
            labEngine.answer({ what: "look", key, tokens, other: null, switches: {} });
          }
          return performance.now() - begun;
        });
        return Math.min(...times);"""
    once = engine.browser.run(script, ["mini-l-3906"], tokens)
    all_of_s = engine.browser.run(
        script, [key_of("mini-s", step) for step in STEPS["mini-s"]], tokens
    )
    begun = time.perf_counter()
    engine.load("mini-s", *STEPS["mini-s"])
    loading = time.perf_counter() - begun
    print(
        f"{len(tokens)} tokens: mini-l {once:.0f} ms; 13 checkpoints of mini-s {all_of_s:.0f} ms "
        f"(loaded in {1000 * loading:.0f} ms)"
    )
    assert once < 100 and all_of_s < 1000
