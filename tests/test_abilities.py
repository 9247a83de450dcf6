"""Measurements of abilities: against literal computations, and through the store."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from closeness import assert_close
from conftest import random_network
from transformers import AutoModelForCausalLM

from circuitbook.mini.tokenizer import build_tokenizer, vocabulary
from circuitbook.store.disk import Store
from circuitbook.studies.abilities import (
    compare_onsets,
    emergences,
    measure_abilities,
    repetition,
    summarise,
    task_performance,
)
from circuitbook.studies.parameters import select
from circuitbook.suites.finding import load_suite
from circuitbook.tasks.registry import get_task
from circuitbook.tasks.sequences import ordinary_tokens


def save(folder, seed):
    folder.mkdir(parents=True)
    random_network(seed=seed, vocab=len(vocabulary())).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)


@pytest.fixture
def stories(tmp_path):
    """A suite of two random models that speak the story language, at steps 0 and 4."""
    root = tmp_path / "tiny"
    for k, name in enumerate(("a", "b")):
        for step in (0, 4):
            save(root / name / f"step{step}", 10 * k + step)
    (root / "suite.json").write_text('{"models": ["a", "b"], "tokens_per_step": 100}')
    return root


@pytest.mark.parametrize("task", ["ioi", "gendered_pronoun", "greater_than", "sva"])
def test_performance_equals_one_prompt_at_a_time(stories, task):
    checkpoint = load_suite(str(stories)).checkpoint("a", 4)
    # in float64, so that no rounding decides a rank; the table is kept in float32
    model = checkpoint.load(dtype=torch.float64)
    frame = task_performance(model, task, n=12, seed=1, batch_size=5)
    network = AutoModelForCausalLM.from_pretrained(stories / "a" / "step4", dtype=torch.float64)
    tokenizer = build_tokenizer()
    pairs = get_task(task).prompts(tokenizer, n=12, seed=1)
    assert len(frame) == 12 and frame["metric"].abs().min() > 1e-6
    for i, row in frame.iterrows():
        with torch.no_grad():
            clean, corrupted = (
                network(tokenizer(row[side], return_tensors="pt").input_ids).logits[:, -1]
                for side in ("clean", "corrupted")
            )
        one = pairs.subset([i])
        kept = dict(rounds=1, dtype=torch.float32)
        assert_close(row["metric"], one.metric(clean)[0], **kept)
        assert_close(row["corrupted_metric"], one.metric(corrupted)[0], **kept)
        assert row["rank"] == one.measures(clean)["rank"].item()
        assert_close(row["answer_mass"], one.measures(clean)["answer_mass"][0], **kept)


def copier(length, sharpness):
    """A model that predicts what followed `length` tokens ago, and nothing before that."""

    def logits(tokens):
        out = torch.zeros(*tokens.shape, len(vocabulary()))
        out[:, length - 1 :].scatter_(2, tokens[:, : tokens.shape[1] - length + 1, None], sharpness)
        return out

    return SimpleNamespace(
        logits=logits,
        tokenizer=build_tokenizer(),
        device="cpu",
        shape=SimpleNamespace(d_vocab=len(vocabulary())),
    )


def test_repetition_of_a_perfect_copier_has_its_closed_form():
    size, sharpness = len(vocabulary()), 7.0
    frame = repetition(copier(10, sharpness), n=5, length=10)
    assert_close(frame["first"], -np.log(size), rounds=10, dtype=torch.float32)
    expected = sharpness - np.log(np.exp(sharpness) + size - 1)
    assert_close(frame["second"], expected, rounds=10, dtype=torch.float32, size=sharpness)
    assert_close(frame["metric"], expected + np.log(size), rounds=10, dtype=torch.float32)
    assert (frame["accuracy"] == 1).all()


def test_random_sequences_are_of_spaced_words():
    words = build_tokenizer().convert_ids_to_tokens(ordinary_tokens(copier(4, 1.0)).tolist())
    assert all(word.startswith(" ") for word in words) and " Mary" in words and len(words) > 300


def test_each_checkpoint_is_measured_once_and_anew_when_its_weights_change(
    stories, tmp_path, monkeypatch
):
    from circuitbook.suites.suite import Checkpoint

    loads = []
    load = Checkpoint.load
    monkeypatch.setattr(
        Checkpoint,
        "load",
        lambda self, **how: loads.append((self.model, self.step)) or load(self, **how),
    )
    store = Store(tmp_path / "store")

    def measure(**how):
        loads.clear()
        return measure_abilities(
            load_suite(str(stories)),
            ["a", "b"],
            ["ioi", "repetition"],
            store,
            n=6,
            progress=False,
            **how,
        )

    first = measure()
    assert loads == [("a", 0), ("a", 4), ("b", 0), ("b", 4)]  # once each, for both tasks
    assert first.groupby(["model", "step", "task"]).size().to_dict()["b", 4, "ioi"] == 6
    assert set(first["tokens_seen"]) == {0, 400}
    again = measure()
    assert loads == []
    pd.testing.assert_frame_equal(first, again)
    measure(seed=43)
    assert len(loads) == 4
    random_network(seed=99, vocab=len(vocabulary())).save_pretrained(stories / "b" / "step4")
    changed = measure()
    assert loads == [("b", 4)]
    assert not np.allclose(
        changed.query("model == 'b' and step == 4 and task == 'ioi'")["metric"],
        first.query("model == 'b' and step == 4 and task == 'ioi'")["metric"],
    )


def test_nan_names_the_checkpoint(stories):
    model = load_suite(str(stories)).checkpoint("a", 4).load()
    with torch.no_grad():
        model.hf_model.get_output_embeddings().weight[:] = float("nan")
    with pytest.raises(FloatingPointError, match="a at step 4.*ioi"):
        task_performance(model, "ioi", n=4)


def curves(rises, noise=0.3, prompts=80):
    """Answers of made-up models that rise to 4 at the given tokens."""
    tokens = 2.0 ** np.arange(0, 15, 0.25)
    rng = np.random.default_rng(0)
    rows = []
    for name, rise in rises.items():
        for step, t in enumerate(tokens):
            height = 4 / (1 + np.exp(-3 * (np.log2(t) - np.log2(rise))))
            rows += [
                {
                    "model": name,
                    "task": "ioi",
                    "step": step,
                    "tokens_seen": t,
                    "prompt": k,
                    "metric": v,
                }
                for k, v in enumerate(rng.normal(height, noise, prompts))
            ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    "rises, answer",
    [
        ({"a": 100, "b": 110, "c": 130}, "yes"),
        ({"a": 100, "b": 900}, "no"),
        ({"a": 100, "b": 200}, "can't tell"),
        ({"a": 100}, "can't tell"),
    ],
)
def test_same_tokens_finds_what_was_put_in(rises, answer):
    found = emergences(curves(rises), "ioi", 0.5)
    for name, rise in rises.items():
        assert found[name].tokens == pytest.approx(rise, rel=0.15)
    same = compare_onsets(found)
    assert same.answer == answer
    if len(rises) > 1:
        assert same.ratio == pytest.approx(max(rises.values()) / min(rises.values()), rel=0.2)
        assert same.low <= same.ratio <= same.high


def test_summary_is_the_mean_with_an_interval():
    frame = curves({"a": 50})
    table = summarise(frame)
    one = frame[frame["step"] == 6]["metric"]
    row = table[table["step"] == 6].iloc[0]
    assert row["mean"] == pytest.approx(one.mean()) and row["prompts"] == 80
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * one.std() / 80**0.5, rel=0.15)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"suite": "mnii"}, "mini"),
        ({"models": "c"}, "'c'"),
        ({"steps": [0, 3]}, "step 3 of a .* 0 and 4"),
        ({"tasks": ["oio"]}, "oio.*ioi"),
        ({"device": "tpu"}, "tpu.*cpu"),
        ({"dtype": "int8"}, "int8.*float32"),
        ({"steps": "paper"}, "paper"),
        ({"steps": []}, "no steps"),
    ],
)
def test_a_bad_parameter_is_one_clear_error(stories, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        select(**{"suite": str(stories), **change})
    assert "\n" not in str(caught.value)


def test_tokens_of_a_step_must_be_known(stories):
    (stories / "suite.json").unlink()
    with pytest.raises(ValueError, match="tiny does not say how many tokens.*TOKENS_PER_STEP"):
        select(str(stories))
    assert select(str(stories), tokens_per_step=7).suite.checkpoint("a", 4).tokens_seen == 28


def test_open_parameters_are_filled_in(stories):
    chosen = select(str(stories))
    assert (
        chosen.models == ("a", "b")
        and chosen.steps == {"a": (0, 4), "b": (0, 4)}
        and chosen.checkpoints == 4
    )
    assert set(chosen.tasks) == {"ioi", "gendered_pronoun", "greater_than", "sva"}
    assert select(str(stories), models="b", steps=[4], tasks="ioi").steps == {"b": (4,)}
