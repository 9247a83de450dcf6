"""Spans and edges between positions against literal patching, and what each position is counted."""

import dataclasses

import networkx as nx
import numpy as np
import pytest
import torch
from closeness import assert_close
from edge_gradients import edge_gradients, written_on_both
from literal import Literal
from toys import LENGTHS, toy_model, toy_pairs

from circuitbook import attribute, get_task, load_suite
from circuitbook.circuits.evaluation import evaluate_masks
from circuitbook.circuits.positions import (
    BETWEEN,
    find_at_positions,
    first_positions,
    live_at_positions,
    position_curve,
    position_order,
    size_on_prompts,
)
from circuitbook.circuits.spans import SpanCircuit, Spans, each_position, spans_of
from circuitbook.model.graph import Graph, graph_of

KINDS = ("gpt_neox", "gpt2", "olmo clipped", "qwen3", "olmo2")
MARKS = {"A": (1, 0, -1, 3), "B": (3, 5, 2, 1)}  # in either order, or not there


def marked_pairs(**how):
    pairs = toy_pairs(**how)
    marks = {name: torch.tensor(at) for name, at in MARKS.items()}
    return dataclasses.replace(pairs, positions={**marks, "END": pairs.end})


def random_circuit(spans, graph, share, seed):
    rng, k = np.random.default_rng(seed), len(spans)
    edges = (rng.random((k, *graph.mask.shape)) < share) & graph.mask
    return SpanCircuit(edges=edges, spans=spans, between=rng.random((k, k, graph.n_dst)) < share)


# ------------------------------------------------------------------ spans


def test_spans_are_what_is_marked_and_what_follows():
    spans = spans_of(marked_pairs())
    assert spans.names == ("start", "A", "after A", "B", "after B", "END")
    assert spans.places.tolist() == [
        [0, 1, 2, 3, 5, -1, -1, -1],
        [1, 2, 2, 2, 2, 3, 4, 5],
        [0, 0, 3, 4, 4, 4, 5, -1],
        [0, 3, 4, 1, 2, 5, -1, -1],
    ]
    assert spans_of(marked_pairs(), ["B"]).names == ("start", "B", "after B", "END")
    assert "start, A, after A" in repr(spans)


def test_spans_of_the_tasks_line_up_what_they_name():
    tokenizer = load_suite("mini").checkpoint("mini-s", 0).load().tokenizer
    for task in ("ioi", "gendered_pronoun", "greater_than", "sva"):
        pairs = get_task(task).prompts(tokenizer, n=12)
        spans = spans_of(pairs)
        spans.check(pairs)
        for i, name in ((i, name) for i in range(12) for name in pairs.positions):
            if (at := int(pairs.positions[name][i])) >= 0:
                name = "END" if at == pairs.end[i] else name  # XX2 of Greater-Than
                assert spans.names[spans.places[i, at]] == name
                assert (spans.places[i] == spans.names.index(name)).sum() == 1


# ------------------------------------------------------------------ evaluation


def keys_and_values(literal, tokens):
    """Those of each head on a prompt, as attention takes them: {input: [pos, e]}."""
    kept = {}

    def keep(target, own):
        kept[target] = own
        return own.expand(len(own), *own.shape)

    literal.run(literal.embed(tokens), see=keep)
    return kept


def patched(network, pairs, graph, circuit):
    """Metric [n], written out: what no edge of the circuit carries is the corrupted run's, from
    source to reader, and from key or value to query."""
    literal, out = Literal(network), []
    for i in range(len(pairs)):
        places, kept = circuit.spans.places[i], keys_and_values(literal, pairs.corrupted[i])
        corrupted, _ = literal.run(literal.embed(pairs.corrupted[i]))

        def patch(source, target, written, corrupted=corrupted, places=places):
            inside = circuit.edges[(places.numpy(), *graph.edge(f"{source}->{target}"))]
            return written.where(torch.tensor(inside)[:, None], corrupted[source])

        def see(target, own, kept=kept, places=places):
            if circuit.between is None:
                return own.expand(len(own), *own.shape)
            column = graph.destination_names.index(target)
            inside = circuit.between[places[:, None].numpy(), places[None].numpy(), column]
            return torch.where(torch.tensor(inside)[..., None], own[None], kept[target][None])

        out.append(-float(literal.loss(pairs, i, literal.embed(pairs.clean[i]), patch, see)))
    return np.array(out)


