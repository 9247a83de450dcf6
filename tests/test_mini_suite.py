"""The shipped models: that they are what their card says, and can do what the book asks of them."""

import json

import pandas as pd
import pytest

from circuitbook.mini.tokenizer import vocabulary
from circuitbook.mini.train import PLANS, TOKENS_PER_STEP
from circuitbook.studies.abilities import repetition, task_performance
from circuitbook.suites.finding import load_suite

SUITE = load_suite("mini")
FOLDER = SUITE.checkpoint("mini-l", 0).fetch().parents[1]


def test_sizes_seeds_and_checkpoints():
    assert SUITE.standard == ("mini-xs", "mini-s", "mini-m", "mini-l")
    assert set(SUITE.models) == set(PLANS)
    for name, plan in PLANS.items():
        assert (
            SUITE.steps(name) == plan.checkpoints
            and len(plan.checkpoints) >= 13
            and plan.checkpoints[0] == 0
        )
        config = json.loads((FOLDER / name / "step0" / "config.json").read_text())
        shape = (
            config["num_hidden_layers"],
            config["hidden_size"],
            config["num_attention_heads"],
            config["vocab_size"],
        )
        assert shape == (plan.layers, plan.width, plan.heads, len(vocabulary()))
    assert SUITE.checkpoint("mini-s", 128).tokens_seen == 128 * TOKENS_PER_STEP


def test_all_together_fit_in_git():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 90e6
    assert not [path for path in files if path.suffix in (".bin", ".pt") or "partial" in str(path)]


def test_every_checkpoint_has_weights_of_its_own():
    hashes = {SUITE.checkpoint(m, s).weights_hash for m in SUITE.models for s in SUITE.steps(m)}
    assert len(hashes) == sum(len(SUITE.steps(m)) for m in SUITE.models)


@pytest.mark.parametrize("name", SUITE.standard)
def test_all_four_abilities_and_induction_are_there_at_the_end(name):
    model = SUITE.checkpoint(name, SUITE.steps(name)[-1]).load()
    ioi = task_performance(model, "ioi", n=200, seed=1)
    assert ioi["metric"].mean() > 3 and ioi["accuracy"].mean() > 0.95
    assert task_performance(model, "greater_than", n=200, seed=1)["metric"].mean() > 0.7
    assert task_performance(model, "gendered_pronoun", n=50, seed=1)["metric"].mean() > 3
    across = task_performance(model, "sva", n=200, seed=1, mismatched_only=True)
    assert across["accuracy"].mean() > 0.9
    again = repetition(model, seed=1)
    assert again["metric"].mean() > 3 and again["accuracy"].mean() > 0.4


@pytest.mark.parametrize("name", SUITE.models)
def test_nothing_can_be_done_at_step_zero(name):
    model = SUITE.checkpoint(name, 0).load()
    assert abs(task_performance(model, "ioi", n=100)["metric"].mean()) < 0.5
    assert abs(repetition(model)["metric"].mean()) < 0.1


def test_the_training_log_says_what_the_checkpoints_do():
    log = pd.read_csv(FOLDER / "mini-m" / "training.csv").set_index("step")
    model = SUITE.checkpoint("mini-m", 1448).load()
    last = SUITE.checkpoint("mini-m", 3906).load()
    for task in ("ioi", "sva"):  # on other prompts than the log's: two draws of one mean
        metric = task_performance(last, task, n=200)["metric"]
        error = (2 / len(metric)) ** 0.5 * metric.std()
        assert error < 0.1 * metric.mean()
        assert log.loc[3906, task] == pytest.approx(metric.mean(), abs=float(4 * error))
    assert log.loc[1448, "repetition"] == pytest.approx(
        repetition(model)["metric"].mean(), abs=2e-3
    )
    assert log["training_loss"].iloc[1] > 3 > log["training_loss"].iloc[-1]
