"""Runs on ordered lists: trained, stopped, gone on with and measured; and what their table says."""

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import hypergeom

from circuitbook.__main__ import main
from circuitbook.heads.names import all_heads, head_name
from circuitbook.heads.path_patching import path_patch
from circuitbook.mini import lists as running
from circuitbook.mini import train as training
from circuitbook.mini.list_text import ListText, RoleText
from circuitbook.mini.lists import ListRun, list_run, run_lists
from circuitbook.mini.train import Plan
from circuitbook.model.graph import graph_of
from circuitbook.records.list_runs import recorded_runs
from circuitbook.store.locks import alone_in
from circuitbook.studies import list_heads
from circuitbook.studies.classifying import classify_heads
from circuitbook.studies.findings.two_algorithms import (
    association,
    by_depth,
    hypothesis_sentence,
    last_of_runs,
    trend,
)
from circuitbook.studies.head_scores import HeadScores
from circuitbook.studies.list_heads import SETTINGS, SIGNALS, ListHeads, _steering, list_arrays
from circuitbook.studies.list_runs import run_row
from circuitbook.suites.finding import load_suite
from circuitbook.tasks import next_in_list

TINY = Plan(layers=2, width=16, heads=4, lr=1e-2, steps=24, warmup=3, checkpoints=(0, 12, 24))
TEXT = ListText(seed=1, pairs_until=32, threes_until=32)


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def few_prompts(monkeypatch):
    monkeypatch.setattr(list_heads, "PROMPTS", 12)


def weights(folder):
    return {step: load_file(folder / f"step{step}/model.safetensors") for step in TINY.checkpoints}


def test_runs_go_on_where_they_were_stopped(tmp_path, monkeypatch, few_prompts, one_thread):
    runs = [ListRun(TINY, TEXT), ListRun(replace(TINY, seed=2), replace(TEXT, seed=2))]
    whole = run_lists(runs, tmp_path / "a", progress=False)
    monkeypatch.setattr(training, "SAVE_EVERY", 4)
    read = ListText.__call__
    for seed, at in ((1, 9), (1, 18), (2, 3)):

        def stops(text, step, seed=seed, at=at):
            if (text.seed, step) == (seed, at):
                raise KeyboardInterrupt
            return read(text, step)

        monkeypatch.setattr(ListText, "__call__", stops)
        with pytest.raises(KeyboardInterrupt):
            run_lists(runs, tmp_path / "b", progress=False)
    monkeypatch.setattr(ListText, "__call__", read)
    parts = run_lists(runs, tmp_path / "b", progress=False)
    pd.testing.assert_frame_equal(whole.drop(columns="seconds"), parts.drop(columns="seconds"))
    assert (whole["seconds"] > 0).all() and len(whole) == 6
    for run in runs:
        first, second = (weights(tmp_path / out / run.name) for out in "ab")
        for step in TINY.checkpoints:
            assert all(torch.equal(first[step][k], second[step][k]) for k in first[step])
        assert any(not torch.equal(first[0][k], first[24][k]) for k in first[0])
    kept = pd.read_csv(tmp_path / "b" / "runs.csv")
    assert kept["run"].tolist() == whole["run"].tolist()
    np.testing.assert_allclose(kept["difference_2"], whole["difference_2"], rtol=1e-4)
    assert load_suite(tmp_path / "b").steps(runs[1].name) == TINY.checkpoints
    # Once more: nothing is trained, nothing measured
    monkeypatch.setattr(training, "build_model", None)
    entries = sorted(path.name for path in (tmp_path / "b" / ".store").rglob("*.json"))
    again = run_lists(runs, tmp_path / "b", progress=False)
    pd.testing.assert_frame_equal(parts, again)
    assert entries == sorted(path.name for path in (tmp_path / "b" / ".store").rglob("*.json"))
    assert len(entries) == 6
    # One of them alone: the table keeps the others
    alone = run_lists(runs[1:], tmp_path / "b", progress=False)
    assert alone["run"].tolist() == whole["run"].tolist()
    read_back = recorded_runs(tmp_path / "b" / "runs.csv")
    assert (read_back["mover"] == alone["mover"]).all() and read_back["step"].tolist() == [
        *(0, 12, 24, 0, 12, 24)
    ]


