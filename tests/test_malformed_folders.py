"""Checkpoint folders damaged in every way that hypothesis can put together of the ways below: each
loads, or is refused by one line that names it."""

import io
import json
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from conftest import random_network, save_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import sampled_from as of
from safetensors.torch import load, save

from circuitbook.suites.finding import load_suite
from circuitbook.weights.asking import HubError

SELDOM = of([False, False, False, True])
KINDS = ("gpt_neox", "gpt2", "llama", "olmo", "mistral", "qwen2", "qwen3", "smollm3")
DRAWS = 340
CONFIG, WEIGHTS, INDEX, SUITE = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "suite.json",
)
ODD = [
    None, True, -1, 0, 1, 3, 1.5, 10**5, 10**12, 10**400, float("inf"), float("nan"), "", "many",
    "2048", "é", [], [1], {}, {"a": 1}, [[]], "../" * 4 + "etc/passwd", "x" * 5000,
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """The files of a sound checkpoint of each architecture, and a suite.json."""
    root, found = tmp_path_factory.mktemp("whole"), {}
    for kind in KINDS:
        network = random_network(architecture=kind, d_model=8, heads=2)
        folder = save_checkpoint(root / kind, network)
        found[kind] = {path.name: path.read_bytes() for path in folder.iterdir()}
        found[kind][SUITE] = json.dumps({"tokens_per_step": 1000, "models": ["run"]}).encode()
    return found


# ------------------------------------------------------------------ what goes wrong with a file


def damage_bytes(draw, files: dict[str, bytes]) -> str:
    name = draw(of(sorted(files)))
    data = files[name]
    place = draw(st.integers(0, max(len(data) - 1, 0)))
    ways = of(
        [
            ("empty", b""),
            ("blank", b" \n"),
            ("zeros", bytes(len(data))),
            ("cut", data[:place]),
            ("BOM", b"\xef\xbb\xbf" + data),
            ("latin-1", data.replace(b'"', '"é'.encode("latin-1"), 1)),
            ("utf-16", data.decode("latin-1").encode("utf-16")),
            ("a byte", data[:place] + draw(st.binary(min_size=1, max_size=1)) + data[place + 1 :]),
            ("noise", draw(st.binary(min_size=1, max_size=300))),
            ("nested", b"[" * 100_000),
            ("twice", data + data),
        ]
    )
    how, files[name] = draw(ways)
    return f"{name}: {how}"


def replace_file(draw, files):
    name = draw(of(sorted(files)))
    value = draw(of(ODD))
    files[name] = json.dumps(value).encode()
    return f"{name} = {value!r:.40}"


def lose_file(draw, files):
    name = draw(of(sorted(files)))
    files[name] = None if draw(st.booleans()) else ...  # gone, or a folder
    return f"{name} {'gone' if files[name] is None else 'is a folder'}"


def odd_value(draw, files):
    """An entry somewhere in a JSON file becomes something else, or goes."""
    name = draw(of([CONFIG, CONFIG, CONFIG, SUITE, "tokenizer_config.json", "tokenizer.json"]))
    value = _json(files, name)
    if not value:
        return ""
    inside, path = value, []
    while isinstance(inside, dict) and inside:
        path.append(draw(of(sorted(inside))))
        if not isinstance(inside[path[-1]], dict) or not inside[path[-1]] or draw(SELDOM):
            break
        inside = inside[path[-1]]
    new = draw(of(ODD))
    if draw(SELDOM):
        del inside[path[-1]]
    else:
        inside[path[-1]] = new
    files[name] = json.dumps(value).encode()
    return f"{name}: {path} -> {new!r:.40}"


def odd_setting(draw, files):
    config = _json(files, CONFIG)
    if config is None:
        return ""
    rope = draw(of(["dynamic", "longrope", "yarn", "linear", "llama3", "none", 3]))
    change = draw(
        of(
            [
                {"num_hidden_layers": 100_000},
                {"num_hidden_layers": draw(of([1, 3]))},
                {"n_layer": 100_000},
                {"num_attention_heads": 3, "n_head": 3},
                {"hidden_size": 10**7, "n_embd": 10**7},
                {"vocab_size": draw(of([5, 14, 10**9]))},
                {"quantization_config": {"quant_method": "gptq", "bits": 4}},
                {"_attn_implementation": "flash_attention_2"},
                {"rope_scaling": {"rope_type": rope, "factor": 2.0}},
                {"rope_parameters": {"rope_type": rope, "rope_theta": draw(of([100.0, 0, "a"]))}},
                {"attention_bias": False},
                {"attention_bias": True},
                {"tie_word_embeddings": True},
                {"hidden_act": "squash", "activation_function": "squash"},
                {"model_type": draw(of([*KINDS, "mamba", "", 5]))},
                {"torch_dtype": "float7", "dtype": "float7"},
                {"head_dim": draw(of([3, 4, 7]))},
            ]
        )
    )
    files[CONFIG] = json.dumps(config | change).encode()
    return str(change)


def _json(files, name):
    try:
        value = json.loads(files[name])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


# ------------------------------------------------------------------ what goes wrong with weights


def odd_weights(draw, files):
    try:
        tensors = load(files[WEIGHTS])
    except Exception:
        return ""
    names = sorted(tensors)
    name, how = (
        draw(of(names)),
        draw(of("drop add bias lora layer shape prefix dtype twice adapter".split())),
    )
    if how == "drop":
        del tensors[name]
    elif how == "add":
        tensors["score.weight"] = torch.ones(2, 2)
    elif how == "bias":
        tensors[name.rsplit(".", 1)[0] + draw(of([".bias", ".beta"]))] = torch.ones(8)
    elif how == "lora":
        tensors[name + draw(of(["", ".lora_A"])) + ".weight"] = torch.ones(4, 8)
    elif how == "layer":
        tensors |= {n.replace(".1.", ".2."): w.clone() for n, w in tensors.items() if ".1." in n}
    elif how == "shape":
        tensors[name] = torch.ones(draw(of([(), (3,), (0, 8), (2, 2, 2)])))
    elif how == "prefix":
        prefix = draw(of(["module.", "_orig_mod.", "model.", "base_model.model.", "x"]))
        tensors = {prefix + n: w for n, w in tensors.items()}
    elif how == "twice":  # under another name that transformers reads, too
        other = {"embed_out.weight": "lm_head.weight"}.get(name, name.partition(".")[2] or name)
        tensors[other] = tensors[name] + draw(of([0, 1]))
    elif how == "adapter":
        files[draw(of(["adapter_model.safetensors", "adapter_model.bin"]))] = b"not read"
    else:
        tensors[name] = tensors[name].to(draw(of([torch.int8, torch.bool, torch.float16])))
    if draw(SELDOM):
        return how + " " + name + as_pickle(draw, files, tensors)
    files[WEIGHTS] = save(tensors, {"format": "pt"})
    return f"{how} {name}"


def as_pickle(draw, files, tensors):
    del files[WEIGHTS]
    content = draw(of([tensors, tensors, {"state_dict": tensors}, [tensors], 5, {}, {1: 2}]))
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getvalue()
    files["pytorch_model.bin"] = data[: draw(st.integers(0, len(data)))] if draw(SELDOM) else data
    return f" in a pickle: {type(content)}"


def odd_index(draw, files):
    """Sharded weights, whose index says something odd."""
    try:
        names = sorted(load(files.pop(WEIGHTS)))
    except Exception:
        return ""
    files["part.safetensors"] = files.get("part.safetensors") or b"not read"
    shard = draw(of(["part.safetensors", "../part.safetensors", "gone.safetensors", 5, "", "\0"]))
    index = draw(of([{"weight_map": dict.fromkeys(names, shard)}, {"weight_map": names}, {}, []]))
    files[INDEX] = json.dumps(index).encode()
    return f"index to {shard!r}"


def odd_company(draw, files):
    """Files beside the others."""
    name, data = draw(
        of(
            [
                ("adapter_config.json", b"{}"),
                ("special_tokens_map.json", b"[]"),
                ("special_tokens_map.json", b'{"eos_token": 5}'),
                ("added_tokens.json", b'{"<x>": "y"}'),
                ("generation_config.json", b"["),
                ("generation_config.json", b'{"temperature": "hot", "top_k": []}'),
                ("chat_template.jinja", b"{% if"),
                ("model.gguf", b"GGUF"),
                ("pytorch_model.bin", b"not read"),
                (INDEX, b"not read"),
                ("vocab.json", b"[]"),
                ("global_step5", b""),
            ]
        )
    )
    files[name] = data
    return f"{name} = {data!r}"


def only_vocabulary(draw, files):
    """vocab.json and merges.txt in the place of tokenizer.json."""
    files["tokenizer.json"] = None
    vocab = draw(of([b'{"a": 0, "b": 1, "ab": 2}', b'{"a": "b"}', b"[]", b"", b'{"a": -4}']))
    merges = draw(of([b"#version: 0.2\na b\n", b"", b"a\n", b"\xff", b"a c\n"]))
    files |= {"vocab.json": vocab, "merges.txt": merges}
    return f"{vocab!r}, {merges!r}"


MUTATIONS = [
    damage_bytes, damage_bytes, replace_file, lose_file, odd_value, odd_value, odd_value,
    odd_setting, odd_setting, odd_weights, odd_weights, odd_index, odd_company, only_vocabulary,
]  # fmt: skip


def write(root, files):
    folder = root / "run" / "step1"
    folder.mkdir(parents=True)
    for name, data in files.items():
        path = (root if name == SUITE else folder) / name
        if data is ...:
            path.mkdir()
        elif data is not None:
            path.write_bytes(data)


def use(root):
    """What every measurement does first."""
    suite = load_suite(root)
    checkpoint = suite.checkpoint("run", 1)
    assert all(checkpoint.identity.values())
    model = checkpoint.load()
    model.tokenizer(" Mary gave", add_special_tokens=False)
    assert model.logits(torch.tensor([[1, 2, 1]])).shape == (1, 3, model.shape.d_vocab)


@dataclass(frozen=True)
class Damaged:
    """A checkpoint's files, and what was done to them."""

    kind: str
    done: tuple[str, ...]
    files: dict[str, bytes] = field(repr=False)


@st.composite
def damaged(draw, whole):
    kind = draw(of(KINDS))
    files, done = dict(whole[kind]), []
    for mutate in draw(st.lists(of(MUTATIONS), min_size=1, max_size=2)):
        present = {name: data for name, data in files.items() if isinstance(data, bytes)}
        done.append(mutate(draw, present))
        files |= present | {name: None for name in files if name not in present}
    return Damaged(kind, tuple(done), files)


def test_each_loads_or_is_refused_in_one_line_that_names_it(whole):
    said = Counter()

    @settings(max_examples=DRAWS, derandomize=True, deadline=None)
    @given(damaged(whole))
    def check(case):
        started, outcome = time.process_time(), "loaded"
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what libraries make of it on the way
            root = Path(folder)
            write(root, case.files)
            try:
                use(root)
            except (ValueError, FileNotFoundError, HubError) as error:
                outcome, message = "refused", str(error)
                assert str(root) in message or "run at step 1" in message, message
                assert "\n" not in message and len(message) < 900, message
        said[outcome] += 1
        assert time.process_time() - started < 2

    check()
    assert said["loaded"] > 20 and said["refused"] > 150, said
