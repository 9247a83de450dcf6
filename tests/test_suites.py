import hashlib
import json
import shutil

import numpy as np
import pytest

from circuitbook.suites.finding import load_suite
from circuitbook.weights.files import weight_files
from circuitbook.weights.step_names import by_step


def test_pythia_steps_and_tokens():
    suite = load_suite("pythia")
    steps = suite.steps("pythia-160m")
    assert (
        len(steps) == 154
        and steps[:4] == (0, 1, 2, 4)
        and steps[11] == 1000
        and steps[-1] == 143_000
    )
    assert list(steps) == sorted(set(steps))
    final = suite.checkpoint("pythia-2.8b", 143_000)
    assert final.tokens_seen == 299_892_736_000  # the paper's 300B
    assert (final.suite, final.model, final.step) == ("pythia", "pythia-2.8b", 143_000)
    assert suite.checkpoint("pythia-2.8b", np.int32(143_000)) == final  # as it comes out of a table


def test_pythia_models():
    suite = load_suite("pythia")
    sizes = ["14m", "31m", "70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b"]
    assert suite.standard == suite.models[:10] == tuple(f"pythia-{size}" for size in sizes)
    assert len(suite.models) == len(set(suite.models)) == 10 + 10 + 45 + 6 + 3
    for name in [
        "pythia-6.9b-deduped",
        "pythia-14m-seed9",
        "pythia-410m-seed1",
        "pythia-160m-data-seed3",
        "pythia-160m-weight-seed1",
        "pythia-160m-attndropout",
        "pythia-160m-hiddendropout",
        "pythia-160m-alldropout",
    ]:
        assert suite.checkpoint(name, 512).model == name
    assert "pythia-1b-seed1" not in suite.models and "pythia-160m-seed10" not in suite.models


def test_pythia_schedules():
    suite = load_suite("pythia")
    schedule = {name: suite.schedule("pythia-70m", name) for name in suite.schedules}
    lengths = {name: len(steps) for name, steps in schedule.items()}
    assert lengths == {
        "all": 154,
        "linear": 143,
        "exponential": 18,
        "exp_plus_detail": 43,
        "sparse": 28,
        "paper": 43,
    }
    for name, steps in schedule.items():
        assert list(steps) == sorted(set(steps)) and set(steps) <= set(suite.steps("pythia-70m")), (
            name
        )
    assert schedule["exponential"][10:] == (1000, 2000, 4000, 8000, 16000, 33000, 66000, 131_000)
    assert schedule["paper"] == schedule["exp_plus_detail"] and 143_000 not in schedule["paper"]
    assert schedule["paper"][23:27] == (14_000, 15_000, 20_000, 25_000)
    with pytest.raises(
        ValueError, match="'hourly' is unknown in suite pythia; it has: all, linear"
    ):
        suite.schedule("pythia-70m", "hourly")


def test_wrong_names_and_steps_say_the_way_out():
    suite = load_suite("pythia")
    with pytest.raises(ValueError) as error:
        suite.checkpoint("pythia-160m", 1001)
    assert str(error.value) == (
        "step 1001 of pythia-160m does not exist; nearest are 1000 and 2000 "
        '(see suite.steps("pythia-160m"))'
    )
    for step, near in (
        (-1, "nearest is 0"),
        (150_000, "nearest is 143000"),
        ("1000", "whole number"),
    ):
        with pytest.raises(ValueError, match=near):
            suite.checkpoint("pythia-160m", step)
    with pytest.raises(ValueError, match="did you mean pythia-160m"):
        suite.steps("pythia160m")
    with pytest.raises(ValueError, match="did you mean .*pythia-410m-seed3"):
        suite.steps("EleutherAI/pythia-410m-seed3")
    with pytest.raises(ValueError, match="it has: pythia-14m"):
        suite.steps("gpt2")
    with pytest.raises(ValueError, match='did you mean "mini"'):
        load_suite("minni")
    with pytest.raises(ValueError, match="no folder of that name"):
        load_suite("/no/such/folder")