def test_processes_share_the_runs_out(tmp_path, few_prompts, one_thread, capsys):
    """What another process is at is left to it, and its rows are in the table as they are there."""
    runs = [ListRun(replace(TINY, seed=seed), replace(TEXT, seed=seed)) for seed in (1, 2)]
    first = run_lists(runs[:1], tmp_path, progress=False)
    (tmp_path / runs[1].name).mkdir()
    with alone_in(tmp_path / runs[1].name):
        both = run_lists(runs, tmp_path, progress=False)
    pd.testing.assert_frame_equal(both, first)
    said = capsys.readouterr().out
    assert f"{runs[1].name} is left to process {os.getpid()}" in said
    assert run_lists(runs, tmp_path, progress=False)["seed"].tolist() == [1, 1, 1, 2, 2, 2]


def test_another_run_of_the_same_name_is_refused(tmp_path, few_prompts, one_thread):
    run = ListRun(replace(TINY, steps=8, checkpoints=(0, 8)), TEXT)
    run_lists([run], tmp_path, progress=False)
    about = json.loads((tmp_path / run.name / "run.json").read_text())
    assert about["plan"]["lr"] == 1e-2 and {"torch", "python"} <= set(about["versions"])
    for other in (
        ListRun(replace(run.plan, lr=2e-2), TEXT),
        ListRun(run.plan, replace(TEXT, share=0.5)),
    ):
        with pytest.raises(ValueError, match="is another run .* choose another --out"):
            run_lists([other], tmp_path, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layers", "0"], "at least one layer, not 0"),
        (["--seeds", "-1"], "whole numbers from 0 on, not -1"),
        (["--steps", "100"], "100 steps are too few"),
        (["--threads", "0"], "--threads is at least 1, not 0"),
        (["--device", "tpu"], "device 'tpu' is not available"),
    ],
)
def test_bad_input_is_one_line(tmp_path, options, message):
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        main(["study", "lists", "--out", str(tmp_path / "out"), *options])
    assert not (tmp_path / "out").exists()


def test_givers_by_roles_are_a_study_of_their_own(tmp_path, monkeypatch, few_prompts, one_thread):
    asked, table = [], table_of((4, *BEFORE, 0.5))
    monkeypatch.setattr(
        running, "run_lists", lambda runs, out, device: asked.append((runs, out)) or table
    )
    monkeypatch.chdir(tmp_path)
    main(["study", "roles", "--seeds", "3", "1"])
    [(runs, out)] = asked
    assert [run.name for run in runs] == ["roles-4x64-seed3", "roles-4x64-seed1"]
    assert runs[0].plan.steps == running.ROLE_STEPS and out == Path("retrained/roles")
    with pytest.raises(SystemExit, match="no weights of runs with roles come with the book"):
        main(["study", "roles", "--ship", "roles-4x64-seed1"])
    text = RoleText(seed=1, pairs_until=32, threes_until=32)
    monkeypatch.undo()
    monkeypatch.setattr(list_heads, "PROMPTS", 12)
    rows = run_lists([ListRun(replace(TINY, checkpoints=(0, 24)), text)], tmp_path, progress=False)
    assert "tag_k" in rows and set(rows["run"]) == {"roles-2x16-seed1"}
    assert recorded_runs(tmp_path / "runs.csv")["tag_by_k"].tolist() == rows["tag_by_k"].tolist()
    model = load_suite(tmp_path).checkpoint("roles-2x16-seed1", 24).load()
    for roles, alike in (
        (True, True),
        (False, False),
    ):  # measured on prompts with roles, not without
        pairs = next_in_list.TASK.prompts(model.tokenizer, 12, sizes=(2,), roles=roles)
        measured = pairs.metric(model.logits(pairs.clean, pairs.end)).mean().item()
        assert (rows["difference_2"].iloc[-1] == pytest.approx(measured, rel=1e-4)) == alike


