"""Suites that others have published: their revisions, tokens and configurations as the hub has
them, with tiny random models of their shapes."""

import json

import pytest
import torch
from closeness import assert_close
from conftest import WORDS, random_network, save_checkpoint
from safetensors.torch import load_file

from circuitbook.studies.parameters import select
from circuitbook.suites.finding import load_suite
from circuitbook.suites.names import base_model
from circuitbook.suites.published import PUBLISHED, training_of
from circuitbook.weights.asking import Retry
from circuitbook.weights.step_names import named_tokens_per_step

QUICK = Retry(tries=1)

# suite, model, repository, its shape, {revision: (step, tokens)}, revisions that are no steps of it
SUITES = [
    (
        "smollm2", "SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M-intermediate-checkpoints", "llama",
        {"step-240000": (240_000, 251_658_240_000)}, [],
    ),
    (
        "smollm2", "SmolLM2-360M", "HuggingFaceTB/SmolLM2-360M-intermediate-checkpoints", "llama",
        {"step-160000": (160_000, 251_658_240_000), "step-2560000": (2_560_000, 4_026_531_840_000)},
        [],
    ),
    (
        "smollm2", "SmolLM2-1.7B", "HuggingFaceTB/SmolLM2-1.7B-intermediate-checkpoints", "llama",
        {"step-125000": (125_000, 262_144_000_000)}, [],
    ),
    (
        "smollm3", "SmolLM3-3B", "HuggingFaceTB/SmolLM3-3B-checkpoints", "smollm3",
        {
            "stage1-step-40000": (40_000, 94_371_840_000),
            "stage1-step-3440000": (3_440_000, 8_115_978_240_000),
            "stage2-step-4200000": (4_200_000, 9_909_043_200_000),
            "stage3-step-4720000": (4_720_000, 11_135_877_120_000),
        },
        ["it-mid-training"],
    ),
    (
        "fineweb", "the-pile", "HuggingFaceFW/ablation-model-the-pile", "llama",
        {"step-001000-2BT": (1000, 2_097_152_000)}, [],
    ),
    (
        "stanford-gpt2", "gpt2-small-seed49", "stanford-crfm/battlestar-gpt2-small-x49",
        "gpt2 scaled",
        {"checkpoint-10": (10, 5_242_880), "checkpoint-400000": (400_000, 209_715_200_000)}, [],
    ),
    (
        "amber", "Amber", "LLM360/Amber", "llama",
        {"ckpt_000": (1, 3_495_886_848), "ckpt_356": (357, 1_248_031_604_736)}, [],
    ),
]  # fmt: skip


def old_files(folder, pickled: bool) -> dict[str, bytes]:
    """A checkpoint's files with the names and the configuration of the time; `pickled` weights with
    the buffers of the time, and a GPT-2's tokenizer as vocab.json and merges.txt."""
    config = json.loads((folder / "config.json").read_text())
    config["torch_dtype"] = config.pop("dtype")
    if rope := config.pop("rope_parameters", None):
        config |= {"rope_theta": rope["rope_theta"], "rope_scaling": None}
    if pickled:
        config |= {"reorder_and_upcast_attn": True, "gradient_checkpointing": False}
    (folder / "config.json").write_text(json.dumps(config))
    if pickled:
        weights = load_file(folder / "model.safetensors")
        for layer in range(config["n_layer"]):
            weights[f"transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, 8, 8).tril()
            weights[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        torch.save(weights, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).unlink()
        words = {"Ġ" + word.strip(): i for i, word in enumerate(WORDS)}
        (folder / "vocab.json").write_text(json.dumps({"Ġ": len(words), **words}))
        (folder / "merges.txt").write_text("#version: 0.2\n")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "model", "repo", "shape", "revisions", "others"),
    SUITES,
    ids=[f"{case[0]} {case[1]}" for case in SUITES],
)
def test_a_suite_is_read_as_the_hub_has_it(
    hub, monkeypatch, tmp_path, name, model, repo, shape, revisions, others
):
    networks = {}
    files = {revision: {"README.md": b""} for revision in ["main", *others]}
    for seed, revision in enumerate(revisions):
        networks[revision] = random_network(seed=seed, architecture=shape, heads=4)
        folder = save_checkpoint(tmp_path / revision, networks[revision])
        files[revision] = old_files(folder, pickled=shape.startswith("gpt2"))
    monkeypatch.setitem(hub.repos, repo, files)
    hub.tagged.add(repo)
    suite = load_suite(name, QUICK)
    assert model in suite.models and not hub.requests
    assert suite.steps(model) == tuple(sorted(step for step, _ in revisions.values()))
    tokens = torch.randint(1, 15, (2, 9), generator=torch.Generator().manual_seed(0))
    for revision, (step, seen) in revisions.items():
        checkpoint = suite.checkpoint(model, step)
        assert suite.source.revision(model, step) == revision and checkpoint.tokens_seen == seen
        with torch.no_grad():
            expected = networks[revision](tokens).logits
        assert_close(checkpoint.load().logits(tokens), expected, rounds=100)
    by_repository = load_suite(repo, QUICK)
    (there,) = by_repository.models
    for step, seen in revisions.values():
        assert by_repository.checkpoint(there, step).tokens_seen == seen


