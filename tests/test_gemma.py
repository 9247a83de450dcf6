"""What only Gemma 2 and 3 have: caps of logits and attention scores, norms that are computed in a
wider type, embeddings that are scaled, a text model inside one of images."""

import re
from dataclasses import replace

import pytest
import test_ablations
import torch
from closeness import assert_close
from conftest import random_network, save_checkpoint, save_tokenizer
from literal import Literal
from test_circuits import random_circuit
from toys import toy_model, toy_pairs
from transformers import Gemma3Config, Gemma3ForCausalLM, Gemma3ForConditionalGeneration

from circuitbook import attribute
from circuitbook.circuits.corrupted import CorruptedRuns
from circuitbook.circuits.measures import measure_circuits
from circuitbook.circuits.spans import whole_prompts
from circuitbook.heads import ablation
from circuitbook.heads.copy_suppression import copy_suppression
from circuitbook.model.architectures import network_of
from circuitbook.model.graph import graph_of
from circuitbook.model.network import last_stream
from circuitbook.model.parts import CappedScale, SoftCap
from circuitbook.suites.finding import load_suite

KINDS = ("gemma2", "gemma3_text")
TOKENS = torch.randint(1, 15, (3, 9), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def capped(tmp_path_factory):
    return toy_model(tmp_path_factory.mktemp("capped"), architecture="gemma2")


# ------------------------------------------------------------------ caps


def test_a_cap_is_its_formula_and_its_slope_a_difference():
    x = torch.tensor([-50.0, -2.0, 0.0, 0.1, 7.0], dtype=torch.float64)
    cap = SoftCap(3.0)
    assert_close(cap(x), 3 * torch.tanh(x / 3), rounds=10)
    assert cap(x).abs().max() <= 3 and abs(float(cap(x)[3]) - 0.1) < 1e-4
    slope = (cap(x + 1e-6) - cap(x - 1e-6)) / 2e-6
    assert (slope - cap.slope(x)).abs().max() < 1e-8
    assert_close(CappedScale(0.5, cap) * x, cap(0.5 * x), rounds=10)


def test_both_caps_change_what_the_model_says(capped):
    """And the model's own logits have them."""
    network, model = capped
    net = network_of(model)
    assert net.cap == SoftCap(6.0) and net.scale == CappedScale(6**-0.5, SoftCap(3.0))
    assert model.shape.capped and model.shape.context == 32
    logits = {}
    for name, one in (
        ("own", net),
        ("no cap of logits", replace(net, cap=None)),
        ("no cap of scores", replace(net, scale=6**-0.5)),
    ):
        logits[name] = one.logits(last_stream(one, one.embed(TOKENS)[:, None])[:, 0])
    assert_close(logits["own"], network(TOKENS).logits, rounds=100)
    assert_close(model.logits(TOKENS), network(TOKENS).logits, rounds=100)
    assert (logits["own"] - logits["no cap of scores"]).abs().max() > 0.01
    assert logits["own"].abs().max() < 6 < logits["no cap of logits"].abs().max()
    assert_close(6 * torch.tanh(logits["no cap of logits"] / 6), logits["own"], rounds=10)


@pytest.mark.filterwarnings("ignore:toy in toy")
def test_the_divergence_and_its_slopes_heed_the_cap(capped, monkeypatch):
    test_ablations.test_the_divergence_is_that_of_all_logits(capped)
    test_ablations.test_scores_of_the_divergence_are_its_slopes(capped)
    test_ablations.test_the_vocabulary_is_taken_in_parts(capped, monkeypatch)


def test_measures_of_a_circuit_heed_the_cap(capped):
    network, model = capped
    pairs, graph, literal = toy_pairs(), graph_of(model), Literal(network)
    circuit = random_circuit(graph, 0.5, 0)
    edges = set(circuit.edges)
    found = measure_circuits(model, pairs, [circuit.mask], CorruptedRuns(model, pairs))
    for i in range(len(pairs)):
        clean, corrupted = (literal.embed(tokens[i]) for tokens in (pairs.clean, pairs.corrupted))
        written = literal.run(corrupted)[0]

        def patch(source, target, value, written=written):
            return value if f"{source}->{target}" in edges else written[source]

        own, circuits = (literal.run(clean, *edit)[1][pairs.end[i]] for edit in ((), (patch,)))
        p, q = own.log_softmax(0), circuits.log_softmax(0)
        assert_close(found["kl"][0, i], (p.exp() * (p - q)).sum(), rounds=400, size=10.0)
    assert found["kl"].max() > 0.01


def test_what_adds_up_parts_of_a_logit_is_refused_by_name(tmp_path, monkeypatch):
    """Of a model with no norm behind its heads, which would be refused first."""
    _, model = toy_model(tmp_path, architecture="llama", heads=4)
    network = replace(network_of(model), cap=SoftCap(6.0))
    monkeypatch.setattr(ablation, "network_of", lambda model: network)
    for what, work in (
        ("the ablation of heads", lambda: ablation.ablate(model, toy_pairs(), [(0, 0)])),
        ("self-repair", lambda: ablation.repair_over_text(model, TOKENS)),
        ("copy suppression", lambda: copy_suppression(network, TOKENS, TOKENS[0] > 0)),
    ):
        with pytest.raises(ValueError, match=f"{what}: not for a model whose logits are capped"):
            work()


# ------------------------------------------------------------------ norms and embeddings


@pytest.mark.parametrize("kind", KINDS)
def test_norms_and_embeddings_are_rounded_as_transformers_does(kind, tmp_path):
    """In bfloat16: norms once, behind their weight; the root of d_model before it multiplies."""
    _, model = toy_model(
        tmp_path, dtype=torch.bfloat16, architecture=kind, d_model=24, heads=2, layers=2
    )
    body, network = model.hf_model.base_model, network_of(model)
    assert network.embed_scale == float(torch.tensor(24**0.5).bfloat16()) != 24**0.5
    assert torch.equal(network.embed(TOKENS), body.embed_tokens(TOKENS))
    x = torch.randn(50, 24, generator=torch.Generator().manual_seed(1)).bfloat16()
    for block, layer in zip(body.layers, network.layers, strict=True):
        for ours, theirs in (
            (layer.norm_attention, block.input_layernorm),
            (layer.norm_out, block.post_attention_layernorm),
            (layer.norm_mlp, block.pre_feedforward_layernorm),
            (layer.mlp.norm_out, block.post_feedforward_layernorm),
        ):
            assert_close(ours(x), theirs(x), rounds=1)
            assert (ours(x) == theirs(x)).double().mean() > 0.99
            rounded = replace(ours, weight=ours.weight.bfloat16())
            assert (rounded(x) == theirs(x)).double().mean() < 0.95  # which this is not
            held = replace(ours, frozen=True)
            assert_close(held(x), theirs(x), rounds=2)
            assert held(x).dtype == x.dtype
        if kind == "gemma3_text":
            z = x.view(50, 1, -1)[..., : model.shape.d_head]
            assert_close(layer.after["q"](z), block.self_attn.q_norm(z), rounds=1)
            assert layer.after["q"](z).dtype == x.dtype
    ours = network.logits(last_stream(network, network.embed(TOKENS)[:, None])[:, 0])
    assert_close(ours, model.logits(TOKENS), rounds=30)


# ------------------------------------------------------------------ a model of images and text


def test_the_language_model_of_one_of_images_is_read_when_saved_as_the_refusal_says(tmp_path):
    text = random_network(architecture="gemma3_text").config.to_dict()
    seen = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    seen |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    tokens = {"image_token_index": 14, "boi_token_index": 13, "eoi_token_index": 12}
    config = Gemma3Config(text_config=text, vision_config=seen, mm_tokens_per_image=4, **tokens)
    both = Gemma3ForConditionalGeneration(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in both.parameters():
            weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
        expected = both(TOKENS[:, :5] % 12).logits
    both.save_pretrained(tmp_path / "a" / "both" / "step1")
    save_tokenizer(tmp_path / "a" / "both" / "step1")
    with pytest.raises(ValueError, match="'gemma3', of images and text") as refused:
        load_suite(tmp_path / "a").checkpoint("both", 1).load()
    way = re.search(
        r"\(in transformers: (.*); text.save_pretrained\(folder\)\)", str(refused.value)
    )
    names = {"both": both, "Gemma3ForCausalLM": Gemma3ForCausalLM}
    exec(way[1], names)
    save_checkpoint(tmp_path / "b" / "text" / "step1", names["text"])
    model = load_suite(tmp_path / "b").checkpoint("text", 1).load()
    assert expected.std() > 0.1
    assert_close(model.logits(TOKENS[:, :5] % 12), expected, rounds=100)


def test_scores_between_positions_are_refused_where_scores_are_capped(capped):
    with pytest.raises(ValueError, match="between positions: not for .* attention scores are cap"):
        attribute(capped[1], toy_pairs(), spans=whole_prompts(toy_pairs()), between="gradient")
