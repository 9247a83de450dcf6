"""Loading: the logits are transformers' own, the weights are all there, and nothing but weights is
read."""

import json
import pickle
import shutil
import socket
import warnings
from pathlib import Path

import pytest
import torch
from closeness import assert_close
from conftest import random_network, save_checkpoint
from safetensors.torch import load, load_file, save_file
from tokenizers import Tokenizer
from transformers import GPTNeoXForCausalLM

from circuitbook.suites.finding import load_suite
from circuitbook.weights.asking import Retry
from circuitbook.weights.hub import fetch

PYTHIA = {
    "14m": {"layers": 6, "d_model": 128, "heads": 4},
    "70m": {"layers": 6, "d_model": 512, "heads": 8},
}
VOCAB = 50_304


def some_tokens(n: int, length: int, vocab: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(vocab, (n, length), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def checkpoint(folder_suite):
    return load_suite(folder_suite).checkpoint("narrow", 10)


@pytest.fixture
def copied(folder_suite, tmp_path):
    """A checkpoint that a test may spoil: (checkpoint, its folder)."""
    root = shutil.copytree(folder_suite, tmp_path / "run")
    return load_suite(root).checkpoint("narrow", 10), root / "narrow" / "step10"


@pytest.mark.parametrize("size", PYTHIA)
def test_logits_equal_transformers_at_pythia_shapes(size, tmp_path):
    network = random_network(
        seed=3, vocab=VOCAB, **PYTHIA[size]
    )  # attention as transformers chooses (sdpa)
    save_checkpoint(tmp_path / f"pythia-{size}" / "step0", network)
    model = load_suite(tmp_path).checkpoint(f"pythia-{size}", 0).load()
    tokens = some_tokens(3, 12, VOCAB)
    with torch.no_grad():
        expected = network(tokens).logits
        bridge = model.bridge(tokens)
    assert expected.std() > 0.5 and model.dtype == expected.dtype == torch.float32
    assert_close(model.logits(tokens), expected, rounds=100)
    assert_close(bridge, expected, rounds=100)
    shape = model.shape
    assert {"layers": shape.n_layers, "d_model": shape.d_model, "heads": shape.n_heads} == PYTHIA[
        size
    ]
    assert (shape.d_head, shape.d_mlp) == (shape.d_model // shape.n_heads, 4 * shape.d_model)
    assert shape.d_vocab == VOCAB and shape.parallel


@pytest.mark.parametrize("step", [0, 1, 512, 143_000])  # pickle, safetensors, sharded, both
def test_logits_equal_transformers_from_the_hub(step, hub):
    seed = [0, 1, 512, 143_000].index(step)
    fetch(
        "EleutherAI/pythia-14m", f"step{step}", "safetensors"
    )  # may leave both forms of the weights in the cache
    model = load_suite("pythia", Retry(base=0.001)).checkpoint("pythia-14m", step).load()
    tokens = some_tokens(4, 7, model.shape.d_vocab)
    assert_close(model.logits(tokens), random_network(seed)(tokens).logits, rounds=100)


def test_logits_equal_transformers_for_mini():
    suite = load_suite("mini")
    for name in suite.models:
        for step in (suite.steps(name)[0], suite.steps(name)[-1]):
            model = suite.checkpoint(name, step).load()
            plain = GPTNeoXForCausalLM.from_pretrained(
                model.checkpoint.fetch(), dtype=torch.float32
            )
            tokens = some_tokens(4, 20, model.shape.d_vocab)
            assert_close(model.logits(tokens), plain(tokens).logits, rounds=100)


def test_logits_at_end_positions_and_in_batches(checkpoint):
    model = checkpoint.load()
    tokens, ends = some_tokens(9, 8, model.shape.d_vocab), torch.tensor([7, 3, 0, 7, 5, 1, 2, 6, 4])
    everything = model.logits(tokens)
    expected = torch.stack([everything[i, end] for i, end in enumerate(ends)])
    assert_close(model.logits(tokens, ends), expected, rounds=10)
    row_by_row = model.logits(tokens, ends, batch_bytes=1)
    assert_close(row_by_row, expected, rounds=10)
    padded = tokens.clone()
    for i, end in enumerate(ends):
        padded[i, end + 1 :] = 0
    assert_close(model.logits(padded, ends), expected, rounds=10)
    assert model.logits(tokens[:0], ends[:0]).shape == (0, model.shape.d_vocab)
    assert not everything.requires_grad


def test_batches_are_bounded_and_only_the_end_is_unembedded(checkpoint):
    model, seen = checkpoint.load(), []
    watch = model.bridge.unembed.register_forward_hook(
        lambda module, inputs, _: seen.append(tuple(inputs[0].shape))
    )
    tokens = some_tokens(10, 8, model.shape.d_vocab)
    model.logits(
        tokens, torch.full((10,), 7), batch_bytes=3 * model._row_bytes(8, all_logits=False)
    )
    watch.remove()
    assert seen == [(3, 16), (3, 16), (3, 16), (1, 16)]


def test_wrong_tokens_and_positions(checkpoint):
    model = checkpoint.load()
    tokens = some_tokens(2, 4, model.shape.d_vocab)
    for bad, positions, message in (
        (tokens + 100, None, "another model's tokenizer"),
        (tokens[0], None, r"int64 \[n, pos\]"),
        (tokens.float(), None, "float32"),
        (tokens, torch.tensor([1, 4]), r"2 numbers in 0\.\.3"),
        (tokens, torch.tensor([1]), "one for each row"),
    ):
        with pytest.raises(ValueError, match=message):
            model.logits(bad, positions)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_weights_take_the_dtype_that_is_asked_for(tmp_path, dtype):
    save_checkpoint(tmp_path / "half" / "step0", dtype=torch.float16)  # as mini is stored
    model = load_suite(tmp_path).checkpoint("half", 0).load(dtype=dtype)
    assert {weight.dtype for weight in model.bridge.parameters()} == {dtype} == {model.dtype}
    assert model.logits(some_tokens(1, 3, model.shape.d_vocab)).dtype == dtype


def test_tokenizer_is_the_saved_one(checkpoint):
    tokenizer = checkpoint.load().tokenizer
    assert tokenizer(" Mary gave").input_ids == [2, 9] and tokenizer.decode([2, 9]) == " Mary gave"
    assert tokenizer.pad_token is None  # the bridge needs one, and must put it into its own copy


def test_pythia_tokenizer_is_the_raw_one(folder_suite, tmp_path):
    shared = Path(__file__).parents[2] / "shared" / "pythia-tokenizer" / "tokenizer.json"
    if not shared.exists():
        pytest.skip("needs Pythia's tokenizer.json")
    save_checkpoint(tmp_path / "pythia-14m" / "step0")
    shutil.copy(shared, tmp_path / "pythia-14m" / "step0" / "tokenizer.json")
    (
        tmp_path / "pythia-14m" / "step0" / "tokenizer_config.json"
    ).unlink()  # some revisions have none
    tokenizer = load_suite(tmp_path).checkpoint("pythia-14m", 0).load().tokenizer
    text = "Then, Mary and John went to the store. The war lasted from the year 1732 to the year 17"
    assert (
        tokenizer(text).input_ids == Tokenizer.from_file(str(shared)).encode(text).ids
    )  # no BOS, no other splits
    assert tokenizer(" she").input_ids == [703] and tokenizer(" he").input_ids == [344]


def test_loading_leaves_no_trace(copied, capfd, monkeypatch):
    checkpoint, folder = copied
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*")}
    monkeypatch.setattr(
        socket.socket,
        "connect",
        lambda *_: pytest.fail("loading from a folder went to the network"),
    )
    checkpoint.load()  # the first load of a process may print what the libraries print at import
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = checkpoint.load()
    assert capfd.readouterr() == ("", "")
    assert {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*")
    } == before
    assert not model.bridge.training


def test_logits_leave_no_hooks_or_gradients(checkpoint):
    model = checkpoint.load()

    def state():
        hooks = [
            len(module._forward_hooks) + len(module._backward_hooks)
            for module in model.bridge.modules()
        ]
        points = [
            len(point.fwd_hooks) + len(point.bwd_hooks) for point in model.bridge.hook_dict.values()
        ]
        return hooks, points

    before = state()
    model.logits(some_tokens(2, 4, model.shape.d_vocab))
    assert state() == before and sum(before[1]) == 0
    assert all(weight.grad is None for weight in model.bridge.parameters())
    tokens = some_tokens(2, 4, model.shape.d_vocab)
    _, cache = model.bridge.run_with_cache(
        tokens
    )  # and the bridge is whole: attention patterns can be hooked
    pattern = cache["blocks.1.attn.hook_pattern"]
    assert pattern.shape == (2, model.shape.n_heads, 4, 4)
    assert_close(pattern.sum(-1), 1.0, rounds=10, dtype=torch.float32)


def test_one_clear_error_for_a_wrong_device(checkpoint):
    for device in ("tpu", "cuda:99", "meta", *([] if torch.cuda.is_available() else ["cuda"])):
        with pytest.raises(
            ValueError, match=f"device '{device}' is not available here; use one of: cpu"
        ):
            checkpoint.load(device=device)
    assert checkpoint.load(device=torch.device("cpu")).device == torch.device("cpu")
    with pytest.raises(ValueError, match="dtype 'half' is not one for weights"):
        checkpoint.load(dtype="half")


def test_float16_on_pythia_warns(tmp_path):
    save_checkpoint(tmp_path / "pythia-70m" / "step0")
    with pytest.warns(UserWarning, match="float16 is too narrow for Pythia"):
        load_suite(tmp_path).checkpoint("pythia-70m", 0).load(dtype=torch.float16)


PLAIN_GEMMA = {"model_type": "gemma3_text", "attention_bias": False}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model_type": "mamba"},
            r"narrow at step 10 is of architecture 'mamba'; these are supported: "
            r"'gpt_neox' \(Pythia, mini\), 'gpt2'",
        ),
        ({"model_type": "gemma3"}, "is of architecture 'gemma3', of images and text, .* language"),
        ({"model_type": "mixtral"}, "is of architecture 'mixtral', .* no single MLP; these are"),
        (
            {"model_type": "hf_olmo"},
            "rope is False; of OLMo's own format only True is read",
        ),
        (
            {"model_type": "olmo2", "attention_bias": True},
            "'olmo2' with attention_bias = True; only False is supported",
        ),
        (
            PLAIN_GEMMA | {"use_bidirectional_attention": True},
            "'gemma3_text' with use_bidirectional_attention = True; only False is supported",
        ),
        (
            PLAIN_GEMMA | {"attn_logit_softcapping": 50.0},
            "'gemma3_text' with attn_logit_softcapping = 50.0; only None is supported",
        ),
        (
            {"model_type": "gpt2", "add_cross_attention": True},
            "is of architecture 'gpt2' with add_cross_attention = True; only False is supported",
        ),
    ],
)
def test_unsupported_architecture_is_named(copied, change, message):
    checkpoint, folder = copied
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=message):
        checkpoint.load()


