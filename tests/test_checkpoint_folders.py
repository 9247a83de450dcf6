"""What a checkpoint's folder may hold: old buffers load; what would give another model's numbers is
refused by name."""

import json
import shutil
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sentencepiece
import torch
from closeness import assert_close
from conftest import random_network, save_checkpoint
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from toys import toy_pairs
from transformers import PreTrainedTokenizerFast

from circuitbook.circuits.evaluation import evaluate_masks
from circuitbook.model.architectures import network_of
from circuitbook.model.graph import graph_of
from circuitbook.model.network import last_stream
from circuitbook.store.disk import Store
from circuitbook.store.keys import measurement_key
from circuitbook.studies.parameters import select
from circuitbook.suites.finding import load_suite

TOKENS = torch.tensor([[1, 2, 3, 4]])
ATTENTION = {"gpt_neox": "gpt_neox.layers.0.attention.", "gpt2": "transformer.h.0.attn."} | {
    kind: "model.layers.0.self_attn." for kind in ("llama", "olmo", "qwen3")
}


@pytest.fixture
def make(tmp_path):
    """make(kind, config changes, change of the weights) -> the folder of a suite with one model."""

    def made(kind="llama", config=None, change=None, layers=2, **saved) -> Path:
        network = random_network(architecture=kind, layers=layers)
        root = tmp_path / f"suite{len(list(tmp_path.iterdir()))}"
        folder = save_checkpoint(root / "run" / "step1", network)
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | (config or {})))
        if change:
            file = folder / "model.safetensors"
            weights = {name: w.clone() for name, w in load_file(file).items()}
            save_file(change(weights), file, {"format": "pt"})
        return root

    return made


def load(root: Path):
    return load_suite(root).checkpoint("run", 1).load()


def refused(root: Path, *words: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError) as error:
        load(root)
    message = str(error.value)
    assert all(word in message for word in words), message
    assert str(root / "run" / "step1") in message and "\n" not in message and len(message) < 600
    assert time.process_time() - started < 1


# ------------------------------------------------------------------ weights


def test_buffers_of_old_versions_load(make):
    for kind, attention in ATTENTION.items():

        def old(weights, attention=attention):
            return weights | {
                attention + "bias": torch.ones(1, 1, 8, 8).tril(),
                attention + "masked_bias": torch.tensor(-1e4),
                attention + "rotary_emb.inv_freq": torch.ones(2),
            }

        model = load(make(kind, change=old))
        expected = random_network(architecture=kind)(TOKENS).logits
        assert_close(model.logits(TOKENS), expected.detach(), rounds=100)


def test_a_tied_unembedding_may_be_in_the_file_or_not(make):
    embedding = "model.embed_tokens.weight"
    for unembedding in (None, embedding, "lm_head.weight"):

        def tie(weights, unembedding=unembedding):
            own = {"lm_head.weight": weights[unembedding].clone()} if unembedding else {}
            return {n: w for n, w in weights.items() if n != "lm_head.weight"} | own

        network = load(make(config={"tie_word_embeddings": True}, change=tie)).hf_model
        tied = torch.equal(network.lm_head.weight, network.get_input_embeddings().weight)
        assert tied == (unembedding != "lm_head.weight")  # what the file has is what counts


