"""EAP-IG on activations, and the mean of both ends, against their definitions written out."""

import json
import re

import pytest
import torch
from closeness import assert_close
from edge_gradients import assert_same_scores, edge_gradients, written_on_both
from literal import Literal
from test_architectures import OF_METHODS, size_of
from test_attribution import DATA, model_of, pairs_of
from toys import toy_model, toy_pairs

from circuitbook import attribute
from circuitbook.model.memory import plan_memory

SIZE = dict(layers=2, d_model=16)


def put(place, t, clean, corrupted):
    """An edit: the outputs of these sources between clean and corrupted, as constants."""

    def edit(source, target, written):
        if source not in place:
            return written
        return (1 - t) * clean[source] + t * corrupted[source]

    return edit


def of_activations(network, pairs, heads, ts, skip_first=False):
    """hannamw/EAP-IG's loop: for each place and each point, its output is put between the clean and
    the corrupted one, as a constant; every edge's gradient there times its source's change.

    skip_first: without what the first layer's readers see where the embeddings are moved.
    """
    literal, total = Literal(network), {}
    layers = range(len(literal.parts.blocks))
    places = [{"input"}]
    for i in layers:
        places += [{f"a{i}.h{h}" for h in range(heads)}, {f"m{i}"}]
    for i in range(len(pairs)):
        clean, corrupted = written_on_both(literal, pairs, i)
        for place in places:
            for t in ts:
                moved = put(place, t, clean, corrupted)
                gradients = edge_gradients(literal, pairs, i, literal.embed(pairs.clean[i]), moved)
                for name, gradient in gradients.items():
                    source, target = name.split("->")
                    score = float(((corrupted[source] - clean[source]) * gradient).sum())
                    score /= len(pairs) * len(places) * len(ts)
                    if skip_first and place == {"input"} and target[1] == "0":
                        score = 0.0
                    total[name] = total.get(name, 0) + score
    return total


@pytest.mark.parametrize("kind", OF_METHODS)
def test_scores_are_the_definition(tmp_path, kind):
    size = size_of(kind)
    network, model = toy_model(tmp_path, architecture=kind, **size)
    pairs = toy_pairs().subset([0, 3])
    scores = attribute(model, pairs, method="eap-ig-activations", points=2)
    assert scores.rule == "left" and scores.points == 2 * (1 + 2 * 2)
    theirs = of_activations(network, pairs, size["heads"], [0.0, 0.5])
    assert_same_scores(scores, theirs)
    plain = attribute(model, pairs, method="eap")
    assert (scores.values - plain.values).abs().max() > 0.01 * plain.values.abs().max()


def test_equals_the_scores_of_eap_ig(tmp_path):
    """But for the edges into the first layer: see `circuits.ig_activations`."""
    record = json.loads((DATA / "eap_ig_scores.json").read_text())
    network, model = model_of(record, tmp_path)
    pairs, points = pairs_of(record), record["points"]
    ts = [k / points for k in range(points)]
    for method in ("clean-corrupted", "eap-ig-activations"):
        ours = attribute(model, pairs, method=method, points=points)
        table = record["scores"][method]
        assert set(table) == set(ours.graph.edge_names)
        first = {name for name in table if re.search(r"->(a0\.|m0$)", name)}
        same = table.keys() - (first if method == "eap-ig-activations" else set())
        for name in same:  # float64 on either side, theirs rounded to 11 digits
            assert ours.of(name) == pytest.approx(table[name], abs=1e-10)
    without = of_activations(network, pairs, 2, ts, skip_first=True)
    for name in table:  # what theirs leaves out
        assert without[name] == pytest.approx(table[name], abs=1e-10)
    assert max(abs(ours.of(name) - table[name]) for name in first) > 0.01


def test_memory_and_what_is_kept_do_not_matter(tmp_path):
    network, model = toy_model(tmp_path, **SIZE, heads=2)
    pairs, how = toy_pairs(), dict(method="eap-ig-activations", rule="midpoint", points=3)
    whole = attribute(model, pairs, **how, per_prompt=True, per_position=True)
    theirs = of_activations(network, pairs, 2, [1 / 6, 1 / 2, 5 / 6])
    assert_same_scores(whole, theirs)
    assert_close(whole.per_prompt.mean(0), whole.values, rounds=100)
    assert_close(whole.per_position.sum(0), whole.values, rounds=100)
    least = plan_memory(
        model.shape, torch.float64, 8, 8, device="cpu", method=how["method"]
    ).one_prompt
    small = attribute(model, pairs, **how, memory=least)  # one prompt at one point at a time
    assert_close(small.values, whole.values, rounds=100)
    assert "eap-ig-activations, 15 points, midpoint rule" in repr(whole)


def test_clean_corrupted_is_the_mean_of_both_ends(tmp_path):
    network, model = toy_model(tmp_path, **SIZE, heads=2)
    pairs, literal, theirs = toy_pairs(), Literal(network), {}
    scores = attribute(model, pairs, method="clean-corrupted")
    for i in range(len(pairs)):
        clean, corrupted = written_on_both(literal, pairs, i)
        for tokens in (pairs.clean, pairs.corrupted):
            gradients = edge_gradients(literal, pairs, i, literal.embed(tokens[i]))
            for name, gradient in gradients.items():
                source = name.split("->")[0]
                score = float(((corrupted[source] - clean[source]) * gradient).sum())
                theirs[name] = theirs.get(name, 0) + score / 2 / len(pairs)
    assert_same_scores(scores, theirs)
    assert scores.points == 2