@pytest.mark.parametrize("share", [0.3, 0.8])
@pytest.mark.parametrize("kind", KINDS)
def test_a_circuit_with_spans_is_patching_at_their_positions(tmp_path, kind, share):
    heads = 4 if kind in ("qwen3", "olmo2") else 2
    network, model = toy_model(tmp_path, architecture=kind, layers=2, heads=heads)
    pairs, graph = marked_pairs(), graph_of(model)
    spans = spans_of(pairs)
    circuits = [random_circuit(spans, graph, share, seed) for seed in range(2)]
    circuits.append(dataclasses.replace(circuits[0], between=None))
    flat = circuits[0].edges.any(0)  # all kinds share a batch
    got = evaluate_masks(model, pairs, [*circuits, flat]).numpy()
    everywhere = np.repeat(flat[None], len(spans), 0)
    circuits.append(SpanCircuit(edges=everywhere, spans=spans))
    for circuit, metric in zip(circuits, got, strict=True):
        assert_close(metric, patched(network, pairs, graph, circuit), rounds=100, size=9)
    assert np.abs(got[0] - got[2]).max() > 0.01
    small = evaluate_masks(model, pairs, circuits[:2], memory=30_000).numpy()
    assert_close(small, got[:2], rounds=100, size=9)


def test_one_key_or_value_that_one_query_sees_is_patched_by_itself(tmp_path):
    network, model = toy_model(tmp_path, layers=2)
    pairs, graph = toy_pairs(lengths=(6, 6), first=(1, 2)), graph_of(model)
    spans = each_position(pairs)
    whole = SpanCircuit(
        edges=np.repeat(graph.mask[None], 6, 0),
        spans=spans,
        between=np.ones((6, 6, graph.n_dst), bool),
    )
    places = [(5, 2, "a1.h0<k>"), (5, 3, "a1.h1<v>"), (4, 4, "a0.h1<k>"), (3, 1, "a0.h0<v>")]
    circuits = []
    for to, at, name in places:
        between = whole.between.copy()
        between[to, at, graph.destination_names.index(name)] = False
        circuits.append(dataclasses.replace(whole, between=between))
    got = evaluate_masks(model, pairs, circuits).numpy()
    clean = -np.array(
        [
            float(Literal(network).loss(pairs, i, Literal(network).embed(pairs.clean[i])))
            for i in (0, 1)
        ]
    )
    for circuit, metric in zip(circuits, got, strict=True):
        assert_close(metric, patched(network, pairs, graph, circuit), rounds=100, size=9)
        assert np.abs(metric - clean).max() > 1e-9


# ------------------------------------------------------------------ scores


