"""OLMo's own format (DataDecide's, and the first OLMo's) becomes what transformers reads.

The reference is the forward pass of that code, written out: its fused maps, its gate behind the
other half, its norms. (Beside the authors' package, ai2-olmo 0.6.0, the logits were the same to the
last bit when this was written.)
"""

import json

import pytest
import torch
import torch.nn.functional as F
from closeness import assert_close
from conftest import WORDS, save_tokenizer
from safetensors.torch import save_file
from toys import toy_pairs

from circuitbook import attribute
from circuitbook.model.config import read_config
from circuitbook.suites.finding import load_suite
from circuitbook.weights.asking import Retry

D, HEADS, LAYERS, RATIO, VOCAB = 12, 3, 2, 8, len(WORDS)

# As scripts/ladder.py of the authors has them, and config.json as their class saves it
SETTINGS = {
    "architectures": ["OLMoForCausalLM"],
    "model_type": "hf_olmo",
    "activation_type": "swiglu",
    "alibi": False,
    "attention_layer_norm": False,
    "bias_for_layer_norm": False,
    "block_group_size": 1,
    "block_type": "sequential",
    "clip_qkv": None,
    "d_model": D,
    "embedding_size": VOCAB,
    "eos_token_id": 0,
    "include_bias": False,
    "layer_norm_eps": 1e-6,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "max_sequence_length": 64,
    "mlp_hidden_size": None,
    "mlp_ratio": RATIO,
    "multi_query_attention": None,
    "n_heads": HEADS,
    "n_kv_heads": None,
    "n_layers": LAYERS,
    "norm_after": False,
    "pad_token_id": 1,
    "rope": True,
    "rope_full_precision": True,
    "scale_logits": False,
    "vocab_size": VOCAB - 1,
    "weight_tying": False,
}
FIRST_OLMO = {"layer_norm_type": "default", "layer_norm_with_affine": False, "clip_qkv": 0.8,
              "layer_norm_eps": 1e-5, "weight_tying": True}  # fmt: skip
GROUPED = {"n_kv_heads": 1}