def test_what_no_part_of_the_model_takes_is_refused(make):
    def lora(weights):
        name = "model.layers.0.self_attn.q_proj."
        more = {f"{name}lora_{x}.default.weight": torch.ones(4, 16) for x in "AB"}
        return {
            n.replace("q_proj.weight", "q_proj.base_layer.weight"): w for n, w in weights.items()
        } | more

    biases = lambda w: w | {"model.layers.1.self_attn.q_proj.bias": torch.ones(16)}  # noqa: E731
    refused(make(change=biases), "self_attn.q_proj.bias", "denies these biases", "attention_bias")
    refused(make(config={"num_hidden_layers": 1}), "num_hidden_layers 1", "there are 2")
    refused(make("gpt2", {"n_layer": 1}), "num_hidden_layers 1", "there are 2")
    refused(make(change=lora), "lora_A", "adapter's (LoRA)", "merge")
    refused(make("gpt_neox", {"attention_bias": False}), "query_key_value.bias", "denies")
    refused(make(change=lambda w: w | {"score.weight": torch.ones(2, 2)}), "score.weight")
    refused(make(config={"num_hidden_layers": 3}), "lack model.layers.2", "and 6 more")
    refused(make(config={"intermediate_size": 60}), "mlp.down_proj.weight", "[16, 64]", "[16, 60]")


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "model.module."])
@pytest.mark.parametrize("kind", ATTENTION)
def test_prefixes_are_named(make, kind, prefix):
    renamed = lambda weights: {prefix + name: w for name, w in weights.items()}  # noqa: E731
    refused(make(kind, change=renamed, layers=6), repr(prefix), "torch.compile", "removeprefix")


@pytest.mark.parametrize("wrapper", ["_orig_mod.", "_checkpoint_wrapped_module."])
def test_wrapped_parts_are_named(make, wrapper):
    renamed = lambda weights: {  # noqa: E731
        name.replace("layers.0.", f"layers.0.{wrapper}"): w for name, w in weights.items()
    }
    refused(make(change=renamed), repr(wrapper), "parts were wrapped", f"replace({wrapper!r}, '')")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn, torch.bool])
@pytest.mark.parametrize("pickled", [False, True])
def test_weights_in_other_numbers_are_refused(make, dtype, pickled):
    """transformers makes floats of them without a word, and they stood for others."""
    name = "model.layers.1.self_attn.q_proj.weight"
    root = make(change=lambda weights: weights | {name: weights[name].to(dtype)})
    folder = root / "run" / "step1"
    if pickled:
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    refused(root, name, "quantised weights are not read")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_in_other_floats_are_read(make, dtype):
    root = make(change=lambda weights: {name: w.to(dtype) for name, w in weights.items()})
    assert load(root).hf_model.lm_head.weight.dtype == torch.float32


def test_layers_may_turn_in_different_ways(make):
    """As OLMo 3 does once its context was lengthened; before, all layers turn alike."""
    plain = {"rope_type": "default", "rope_theta": 1e4}
    longer = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0,
              "original_max_position_embeddings": 32}  # fmt: skip
    ropes = {"full_attention": longer, "sliding_attention": plain}
    model = load(make("olmo3", {"rope_parameters": ropes}, layers=4))
    network = network_of(model)
    assert [layer.way for layer in network.layers] == [*["sliding_attention"] * 3, "full_attention"]
    ours = network.logits(last_stream(network, network.embed(TOKENS)[:, None])[:, 0])
    assert_close(ours, model.hf_model(TOKENS).logits, rounds=100)
    all_plain = load(make("olmo3", {"rope_parameters": dict.fromkeys(ropes, plain)}, layers=4))
    assert (all_plain.logits(TOKENS) - model.logits(TOKENS)).abs().max() > 1e-3
    dynamic = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    ropes["full_attention"] = dynamic
    refused(make("olmo3", {"rope_parameters": ropes}, layers=4), "'dynamic' are not supported")
    old = {"rope_parameters": None, "rope_theta": 500_000, "rope_scaling": None}
    assert load(make("olmo3", old, layers=4)).shape.n_layers == 4
    refused(make("olmo2", {"rope_parameters": dynamic}), "'dynamic' are not supported")