def literal_scores(network, pairs, graph, spans, points):
    """(per_position, between) by autograd of the twin: every edge, and every key and value that a
    query sees, carries a zero whose gradient meets what is patched into it."""
    literal, k = Literal(network), len(spans)
    of_spans, of_pairs = np.zeros((k, *graph.mask.shape)), np.zeros((k, k, graph.n_dst))
    for i in range(len(pairs)):
        places = spans.places[i].numpy()
        before, after = written_on_both(literal, pairs, i)
        made = [keys_and_values(literal, both[i]) for both in (pairs.clean, pairs.corrupted)]
        clean, corrupted = literal.embed(pairs.clean[i]), literal.embed(pairs.corrupted[i])
        for t in points:
            z = clean + t * (corrupted - clean)
            for name, gradient in edge_gradients(literal, pairs, i, z).items():
                src, dst = graph.edge(name)
                change = after[graph.source_names[src]] - before[graph.source_names[src]]
                for pos in range(int(pairs.end[i]) + 1):
                    value = float(change[pos] @ gradient[pos])
                    of_spans[places[pos], src, dst] += value / len(points) / len(pairs)
            zeros = {}

            def see(target, own, zeros=zeros):
                zeros[target] = zero = own.new_zeros(len(own), *own.shape).requires_grad_()
                return own + zero

            loss = literal.loss(pairs, i, z, see=see)
            gradients = torch.autograd.grad(loss, list(zeros.values()), allow_unused=True)
            for target, gradient in zip(zeros, gradients, strict=True):
                if gradient is None:
                    continue
                dst, change = (
                    graph.destination_names.index(target),
                    made[1][target] - made[0][target],
                )
                for to in range(int(pairs.end[i]) + 1):
                    for at in range(to + 1):
                        value = float(gradient[to, at] @ change[at])
                        of_pairs[places[to], places[at], dst] += value / len(points) / len(pairs)
    return of_spans, of_pairs


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_spans_and_between_them(tmp_path, kind):
    heads = 4 if kind in ("qwen3", "olmo2") else 2
    network, model = toy_model(tmp_path, architecture=kind, layers=2, heads=heads)
    pairs, graph = marked_pairs(), graph_of(model)
    spans = spans_of(pairs)
    ways = [("eap", {}, [0.0])]
    if kind == "gpt_neox":
        ways.append(("eap-ig", {"rule": "midpoint", "points": 2}, [0.25, 0.75]))
        ways.append(("clean-corrupted", {}, [0.0, 1.0]))
    for method, how, points in ways:
        scores = attribute(model, pairs, method=method, **how, spans=spans, between="gradient")
        of_spans, of_pairs = literal_scores(network, pairs, graph, spans, points)
        assert np.abs(of_pairs).max() > 0.01 and np.abs(of_spans).max() > 0.01
        assert_close(scores.per_position, of_spans, rounds=300)
        assert_close(scores.between, of_pairs, rounds=300)
        few = attribute(
            model, pairs, method=method, **how, spans=spans, between="gradient", memory=150_000
        )
        assert_close(few.between, scores.between, rounds=300)
        assert_close(few.per_position, scores.per_position, rounds=300)
    plain = attribute(model, pairs, method="eap", per_prompt=True, spans=spans)
    assert_close(plain.per_position.sum(0), plain.values, rounds=100)
    assert_close(plain.per_prompt.mean(0), plain.values, rounds=100)
    assert plain.between is None


@pytest.mark.parametrize("kind", ["gpt_neox", "qwen3"])
def test_keys_with_the_pattern_computed_anew(tmp_path, kind):
    """One key that one query sees is patched, and what the head then writes there meets the
    gradient: no softmax but the twin's."""
    network, model = toy_model(tmp_path, architecture=kind, layers=2)
    pairs, graph = marked_pairs(), graph_of(model)
    spans, literal = spans_of(pairs), Literal(network)
    want = np.zeros((len(spans), len(spans), graph.n_dst))
    for i in range(len(pairs)):
        clean, places, length = literal.embed(pairs.clean[i]), spans.places[i], LENGTHS[i]
        written, other = literal.run(clean)[0], keys_and_values(literal, pairs.corrupted[i])
        gradients = edge_gradients(literal, pairs, i, clean)
        for dst, name in enumerate(graph.destination_names):
            if not name.endswith("<k>"):
                continue
            head = name[:-3]
            slope = sum(g for edge, g in gradients.items() if edge.startswith(f"{head}->"))
            for to in range(length):
                for at in range(to + 1):

                    def see(target, own, name=name, to=to, at=at, other=other):
                        keys = own.expand(len(own), *own.shape).clone()
                        if target == name:
                            keys[to, at] = other[name][at]
                        return keys

                    change = literal.run(clean, see=see)[0][head][to] - written[head][to]
                    want[places[to], places[at], dst] += float(change @ slope[to]) / len(pairs)
    got = attribute(model, pairs, method="eap", spans=spans, between="pattern").between.numpy()
    rough = attribute(model, pairs, method="eap", spans=spans, between="gradient").between.numpy()
    keys = [i for i, name in enumerate(graph.destination_names) if name.endswith("<k>")]
    assert_close(got[..., keys], want[..., keys], rounds=1000)
    assert np.abs(rough - got)[..., keys].max() > 0.01
    got[..., keys] = rough[..., keys] = 0
    assert_close(got, rough, rounds=100)  # of values there is one way


# ------------------------------------------------------------------ dead edges, sizes, order


