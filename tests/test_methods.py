"""Methods side by side: what is measured, and what is said of it where the answer is known."""

import numpy as np
import pandas as pd
import pytest
from closeness import assert_close

from circuitbook import attribute, load_suite
from circuitbook.circuits.faithfulness import mib_metrics
from circuitbook.figures.methods import methods_compared
from circuitbook.heads.edge_patching import patch_edges
from circuitbook.model.graph import graph_of
from circuitbook.recipes import get_recipe
from circuitbook.records.real_model import recorded_methods
from circuitbook.studies.findings import methods as findings
from circuitbook.studies.held_out import next_prompts
from circuitbook.studies.methods import METHODS, compare_methods
from circuitbook.studies.recording import OF_METHODS
from circuitbook.tasks import get_task
from circuitbook.wording import in_markdown

RECIPE = get_recipe("robust")


def table(changed=(), seed=1):
    """Eight places; changed: {method: (cmd, edges, gradients, rank)}, with a little noise."""
    rng, rows = np.random.default_rng(seed), []
    known = dict.fromkeys(METHODS, (0.1, 10, 1, 0.9))
    known |= {"eap-ig": (0.1, 10, 5, 0.8), "stable": (0.1, 10, 5, 0.8)}
    known |= {"atp*": (0.1, 10, 3, 0.8), "eap-ig-activations": (0.1, 10, 35, 0.8)} | dict(changed)
    for model in ("mini-s", "mini-m"):
        for task in ("ioi", "sva", "greater_than", "gendered_pronoun"):
            for method, (cmd, edges, gradients, rank) in known.items():
                noise = 1 + 0.01 * rng.standard_normal()
                rows.append(
                    dict(model=model, step=1, task=task, method=method, gradients=gradients)
                    | dict(seconds=0.0 if method == "random" else float(gradients))
                    | dict(cpr=1 - cmd, cmd=cmd * noise, edges=edges * noise, fresh=0.8, rank=rank)
                )
    return pd.DataFrame(rows)


def test_the_measures_are_those_of_each_method_by_itself():
    model = load_suite("mini").checkpoint("mini-xs", 3906).load()
    task, n, seed = get_task("sva"), 16, 42
    settings = dict(attribution=RECIPE.attribution, search=RECIPE.circuit("sva"))
    got = compare_methods(model, task=task, prompts=n, seed=seed, **settings)
    pairs = task.prompts(model.tokenizer, n=n, seed=seed)
    fresh = next_prompts(task, model.tokenizer, n, seed)
    rule = {name: RECIPE.attribution[name] for name in ("rule", "points")}
    known = {method: {"method": method} for method in ("eap", "gim", "atp*", "ifr")}
    known |= {"eap-ig": RECIPE.attribution, "stable": RECIPE.attribution | {"per_prompt": True}}
    known["eap-ig-activations"] = {"method": "eap-ig-activations"} | rule
    for method, how in known.items():
        scores = attribute(model, pairs, **how)
        at = METHODS.index(method)
        how = {"selection": "greedy", "stable": 0.95 if method == "stable" else None}
        for name, value in mib_metrics(model, fresh, scores, **how).items():
            assert_close(got[name][at], value, rounds=100, size=1)
        assert got["gradients"][at] == scores.points
        alive = graph_of(model).mask
        order = pd.Series(np.abs(np.asarray(scores.values)[alive]))
        patched = pd.Series(np.abs(patch_edges(model, pairs)[alive]))
        assert got["rank"][at] == pytest.approx(order.corr(patched, method="spearman"))
    by_method = dict(zip(METHODS, got["cmd"], strict=True))
    assert by_method["random"] > 2 * by_method["patching"]
    assert got["rank"][METHODS.index("patching")] == pytest.approx(1)
    short = get_task("gendered_pronoun")  # whose list of items leaves no fresh ones
    assert compare_methods(model, task=short, prompts=120, seed=seed, **settings) == {}


ALL_BUT_ONE = {m: (0.2, 10, 1, 0.9) for m in METHODS if m not in ("patching", "random", "eap-ig")}


