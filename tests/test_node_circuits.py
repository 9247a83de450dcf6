"""Circuits of nodes: their scores, order, edges and measures, and what the page says of them."""

import re
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from closeness import assert_close
from literal import Literal
from toys import toy_model, toy_pairs

from circuitbook import attribute, find_circuit, load_suite
from circuitbook.circuits.evaluation import evaluate_masks, patch_each
from circuitbook.circuits.faithfulness import MIB_SHARES, faithfulness, mib_metrics
from circuitbook.circuits.node_circuits import (
    edges_by_node,
    find_node_circuit,
    mask_of_nodes,
    mib_metrics_of_nodes,
    node_order,
    node_scores,
)
from circuitbook.figures.methods import nodes_compared
from circuitbook.model.graph import Graph, graph_of
from circuitbook.recipes import get_recipe
from circuitbook.studies.findings import node_circuits as findings
from circuitbook.studies.held_out import next_prompts
from circuitbook.studies.node_circuits import KINDS, NUMBERS, compare_nodes
from circuitbook.tasks import get_task

RECIPE = get_recipe("robust")


@pytest.fixture(scope="module", params=["gpt_neox", "llama", "olmo2"])
def toy(request, tmp_path_factory):
    return toy_model(tmp_path_factory.mktemp("toy"), architecture=request.param)


@pytest.mark.filterwarnings("ignore:toy in toy")
def test_scores_of_edges_add_up_to_the_attribution_of_the_node_itself(toy):
    """The node's whole output is moved, wherever it is read, and the slope of the loss taken."""
    network, model = toy
    pairs, literal, epsilon = toy_pairs().subset([0, 2]), Literal(network), 1e-4
    scores = attribute(model, pairs, rule="midpoint", points=2)
    got = node_scores(scores)
    for node in ("a0.h0", "a1.h1", "m0"):
        slopes = []
        for i, t in product(range(len(pairs)), (0.25, 0.75)):
            clean, corrupted = literal.embed(pairs.clean[i]), literal.embed(pairs.corrupted[i])
            change = literal.run(corrupted)[0][node] - literal.run(clean)[0][node]

            def moved(by, node=node, change=change):
                return lambda source, target, x: x + by * change if source == node else x

            z = clean + t * (corrupted - clean)
            up, down = (literal.loss(pairs, i, z, moved(by)) for by in (epsilon, -epsilon))
            slopes.append(float(up - down) / (2 * epsilon))
        at = scores.graph.source_names.index(node)
        # what a central difference is good for
        assert got[at] == pytest.approx(np.mean(slopes), rel=1e-5) and abs(got[at]) > 1e-3
    absolute = node_scores(scores, "absolute")
    assert_close(absolute, scores.values.abs().sum(1), rounds=10)
    assert (absolute[1:] > np.abs(got[1:])).any()
    with pytest.raises(ValueError, match="unknown score of a node 'mean'; there are: sum, abs"):
        node_scores(scores, "mean")


def test_the_edges_are_those_between_the_nodes_and_join_with_them():
    graph = Graph(2, 2, parallel=False)
    nodes = [graph.source(1), graph.source(0, 1), graph.source(1, 0)]
    order, sizes = edges_by_node(nodes, graph)
    for n in range(len(nodes) + 1):
        inside = {"input", "logits", *(graph.source_names[node] for node in nodes[:n])}
        expected = {
            name
            for name in graph.edge_names
            if all(end in inside for end in re.sub("<.>", "", name).split("->"))
        }
        mask = mask_of_nodes(graph, nodes[:n])
        assert {graph.edge_name(*edge) for edge in np.argwhere(mask)} == expected
        assert {graph.edge_name(*edge) for edge in order[: sizes[n]]} == expected
        assert (graph.live(mask) == mask).all()
    assert sizes[0] == 1 and len(order) == graph.n_edges


def test_nodes_go_by_their_scores():
    graph = Graph(1, 2)
    assert node_order([9.0, -3, 1, 2], graph).tolist() == [1, 3, 2]
    assert node_order([9.0, -3, 1, 1], graph, absolute=False).tolist() == [2, 3, 1]
    with pytest.raises(ValueError, match=r"scores are \[3\], but there are 4 sources"):
        node_order([1.0, 2, 3], graph)
    with pytest.raises(ValueError, match="some scores are not finite"):
        node_order([0, 1, np.nan, 2], graph)