def test_a_repository_by_its_name_pattern(hub, monkeypatch, tmp_path):
    folder = save_checkpoint(tmp_path / "one", architecture="llama")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setitem(hub.repos, "HuggingFaceFW/ablation-model-c4", {"step-002000-4BT": files})
    suite = load_suite("HuggingFaceFW/ablation-model-c4", QUICK)
    assert suite.checkpoint("ablation-model-c4", 2000).tokens_seen == 4_194_304_000
    assert training_of("HuggingFaceFW/fineweb-edu-classifier") is None


def test_data_and_seeds_of_datadecide(hub, monkeypatch, tmp_path):
    """A repository holds a size and a text with three seeds, which are models of their own."""
    names = ["step0-seed-default", "step69369-seed-default", "step2500-seed-large-aux-2",
             "step5000-seed-large-aux-3", "main"]  # fmt: skip
    monkeypatch.setitem(hub.repos, "allenai/DataDecide-c4-1B", dict.fromkeys(names, {"a": b""}))
    suite = load_suite("datadecide", QUICK)
    assert not hub.requests and len(suite.models) == len(set(suite.models)) == 25 * 8 * 3
    assert suite.standard[0] == "DataDecide-dolma1_7-4M" and len(suite.standard) == 8
    assert suite.steps("DataDecide-c4-1B") == (0, 69_369)
    assert suite.steps("DataDecide-c4-1B-seed2") == (2500,)
    assert suite.steps("DataDecide-c4-1B-seed3") == (5000,)
    assert base_model("DataDecide-c4-1B-seed3") == "DataDecide-c4-1B"
    last = suite.checkpoint("DataDecide-c4-1B", 69_369)
    assert last.tokens_seen == 69_369 * 704 * 2048  # the paper's 100 billion
    assert suite.source.revision("DataDecide-c4-1B", 69_369) == "step69369-seed-default"
    assert load_suite("allenai/DataDecide-c4-1B", QUICK).steps("DataDecide-c4-1B") == (0, 69_369)


@pytest.mark.parametrize(
    ("size", "steps", "parameters"),
    [("4M", 5725, 3.7e6), ("20M", 14_584, 19.1e6), ("60M", 29_042, 57.1e6),
     ("90M", 29_901, 97.9e6), ("300M", 45_787, 300e6), ("1B", 69_369, 1e9)],
)  # fmt: skip
def test_tokens_of_datadecide_are_a_hundred_for_each_parameter(size, steps, parameters):
    """As the paper has it, at the last step of each size."""
    per_step = PUBLISHED["datadecide"].trainings[f"DataDecide-c4-{size}"].tokens_per_step
    assert steps * per_step == pytest.approx(100 * parameters, rel=0.02)