def test_pickles_of_a_whole_training_are_named(make):
    root = make()
    folder = root / "run" / "step1"
    weights = load_file(folder / "model.safetensors")
    torch.save({"state_dict": weights, "step": 5}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    refused(root, "state_dict", "weights alone")


def other_name(kind: str, weights: dict) -> tuple[str, str]:
    """A weight that transformers reads under two names: (that in the file, the other one)."""
    if kind == "gpt_neox":
        here = next(name for name in weights if name in ("embed_out.weight", "lm_head.weight"))
        return here, {"embed_out.weight": "lm_head.weight"}.get(here, "embed_out.weight")
    here = "transformer.wpe.weight" if kind == "gpt2" else "model.embed_tokens.weight"
    return here, here.partition(".")[2]


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("kind", ATTENTION)
def test_of_two_tensors_for_one_place_neither_wins(make, kind, pickled):
    names = []

    def twice(weights, change):
        names[:] = other_name(kind, weights)
        return weights | {names[1]: weights[names[0]] + change}

    for change in (0, 1):
        root = make(kind, change=lambda weights, change=change: twice(weights, change))
        folder = root / "run" / "step1"
        if pickled:
            torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
            (folder / "model.safetensors").unlink()
        if change:
            refused(root, *names, "which differ")
        else:
            load(root)


def test_a_tensor_that_two_shards_hold_is_one_or_refused(make):
    root = make("llama")
    folder = root / "run" / "step1"
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    index = dict.fromkeys(weights, "a.safetensors") | {"model.norm.weight": "b.safetensors"}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    for change in (0, 1):
        one = {"model.norm.weight": weights["model.norm.weight"] + change}
        save_file(one, folder / "b.safetensors", {"format": "pt"})
        if change:
            refused(root, "model.norm.weight (a.safetensors)", "(b.safetensors), which differ")
        else:
            load(root)


def test_adapters_are_not_passed_over(make):
    root = make()
    folder = root / "run" / "step1"
    for name in ("adapter_config.json", "adapter_model.bin", "adapters.safetensors"):
        (folder / name).write_text("{}")
        refused(root, f"holds {name}", "merge_and_unload")
        (folder / name).unlink()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    with pytest.raises(FileNotFoundError, match="holds no weights.*merge_and_unload"):
        _ = load_suite(root).checkpoint("run", 1).weights_hash


# ------------------------------------------------------------------ config.json


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("llama", {"num_hidden_layers": 100_000}, ["num_hidden_layers is 100000", "1 to 1,000"]),
        ("gpt2", {"n_layer": 100_000}, ["n_layer is 100000"]),
        ("gpt_neox", {"num_hidden_layers": -2}, ["num_hidden_layers is -2"]),
        ("olmo", {"hidden_size": 0}, ["hidden_size is 0"]),
        ("llama", {"vocab_size": 10**30}, ["vocab_size is 1000"]),
        ("llama", {"num_attention_heads": 3, "head_dim": None}, ["3", "heads"]),
        ("gpt2", {"n_head": 3}, ["n_embd 16 cannot be divided among 3 heads"]),
        ("llama", {"num_attention_heads": 2, "num_key_value_heads": 3}, ["cannot share 3"]),
        ("llama", {"intermediate_size": "many"}, ["intermediate_size"]),
        ("llama", {"head_dim": 7}, ["rotary", "7"]),
        ("llama", {"rms_norm_eps": -1.0}, ["rms_norm_eps is -1.0"]),
        ("gpt2", {"resid_pdrop": float("nan")}, ["resid_pdrop is nan"]),
        ("llama", {"hidden_act": "squash"}, ["squash"]),
        ("llama", {"quantization_config": {"quant_method": "awq"}}, ["quantised", "dequantize"]),
        ("gpt2", {"quantization_config": {"load_in_4bit": True}}, ["quantised"]),
        ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, ["dynamic", "2048"]),
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, ["dynamic"]),
        ("gpt_neox", {"rope_parameters": {"rope_type": "longrope"}}, ["longrope"]),
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": -1}}, ["rope_theta"]),
        ("olmo", {"clip_qkv": -8.0}, ["clip_qkv is -8.0", "above 0"]),
        ("olmo", {"clip_qkv": "much"}, ["clip_qkv"]),
        ("gemma2", {"attn_logit_softcapping": 0.0}, ["attn_logit_softcapping is 0.0", "above 0"]),
        ("gemma3_text", {"final_logit_softcapping": -1.0}, ["final_logit_softcapping is -1.0"]),
        ("gemma3_text", {"query_pre_attn_scalar": 0}, ["query_pre_attn_scalar is 0"]),
        ("gemma3_text", {"sliding_window": 0}, ["sliding_window is 0"]),
        ("gemma2", {"layer_types": ["full_attention", "chunked_attention"]}, ["'chunked_atte"]),
        ("gemma3_text", {"rope_parameters": {"sliding_attention": {"rope_type": "longrope"}}},
         ["longrope"]),
        ("mistral", {"sliding_window": 0}, ["sliding_window is 0"]),
        ("smollm3", {"no_rope_layers": [1]}, ["no_rope_layers", "1", "2"]),
    ],
)  # fmt: skip
def test_configurations_that_cannot_be_are_refused_before_anything_is_built(
    make, kind, change, words
):
    refused(make(kind, change), "config.json", *words)