def test_the_command_trains_what_it_is_asked_for(tmp_path, monkeypatch, capsys, one_thread):
    asked, table = [], table_of((4, "3.1", "", "", 1.0), (4, *BEFORE, 0.5))
    monkeypatch.setattr(running, "run_lists", lambda runs, out, device: asked.extend(runs) or table)
    main(["study", "lists", "--layers", "6", "4", "--seeds", "3", "1", "--out", str(tmp_path)])
    assert [(run.plan.layers, run.plan.seed) for run in asked] == [(6, 3), (6, 1), (4, 3), (4, 1)]
    assert all(run.text.seed == run.plan.seed for run in asked)
    assert len(asked[0].plan.checkpoints) == 13 and asked[0].plan.checkpoints[-1] == running.STEPS
    said = capsys.readouterr().out
    assert "2 runs, 4 checkpoints" in said and "Of 2 runs, 1 solved all lists" in said
    assert list_run(layers=5, seed=1).plan.lr in running.RATES.values()


# ------------------------------------------------------------------ what is measured


@pytest.fixture(scope="module")
def model():
    return load_suite("mini").checkpoint("mini-l", 3906).load(dtype=torch.float64)


def test_steering_is_what_the_librarys_own_stages_give(model):
    """`classify_heads`, with two heads made name movers by hand."""
    movers = [(4, 1), (5, 2)]
    pairs = next_in_list.TASK.prompts(model.tokenizer, 12)
    moved = {way: next_in_list.TASK.prompts(model.tokenizer, 12, corruption=way) for way in SIGNALS}
    ours = _steering(model, pairs, movers, moved)
    is_mover = np.array([head in movers for head in all_heads(model)])
    by_head = np.repeat(is_mover[:, None], 12, 1).astype(float)
    known = {"clean": np.full(12, 4.0), "corrupted": np.zeros(12), "direct": 4 - 2 * by_head}
    known |= {"copy": by_head, "negative_copy": 0 * by_head, "previous": by_head}
    mask = np.ones_like(graph_of(model).mask)
    scores = HeadScores("m", 1, 1, 4, known, next_in_list.TASK)
    twin = classify_heads(model, scores, mask, SETTINGS)
    assert [tuple(head) for head in twin["receivers.q"]] == movers
    np.testing.assert_allclose(ours["patched.steering"], twin["patched.steering"], rtol=1e-9)
    for signal in ("order", "token"):
        turned = twin[f"turned.{signal}"]
        np.testing.assert_allclose(ours[f"turned.{signal}"], turned, atol=1e-6)
        assert abs(turned).max() > 1e-3


def test_ranks_are_of_the_right_name_among_all(model):
    arrays = list_arrays(model, prompts=12)
    for i, size in enumerate((2, 3, 4)):
        pairs = next_in_list.TASK.prompts(model.tokenizer, 12, sizes=(size,))
        logits = model.logits(pairs.clean, pairs.end)
        io, s = pairs.answers.T
        rows = torch.arange(12)
        better = (logits > logits[rows, io][:, None]).sum(1)
        np.testing.assert_array_equal(arrays["rank"][i], better)
        np.testing.assert_allclose(
            arrays["difference"][i], logits[rows, io] - logits[rows, s], rtol=1e-5
        )


def test_with_roles_it_is_measured_who_tells_of_them(model):
    """Of the head without whom the choice of lists of four is worst, on exchanged roles."""
    arrays = list_arrays(model, prompts=6, roles=True)
    asked = partial(next_in_list.TASK.prompts, model.tokenizer, 6, roles=True)
    across, exchanged = asked(corruption="across", sizes=(4,)), asked(corruption="exchange")
    alone = path_patch(model, across, all_heads(model), ["logits"]).metric.mean(1)
    chooser = head_name(all_heads(model)[int(alone.argmin())])
    for name, tokens in (("clean", exchanged.clean), ("corrupted", exchanged.corrupted)):
        metric = exchanged.metric(model.logits(tokens, exchanged.end))
        np.testing.assert_allclose(arrays[f"tag.{name}"], metric, rtol=1e-5)
    senders = [(0, 1), (3, 2)]
    at = [all_heads(model).index(head) for head in senders]
    moved = 0.0
    for kind in "qkv":
        found = path_patch(model, exchanged, senders, [f"{chooser}<{kind}>"]).metric
        np.testing.assert_allclose(arrays[f"tag.{kind}"][at], found, rtol=1e-5, atol=1e-6)
        moved = max(moved, float(abs(found - found.mean(0)).max()))
    assert moved > 1e-3
    assert not [name for name in list_arrays(model, prompts=6) if name.startswith("tag")]