def test_names_tell_tokens_where_nobody_else_does(hub, monkeypatch, tmp_path):
    """OLMo's names do, to a billion."""
    twin = {0: "step0-tokens0B", 3000: "step3000-tokens13B", 33_600: "step33600-tokens141B",
            57_000: "step57000-tokens239B"}  # fmt: skip
    assert named_tokens_per_step(twin) == pytest.approx(4_194_304, rel=2e-3)
    assert named_tokens_per_step(twin | {8000: "step8000-tokens90B"}) is None
    assert named_tokens_per_step(twin | {9000: "step9000"}) is None
    assert named_tokens_per_step({10: "step10"}) is named_tokens_per_step({}) is None
    network = random_network(architecture="olmo clipped")
    folder = save_checkpoint(tmp_path / "one", network)
    files = old_files(folder, pickled=False)
    repo = "allenai/OLMo-1B-0724-hf"
    revisions = {"step1000-tokens2B": files, "step200000-tokens419B": files, "main": files}
    monkeypatch.setitem(hub.repos, repo, revisions)
    chosen = select(repo, steps=[1000], device="cpu", keep_doubles=True)
    checkpoint = chosen.suite.checkpoint("OLMo-1B-0724-hf", 1000)
    assert checkpoint.tokens_seen == pytest.approx(2.097152e9, rel=2e-3)
    tokens = torch.randint(1, 15, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert_close(checkpoint.load().logits(tokens), network(tokens).logits, rounds=100)
    monkeypatch.setitem(hub.repos, "a/silent", {"step10": files})
    with pytest.raises(ValueError, match="a/silent does not say how many tokens"):
        select("a/silent", device="cpu", keep_doubles=True)
    told = select("a/silent", device="cpu", keep_doubles=True, tokens_per_step=7)
    assert told.suite.checkpoint("silent", 10).tokens_seen == 70
    other = select(repo, steps=[1000], device="cpu", keep_doubles=True, tokens_per_step=7)
    assert other.suite.checkpoint("OLMo-1B-0724-hf", 1000).tokens_seen == 7000


def test_every_suite_by_name_is_sound():
    for name, published in PUBLISHED.items():
        suite = load_suite(name, QUICK)
        assert suite.description and set(suite.standard) <= set(published.trainings)
        assert set(suite.models) == set(published.trainings)
        repos = [(training.repo, training.revision) for training in published.trainings.values()]
        assert len(set(repos)) == len(repos)
        for training in published.trainings.values():  # also where two have one repository
            found = training_of(training.repo)
            assert found and found.tokens_per_step == training.tokens_per_step
    with pytest.raises(ValueError, match='did you mean "datadecide"'):
        load_suite("datadecde")


@pytest.mark.parametrize(
    ("repo", "shape", "revisions", "others"),
    [
        (
            "allenai/OLMo-2-0425-1B", "olmo2",
            {"stage1-step10000-tokens21B": 10_000, "stage1-step1610000-tokens3377B": 1_610_000},
            ["step1000-tokens3B", "stage2-ingredient1-step1000-tokens3B"],
        ),
        (
            "allenai/Olmo-3-1025-7B", "olmo3", {"stage1-step1000": 1000, "stage1-step2000": 2000},
            ["stage2-step47684", "stage3-step11921"],
        ),
    ],
)  # fmt: skip
def test_olmo_2_and_3_by_their_first_stage(
    hub, monkeypatch, tmp_path, repo, shape, revisions, others
):
    """Norms behind attention and MLP; later stages, and what has none, are not the run."""
    networks = {}
    files = {revision: {"README.md": b""} for revision in ["main", *others]}
    for seed, revision in enumerate(revisions):
        networks[revision] = random_network(seed=seed, architecture=shape, heads=4)
        files[revision] = old_files(save_checkpoint(tmp_path / revision, networks[revision]), False)
    monkeypatch.setitem(hub.repos, repo, files)
    suite, model = load_suite(repo, QUICK), repo.split("/")[1]
    assert suite.steps(model) == tuple(revisions.values())
    tokens = torch.randint(1, 15, (2, 9), generator=torch.Generator().manual_seed(0))
    for revision, step in revisions.items():
        checkpoint = suite.checkpoint(model, step)
        with torch.no_grad():
            expected = networks[revision](tokens).logits
        assert_close(checkpoint.load().logits(tokens), expected, rounds=100)
    seen = suite.checkpoint(model, min(revisions.values())).tokens_seen
    named = shape == "olmo2"
    assert seen == pytest.approx(10_000 * 2_097_152, rel=2e-3) if named else seen is None