@pytest.mark.parametrize(
    "change",
    [
        {"_attn_implementation": "flash_attention_2"},
        {"attn_implementation": "flash_attention_3"},
        {"quantization_config": None},
    ],
)
def test_how_attention_was_computed_in_training_does_not_count(make, change):
    expected = random_network(architecture="llama")(TOKENS).logits.detach()
    assert_close(load(make(config=change)).logits(TOKENS), expected, rounds=100)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 3.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 8},
    ],
    ids=lambda rope: rope["rope_type"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "olmo", "qwen3"])
def test_fixed_rotary_scaling_is_reproduced_exactly(make, kind, rope):
    share = {"partial_rotary_factor": 0.25} if kind == "gpt_neox" else {}
    scaled = {"rope_parameters": rope | {"rope_theta": 10_000.0} | share}
    model, plain = load(make(kind, scaled)), load(make(kind))
    pairs = toy_pairs(vocab=model.shape.d_vocab)
    own = pairs.metric(model.logits(pairs.clean, pairs.end))
    whole = evaluate_masks(model, pairs, [np.array(graph_of(model).mask)])[0]
    assert_close(whole, own, rounds=100)
    other = pairs.metric(plain.logits(pairs.clean, pairs.end))
    assert float((own - other).abs().max()) > 1e-3  # the scaling does something


def test_the_bridge_of_a_model_without_biases(make):
    def without(weights):
        return {n: w for n, w in weights.items() if not (".attention." in n and n.endswith("bias"))}

    model = load(make("gpt_neox", {"attention_bias": False}, without))
    before = model.logits(TOKENS)
    with torch.no_grad():
        assert_close(model.bridge(TOKENS), before, rounds=100)
    assert_close(model.logits(TOKENS), before, rounds=100)


# ------------------------------------------------------------------ tokenizers


def byte_level(pre=None) -> Tokenizer:
    """A byte-level tokenizer in which "17" and "th" are merged."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<|end|>", *alphabet, "17", "th"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("1", "7"), ("t", "h")]))
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre, plain]) if pre else plain
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def with_tokenizer(root: Path, tokenizer: Tokenizer, settings: dict) -> Path:
    folder = root / "run" / "step1"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return root


@pytest.mark.parametrize("named", ["GPT2Tokenizer", "GPT2TokenizerFast", "LlamaTokenizer", None])
@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "gpt2"])
def test_tokenizer_json_is_what_is_read(make, kind, named):
    tokenizer = byte_level(pre_tokenizers.Digits(individual_digits=True))
    settings = {"tokenizer_class": named, "eos_token": "<|end|>"} if named else {}
    loaded = load(with_tokenizer(make(kind), tokenizer, settings)).tokenizer
    text = "the year 1732 to the year 17"
    assert loaded(text, add_special_tokens=False).input_ids == tokenizer.encode(text).ids
    assert loaded.decode(tokenizer.encode(text).ids) == text
    assert loaded.eos_token == ("<|end|>" if named else None)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("settings", [None, {"tokenizer_class": "GPT2Tokenizer"}])
def test_vocabulary_and_merges_alone(make, kind, settings):
    root, tokenizer = make(kind), byte_level()
    folder = root / "run" / "step1"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    vocabulary = json.loads(tokenizer.to_str())["model"]["vocab"]
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(ValueError, match=r"holds no tokenizer: .*merges\.txt"):
        load(root)
    (folder / "merges.txt").write_text("#version: 0.2\n1 7\nt h\n")
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    text = "the year 1732"
    ids = load(root).tokenizer(text, add_special_tokens=False).input_ids
    assert ids == tokenizer.encode(text).ids
    before = load_suite(root).checkpoint("run", 1).identity["tokenizer"]
    (folder / "merges.txt").write_text("#version: 0.2\nt h\n1 7\n")
    assert load_suite(root).checkpoint("run", 1).identity["tokenizer"] != before


@pytest.fixture(scope="module")
def sentence_pieces(tmp_path_factory):
    """tokenizer.model as Llama's are made, and one that changes spaces (bytes), trained here."""
    place = tmp_path_factory.mktemp("pieces")
    lines = ["When Mary and John went to the store, John gave a drink to Mary", "isn't the year 17"]
    (place / "text.txt").write_text("\n".join(lines * 20))
    made = []
    for name, spaces in (("llama", False), ("other", True)):
        settings = {"input": place / "text.txt", "model_prefix": place / name, "model_type": "bpe",
                    "vocab_size": 340, "byte_fallback": True, "split_digits": True,
                    "normalization_rule_name": "identity", "remove_extra_whitespaces": spaces,
                    "hard_vocab_limit": False, "minloglevel": 2}  # fmt: skip
        sentencepiece.SentencePieceTrainer.train(**settings)
        made.append((place / f"{name}.model").read_bytes())
    return made