def on_a_path(graph, circuit):
    """Literally, prompt by prompt: a node for what each source writes, each reader reads, and each
    query sees, at each position; and the edges that stand for each of the circuit's."""
    edges = np.zeros_like(circuit.edges)
    between = np.zeros_like(circuit.between)
    for row in circuit.spans.places.numpy():
        places, paths, stands = row[row >= 0], nx.DiGraph(), {}
        for pos, span in enumerate(places):
            for src, dst in np.argwhere(circuit.edges[span]):
                arrow = ("out", src, pos), ("in", dst, pos)
                paths.add_edge(*arrow)
                stands[arrow] = (edges, (span, src, dst))
        for dst, node in enumerate(graph.node_of[:-1]):
            kind = graph.destination_names[dst][-2]
            for at in range(len(places)):
                if kind not in "kv":
                    paths.add_edge(("in", dst, at), ("out", node, at))
                    continue
                for to in range(at, len(places)):
                    if circuit.between[places[to], places[at], dst]:
                        arrow = ("in", dst, at), ("out", node, to)
                        paths.add_edge(*arrow)
                        stands[arrow] = (between, (places[to], places[at], dst))
        goal = ("in", graph.n_dst - 1, len(places) - 1)
        starts = {("out", 0, pos) for pos in range(len(places))} & set(paths)
        fed = starts.union(*(nx.descendants(paths, start) for start in starts))
        counts = (nx.ancestors(paths, goal) | {goal}) if goal in paths else set()
        for (source, target), (mask, place) in stands.items():
            mask[place] |= source in fed and target in counts
    return edges, between


@pytest.mark.parametrize("graph", [Graph(2, 2), Graph(2, 2, parallel=False)], ids=str)
def test_dead_edges_are_on_no_path_of_any_prompt(graph):
    spans, shares = spans_of(marked_pairs()), []
    for seed in range(8):
        circuit = random_circuit(spans, graph, 0.06 * (seed + 1), seed)
        got = live_at_positions(circuit, graph)
        edges, between = on_a_path(graph, circuit)
        np.testing.assert_array_equal(got.edges, edges)
        np.testing.assert_array_equal(got.between, between)
        shares.append((edges.sum() + between.sum()) / (circuit.edges.sum() + circuit.between.sum()))
    assert min(shares) < 0.1 and max(shares) > 0.2


def test_dead_edges_change_nothing(tmp_path):
    _, model = toy_model(tmp_path, layers=2)
    pairs, graph = marked_pairs(), graph_of(model)
    circuit = random_circuit(spans_of(pairs), graph, 0.4, 5)
    live = live_at_positions(circuit, graph)
    both = evaluate_masks(model, pairs, [circuit, live])
    assert 0 < live.edges.sum() < circuit.edges.sum()
    assert 0 < live.between.sum() < circuit.between.sum()
    assert_close(both[1], both[0], rounds=100)


def test_edges_are_counted_at_the_positions_of_a_prompt():
    pairs, graph = marked_pairs(), Graph(2, 2)
    spans, first = spans_of(pairs), (0, 4, 3, 5)
    circuit = random_circuit(spans, graph, 0.3, 1)
    of_keys = [dst for dst, name in enumerate(graph.destination_names) if name[-2] in "kv"]
    circuit.between[:, :, [dst for dst in range(graph.n_dst) if dst not in of_keys]] = False
    alone, between = 0, {True: 0, False: 0}
    for i, length in enumerate(LENGTHS):
        for to in range(first[i], length):
            at_to = spans.places[i, to]
            alone += circuit.edges[at_to][:, :-1].sum()  # into logits at END alone
            alone += circuit.edges[at_to][:, -1].sum() if to == length - 1 else 0
            for at in range(first[i], to + 1):
                there = spans.places[i, at]
                between[True] += circuit.between[at_to, there].sum()
                between[False] += circuit.edges[there][:, of_keys].any(0).sum()
    assert size_on_prompts(circuit, graph, pairs) == (alone / 4, between[True] / 4)
    without = dataclasses.replace(circuit, between=None)
    assert size_on_prompts(without, graph, pairs) == (alone / 4, between[False] / 4)