def random_weights(settings: dict, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    kv = (settings["n_kv_heads"] or HEADS) * D // HEADS

    def random(*shape: int) -> torch.Tensor:
        noise = torch.randn(shape, generator=generator)
        return 0.6 * noise if len(shape) == 2 else 1 + 0.3 * noise

    weights = {"wte.weight": random(VOCAB, D)}
    for i in range(LAYERS):
        place = f"blocks.{i}."
        weights |= {
            f"{place}att_proj.weight": random(D + 2 * kv, D),
            f"{place}attn_out.weight": random(D, D),
            f"{place}ff_proj.weight": random(RATIO * D, D),
            f"{place}ff_out.weight": random(D, RATIO * D // 2),
        }
        if settings["layer_norm_with_affine"]:
            weights |= {f"{place}attn_norm.weight": random(D), f"{place}ff_norm.weight": random(D)}
    if settings["layer_norm_with_affine"]:
        weights["ln_f.weight"] = random(D)
    if not settings["weight_tying"]:
        weights["ff_out.weight"] = random(VOCAB, D)
    return weights


def logits_of(weights: dict, settings: dict, tokens: torch.Tensor) -> torch.Tensor:
    """One prompt's, as OLMo's code computes them."""
    e, kv = D // HEADS, settings["n_kv_heads"] or HEADS
    angles = torch.arange(len(tokens))[:, None] / 10_000 ** (torch.arange(0, e, 2) / e)
    angles = torch.cat([angles, angles], -1)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        if settings["layer_norm_type"] == "default":
            return F.layer_norm(x, (D,), eps=settings["layer_norm_eps"])
        root = (x.square().mean(-1, keepdim=True) + settings["layer_norm_eps"]).sqrt()
        return x / root * weights[name]

    def turned(x: torch.Tensor) -> torch.Tensor:  # [pos, e]
        half = torch.cat([-x[:, e // 2 :], x[:, : e // 2]], -1)
        return x * angles.cos() + half * angles.sin()

    x = weights["wte.weight"][tokens]
    for i in range(LAYERS):
        place = f"blocks.{i}."
        fused = norm(x, f"{place}attn_norm.weight") @ weights[f"{place}att_proj.weight"].T
        if settings["clip_qkv"] is not None:
            fused = fused.clamp(-settings["clip_qkv"], settings["clip_qkv"])
        q, k, v = fused.split([D, kv * e, kv * e], -1)
        out = []
        for head in range(HEADS):
            group = head // (HEADS // kv)
            own, shared = slice(head * e, head * e + e), slice(group * e, group * e + e)
            scores = turned(q[:, own]) @ turned(k[:, shared]).T / e**0.5
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
            out.append(scores.softmax(-1) @ v[:, shared])
        x = x + torch.cat(out, -1) @ weights[f"{place}attn_out.weight"].T
        value, gate = (
            norm(x, f"{place}ff_norm.weight") @ weights[f"{place}ff_proj.weight"].T
        ).chunk(2, -1)
        x = x + (F.silu(gate) * value) @ weights[f"{place}ff_out.weight"].T
    unembed = weights["wte.weight" if settings["weight_tying"] else "ff_out.weight"]
    return norm(x, "ln_f.weight") @ unembed.T


def save_own(folder, weights: dict, settings: dict) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(settings))
    named = {f"model.transformer.{name}": tensor for name, tensor in weights.items()}
    save_file(named, folder / "model.safetensors", {"format": "pt"})
    save_tokenizer(folder)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CIRCUITBOOK_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("changes", [{}, GROUPED, FIRST_OLMO], ids=["rms", "grouped", "first"])
def test_the_logits_are_those_of_its_own_code(tmp_path, changes):
    settings = SETTINGS | changes
    weights = random_weights(settings)
    save_own(tmp_path / "run" / "step1", weights, settings)
    checkpoint = load_suite(tmp_path / "run").checkpoint("run", 1)
    model = checkpoint.load()
    tokens = torch.randint(0, VOCAB, (3, 9), generator=torch.Generator().manual_seed(0))
    exact = {name: tensor.double() for name, tensor in weights.items()}
    expected = torch.stack([logits_of(exact, settings, row) for row in tokens])
    with torch.no_grad():
        assert_close(model.logits(tokens), expected.float(), rounds=100)
    assert expected.std() > 0.5 and model.folder != checkpoint.fetch()
    assert read_config(checkpoint.fetch()) == read_config(model.folder)
    scores = attribute(
        checkpoint.load(dtype=torch.float64), toy_pairs(), rule="midpoint", points=800
    )
    assert abs(scores.relative_gap) < 0.02 and scores.values.abs().max() > 0.01
    again = checkpoint.load()
    assert again.folder == model.folder
    save_own(tmp_path / "run" / "step2", random_weights(settings, seed=1), settings)
    assert load_suite(tmp_path / "run").checkpoint("run", 2).load().folder != model.folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"include_bias": True}, "include_bias is True; of OLMo's own format only False is read"),
        ({"rope": False}, "rope is False"),
        ({"block_type": "llama"}, "block_type is 'llama'"),
        ({"attention_layer_norm": True}, "attention_layer_norm is True"),
        ({"norm_after": True}, "norm_after is True"),
        ({"layer_norm_type": "low_precision"}, "RMSNorms with weights and LayerNorms without"),
        ({"clip_qkv": 8.0}, "clip_qkv is 8.0, which is not read with rms norms"),
        ({"d_model": None}, "config.json: d_model is None; a whole number from 1 on is needed"),
        ({"n_layers": 3}, r"lack model\.transformer\.blocks\.2\.att_proj\.weight"),
        ({"n_layers": 1}, r"hold blocks\.1\..*, for which its model has no place"),
    ],
)
def test_what_is_not_read_is_refused_by_its_setting(tmp_path, changes, message):
    save_own(tmp_path / "run" / "step1", random_weights(SETTINGS), SETTINGS | changes)
    with pytest.raises(ValueError, match=message) as error:
        load_suite(tmp_path / "run").checkpoint("run", 1).load()
    assert "\n" not in str(error.value)


def test_what_lies_beside_or_in_the_files_is_refused_as_elsewhere(tmp_path):
    folder = tmp_path / "run" / "step1"
    save_own(folder, random_weights(SETTINGS), SETTINGS)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds adapter_config.json beside the weights"):
        load_suite(tmp_path / "run").checkpoint("run", 1).load()
    (folder / "adapter_config.json").unlink()
    kept = load_suite(tmp_path / "run").checkpoint("run", 1).load().folder / "model.safetensors"
    assert kept.stat().st_mode & 0o777 == 0o644
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ValueError, match="cannot be read .*restore or download") as error:
        load_suite(tmp_path / "run").checkpoint("run", 1).load()
    assert "\n" not in str(error.value)


def test_datadecide_comes_from_the_hub(hub, monkeypatch, tmp_path):
    weights = random_weights(SETTINGS)
    save_own(tmp_path / "made", weights, SETTINGS)
    files = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    revisions = {"step0-seed-default": files, "step69369-seed-default": files}
    monkeypatch.setitem(hub.repos, "allenai/DataDecide-c4-1B", revisions)
    model = load_suite("datadecide", Retry(tries=1)).checkpoint("DataDecide-c4-1B", 69_369).load()
    tokens = torch.randint(0, VOCAB, (2, 9), generator=torch.Generator().manual_seed(0))
    expected = torch.stack([logits_of(weights, SETTINGS, row) for row in tokens])
    with torch.no_grad():
        assert_close(model.logits(tokens), expected, rounds=100)
    assert model.hf_model.config.model_type == "llama"