@pytest.mark.parametrize("named", [None, "LlamaTokenizer"])
def test_sentencepiece_alone_is_read_if_it_stays_what_it_is(make, sentence_pieces, named):
    root = make()
    folder, (pieces, other) = root / "run" / "step1", sentence_pieces
    (folder / "tokenizer.json").unlink()
    settings = {"tokenizer_class": named} if named else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    file = folder / "tokenizer.model"
    file.write_bytes(pieces)
    own = sentencepiece.SentencePieceProcessor(model_file=str(file))
    text = "Mary gave  a drink\nto John, 1732 東"
    assert load(root).tokenizer(text, add_special_tokens=False).input_ids == own.encode(text)
    before = load_suite(root).checkpoint("run", 1).identity["tokenizer"]
    file.write_bytes(other)
    assert load_suite(root).checkpoint("run", 1).identity["tokenizer"] != before
    refused(root, "splits text otherwise than sentencepiece does", "put the tokenizer.json there")
    file.write_bytes(b"nothing of the kind")
    refused(root, "tokenizer.model cannot be read")
    file.unlink()
    refused(root, "holds no tokenizer", "or tokenizer.model")


def test_padding_beyond_the_embedding_is_never_read(make):
    root = make("gpt2")
    folder = root / "run" / "step1"
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    model = load(root)
    assert model.tokenizer.pad_token_id == model.shape.d_vocab
    ids = model.tokenizer(" Mary gave", add_special_tokens=False).input_ids
    assert model.logits(torch.tensor([ids])).isfinite().all()


# ------------------------------------------------------------------ suites