def by_hand(**changed) -> ListHeads:
    """Three layers of two heads on four prompts (clean 3, corrupted -1, so that a metric of 3 + 4e
    has effect e).

    2.0 is the strongest mover (-.5), 2.1 a weaker one (-.1); 1.0 writes against S (-.3), 1.1 looks
    at S without doing anything; 0.1 steers the movers (-.4).
    """

    def rows(values):
        return np.repeat(np.array(values, dtype=np.float32)[:, None], 4, 1)

    effects = {"direct": [0, 0, -0.3, -0.005, -0.5, -0.1], "steering": [0, -0.4, -0.05, 0, 0, 0]}
    arrays = {
        "rank": np.array([[0, 0, 0, 0], [0, 0, 0, 2], [1, 1, 0, 0]], np.float32),
        "difference": np.full((3, 4), 3.0, np.float32),
        "clean": np.full(4, 3.0),
        "corrupted": np.full(4, -1.0),
        "direct": 3 + 4 * rows(effects["direct"]),
        "choice.clean": np.full(4, 2.0),
        "choice.corrupted": np.full(4, -2.0),
        "choice.direct": 2 + 4 * rows([0, 0, 0.01, 0, -0.2, -0.7]),
        "choice.q": 2 + 4 * rows([-0.1, -0.6, 0, 0, 0, 0]),
        "choice.k": 2 + 4 * rows([0, 0, 0.2, 0, 0, 0]),
        "choice.v": 2 + 4 * rows([0, 0, -0.05, 0, 0, 0]),
        "copy": rows([0, 0, 0, 0, 1, 0.5]),
        "negative_copy": rows([0, 0, 0.75, 1, 0, 0]),
        "to_IO": rows([0.1, 0, 0, 0.1, 0.9, 0.7]),
        "to_S1": rows([0.1, 0, 0.2, 0.2, 0, 0.1]),
        "to_S2": rows([0.1, 1, 0.6, 0.5, 0, 0]),
        "movers": np.array([0, 0, 0, 0, 1, 1], bool),
        "previous": rows(np.zeros(6)),
        "patched.steering": 3 + 4 * rows(effects["steering"]),
        "allowed": np.ones(6, bool),
    }
    change = np.zeros((6, 3, 4))
    change[1] = np.array([-0.8, 0.7, 0])[:, None]  # away from IO, towards S1
    arrays |= {"turned.order": np.zeros((6, 3, 4)), "turned.token": change}
    for place, without in (("IO", 0.05), ("S1", 0.85), ("S2", 0.0)):
        attention = np.full((6, 2, 4), 0.5)
        attention[1, 0] = without
        arrays[f"without.{place}"] = attention
    return ListHeads(model="m", step=8, tokens_seen=9, n_heads=2, arrays=arrays | changed)


STRONGEST = ("mover", "writer", "steerer", "chooser")