@pytest.mark.parametrize(
    ("changed", "says", "never"),
    [
        ({"eap": (0.2, 10, 1, 0.9)},
         ["EAP-IG is the safe choice; EAP with QK fix, AtP\\*, RelP, GIM, EAP at both "
          "ends and IFR may",
          "EAP leads to", "take 1 to 3 gradients a prompt, EAP-IG 5.", "The least is risked with",
          "EAP-IG on activations takes 35, and we can't tell"], ["still", "Take"]),
        ({"relp": (0.1, 5, 1, 0.9)},
         ["RelP finds circuits that are closer", "RelP takes one gradient a prompt"],
         ["Take", "risked"]),
        ({"relp": (0.1, 5, 1, 0.9), "gim": (0.1, 5, 1, 0.9)},
         ["RelP and GIM find circuits", "RelP and GIM take one gradient"], ["finds", "It takes"]),
        ({"eap-ig-activations": (0.05, 10, 35, 0.9)},
         ["EAP-IG on activations finds circuits", "takes 35 gradients a prompt, EAP-IG 5."],
         ["gains"]),
        ({"eap-ig-activations": (0.2, 10, 35, 0.9)}, ["EAP-IG on activations leads to"], ["gains"]),
        ({"relp": (0.05, 20, 1, 0.9)},
         ["EAP-IG is the safe choice; EAP, EAP with QK fix, AtP", "RelP leads to"],
         ["RelP finds"]),
        ({}, ["Take EAP: we can't tell", "EAP-IG 5"], ["surely", "risked", "Patching"]),
        (ALL_BUT_ONE, ["**Take EAP-IG.**", "EAP-IG on activations and IFR lead to"],
         ["a prompt", "gains", "risked"]),
        ({"ifr": (0.05, 10, 0, 0.9)},
         ["IFR finds circuits", "takes no gradient a prompt"], ["Take"]),
        ({"patching": (0.05, 10, 0, 1.0)}, ["Patching every edge comes closer still"], []),
    ],
)  # fmt: skip
def test_the_answer_says_which_to_take(changed, says, never):
    said = findings.answer(table(changed))
    assert all(words in said for words in says) and not any(words in said for words in never)


def test_the_least_risk_is_that_of_the_lowest_upper_end():
    changed = {"eap": (0.2, 10, 1, 0.9), "gim": (0.0995, 10, 1, 0.9)}
    said, beside = findings.answer(table(changed)), findings.against_yardstick(table(changed))
    worst = beside.set_index("method").loc["gim", "cmd_high"]
    assert f"The least is risked with GIM, whose CMD lies {worst:.3f} above EAP-IG's" in said


@pytest.mark.parametrize(
    ("stable", "says"),
    [
        ((0.05, 10, 5, 0.8), "come closer to the model, CMD by -0.0"),
        ((0.2, 10, 5, 0.8), "are further from the model, CMD by 0.10"),
        ((0.1, 10, 5, 0.8), "we can't tell: CMD changes by 0.00"),
    ],
)
def test_what_stable_signs_do(stable, says):
    assert says in findings.signs_in_words(table({"stable": stable}))
    assert findings.signs_in_words(table().iloc[:0]) == ""


def test_the_answer_without_a_circuit():
    none = table().iloc[:0]
    assert "nothing to compare" in findings.answer(none)
    assert findings.patching_in_words(none) == "" and findings.comparison(none).empty


def test_the_interval_is_over_places():
    beside = findings.against_yardstick(table({"gim": (0.2, 20, 1, 0.9)})).set_index("method")
    gim = beside.loc["gim"]
    assert gim["cmd_low"] < gim["cmd"] < gim["cmd_high"] and gim["cmd"] == pytest.approx(0.1, 0.05)
    assert gim["size_low"] < 2 < gim["size_high"] and gim["places"] == 8
    one = table()[lambda t: (t["model"] == "mini-s") & (t["task"] == "ioi")]
    alone = findings.against_yardstick(one).iloc[0]
    assert (alone["cmd_low"], alone["cmd_high"]) == (-np.inf, np.inf)


def test_methods_that_do_not_differ_are_seldom_told_apart():
    """Eight places of pure noise, as the page has them, 300 times: all intervals at once hold 0."""
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(300):
        noise = table()
        noise["cmd"] = 0.1 + 0.01 * rng.standard_normal(len(noise))
        noise["edges"] = np.exp(rng.standard_normal(len(noise)))
        beside = findings.against_yardstick(noise)
        wrong += bool(
            ((beside["cmd_low"] > 0) | (beside["cmd_high"] < 0)).any()
            or ((beside["size_low"] > 1) | (beside["size_high"] < 1)).any()
        )
    assert wrong / 300 < 0.08  # 5%, and what 300 may be off


