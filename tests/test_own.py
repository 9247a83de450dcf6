"""A model of one's own: trained, stopped, gone on with; on part of the language; a suite like any
other."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from circuitbook.mini import train as training
from circuitbook.mini.own import grow, losses, own_plan, sample
from circuitbook.mini.train import TOKENS_PER_STEP, batch
from circuitbook.studies.talking import what_it_says
from circuitbook.suites.finding import load_suite
from circuitbook.tasks.lexicon import held_out_pair
from circuitbook.tasks.stories.documents import document
from circuitbook.tasks.stories.repetition import names_in
from circuitbook.tasks.stories.world import World

SMALL = replace(own_plan(40, layers=2, width=16, heads=2), checkpoints=(0, 20, 40))


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    suite, name = grow(SMALL, tmp_path / "whole", progress=False)
    assert (
        suite.steps(name) == (0, 20, 40)
        and suite.checkpoint(name, 20).tokens_seen == 20 * TOKENS_PER_STEP
    )
    assert losses(tmp_path / "whole", name).shape == (40,)
    monkeypatch.setattr(training, "SAVE_EVERY", 10)
    read = batch

    def stops(seed, step, passages=None):
        if step == 25:
            raise KeyboardInterrupt
        return read(seed, step, passages)

    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "batch", stops)
        grow(SMALL, tmp_path / "halves", progress=False)
    assert (
        torch.get_num_threads() == threads
        and (tmp_path / "halves" / ".state" / f"{name}.pt").exists()
    )
    grow(SMALL, tmp_path / "halves", progress=False)
    first, second = (
        load_file(tmp_path / which / name / "step40" / "model.safetensors")
        for which in ("whole", "halves")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    monkeypatch.setattr(training, "batch", None)  # done: nothing is trained again
    assert grow(SMALL, tmp_path / "whole", progress=False)[1] == name


def test_a_listener_hears_every_checkpoint_once_as_soon_as_it_is_there(tmp_path, monkeypatch):
    heard, read = [], batch

    def listener(model):
        heard.append((model.checkpoint.step, what_it_says(model)))

    def stops(seed, step, passages=None):
        if step == 25:
            raise KeyboardInterrupt
        return read(seed, step, passages)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "batch", stops)
        grow(SMALL, tmp_path, progress=False, listener=listener)
    assert [step for step, _ in heard] == [0, 20]
    heard.clear()
    suite, name = grow(SMALL, tmp_path, progress=False, listener=listener)
    assert [step for step, _ in heard] == [0, 20, 40]
    live = [said for _, said in heard]
    assert live == [what_it_says(suite.checkpoint(name, step).load()) for step in (0, 20, 40)]
    heard.clear()
    grow(SMALL, tmp_path, progress=False, listener=listener)  # nothing is trained
    assert [said for _, said in heard] == live and len({one.continuation for one in live}) > 1


def test_another_plan_is_another_run_in_the_same_folder(tmp_path):
    other = replace(SMALL, seed=2)
    names = [grow(plan, tmp_path, progress=False)[1] for plan in (SMALL, other)]
    assert len(set(names)) == 2 and set(load_suite(str(tmp_path)).models) == set(names)


def test_passages_are_the_ones_that_were_asked_for():
    only = own_plan(700)
    lines = [sample(only, seed) for seed in range(40)]
    assert only.passages == ("meeting",) and not any(
        "said: " in line or "lasted from" in line for line in lines
    )
    assert any(
        "said: " in sample(replace(only, passages=("recitation",)), seed) for seed in range(10)
    )
    pairs = [(a, b) for line in lines for a in names_in(line) for b in names_in(line) if a < b]
    assert pairs and not any(held_out_pair(a, b) for a, b in pairs)
    assert not torch.equal(batch(1, 0), batch(1, 0, ("meeting",)))
    assert sample(replace(only, passages=None), 3) == document(World("sample 3"))


def test_a_plan_that_cannot_be_is_one_line():
    with pytest.raises(ValueError, match="a width of 50 cannot be shared among 4 heads"):
        own_plan(700, width=50)
    with pytest.raises(ValueError, match="5 steps are too few for 10 checkpoints"):
        own_plan(5)
    with pytest.raises(ValueError, match="no passages 'meetings'; it has meeting, recitation, "):
        sample(own_plan(700, passages=["meetings"]))


@pytest.mark.slow
def test_ioi_emerges_in_the_books_own_run(tmp_path):
    """What the chapter rests on: at its own settings a circuit appears. (It says so truthfully
    where it does not.)"""
    from circuitbook.studies.abilities import task_performance

    suite, name = grow(own_plan(700), tmp_path, progress=False)
    score = [
        task_performance(suite.checkpoint(name, step).load(), "ioi", n=60)["metric"].mean()
        for step in (0, 210, 700)
    ]
    assert max(abs(score[0]), abs(score[1])) < 0.8 and score[2] > 1.5