def test_folder(folder_suite):
    suite = load_suite(folder_suite)
    assert suite.name == "my-run"
    assert suite.models == ("narrow", "wide")  # by size, not by name
    assert suite.steps("narrow") == (2, 10)  # by number: "step10" < "step2"
    checkpoint = suite.checkpoint("wide", 10)
    assert checkpoint.fetch() == folder_suite / "wide" / "step10" and checkpoint.tokens_seen is None
    assert suite.schedule("wide") == (2, 10)
    with pytest.raises(ValueError, match="it has: all"):
        suite.schedule("wide", "paper")


def test_suite_json(folder_suite, tmp_path):
    root = shutil.copytree(folder_suite, tmp_path / "run")
    (root / "notes").mkdir()
    about = {"models": ["wide"], "tokens_per_step": 2048, "description": "two sizes"}
    about["notes"] = {"narrow": "was trained for longer"}
    (root / "suite.json").write_text(json.dumps(about))
    suite = load_suite(str(root))
    assert (
        suite.standard == ("wide",)
        and suite.variants == ("narrow",)
        and suite.models == ("wide", "narrow")
    )
    assert suite.checkpoint("narrow", 10).tokens_seen == 20_480 and suite.description == "two sizes"
    assert suite.notes == {"narrow": "was trained for longer"}
    (root / "suite.json").write_text(json.dumps({"models": ["wide", "tall"]}))
    with pytest.raises(ValueError, match="names tall"):
        load_suite(root)
    with pytest.raises(ValueError, match="holds no checkpoints"):
        load_suite(root / "notes")


def test_other_names_of_steps_and_a_run_alone(folder_suite, tmp_path):
    """As a transformers Trainer leaves it: one run, checkpoint-<N>, the tokenizer in the folder
    above."""
    run = tmp_path / "my-llm"
    for step in (2, 10):
        shutil.copytree(folder_suite / "narrow" / f"step{step}", run / f"checkpoint-{step}")
        shutil.move(run / f"checkpoint-{step}" / "tokenizer.json", run / "tokenizer.json")
        shutil.move(
            run / f"checkpoint-{step}" / "tokenizer_config.json", run / "tokenizer_config.json"
        )
    (run / "suite.json").write_text('{"tokens_per_step": 1000}')
    suite = load_suite(run)
    assert (
        suite.name == "my-llm" and suite.models == ("my-llm",) and suite.steps("my-llm") == (2, 10)
    )
    checkpoint = suite.checkpoint("my-llm", 10)
    assert checkpoint.tokens_seen == 10_000 and checkpoint.fetch() == run / "checkpoint-10"
    assert checkpoint.weights_hash == load_suite(folder_suite).checkpoint("narrow", 10).weights_hash
    assert checkpoint.load().tokenizer.decode([1]) == load_suite(folder_suite).checkpoint(
        "narrow", 10
    ).load().tokenizer.decode([1])
    shutil.copytree(run / "checkpoint-10", run / "step10")
    with pytest.raises(
        ValueError, match="my-llm has two checkpoints of step 10, checkpoint-10 and step10; copy"
    ):
        load_suite(run)