def test_a_row_of_a_checkpoint_by_hand():
    row = run_row(by_hand())
    assert (row["top_2"], row["top_3"], row["top_4"], row["able"]) == (1.0, 0.75, 0.5, True)
    assert (row["movers"], row["against"], row["inhibits"]) == ("2.0 2.1", "1.0", "0.1")
    assert [row[name] for name in STRONGEST] == ["2.0", "1.0", "0.1", "2.1"]
    told = [row[f"chooser_by_{kind}"] for kind in "qkv"]
    assert told == ["0.1", "", "1.0"] and row["chooser_by_k_effect"] is None
    numbers = {
        "mover_effect": -0.5,
        "mover_IO": 0.9,
        "mover_copies": 1.0,
        "writer_effect": -0.3,
        "writer_S": 0.8,
        "writer_lowers": 0.75,
        "steerer_effect": -0.4,
        "steerer_S": 1.0,
        "steerer_direct": 0.0,
        "chooser_effect": -0.7,
        "chooser_IO": 0.7,
        "chooser_S": 0.1,
        "chooser_by_q_effect": -0.6,
        "chooser_by_v_effect": -0.05,
        "without_IO": 0.05,
        "without_S1": 0.85,
        "share_movers": 0.6 / 0.905,
        "share_against": 0.3 / 0.905,
        "share_others": 0.005 / 0.905,
    }
    assert {name: row[name] for name in numbers} == pytest.approx(numbers, abs=1e-6)


def test_a_row_with_roles_by_hand():
    def through(*effects):
        return 3 + 6 * np.repeat(np.array(effects)[:, None], 4, 1)

    tags = {
        "tag.clean": np.full(4, 3.0),
        "tag.corrupted": np.full(4, -3.0),
        "tag.q": through(0, -0.1, 0, 0, 0, 0),
        "tag.k": through(-0.2, 0.3, -0.4, 0, 0, 0),
        "tag.v": through(0, 0, 0, 0.2, 0, 0),
    }
    row = run_row(by_hand(**tags))
    assert [row[f"tag_by_{kind}"] for kind in "qkv"] == ["0.1", "1.0", ""]
    assert [row["tag_by_q_effect"], row["tag_by_k_effect"]] == pytest.approx([-0.1, -0.4])
    assert row["tag_by_v_effect"] is None
    assert [row[f"tag_{kind}"] for kind in "qkv"] == pytest.approx([-0.1, -0.6, 0.0])
    undecided = run_row(by_hand(**tags, **{"choice.clean": np.full(4, 0.9)}))
    assert undecided["tag_by_k"] == "" and undecided["tag_k"] is None
    assert not [name for name in run_row(by_hand()) if name.startswith("tag")]


def test_a_head_that_only_moves_attention_elsewhere_is_no_s_inhibition():
    towards = {"turned.token": -by_hand().arrays["turned.token"]}
    assert run_row(by_hand(**towards))["inhibits"] == ""
    weak = {"patched.steering": np.full((6, 4), 3 - 4 * 0.009)}
    assert run_row(by_hand(**weak))["inhibits"] == ""
    assert run_row(by_hand(**weak))["steerer"] == "0.0"  # the strongest still, of whatever strength


def test_what_cannot_do_the_task_has_no_classes():
    row = run_row(by_hand(clean=np.full(4, 0.9), movers=np.zeros(6, bool)))
    assert not row["able"] and row["against"] == row["mover"] == row["writer"] == ""
    assert row["mover_effect"] is None and row["share_movers"] is None
    undecided = run_row(by_hand(**{"choice.clean": np.full(4, 0.9)}))
    assert undecided["chooser"] == "" and undecided["mover"] == "2.0"


# ------------------------------------------------------------------ what the table says


def runs_of(*runs) -> pd.DataFrame:
    """What counts of `table_of`."""
    return last_of_runs(table_of(*runs))


def table_of(*runs) -> pd.DataFrame:
    """Runs of (layers, writer, mover, inhibits, top_4), with a checkpoint before the last, which
    must not count."""
    rows = []
    for seed, (layers, writer, mover, inhibits, top) in enumerate(runs):
        about = {"run": f"{layers}-{seed}", "layers": layers, "seed": seed, "steps": 10}
        about |= {"chooser_IO": 0.9 if mover else 0.1, "chooser_S": 0.0 if mover else 0.8}
        tops = {"top_2": 1.0, "top_3": 0.95, "top_4": top}
        rows.append(about | tops | dict(step=5, mover="0.0", writer="0.0", inhibits="0.1"))
        rows.append(about | tops | dict(step=10, mover=mover, writer=writer, inhibits=inhibits))
    return pd.DataFrame(rows)