@pytest.mark.parametrize(
    "value", ["2048", 0, -5, True, float("inf"), float("nan"), "many", 1.5, [], 10**400]
)
def test_tokens_of_a_step_are_a_number(make, value):
    root = make()
    (root / "suite.json").write_text(json.dumps({"tokens_per_step": value}))
    with pytest.raises(
        ValueError, match=r"suite\.json: tokens_per_step is .* whole number"
    ) as error:
        load_suite(root)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    (root / "suite.json").unlink()
    with pytest.raises(ValueError, match="^TOKENS_PER_STEP is .* whole number"):
        select(str(root), tokens_per_step=value)
    assert select(str(root), tokens_per_step=2048).suite.tokens_per_step == 2048


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"tokens_per_step": 5,}', "not whole JSON"),
        ('["run"]', "holds a list"),
        ("", "is empty"),
        ("\ufeff{}", "byte-order mark"),
        ('{"models": "run"}', "models is 'run'"),
        ('{"models": [1]}', r"models is \[1\]"),
        ('{"models": {"run": 1}}', "models is {"),
        ('{"models": ["run", "run"]}', "names run twice"),
        ('{"models": ["other"]}', "names other"),
        ('{"prepend_bos": "no"}', "prepend_bos is 'no'"),
        ('{"description": 5}', "description is 5"),
        ('{"notes": "slow"}', "notes is 'slow'"),
        ('{"notes": {"run": 5}}', "notes is {"),
    ],
)
def test_suite_json_is_checked(make, text, words):
    root = make()
    (root / "suite.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"suite\.json.*{words}") as error:
        load_suite(root)
    assert "\n" not in str(error.value)


def test_the_newest_folder_may_still_be_written(make):
    root = make()
    for step in (2, 3):
        shutil.copytree(root / "run" / "step1", root / "run" / f"step{step}")
    (root / "suite.json").write_text('{"tokens_per_step": 10}')
    (root / "run" / "step3" / "model.safetensors").unlink()
    with pytest.warns(UserWarning, match=r"left out, .*step3 holds no weights"):
        assert load_suite(root).steps("run") == (1, 2)
    with pytest.warns(UserWarning, match="left out"):
        assert select(str(root), steps=[1, 2], keep_doubles=True).steps == {"run": (1, 2)}
        assert select(str(root), keep_doubles=True).steps == {"run": (1, 2)}
    (root / "run" / "step2" / "model.safetensors").unlink()  # one that is lost is not passed over
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(FileNotFoundError, match="step2"),
    ):
        load_suite(root).checkpoint("run", 2).load()


def test_a_folder_without_checkpoints_says_what_is_there(make, tmp_path):
    root = make()
    step = root / "run" / "step1"
    with pytest.raises(ValueError, match=f"is a checkpoint itself.* give .*{root / 'run'}"):
        load_suite(step)
    other = tmp_path / "other" / "run"
    (other / "global_step500").mkdir(parents=True)
    (other / "global_step500" / "config.json").write_text("{}")
    for folder in (other, other.parent):
        with pytest.raises(ValueError, match=r"global_step500.*step<N>.*checkpoint-<N>.*ckpt_<N>"):
            load_suite(folder)
    shutil.copytree(step, tmp_path / "final")
    with pytest.raises(ValueError, match="is a checkpoint itself.*move it to .*step<N>"):
        load_suite(tmp_path / "final")
    adapters = tmp_path / "adapters" / "run" / "checkpoint-500"
    adapters.mkdir(parents=True)
    (adapters / "adapter_config.json").write_text("{}")
    for folder in (adapters, adapters.parent, adapters.parents[1]):
        with pytest.raises(ValueError, match="there is an adapter.*merge_and_unload"):
            load_suite(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="it has no folders; read are folders"):
        load_suite(tmp_path / "empty")


# ------------------------------------------------------------------ entries of a store


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[:40],
        lambda text: "\ufeff" + text,
        lambda text: "[1, 2]",
        lambda text: '"table"',
        lambda text: text.replace('"table"', "7"),
        lambda text: json.dumps(json.loads(text) | {"what": [1], "payload": {}}),
        lambda text: json.dumps(json.loads(text) | {"sha256": None}),
        lambda text: "[" * 100_000,
    ],
)  # fmt: skip
def test_spoilt_entries_of_a_store_are_measured_again_and_named(tmp_path, spoil):
    store, key = Store(tmp_path), measurement_key("toy", code=(byte_level,), n=1)
    table = pd.DataFrame({"a": [1.5]})
    store.table(key, lambda: table)
    (file,) = tmp_path.glob("toy/*/*.json")
    file.write_text(spoil(file.read_text()), encoding="utf-8")
    with pytest.warns(UserWarning, match="is damaged and is measured again"):
        assert store.table(key, lambda: table + 1).a.item() == 2.5
    assert store.table(key, lambda: table).a.item() == 2.5
    file.write_text(spoil(file.read_text()), encoding="utf-8")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        listed = len(store.entries())
    assert listed + len(caught) == 1 and all(str(file) in str(one.message) for one in caught)