@pytest.mark.parametrize(
    ("eap", "says"),
    [((0.2, 10, 1, 0.99), "Yet the circuits of"), ((0.05, 10, 1, 0.99), "and its")],
)
def test_the_order_and_the_circuits_are_two_things(eap, says):
    assert says in findings.patching_in_words(table({"eap": eap}))


def test_the_figure_has_a_mark_for_every_place_and_a_bar_for_every_method():
    figure = methods_compared(table())
    for ax in figure.axes:
        marks = sum(len(line.get_xdata()) for line in ax.lines if line.get_marker() != "None")
        assert marks == 8 * len(METHODS)
        assert sum(line.get_marker() == "None" for line in ax.lines) == len(METHODS)


# ------------------------------------------------------------------ on the real model


def recorded(changed=()):
    """Three tasks of one model; changed: {(task, method): (cmd, edges)}."""
    part = table().query("model == 'mini-s' and task != 'sva' and method != 'patching'").copy()
    part["rank"] = np.nan
    part[["cmd", "edges"]] = [0.1, 20.0]
    for (task, method), values in dict(changed).items():
        part.loc[(part["task"] == task) & (part["method"] == method), ["cmd", "edges"]] = values
    prompts = dict.fromkeys(part["task"], 16)
    methods = part.reset_index(drop=True)
    return {"model": "real", "date": "2026-11-27", "prompts": prompts, "methods": methods}


def test_on_the_real_model_the_best_are_counted_task_by_task():
    tasks = ("ioi", "greater_than", "gendered_pronoun")
    all_three = {(task, "relp"): (0.05, 10.0) for task in tasks}
    said = findings.on_the_real_model(recorded(all_three))
    assert said.startswith(
        "**On real RelP has, on all 3 tasks, the smallest distance, and RelP has, on all 3 tasks, "
        "the fewest edges.** Recorded on 27 November 2026 on 16 prompts of"
    )
    mixed = all_three | {("ioi", "gim"): (0.01, 20.0), ("ioi", "random"): (0.0, 1.0)}
    said = findings.on_the_real_model(recorded(mixed))
    assert "RelP (on 2 of 3 tasks) and GIM (on 1 of 3 tasks) have the smallest distance" in said
    assert "RelP has, on all 3 tasks, the fewest edges" in said  # of random scores nothing is said
    two = recorded(all_three)
    two["methods"] = two["methods"].query("task != 'ioi'")
    assert "RelP has, on both tasks, the fewest edges" in findings.on_the_real_model(two)


def test_the_table_has_times_over_those_of_eap():
    shown = findings.comparison(table()).set_index("method")
    assert shown.loc["EAP-IG", "time, EAP's = 1"] == "5.0"
    assert shown.loc["EAP", "time, EAP's = 1"] == "1.0"
    assert shown.loc["random", ["gradients a prompt", "time, EAP's = 1"]].tolist() == ["\u2013"] * 2
    assert "rank correlation with patching" in shown
    shown = findings.comparison(recorded()["methods"])
    assert "rank correlation with patching" not in shown and len(shown) == len(METHODS) - 1


def test_the_record_that_comes_with_the_library():
    record = recorded_methods()
    assert record["model"] == "SmolLM2-135M-Instruct" and "host" not in record["machine"]
    rows = record["methods"]
    assert rows.groupby("task").size().tolist() == [len(OF_METHODS)] * 2
    worst = rows[rows["method"] == "random"].groupby("task")["cmd"].max()
    others = rows[rows["method"] != "random"].groupby("task")["cmd"].max()
    assert (others < worst).all() and rows["rank"].isna().all()
    said, real = findings.on_the_real_model(record), rows[rows["method"] != "random"]
    for column in ("cmd", "edges"):
        best = real.loc[real.groupby("task")[column].idxmin(), "method"]
        assert all(in_markdown(findings.TITLES[name]) in said for name in best)
    shown = findings.comparison(rows).set_index("method")
    assert len(shown) == len(OF_METHODS) and shown.loc["random", "edges"] == "none"