def test_both_kinds_of_edges_stand_in_one_order(tmp_path):
    _, model = toy_model(tmp_path, layers=2)
    pairs, graph = marked_pairs(), graph_of(model)
    spans = spans_of(pairs)
    scores = attribute(model, pairs, method="eap", spans=spans, between="gradient")
    order = position_order(scores)
    to, at, src, dst = order.T
    across = src == BETWEEN
    values = scores.per_position.numpy()[at, src, dst]
    values[across] = scores.between.numpy()[to, at, dst][across]
    assert (np.diff(np.abs(values)) <= 0).all() and (values != 0).all()
    assert across.sum() == (scores.between != 0).sum() > 20
    assert {graph.destination_names[i][-2] for i in dst[across]} == {"k", "v"}
    whole = first_positions(order, graph, spans, len(order))
    metric = evaluate_masks(model, pairs, [whole, graph.mask])
    assert_close(metric[0], metric[1], rounds=100, size=9)


# ------------------------------------------------------------------ on a model


def test_circuits_on_mixed_templates():
    """Found on some prompts of all templates, tried on others: the ends are known."""
    model = load_suite("mini").checkpoint("mini-s", 3906).load()
    both = get_task("ioi").prompts(model.tokenizer, n=48, corruption="abc")
    pairs, fresh = both.subset(slice(24)), both.subset(slice(24, 48))
    assert len(pairs.end.unique()) > 1
    scores = attribute(
        model,
        pairs,
        rule="midpoint",
        points=5,
        spans=spans_of(pairs),
        between="gradient",
    )
    n = len(position_order(scores))
    curve = position_curve(model, fresh, scores, [0, n // 4, n], spans=spans_of(fresh))
    ends = curve["normalised"].iloc[[0, -1]]
    assert_close(ends, np.array([0.0, 1.0]), rounds=1000, size=9, dtype=scores.values.dtype)
    assert curve["normalised"].iloc[1] > 0.8
    assert (curve["edges"] <= curve["size"]).all()
    assert 0 < curve["between"].iloc[1] < curve["edges"].iloc[1]
    assert curve["pairs"].iloc[1] < curve["pairs"].iloc[2] / 4
    circuit, looked_at = find_at_positions(model, pairs, scores, threshold=0.8)
    passing = looked_at[looked_at["normalised"] >= 0.8].iloc[0]
    assert circuit.edges.sum() + circuit.between.sum() == passing["edges"] < n // 2
    assert find_at_positions(model, pairs, scores, threshold=9)[0] is None


def test_what_does_not_fit_is_refused(tmp_path):
    _, model = toy_model(tmp_path, layers=2)
    pairs, graph = marked_pairs(), graph_of(model)
    spans = spans_of(pairs)
    with pytest.raises(ValueError, match="names no position 'C'; there are: A, B, END"):
        spans_of(pairs, ["A", "C"])
    twice = dataclasses.replace(pairs, positions=pairs.positions | {"C": pairs.positions["B"]})
    with pytest.raises(ValueError, match=r"B and C stand at the same position of prompt 3; say"):
        spans_of(twice)
    with pytest.raises(ValueError, match=r"make them of these prompts: spans_of\(pairs\)"):
        attribute(model, pairs.subset([0, 1]), method="eap", spans=spans)
    holes = spans.places.clone()
    holes[2, 1] = -1
    with pytest.raises(
        ValueError, match="position 1 of prompt 2 is in span -1, but there are 0 to 5"
    ):
        attribute(model, pairs, method="eap", spans=Spans(names=spans.names, places=holes))
    with pytest.raises(ValueError, match="by 'yes'; there are: gradient, pattern"):
        attribute(model, pairs, method="eap", between="yes")
    with pytest.raises(
        ValueError, match="gim.* has no scores between positions; take eap, eap-ig or"
    ):
        attribute(model, pairs, method="gim", spans=spans, between="gradient")
    for method in ("ifr", "eap-qk"):
        with pytest.raises(ValueError, match="has no scores per position"):
            attribute(model, pairs, method=method, spans=spans)
    circuit = random_circuit(spans, graph, 0.5, 0)
    with pytest.raises(ValueError, match=r"circuit 1 is \[5, .*but there are 6 spans"):
        wrong = dataclasses.replace(circuit, edges=circuit.edges[1:])
        evaluate_masks(model, pairs, [circuit, wrong])
    with pytest.raises(ValueError, match=r"between positions of circuit 0 are \[6, 5,"):
        evaluate_masks(model, pairs, [dataclasses.replace(circuit, between=circuit.between[:, 1:])])
    with pytest.raises(ValueError, match="make them of these prompts"):
        evaluate_masks(model, pairs.subset([1]), [circuit])
