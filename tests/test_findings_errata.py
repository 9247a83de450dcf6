"""The errata's rows, on measurements made by hand with known words, and on published tables."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from findings_by_hand import head_classes, head_scores

from circuitbook.circuits.circuit import Circuit
from circuitbook.model.graph import Graph
from circuitbook.records.published import published
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.findings import errata, errata_of_circuits
from circuitbook.studies.findings.errata import Trap, trap_table


def test_the_table_numbers_what_was_measured():
    table = trap_table([Trap("a", "b", "c"), None, Trap("d", "e", "f")])
    assert table["#"].tolist() == [1, 2] and table["trap"].tolist() == ["a", "d"]
    assert table.iloc[1]["effect, as measured here"] == "e" and table.iloc[1]["touches"] == "f"
    assert table["it is a"].tolist() == ["slip", "slip"]
    assert trap_table([Trap("a", "b", "c", errata.CHOICE)])["it is a"].tolist() == ["choice"]


# ---- the scripts of the figures


def test_right_sizes_correlate_fully_where_counts_are_proportional_to_them():
    models = ["pythia-160m", "pythia-410m", "pythia-1.4b", "pythia-2.8b"]
    sizes = [162_322_944, 405_334_016, 1_414_647_808, 2_775_208_960]
    counts = pd.DataFrame({"model": models, "task": "sva", "value": np.array(sizes) / 1e6})
    effect = errata.mistyped_sizes(counts).effect
    typed, right = (float(r) for r in effect.split("SVA ")[1].split(" (")[0].split(", "))
    assert right == pytest.approx(1, abs=1e-3) and typed < right


def test_the_published_points_that_were_measured_are_counted():
    performance = pd.DataFrame(
        {"model": ["pythia-410m"] * 3 + ["other"], "step": [3, 1, 2, 9], "value": [0.5, 0.0, 2, 9]}
    )
    edges = pd.DataFrame({"model": ["pythia-410m"] * 7 + ["other"]})
    effect = errata.interpolated_performance(performance, edges).effect
    assert effect == (
        "of 7 plotted points of pythia-410m 3 are measured; between two of these the logit "
        "difference moves by up to 2.00"
    )


def test_the_published_moving_average_is_off_most_at_its_first_point():
    effect = errata_of_circuits.average_begins_early(published("jaccard")).effect
    first, fifth = (float(number) for number in re.findall(r"[+-]\d\.\d+", effect))
    assert abs(first) == pytest.approx(16 * abs(fifth), abs=0.01)


def test_a_moving_average_of_a_step_forgets_it_by_halves():
    steps = [0, 500, *range(1000, 1600, 100)]
    raw = pd.DataFrame({"metric": "jaccard_raw", "step": steps, "value": [0, 0] + [0.8] * 6})
    effect = errata_of_circuits.average_begins_early(raw).effect
    assert "-0.400 at step 1,000, -0.025 four pairs on" in effect  # halved four times


def test_distances_and_similarities():
    pairs = pd.DataFrame({"step": [1000, 2000], "step_next": [2000, 12000]})
    similarities = pd.DataFrame({"ratio": [1.2, 1.4, 2.0, 4.0], "edges": [0.8, 0.6, 0.5, 0.1]})
    assert errata_of_circuits.unequal_distances(pairs, similarities).effect == (
        "1,000 to 10,000 steps in the printed tables; in this suite two circuits share 70% of "
        "their edges below a ratio of tokens of 1.5, and 10% above 3"
    )
    alone = errata_of_circuits.unequal_distances(pairs, similarities[:3]).effect
    assert alone == "1,000 to 10,000 steps in the printed tables"


# ---- heads


def test_swaps_say_what_the_published_slice_does_where_there_is_a_fused_matrix():
    swaps = pd.DataFrame(
        [("a", -0.19, 0.99, -0.06), ("b", 0.1, 0.5, np.nan)],
        columns=["model", "own", "right", "published"],
    )
    assert errata.sliced_swaps(swaps).effect.endswith(
        "a -0.19 before, +0.99 with the heads, -0.06 with the published slice; "
        "b +0.10 before, +0.50 with the heads"
    )
    assert errata.sliced_swaps(swaps[:0]).effect == "no heads that carry IOI"


def test_scores_as_published_are_compared_with_those_of_the_same_checkpoint():
    ours = [
        head_scores(model="b", to_IO=[0.5, 0.1], successor=[0.9, 0.1]),
        head_scores(model="a", to_IO=[0.0, 1.0], successor=[0.2, 0.6]),
    ]
    theirs = [
        head_scores(model="a", to_IO=[0.5, 0.5], successor=[0.1, 0.3]),
        head_scores(model="b", to_IO=[0.3, 0.3], successor=[0.1, 0.4]),
    ]
    assert errata.attention_by_prompt(theirs, ours).effect.startswith(
        "difference from the true attention 0.35 on average, 0.50 at most; correlation over heads "
    )


def test_successors_slips_and_choices_are_told_apart():
    ways = pd.DataFrame(
        {
            "model": ["a", "a", "b", "b"],
            "ours": [0.9, 0.1, 0.2, 0.6],
            "no norms": [0.4, 0.1, 0.5, 0.2],
            "strict": [0.4, 0.1, 0.5, 0.2],
            "ties": [0.4, 0.5, 0.5, 0.2],
        }
    )
    slip, choice = errata.tied_successors(ways), errata.successors_without_norms(ways)
    assert (slip.kind, choice.kind) == ("slip", "choice")
    assert "by 0.100 on average, by 0.40 at most" in slip.effect
    assert "with and without them in 1 of 2 models" in slip.effect
    expected = np.corrcoef(ways["no norms"], ways["ours"])[0, 1]
    assert f"correlate {expected:.2f} with" in choice.effect
    assert "are 0.30 off on average; the strongest head is the same in 1 of 2" in choice.effect


def test_the_spread_of_draws_is_that_of_the_model_where_it_is_largest():
    values = {"a": [0.5, 0.7], "b": [0.9, 0.9]}
    rows = [("sva", model, *draw) for model, draws in values.items() for draw in enumerate(draws)]
    redrawn = pd.DataFrame(rows, columns=["what", "model", "seed", "value"])
    effect = errata.unseeded_draws(redrawn).effect
    assert effect.startswith("standard deviation over 2 draws, ")
    assert effect.endswith("SVA 0.141 (mean 0.75)")  # 0.1 times the root of 2


def test_the_strongest_suppression_head_of_all_models():
    weak = head_scores(model="a", copy_suppression=[0.1, 0.2])
    strong = head_scores(model="b", copy_suppression=[0.0, 0.1, 0.4, 0.1])
    scored, head = errata.strongest_suppression([weak, strong])
    assert (scored.model, head) == ("b", (1, 0))
    redrawn = pd.DataFrame({"texts": [17, 17, 40], "draw": [0, 1, 0], "value": [0.36, 0.51, 0.4]})
    effect = errata.few_texts(redrawn, "b", head).effect
    assert effect == (
        "CSPA of head 1.0 of b over 2 draws: 0.36 to 0.51 with 17 texts; 0.40 to 0.40 with 40 texts"
    )
    assert "no text" in errata.few_texts(redrawn[:0], "b", head).effect


# ---- circuits


def result(task="ioi", step=8, edges=3, reason="", curve=None) -> CircuitResult:
    graph = Graph(1, 2)
    mask = np.zeros_like(graph.mask)
    mask.ravel()[:edges] = True
    return CircuitResult("m", step, step, task, Circuit(graph, mask, reason=reason, curve=curve), 0)


def test_a_ratio_reports_circuits_where_the_task_is_not_done():
    not_done = "the model does not do the task here: its logit difference is 0.1"
    curve = pd.DataFrame(
        {"edges": [1, 4, 6, 9], "ratio": [0.1, 0.5, 0.8, 1], "normalised": [0.5, 0.8, 0.9, 1]}
    )
    ours = [
        result(step=1, reason=not_done),
        result(curve=curve),
        result(task="sva", curve=curve[2:]),
    ]
    theirs = [result(step=1), result(), result(task="sva", reason="too few edges")]
    effect = errata_of_circuits.faithfulness_as_ratio(theirs, ours).effect
    assert effect.startswith("the ratio reports a circuit at 1 of 3 checkpoints and tasks of m at")
    assert "IOI circuits have 1.50 times the edges (median)" in effect  # 6 over 4
    alone = errata_of_circuits.faithfulness_as_ratio(theirs[:1], ours[:1]).effect
    assert "1 of 1" in alone and "times the edges" not in alone


def test_a_narrow_dtype_and_a_short_batch():
    rough = pd.DataFrame(
        {"correlation": [0.99, 0.95], "largest": [0.01, 0.03], "edges": [1.0, 0.9]}
    ).assign(task=["ioi", "sva"], model=["a", "b"])
    trap = errata_of_circuits.narrow_model(rough)
    assert "at least 0.95000" in trap.effect and "up to 3.0% of the largest" in trap.effect
    assert (
        trap.effect.endswith(
            "95% of the edges of a circuit of the same size shared on average, "
            "90% at worst (SVA, b)"
        )
        and trap.kind == "choice"
    )
    batch = pd.DataFrame({"weight": [5.3, 5.3], "edges": [1.0, 0.5]})
    effect = errata_of_circuits.short_batch(batch).effect
    assert "weighs 5.3 times" in effect and "share 75%" in effect and "50% at worst" in effect
    assert errata_of_circuits.narrow_model(rough[:0]) is None
    assert errata_of_circuits.short_batch(batch[:0]) is None


def test_adding_up_in_bfloat16_stands_beside_adding_up_in_float32():
    summed = pd.DataFrame(
        {
            "sums": ["in float32", "in bfloat16"] * 2,
            "correlation": [1.0, 0.99, 1.0, 0.97],
            "largest": [0.001, 0.02, 0.003, 0.05],
            "edges": [1.0, 0.8, 1.0, 0.6],
            "model": ["a", "a", "b", "b"],
        }
    )
    first, second = errata_of_circuits.narrow_dtype(summed).effect.split(". The same added up in ")
    assert "at least 0.97000, a score off by up to 5.0%" in first
    assert "70% of the edges" in first and first.endswith("60% at worst (b)")
    assert "float32: correlation with float32 at least 1.00000" in second and "0.3%" in second
    assert errata_of_circuits.narrow_dtype(summed[:0]) is None


# ---- classes of heads


def test_checkpoints_without_a_name_mover_are_counted_among_those_that_do_ioi():
    run = [
        head_classes([-0.1, 0.0], {}, step=1, ioi=False),
        head_classes([-0.1, 0.0], {"copy suppression": [0]}, step=2),
        head_classes([-0.1, 0.0], {"name mover": [0]}, step=4),
    ]
    effect = errata_of_circuits.no_name_mover(run).effect
    assert effect == "no name mover at 1 of 2 checkpoints that do IOI (m)"
    assert (
        "at 0 of 1 checkpoints that do IOI (none)"
        in errata_of_circuits.no_name_mover(run[2:]).effect
    )


def test_more_prompts_narrow_the_interval_of_the_last_checkpoint():
    classes = head_classes([-0.5, -0.5], {"name mover": [0]})
    classes.patched["direct"][0] += [0.5, -0.5, 0.2, -0.2, 0]  # prompts differ
    wide, narrow = (
        float(part.split("%")[0])
        for part in errata_of_circuits.few_prompts([classes]).effect.split(": ")[1].split("; ")
    )
    assert wide / narrow == pytest.approx((70 / 20) ** 0.5, rel=0.2)
    assert errata_of_circuits.few_prompts([head_classes([-0.5], {}, ioi=False)]) is None


def test_the_last_column_is_read_for_each_model():
    read = pd.DataFrame(
        [("a", 0.5, 2.0, 1.0), ("b", 0.7, 3.0, -0.5)], columns=["model", "padded", "right", "wrong"]
    )
    assert errata_of_circuits.last_column(read).effect == (
        "60% of the IOI prompts are padded; the logit difference reads 1.00 instead of 2.00 (a); "
        "-0.50 instead of 3.00 (b)"
    )