class Malice:
    """Unpickling this creates the file named in `path`."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("save", ["torch", "pickle"])
def test_pickle_with_code_is_refused(copied, tmp_path, save):
    checkpoint, folder = copied
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    trap, file = tmp_path / "code was run", folder / "pytorch_model.bin"
    torch.save(weights, file)
    assert (
        checkpoint.load().logits(torch.tensor([[1, 2]])).isfinite().all()
    )  # without the trap it loads
    spoilt = weights | {"gpt_neox.extra": Malice(trap)}
    torch.save(spoilt, file) if save == "torch" else file.write_bytes(
        pickle.dumps(spoilt, protocol=2)
    )
    with pytest.raises(
        ValueError, match="pytorch_model.bin holds more than weights.*might run code"
    ):
        checkpoint.load()
    assert not trap.exists()
    torch.load(file, weights_only=False) if save == "torch" else pickle.loads(file.read_bytes())
    assert trap.exists()  # the trap was a real one


def test_code_beside_the_weights_is_not_run(copied, tmp_path):
    checkpoint, folder = copied
    trap = tmp_path / "code was run"
    (folder / "modeling.py").write_text(f"open({str(trap)!r}, 'w')\nclass Net: pass\n")
    for name in ("config.json", "tokenizer_config.json"):
        auto = {"auto_map": {"AutoConfig": "modeling.Net", "AutoModelForCausalLM": "modeling.Net"}}
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | auto))
    checkpoint.load()
    assert not trap.exists()


def test_weights_that_are_damaged_or_incomplete(copied):
    checkpoint, folder = copied
    file = folder / "model.safetensors"
    data = file.read_bytes()
    weights = load(data)  # not load_file, whose tensors would lie in the file that changes below
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="weights in .*step10 cannot be read"):
        checkpoint.load()
    del weights["gpt_neox.layers.1.mlp.dense_h_to_4h.bias"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ValueError, match="lack gpt_neox.layers.1.mlp.dense_h_to_4h.bias"):
        checkpoint.load()
    file.unlink()
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        checkpoint.load()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="holds no tokenizer"):
        checkpoint.load()