def test_a_node_left_out_writes_what_it_does_on_the_corrupted_prompt(toy):
    network, model = toy
    pairs, graph, literal = toy_pairs(), graph_of(model), Literal(network)
    kept = [graph.source(0, 1), graph.source(1), graph.source(1, 0)]
    names = {"input", "logits", *(graph.source_names[node] for node in kept)}
    metric = evaluate_masks(model, pairs, [mask_of_nodes(graph, kept)])[0]
    for i in range(len(pairs)):
        corrupted, _ = literal.run(literal.embed(pairs.corrupted[i]))

        def patched(source, target, written, corrupted=corrupted):
            return written if {source, target.split("<")[0]} <= names else corrupted[source]

        expected = -literal.loss(pairs, i, literal.embed(pairs.clean[i]), patched)
        assert_close(metric[i], expected, rounds=100, size=metric.abs().max())


@pytest.fixture(scope="module")
def mini():
    model = load_suite("mini").checkpoint("mini-xs", 3906).load()
    return model, get_task("sva").prompts(model.tokenizer, n=16, seed=42)


def in_order(model, pairs, values):
    """(masks of the circuits of 0, 1, ... nodes, normalised faithfulness of the empty circuit and
    of these)."""
    graph = graph_of(model)
    ranked = sorted(range(1, graph.n_src), key=lambda node: -abs(values[node]))
    masks = [mask_of_nodes(graph, ranked[:n]) for n in range(graph.n_src)]
    metric = evaluate_masks(model, pairs, [np.zeros_like(masks[0]), *masks]).mean(1).numpy()
    return masks, faithfulness(metric, metric[-1], metric[0], "normalised")


def by_hand(graph, masks, kept):
    """MIB's areas: at each share the most nodes with no more edges than that."""
    at = []
    for share in MIB_SHARES:
        fit = [n for n, mask in enumerate(masks, 1) if mask.sum() <= int(share * graph.n_edges)]
        at.append(kept[max(fit, default=0)])
    steps = list(zip(MIB_SHARES, MIB_SHARES[1:], at, at[1:], strict=False))
    return {
        "cpr": sum((b - a) * (f + g) / 2 for a, b, f, g in steps),
        "cmd": sum((b - a) * (abs(1 - f) + abs(1 - g)) / 2 for a, b, f, g in steps),
    }


def test_the_search_takes_the_fewest_nodes_that_keep_the_threshold(mini):
    model, pairs = mini
    for values in (patch_each(model, pairs, "nodes"), np.arange(graph_of(model).n_src)):
        masks, kept = in_order(model, pairs, values)
        first = int(np.argmax(kept >= 0.8))
        found = find_node_circuit(model, pairs, values, form="normalised")
        assert (found.mask == masks[first - 1]).all() and found.n_nodes == first - 1 + 2
        assert_close(found.faithfulness, kept[first], rounds=100, size=np.abs(kept).max())
        assert found.about["size"] == found.n_edges and found.low < found.faithfulness < found.high
        limit = int(masks[first - 1].sum()) - 1
        less = find_node_circuit(model, pairs, values, form="normalised", max_share=1e-9,
                                 min_edges=limit)  # fmt: skip
        assert f"none of up to {limit} edges keeps 80%" in less.reason
        for name, area in by_hand(graph_of(model), masks, kept).items():
            got = mib_metrics_of_nodes(model, pairs, values)[name]
            assert_close(got, area, rounds=100, size=np.abs(kept).max(), dtype=torch.float32)
    first_step = load_suite("mini").checkpoint("mini-xs", 0).load()
    assert find_node_circuit(first_step, pairs, values).not_done


def test_the_comparison_is_that_of_each_by_itself(mini):
    model, pairs = mini
    settings = dict(attribution=RECIPE.attribution, search=RECIPE.circuit("sva"))
    got = compare_nodes(model, task=get_task("sva"), prompts=16, seed=42, **settings)
    fresh = next_prompts(get_task("sva"), model.tokenizer, 16, 42)
    scores = attribute(model, pairs, **RECIPE.attribution)
    edges = find_circuit(model, pairs, scores, **RECIPE.circuit("sva"))
    values = {how: node_scores(scores, how) for how in ("sum", "absolute")}
    values["patching"] = patch_each(model, pairs, "nodes")
    for i, kind in enumerate(KINDS):
        if kind == "edges":
            circuit, areas = edges, mib_metrics(model, fresh, scores, selection="greedy")
        else:
            circuit = find_node_circuit(model, pairs, values[kind], form="normalised")
            areas = mib_metrics_of_nodes(model, fresh, values[kind])
        assert (got["edges"][i], got["nodes"][i]) == (circuit.n_edges, circuit.n_nodes)
        graph = graph_of(model)
        masks = [np.zeros_like(graph.mask), graph.mask, circuit.mask]
        none, full, part = evaluate_masks(model, fresh, masks).double().mean(1)
        assert_close(
            got["fresh"][i], (part - none) / (full - none), rounds=100, dtype=torch.float32
        )
        for name, area in areas.items():
            assert_close(got[name][i], area, rounds=100, size=1, dtype=torch.float32)
    assert got["edges"][0] < got["edges"][1:].min() and (got["seconds"] > 0).all()
    short = get_task("gendered_pronoun")  # whose list of items leaves no fresh ones
    assert compare_nodes(model, task=short, prompts=120, seed=42, **settings) == {}