def test_repositories_with_revisions_of_their_own(hub_repos, hub, monkeypatch):
    files = hub_repos["EleutherAI/pythia-14m"]["step1"]
    monkeypatch.setitem(
        hub.repos, "a/big-1b", {"main": {}, "step1000-tokens4B": files, "step20-tokens0B": files}
    )
    monkeypatch.setitem(hub.repos, "b/small", {"step-7": files})
    suite = load_suite("a/big-1b, b/small")
    assert (
        suite.models == ("big-1b", "small")
        and suite.steps("big-1b") == (20, 1000)
        and suite.steps("small") == (7,)
    )
    checkpoint = suite.checkpoint("big-1b", 1000)
    assert checkpoint.weights_hash == hashlib.sha256(files["model.safetensors"]).hexdigest()
    assert (checkpoint.fetch() / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert suite.checkpoint("small", 7).load().shape.n_layers == 2
    with pytest.raises(ValueError, match="two repositories of one name"):
        load_suite("a/small,b/small")


@pytest.mark.parametrize(
    ("revisions", "steps"),
    [
        ({"stage1-step150-tokens1B", "stage1-step1000-tokens3B", "step80-tokens1B",
          "stage2-ingredient1-step150-tokens1B", "main"}, {150: "stage1-step150-tokens1B",
                                                           1000: "stage1-step1000-tokens3B"}),
        ({"stage1-step-40000", "stage2-step-40000", "stage3-step-50000"},
         {40000: "stage1-step-40000"}),
        ({"step-001000-2BT", "step-000500-1BT"}, {500: "step-000500-1BT", 1000: "step-001000-2BT"}),
        ({"checkpoint-400000", "main"}, {400000: "checkpoint-400000"}),
        ({"stage2-step150", "step1000-tokens4B-instruct", "astep4", "step"}, {}),
    ],
)  # fmt: skip
def test_which_revisions_are_the_run(hub_repos, hub, monkeypatch, revisions, steps):
    """As OLMo 2 and 3, SmolLM3, FineWeb's ablations and GPT-2 of stanford-crfm have them: of a
    training in stages the first is the run, whose steps later ones count anew."""
    assert by_step(revisions, "here") == steps
    files = hub_repos["EleutherAI/pythia-14m"]["step1"]
    monkeypatch.setitem(hub.repos, "a/run", dict.fromkeys(revisions, files))
    if not steps:
        with pytest.raises(ValueError, match="no revisions step<N>"):
            load_suite("a/run")
        return
    suite = load_suite("a/run")
    assert suite.steps("run") == tuple(sorted(steps))
    assert suite.checkpoint("run", min(steps)).load().shape.n_layers == 2


def test_mini_is_found_or_says_how(folder_suite, tmp_path, monkeypatch):
    shutil.copytree(folder_suite, tmp_path / "mini")
    monkeypatch.setenv("CIRCUITBOOK_MODELS", str(tmp_path))
    assert load_suite("mini").name == "mini" and load_suite("mini").models == ("narrow", "wide")
    monkeypatch.setenv("CIRCUITBOOK_MODELS", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="no folder mini in it"):
        load_suite("mini")
    monkeypatch.delenv("CIRCUITBOOK_MODELS")
    monkeypatch.setattr(
        "circuitbook.suites.finding.PACKAGE", tmp_path / "site-packages" / "lib" / "circuitbook"
    )
    with pytest.raises(FileNotFoundError, match="pip install -e .*CIRCUITBOOK_MODELS"):
        load_suite("mini")


def test_weights_hash_follows_the_weights(folder_suite, tmp_path):
    root = shutil.copytree(folder_suite, tmp_path / "run")
    file = root / "wide" / "step10" / "model.safetensors"
    before = load_suite(folder_suite).checkpoint("wide", 10).weights_hash
    assert before == hashlib.sha256(file.read_bytes()).hexdigest()
    checkpoint = load_suite(root).checkpoint("wide", 10)
    assert checkpoint.weights_hash == before != load_suite(root).checkpoint("wide", 2).weights_hash
    (root / "wide" / "step10" / "generation_config.json").write_text("{}")
    assert checkpoint.weights_hash == before
    data = bytearray(file.read_bytes())
    data[-1] ^= 1  # one bit of one weight; size kept
    file.write_bytes(data)
    assert checkpoint.weights_hash != before


def test_weights_hash_of_shards(hub_repos, tmp_path):
    folder = tmp_path / "sharded" / "step1"
    folder.mkdir(parents=True)
    for name, data in hub_repos["EleutherAI/pythia-14m"]["step512"].items():
        (folder / name).write_bytes(data)
    checkpoint = load_suite(tmp_path).checkpoint("sharded", 1)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert weight_files(folder) == tuple(shards) and len(shards) == 2
    hashes = [hashlib.sha256(shard.read_bytes()).hexdigest() for shard in shards]
    assert checkpoint.weights_hash == hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    shards[1].unlink()
    with pytest.raises(FileNotFoundError, match="model-00002-of-00002"):
        _ = checkpoint.weights_hash
