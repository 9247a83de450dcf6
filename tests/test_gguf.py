"""A checkpoint that is one GGUF file: what it becomes, what is refused, and no half of it taken."""

import hashlib
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from children import running
from conftest import random_network
from gguf_files import TOKENS, rounded, write_gguf

from circuitbook.model import conversion
from circuitbook.paths import PACKAGE
from circuitbook.store.cache import CacheError
from circuitbook.suites.finding import load_suite
from circuitbook.weights.gguf import gguf_in, read_header

SIZE = dict(layers=2, heads=4, d_model=64, vocab=len(TOKENS))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CIRCUITBOOK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def llama():
    return random_network(seed=1, architecture="llama", **SIZE)


@pytest.fixture
def gguf(llama, tmp_path):
    return write_gguf(tmp_path / "run" / "tiny" / "step5" / "tiny.gguf", llama)


def checkpoint_at(gguf):
    run = gguf.parent.parent.parent
    return load_suite(run).checkpoint(gguf.parent.parent.name, 5)


def logits(network):
    tokens = torch.randint(1, 200, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return network(tokens).logits


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_numbers_are_those_of_the_network_that_was_written(kind, tmp_path):
    network = random_network(seed=2, architecture=kind, **SIZE)
    gguf = write_gguf(tmp_path / "run" / "tiny" / "step5" / "model.gguf", network)
    model = checkpoint_at(gguf).load()
    expected = logits(network)
    assert expected.std() > 0.5
    torch.testing.assert_close(logits(model.hf_model), expected, rtol=1e-5, atol=1e-5)
    assert model.dtype == model.hf_model.dtype == torch.float32
    assert model.shape.n_heads == 4 and model.shape.d_vocab == len(TOKENS)


def test_rounded_weights_are_scale_times_whole_number(llama, tmp_path):
    gguf = write_gguf(tmp_path / "run" / "tiny" / "step5" / "q8.gguf", llama, quantized=True)
    model = checkpoint_at(gguf).load()
    network = random_network(seed=1, architecture="llama", **SIZE)
    exact = logits(network)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim == 2:
                weight.copy_(rounded(weight))
    torch.testing.assert_close(logits(model.hf_model), logits(network), rtol=1e-5, atol=1e-5)
    assert (logits(network) - exact).abs().max() > 1e-3  # rounding is seen


@pytest.mark.parametrize("pre, seventeen", [("smollm", ["1", "7"]), ("gpt-2", ["17"])])
def test_the_tokenizer_splits_as_the_file_says(pre, seventeen, llama, tmp_path):
    gguf = write_gguf(
        tmp_path / "run" / "tiny" / "step5" / "t.gguf", llama, change={"tokenizer.ggml.pre": pre}
    )
    tokenizer = checkpoint_at(gguf).load().tokenizer
    assert tokenizer.tokenize("Hi Mary17") == ["H", "i", "ĠMary", *seventeen]
    assert tokenizer.encode(" Mary") == [TOKENS.index("ĠMary")]
    assert tokenizer.eos_token == "<|endoftext|>" and tokenizer.eos_token_id == 0


def test_what_it_is_is_known_without_converting_it(gguf, cache, monkeypatch):
    checkpoint = checkpoint_at(gguf)
    sha256 = hashlib.sha256(gguf.read_bytes()).hexdigest()
    identity = checkpoint.identity
    assert checkpoint.weights_hash == identity["weights"] == sha256 and not cache.exists()
    folder = checkpoint.fetch()
    assert folder.is_relative_to(cache) and sha256 in folder.name
    assert checkpoint.weights_hash == sha256 and checkpoint.identity == identity
    monkeypatch.setattr(conversion, "_convert", None)  # not called again
    assert checkpoint_at(gguf).fetch() == folder
    with gguf.open("r+b") as file:  # another weight: another checkpoint
        file.seek(-1, 2)
        file.write(b"\x01")
    assert checkpoint_at(gguf).identity != identity


def test_a_config_beside_it_says_otherwise(gguf, folder_suite):
    shutil.copy(folder_suite / "wide" / "step2" / "config.json", gguf.parent)
    assert gguf_in(gguf.parent) is None
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        load_suite(gguf.parent.parent.parent)


def test_two_files_are_refused(gguf):
    shutil.copy(gguf, gguf.with_name("other.gguf"))
    with pytest.raises(ValueError, match=r"step5 holds 2 \.gguf files \(other.gguf, tiny.gguf"):
        load_suite(gguf.parent.parent.parent)


@pytest.mark.parametrize(
    "how, says",
    [
        ({"architecture": "qwen2"}, "'qwen2'; of .gguf files these are .*'lla"),
        ({"change": {"general.name": "mistral"}}, "architecture 'mistral'; of .gguf files"),
        ({"tokenizer": False}, "holds no tokenizer: take a .gguf with its vocabulary"),
        ({"change": {"tokenizer.ggml.pre": "klingon"}}, "tokenizer that is not supported .kling"),
        ({"change": {"llama.rope.scaling.type": "yarn"}}, "scales its rotary positions .yarn."),
        ({"drop": ("llama.attention.head_count_kv",)}, "how many key and value heads it has"),
        ({"drop": ("blk.1.ffn_up.weight",)}, "lacks model.layers.1.mlp.up_proj.weight"),
        ({"extra": {"rope_freqs.weight": np.ones(8, "f4")}}, "some of its tensors belong to a"),
        (
            {"change": {"llama.embedding_length": 32}},
            "another shape of lm_head.weight than its",
        ),
    ],
)
def test_what_would_be_read_wrongly_is_refused(how, says, llama, tmp_path, cache):
    gguf = write_gguf(tmp_path / "run" / "tiny" / "step5" / "model.gguf", llama, **how)
    checkpoint = checkpoint_at(gguf)
    for _ in range(2):  # and again: nothing is left that could be taken for it
        with pytest.raises(ValueError, match=says) as error:
            checkpoint.load()
        assert str(gguf) in str(error.value) and "\n" not in str(error.value)
    assert [path.suffix for path in (cache / "gguf").iterdir()] == [".lock"]


def test_a_file_that_was_cut_off_anywhere_is_refused(gguf, cache):
    whole = gguf.read_bytes()
    header = read_header(gguf)
    assert header.fields["llama.block_count"] == 2 and header.tensors["token_embd.weight"] == (
        len(TOKENS),
        64,
    )
    for size in [0, 3, 10, 30, 200, 2000, 5000, 7000, len(whole) // 2, len(whole) - 4]:
        gguf.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="damaged or not a whole GGUF file .*copy it again"):
            checkpoint_at(gguf).fetch()
    gguf.write_bytes(b"GGML" + whole[4:])
    with pytest.raises(ValueError, match="does not begin with GGUF"):
        checkpoint_at(gguf).fetch()
    gguf.write_bytes(whole)
    assert checkpoint_at(gguf).fetch().is_relative_to(cache)


def test_only_our_bar_is_drawn(gguf, capfd):
    checkpoint_at(gguf).load()
    said = capfd.readouterr()
    bars = [bar.strip() for bar in said.err.split("\r") if bar.strip()]
    assert said.out == "" and bars and all(bar.startswith("converting tiny, once") for bar in bars)


def test_a_cache_that_cannot_be_written_says_so(gguf, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CIRCUITBOOK_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(CacheError, match="cannot be written: .*set CIRCUITBOOK_CACHE to a folder"):
        checkpoint_at(gguf).fetch()


SCRIPT = """
import sys
from circuitbook.model import conversion
from circuitbook.suites.finding import load_suite
convert = conversion._convert
def noted(*args):
    print("converts", flush=True)
    convert(*args)
conversion._convert = noted
print(load_suite(sys.argv[1]).checkpoint("tiny", 5).load().tokenizer.encode(" Mary"))
"""


def test_of_two_processes_one_converts(gguf, cache):
    command = [sys.executable, "-c", SCRIPT, str(gguf.parent.parent.parent)]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    how["env"] = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    with running(command, **how) as one, running(command, **how) as other:
        said = sorted(process.communicate(timeout=200)[0] for process in (one, other))
    answer = f"[{TOKENS.index('ĠMary')}]\n"
    assert said == [answer, "converts\n" + answer]
    assert len([path for path in (cache / "gguf").iterdir() if path.is_dir()]) == 1