# ------------------------------------------------------------------ what is said


def table(changed=(), edges=(10, 30, 30, 30), cmd=(0.03, 0.07, 0.07, 0.07)):
    """Eight places with a little noise; changed: {kind: (edges, cmd)}."""
    rng, rows = np.random.default_rng(1), []
    known = dict(zip(KINDS, zip(edges, cmd, strict=True), strict=True)) | dict(changed)
    for model, task in product(("mini-s", "mini-m"), ("ioi", "sva", "greater_than", "pronoun")):
        for kind, (size, distance) in known.items():
            noise = 1 + 0.01 * rng.standard_normal(2)
            rows.append(
                dict(model=model, step=1, task=task, kind=kind, seconds=0.2, nodes=8.0, fresh=0.8)
                | dict(edges=size * noise[0], cmd=distance * noise[1], cpr=1 - distance)
            )
    return pd.DataFrame(rows)[["model", "step", "task", "kind", *NUMBERS]]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, ["a circuit of nodes needs 3.0 [2.9, 3.1] times as many edges.**", "8 pairs",
              "nodes stay further from the model: CMD is 0.040 [0.03", "8 nodes have an edge"]),
        ({"sum": (5, 0.02)}, ["needs fewer edges, 0.5 [0.5, 0.5] times", "nodes come closer"]),
        ({"sum": (10, 0.03)}, ["we can't tell: 1.0 [", "we can't tell who is closer: CMD changes"]),
    ],
)  # fmt: skip
def test_the_page_says_what_edges_buy(changed, says):
    said = findings.nodes_in_words(table(changed), 0.8)
    assert said.startswith("**") and all(words in said for words in says)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, "makes no difference that we can tell"),
        ({"patching": (20, 0.07)}, "Nodes in order by patching each of them make better circuits "),
        ({"absolute": (40, 0.07)}, "Nodes in order by absolute scores of edges make worse"),
        ({"patching": (20, 0.09)}, "Nodes in order by patching each of them make worse circuits "),
        ({"patching": (20, 0.07), "absolute": (40, 0.07)},
         "patching each of them make better circuits, and nodes in order by absolute scores of "
         "edges make worse circuits than in order of their own attribution."),
    ],
)  # fmt: skip
def test_the_page_says_whether_the_order_matters(changed, says):
    assert says in findings.orders_in_words(table(changed))


def test_intervals_are_over_places_and_places_without_a_circuit_do_not_count():
    some = table()
    some.loc[(some["model"] == "mini-s") & (some["kind"] == "sum"), ["edges", "nodes"]] = np.nan
    row = findings.beside(some).set_index("kind").loc["sum"]
    whole = some[some["model"] == "mini-m"].pivot(index="task", columns="kind", values="edges")
    factors = np.log(whole["sum"] / whole["edges"])
    assert row["size"] == pytest.approx(np.exp(factors.mean()))
    assert row["size_low"] < row["size"] < row["size_high"] and row["cmd_low"] > 0
    one = findings.beside(some.query("model == 'mini-m' and task == 'ioi'")).iloc[0]
    assert (one["size_low"], one["size_high"]) == (0, np.inf)


def test_without_circuits_there_is_nothing_to_say():
    none = table().iloc[:0]
    assert "nothing to compare" in findings.nodes_in_words(none, 0.8)
    assert findings.orders_in_words(none) == "" and findings.node_table(none).empty


def test_table_and_caption_are_medians():
    shown = findings.node_table(table()).set_index("circuit")
    assert shown["nodes"].tolist() == ["8"] * 4 and len(shown) == len(KINDS)
    medians = table().groupby("kind")["cmd"].median()
    assert shown.loc["nodes, by EAP-IG", "CMD"] == f"{medians['sum']:.3f}"
    caption = findings.nodes_caption(table(edges=(10, 30, 30, 30)))
    assert caption.startswith("*In the median a circuit of edges has ") and caption.endswith(
        f"{medians['edges']:.3f} and {medians['sum']:.3f}.*"
    )


def test_the_figure_has_a_mark_for_every_place_and_a_bar_for_every_kind():
    for ax in nodes_compared(table()).axes:
        marks = sum(len(line.get_xdata()) for line in ax.lines if line.get_marker() != "None")
        assert marks == 8 * len(KINDS)
        assert sum(line.get_marker() == "None" for line in ax.lines) == len(KINDS)
