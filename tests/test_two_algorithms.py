"""What the page on two algorithms says, where the right words are known; and what comes with the
book of its runs."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes

from circuitbook.figures import two_algorithms as figures
from circuitbook.figures.lab_cell import checkpoints_in_a_page
from circuitbook.mini import shipping
from circuitbook.mini.list_text import write_lists
from circuitbook.mini.lists import list_run
from circuitbook.mini.shipping import ship, training_log
from circuitbook.recipes import ROBUST
from circuitbook.records.list_runs import LABELS, ROLES, recorded_runs
from circuitbook.records.passages import LIST_PASSAGES
from circuitbook.studies.findings import role_lists
from circuitbook.studies.findings import two_algorithms as findings
from circuitbook.studies.findings.lab_lists import who_tells
from circuitbook.studies.head_classes import CLASSES, HeadClasses
from circuitbook.studies.list_heads import PROMPTS
from circuitbook.studies.lists_chapter import classes_elsewhere, open_lists
from circuitbook.suites import load_suite
from circuitbook.tasks.next_in_list import TASK

NONE = {
    "mover": "", "movers": "", "writer": "3.2", "inhibits": "", "chooser": "", "chooser_IO": np.nan,
    "chooser_S": np.nan, "chooser_effect": np.nan,
    **{f"chooser_by_{kind}": "" for kind in "qkv"},
    **{f"chooser_by_{kind}_effect": np.nan for kind in "qkv"},
    "mover_IO": np.nan, "without_IO": np.nan, "without_S1": np.nan,
}  # fmt: skip
MOVE = NONE | {
    "mover": "3.1", "inhibits": "2.3 2.0", "chooser": "3.1", "chooser_IO": 0.8, "chooser_S": 0.1,
    "chooser_effect": -0.7, "chooser_by_q": "2.3", "chooser_by_q_effect": -0.6, "mover_IO": 0.8,
    "without_IO": 0.1, "without_S1": 0.7,
}  # fmt: skip
FETCH = NONE | {
    "chooser": "3.2", "chooser_IO": 0.0, "chooser_S": 0.9, "chooser_effect": -1.0,
    "chooser_by_v": "2.0", "chooser_by_v_effect": -0.5,
}  # fmt: skip


def runs_of(*runs) -> pd.DataFrame:
    """Runs of (layers, what they end with), which learn lists of three at the third checkpoint of
    four, if ever."""
    rows = []
    for seed, (layers, end) in enumerate(runs, start=1):
        for at, step in enumerate((0, 10, 20, 30)):
            learned = at >= 2 and end is not NONE
            about = {"run": f"r{seed}", "layers": layers, "width": 64, "seed": seed, "steps": 30}
            tops = {"top_2": float(at > 0), "top_3": 0.97 if learned else 0.5 * (at > 0)}
            tops["top_4"] = 0.95 if learned else 0.33
            rows.append(
                about | {"step": step, "tokens_seen": step * 2048} | tops
                | (end if learned else NONE)
            )  # fmt: skip
    return pd.DataFrame(rows)


def test_an_algorithm_is_told_by_where_the_choice_is_made():
    runs = runs_of((4, MOVE), (4, NONE), (6, FETCH), (6, MOVE | {"chooser_IO": 0.3}))
    last = findings.last_of_runs(runs)
    assert last["algorithm"].tolist() == ["move", "", "fetch", ""]
    assert last["solved"].tolist() == [True, False, True, True]
    said = findings.answer(last)
    assert "Of 4 runs" in said and "3 learn all lists: 1 as the paper has it" in said
    assert (
        "1 by another way" in said and "In 1 the choice is carried by no single head, or by" in said
    )
    assert findings.runs_with("move", ["r3", "r1", "new"], last) == ["r1"]


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([(4, MOVE)] * 6 + [(6, FETCH)] * 6, "0 of 6 with 4 layers and 6 of 6 with 6 layers: more"),
        ([(4, FETCH)] * 6 + [(6, MOVE)] * 6, "0 of 6 with 6 layers: less often the deeper"),
        ([(4, MOVE), (4, FETCH), (6, MOVE), (6, FETCH)], "we can't tell whether depth matters"),
        ([(4, MOVE)] * 3, "They fetch in 0 of 3 with 4 layers."),
    ],
)
def test_depth_is_said_to_matter_where_it_does(runs, words):
    assert words in findings.answer(findings.last_of_runs(runs_of(*runs)))


def test_when_lists_of_three_are_learned():
    runs = runs_of((4, MOVE), (4, NONE))
    assert findings.learned_at(runs).tolist() == [20 * 2048, pytest.approx(np.nan, nan_ok=True)]
    fell = runs.copy()
    fell.loc[(fell["run"] == "r1") & (fell["step"] == 20), "top_3"] = 0.8
    assert findings.learned_at(fell)["r1"] == 30 * 2048
    last = findings.last_of_runs(runs)
    said = findings.learning_sentence(runs, last)
    assert "in 1 run they do not come by the end" in said and "in 100% of the prompts" in said
    none = runs_of((4, NONE))
    assert findings.learning_sentence(none, findings.last_of_runs(none)) == (
        "No run learns lists of three."
    )


def test_the_first_choice_is_compared_with_the_last():
    runs = runs_of((4, MOVE), (6, FETCH))
    last = findings.last_of_runs(runs)
    said = findings.parting_sentence(runs, last)
    assert "in 2 of 2 runs" in said and said.endswith("and it is the same head.")
    at = (runs["run"] == "r2") & (runs["step"] == 20)
    runs.loc[at, ["chooser", "chooser_IO", "chooser_S"]] = ["1.1", 0.6, 0.2]
    said = findings.parting_sentence(runs, last)
    assert "in 1 of 2 runs" in said and said.endswith("(in 1 it is another head by then).")
    none = runs_of((4, NONE))
    assert "No run" in findings.parting_sentence(none, findings.last_of_runs(none))


def test_what_it_cost_is_a_mean_over_runs():
    runs = runs_of((4, MOVE), (4, NONE), (6, FETCH)).assign(seconds=60.0)
    runs.loc[runs["run"] == "r1", "seconds"] = 90.0
    said = findings.cost_sentence(runs)  # four checkpoints each: 6 and 4 minutes, and 4
    assert "2 runs of 4 layers, 5 minutes each and 1 run of 6 layers, 4 minutes each" in said
    assert findings.cost_sentence(runs, "tales").startswith("Trained were, on tales, for 61.4k")
    assert findings.cost_sentence(runs[runs["step"] < 30]) == "No run has ended yet."


def test_a_row_of_each_run():
    table = findings.seeds_table(findings.last_of_runs(runs_of((6, FETCH), (4, MOVE), (4, NONE))))
    assert table["layers"].tolist() == [4, 4, 6]
    assert table["algorithm"].tolist() == ["move", "-", "fetch"]
    assert table["told by"].tolist() == ["2.3", "", "2.0"]
    assert table["lists of 2, 3, 4 right"].tolist()[0] == "100%, 97%, 95%"


def test_what_movers_do_without_s_inhibition():
    said = findings.without_sentence(findings.last_of_runs(runs_of((4, MOVE), (4, FETCH))))
    assert "In 1 run" in said and "with 80% of its attention, and with 10%" in said
    assert "No run" in findings.without_sentence(findings.last_of_runs(runs_of((4, FETCH))))


def classes(step: int, **members: int) -> HeadClasses:
    found = {name: np.arange(4) == members.get(name.replace("-", "_"), -1) for name in CLASSES}
    return HeadClasses(
        "r1", step, step, 2, np.ones(4), np.zeros(4), {}, found, np.ones(4, bool), {},
        np.zeros((4, 3)), 0.01, {},
    )  # fmt: skip


def test_whether_the_algorithm_stays_is_said_of_each_stage():
    shares = pd.DataFrame(
        [
            ("r1", step, stage, "absolute", share)
            for step, direct, steering in ((1, 0.2, np.nan), (2, 0.9, 0.8), (3, 0.8, 1.0))
            for stage, share in (("direct", direct), ("steering", steering), ("tertiary", np.nan))
        ],
        columns=["model", "step", "stage", "form", "share"],
    )
    at = [
        classes(1),
        classes(2, S_inhibition=1, induction=2),
        classes(3, S_inhibition=1, induction=3),
    ]
    said = findings.stays_sentence(shares, at, ["r1"])
    assert "at the 2 checkpoints with S-inhibition" in said  # what was before does not count
    assert "(B is never below 80% and C is never below 80%)" in said
    assert "1 of the 2 places in a class are held by the same head" in said
    assert "D has nothing to explain" in said
    assert findings.stays_sentence(shares, at[:1], ["r1"]) == "In r1 no head is S-inhibition."


def test_transfers_are_sorted_by_algorithm():
    names = ("a", "b", "c")
    rows = [
        dict(
            task="next_in_list", source=source, target=target, source_step=9, target_step=9,
            source_tokens=1, target_tokens=1, what=what, edges=3,
            faithfulness=0.0 if what == "other classes"
            else 1.0 if source == target else 0.8 if {source, target} == {"a", "b"} else 0.1,
        )
        for source in names
        for target in names
        for what in ("classes", "other classes")
        if what == "classes" or source == target
    ]  # fmt: skip
    summary = findings.transfer_by_algorithm(
        pd.DataFrame(rows), {"a": "move", "b": "move", "c": "fetch"}
    )
    assert summary["pairs"].tolist() == [2, 4]
    np.testing.assert_allclose(summary["kept"], [0.8, 0.1])
    said = findings.transfer_sentence(summary)
    assert "same algorithm it keeps 80% (the target's own pattern 100%, shuffled heads 0%)" in said
    assert "other algorithm it keeps 10%" in said
    assert "no two runs" in findings.transfer_sentence(summary[:0])


# ------------------------------------------------------------------ givers called by their roles


def roles_of(*runs) -> pd.DataFrame:
    """`runs_of`, of (what it ends with, sums of the effects through q, k and v)."""
    table = runs_of(*((4, end) for end, _ in runs))
    for run, (_, sums) in enumerate(runs, start=1):
        for kind, total in zip("qkv", sums, strict=True):
            at = table["run"] == f"r{run}"
            table.loc[at, [f"tag_{kind}", f"tag_by_{kind}_effect"]] = total, total / 2
            table.loc[at, f"tag_by_{kind}"] = f"0.{'qkv'.index(kind)}"
    return table


def test_what_runs_with_roles_say():
    table = roles_of(
        (MOVE, (-0.1, -0.6, 0.0)),
        (MOVE | {"inhibits": ""}, (-0.5, -0.2, 0.0)),
        (FETCH, (-0.1, 0.0, -0.9)),
        (NONE, (np.nan, np.nan, np.nan)),
    )
    last = findings.last_of_runs(table)
    assert role_lists.told_through(last).tolist() == ["k", "q", "v", ""]
    said = role_lists.roles_sentence(table, last)
    assert said.startswith(
        "Of 4 runs whose givers are called by a role, 3 learn all lists: 2 find and move and 1 "
        "look up and fetch."
    )
    assert "Of those that find and move, 1 has S-inhibition" in said
    assert "right after 20.5k tokens" in said
    assert "in 1 mostly through its keys" in said and "in 1 mostly through its values" in said
    rows = role_lists.roles_table(last)
    assert rows["role told through"].tolist() == ["keys", "queries", "values", "-"]
    assert rows["by"].tolist() == ["0.1", "0.0", "0.2", ""]
    np.testing.assert_allclose(rows["effect of that"], [-0.3, -0.25, -0.45, np.nan])
    elsewhere = MOVE | {"chooser_IO": 0.1, "chooser_by_v": "2.0", "movers": "1.1 2.0"}
    other = roles_of((elsewhere, (0.0, 0.0, -0.5)), (elsewhere | {"movers": ""}, (0.0, 0.0, -0.5)))
    said = role_lists.roles_answer(findings.last_of_runs(other))
    assert said.endswith(
        "2 learn all lists; in 1 a head that looks at neither name passes on what a name mover "
        "found; in 1 no single head, or one that looks at neither name, carries the choice."
    )
    none = roles_of((NONE, (np.nan,) * 3))
    assert role_lists.roles_sentence(none, findings.last_of_runs(none)) == (
        "Of 1 run whose givers are called by a role, 0 learn all lists."
    )
    assert "has ended" in role_lists.roles_answer(last[:0])
    assert role_lists.roles_table(last[:0]).empty


def test_a_run_that_changes_its_algorithm_is_told_of():
    table = roles_of((MOVE, (-0.1, -0.6, 0.0)), (FETCH, (0.0, 0.0, -0.9)), (NONE, (np.nan,) * 3))
    last = findings.last_of_runs(table)
    assert findings.changes_sentence(table, last) == "No run changes its algorithm on the way."
    at = (table["run"] == "r1") & (table["step"] == 20)
    table.loc[at, ["chooser", "chooser_IO", "chooser_S"]] = ["2.1", 0.1, 0.8]
    before = (table["run"] == "r1") & (table["step"] == 10)
    table.loc[before, ["chooser", "chooser_IO", "chooser_S"]] = ["2.1", 0.4, 0.3]  # at neither
    phases = findings.algorithms_over_training(table, "r1")
    assert phases.to_numpy().tolist() == [[20 * 2048, "fetch"], [30 * 2048, "move"]]
    assert findings.changes_sentence(table, last) == (
        "1 run of 2 that end with one of the two changes its algorithm on the way: r1 begins to "
        "look up and fetch at 41k tokens and goes over to finding and moving at 61.4k."
    )
    assert findings.changes_sentence(table, last[:0]) == ""


def test_the_table_of_roles_is_one_of_such_runs():
    table = recorded_runs(ROLES)
    assert set(table["run"].str.split("-").str[0]) == {"roles"}
    last = findings.last_of_runs(table)
    assert set(last["run"]) == set(table["run"])  # what is kept has ended
    assert not set(table["run"]) & set(recorded_runs()["run"])


# ------------------------------------------------------------------ figures


def test_every_head_of_a_run_is_drawn_where_it_sits():
    last = findings.last_of_runs(runs_of((4, MOVE), (4, NONE), (6, FETCH)))
    fig = figures.heads_of_runs(last)
    four, six = fig.axes
    marks = {(round(float(line.get_xdata()[0]), 2), float(line.get_ydata()[0]), line.get_marker())
             for line in four.lines if line.get_marker() not in ("None", "")}  # fmt: skip
    assert marks == {
        (2.3, 0.0, "D"), (1.7, 0.0, "D"), (3.1, 0.0, "v"), (2.9, 0.0, "o"), (3.1, 1.0, "v"),
    }  # fmt: skip
    assert [text.get_text() for text in four.texts] == ["find and move", "not all learned"]
    assert "look up and fetch" in [text.get_text() for text in six.texts]
    other = findings.last_of_runs(runs_of((4, MOVE | {"chooser_IO": 0.3})))
    assert [text.get_text() for text in figures.heads_of_runs(other).axes[0].texts] == [
        "neither of the two"
    ]
    assert figures.heads_of_runs(last[:0]).axes[0].texts  # says that there is nothing


def test_curves_are_what_was_measured():
    runs = runs_of((4, MOVE), (6, FETCH))
    last = findings.last_of_runs(runs)

    def curves(ax: Axes) -> list[list[float]]:
        return [list(line.get_ydata()) for line in ax.lines if len(line.get_xdata()) == 4]

    learned = figures.lists_learned(runs, last)
    assert [text.get_text() for text in learned.legends[0].get_texts()] == [
        "find and move",
        "look up and fetch",
        "anybody but the giver",
    ]
    three = learned.axes[1]
    assert curves(three) == [[0.0, 0.5, 0.97, 0.97]] * 2
    first = figures.parting(runs, ["r1", "not there"], last).axes[0]
    assert first.get_title() == "r1: find and move"
    np.testing.assert_allclose(curves(first)[0], [np.nan, np.nan, 0.8, 0.8])
    assert [text.get_text() for text in first.texts] == ["3.1"]


# ------------------------------------------------------------------ what comes with the book


@pytest.mark.parametrize("algorithm", findings.ALGORITHMS.values())
def test_the_lab_makes_the_head_that_tells_speak_of_another_giver(algorithm, tmp_path):
    chapter = open_lists(device="cpu", store=str(tmp_path))
    last = findings.last_of_runs(recorded_runs())
    there = checkpoints_in_a_page(chapter.suite)
    assert there == {name: list(steps[-1:]) for name, steps in chapter.steps.items()}
    cell = who_tells(chapter, there, last, algorithm)
    assert cell.model == findings.runs_with(algorithm, chapter.models, last)[0]
    model = chapter.suite.checkpoint(cell.model, cell.step).load()
    tokens, others = (
        torch.tensor([model.tokenizer(text)["input_ids"]])
        for text in (cell.example.text, cell.example.other)
    )
    right, wrong = (
        model.tokenizer.convert_tokens_to_ids(f" {name}")
        for name in (cell.example.right, cell.example.wrong)
    )
    end = torch.tensor([tokens.shape[1] - 1])
    own, other = (model.logits(one, end)[0] for one in (tokens, others))
    assert own.argmax() == right and other.argmax() == wrong
    shown = dict(cell.table.to_numpy())
    assert float(shown["nothing"].replace("−", "-")) == pytest.approx(
        float(own[right] - own[wrong]), abs=0.06
    )
    assert who_tells(chapter, {}, last, algorithm) is None
    assert who_tells(chapter, there, last.assign(algorithm=""), algorithm) is None


def test_only_the_mini_suite_asks_other_runs(tmp_path):
    assert classes_elsewhere(open_lists(device="cpu", store=str(tmp_path))) == []


def test_the_checkpoints_are_those_of_the_table():
    """What a shipped checkpoint does is what its row says."""
    suite, runs = load_suite("lists"), recorded_runs()
    assert set(suite.models) <= set(runs["run"])
    run = suite.models[0]
    model = suite.checkpoint(run, suite.steps(run)[-1]).load()
    row = runs[(runs["run"] == run) & (runs["step"] == suite.steps(run)[-1])].iloc[0]
    for size in (2, 3, 4):
        pairs = TASK.prompts(model.tokenizer, n=PROMPTS, seed=ROBUST.seed, sizes=(size,))
        found = pairs.measures(model.logits(pairs.clean, pairs.end))
        right = (found["rank"] == 0).double().mean().item()
        assert row[f"top_{size}"] == pytest.approx(right, abs=1.5 / PROMPTS)


def test_the_log_means_the_updates_since_the_row_before():
    rows = pd.DataFrame({"step": [0, 40], "top_2": [0.0, 1.0], "top_3": [0, 0.5], "top_4": [0, 0]})
    log = training_log([float(i) for i in range(40)], rows).set_index("step")
    assert log.index.tolist() == [0, 32, 40]
    assert log["training_loss"].tolist()[1:] == [15.5, 35.5] and np.isnan(log["training_loss"][0])
    assert log["top_3"].tolist() == [0, pytest.approx(np.nan, nan_ok=True), 0.5]
    assert log["tokens_seen"][40] == 40 * 2048


def a_run(out, seed):
    """Its folder as `run_lists` leaves it, with little in it."""
    run = list_run(layers=4, seed=seed)
    folder = out / run.name
    for step in run.plan.checkpoints:
        (folder / f"step{step}").mkdir(parents=True)
        (folder / f"step{step}" / "model.safetensors").write_bytes(bytes(1000))
        (folder / f"step{step}" / "config.json").write_text("{}")
    (folder / "run.json").write_text(json.dumps(run.identity))
    (folder / "losses.json").write_text(json.dumps([1.0] * run.plan.steps))
    rows = runs_of((4, MOVE)).assign(run=run.name, seed=seed)
    rows = rows.assign(**{name: rows.get(name, "") for name in LABELS})
    rows.to_csv(folder / "measured.csv", index=False)
    return run


def test_runs_are_shipped_whole_or_not_at_all(tmp_path, monkeypatch):
    out, models, table = tmp_path / "out", tmp_path / "models", tmp_path / "runs.csv"
    runs = [a_run(out, seed) for seed in (1, 2)]
    for names, message in (
        (["nothing"], "is no run that has ended"),
        ([run.name for run in runs], "name fewer runs"),
    ):
        monkeypatch.setattr(shipping, "BUDGET", 15_000)
        with pytest.raises(ValueError, match=message):
            ship(out, names, table=table, models=models)
        assert not models.exists() and not table.exists()
    ship(out, [runs[0].name], table=table, models=models)
    assert recorded_runs(table)["seed"].tolist() == [1] * 4 + [2] * 4  # of all runs
    suite = load_suite(models)
    assert suite.models == (runs[0].name,) and suite.tokens_per_step == 2048
    left_out = {round(runs[0].plan.steps * mark / 100) for mark in shipping.LEFT_OUT}
    assert set(suite.steps(runs[0].name)) == set(runs[0].plan.checkpoints) - left_out
    assert (models / runs[0].name / "training.csv").exists()


def test_runs_join_those_that_were_shipped_before(tmp_path):
    models, table = tmp_path / "models", tmp_path / "runs.csv"
    for seeds in ((1, 3), (2, 3)):
        out = tmp_path / f"out{seeds}"
        runs = [a_run(out, seed) for seed in seeds]
        again = out / runs[1].name / "measured.csv"  # of seed 3, which is in both folders
        recorded_runs(again).assign(top_2=sum(seeds) / 10).to_csv(again, index=False)
        ship(out, [], table=table, models=models)
    assert recorded_runs(table)["seed"].tolist() == [1] * 4 + [2] * 4 + [3] * 4
    of_seed_3 = recorded_runs(table).query("seed == 3")
    assert of_seed_3["top_2"].tolist() == [0.5] * 4  # as it was measured last
    assert not models.exists()
    measured = out / runs[0].name / "measured.csv"
    rows = recorded_runs(measured).assign(run="unfinished", steps=10**6)
    a_run(out, 4)
    rows.to_csv(out / runs[0].name / "measured.csv", index=False)
    ship(out, [], table=table, models=models)
    assert "unfinished" not in set(recorded_runs(table)["run"])
    assert set(recorded_runs(table)["seed"]) == {1, 2, 3, 4}


def test_another_file_is_no_table_of_runs(tmp_path):
    (tmp_path / "a.csv").write_text("run,step\na,1\n")
    with pytest.raises(ValueError, match=r"a\.csv is no table of runs: it lacks against, chooser"):
        recorded_runs(tmp_path / "a.csv")


def test_the_passages_are_those_of_the_library(tmp_path):
    made = write_lists(tmp_path / "lists.txt").read_text(encoding="utf8")
    with open(LIST_PASSAGES, encoding="utf8") as file:
        assert file.read() == made