BEFORE, BEHIND = ("1.0", "2.0", "0.1 1.1"), ("3.0", "2.1", "")


def test_the_last_checkpoint_of_solved_runs_counts():
    last = runs_of(
        (4, "1.0", "1.1", "0.1", 1.0),  # the same layer is not before
        (4, "10.0", "9.0", "", 1.0),  # layers are numbers
        (4, "2.0", "10.1", "", 1.0),
        (4, "", "3.0", "", 1.0),
        (4, "1.0", np.nan, "", 1.0),
        (4, *BEFORE, 0.85),
    )
    assert last["before"].tolist() == [False, False, True, pd.NA, pd.NA, True]
    assert last["solved"].tolist() == [True] * 5 + [False]
    found = association(last)
    assert found.counts.to_numpy().tolist() == [[0, 1], [1, 1]] and found.exceptions == 2
    assert last["chosen_at"].tolist() == ["IO"] * 4 + ["IO", "IO"]
    table = by_depth(last)
    assert table["chosen_at_IO"].item() == 5 and table["chosen_at_S"].item() == 0
    assert table[["runs", "solved", "with_both"]].to_numpy().tolist() == [[6, 5, 3]]
    assert table["before"].item() == pytest.approx(1 / 3)


def test_fishers_test_and_the_shares_by_depth():
    last = runs_of(
        *[(4, *BEHIND, 1.0)] * 5, (4, *BEFORE, 1.0), *[(8, *BEFORE, 1.0)] * 5, (8, *BEHIND, 1.0)
    )
    found = association(last)
    assert found.counts.to_numpy().tolist() == [[6, 0], [0, 6]]
    # The two tables with all on a diagonal are the least likely ones
    assert found.p == pytest.approx(2 * hypergeom(12, 6, 6).pmf(6)) and found.tests
    table = by_depth(last).set_index("layers")
    np.testing.assert_allclose(table["before"], [1 / 6, 5 / 6])
    # Clopper and Pearson: one of six at 2.5% in either tail
    low = table.loc[4, "before_low"]
    assert 1 - (1 - low) ** 6 == pytest.approx(0.025)
    correlation, p = trend(last)
    assert correlation == pytest.approx(2 / 3) and 0.02 < p < 0.1
    assert trend(runs_of(*[(4, *BEHIND, 1.0)] * 3))[0] is np.nan


def test_the_sentence_says_what_the_runs_say():
    together = [(4, *BEFORE, 1.0)] * 5 + [(4, *BEHIND, 1.0)] * 5
    assert "They are the same runs (Fisher's exact p = 0.0079)." in hypothesis_sentence(
        runs_of(*together)
    )
    one_off = hypothesis_sentence(runs_of(*together * 2, (4, "1.0", "2.0", "", 1.0)))
    assert "The two go together" in one_off and "1 run contradicts" in one_off
    crossed = [(4, "1.0", "2.0", mark, 1.0) for mark in ("", "0.1")]
    crossed += [(4, "3.0", "2.0", mark, 1.0) for mark in ("", "0.1")]
    said = hypothesis_sentence(runs_of(*crossed * 2))
    assert "are not seen to go together" in said and "4 runs contradict" in said and "50%" in said
    agree = hypothesis_sentence(runs_of(*[(4, *BEHIND, 1.0)] * 4))
    assert agree.endswith("whether they go together is not tested.")
    both = hypothesis_sentence(runs_of((4, *BEFORE, 1.0), (4, "3.0", "2.0", "0.1", 1.0)))
    assert "is not tested; but 1 run has S-inhibition without that order" in both
    none = hypothesis_sentence(runs_of((4, *BEFORE, 0.5), (4, "3.1", "", "", 1.0)))
    assert "Of 2 runs, 1 solved all lists, none of them with a name mover" in none
    assert "in 1 the head that chooses the receiver looks at the giver" in none
    reverse = [(4, "1.0", "2.0", "", 1.0)] * 5 + [(4, "3.0", "2.0", "0.1", 1.0)] * 5
    assert "The two exclude one another" in hypothesis_sentence(runs_of(*reverse))
