"""Ablations: each equals replacing what every absent edge carries by hand, in float64."""

import numpy as np
import pytest
import torch
from closeness import assert_close
from literal import Literal
from toys import toy_model, toy_pairs
from transformers import GPTNeoXForCausalLM

from circuitbook import attribute, evaluate_circuit, find_circuit, get_task, load_suite
from circuitbook.circuits.ablations import (
    AblatedRuns,
    constant_written,
    has_partners,
    mean_written,
    resampled,
    structures,
)
from circuitbook.circuits.circuit import Circuit
from circuitbook.circuits.corrupted import CorruptedRuns
from circuitbook.circuits.divergence import divergence_pairs
from circuitbook.circuits.evaluation import evaluate_masks
from circuitbook.circuits.measures import measure_circuits
from circuitbook.circuits.optimal import ablated_last, for_prompts, optimal_written
from circuitbook.model.architectures import network_of
from circuitbook.model.graph import graph_of

LENGTHS = (6, 8, 6, 8, 6)  # two structures, of three and of two prompts


@pytest.fixture(
    scope="module", params=["gpt_neox", "gpt_neox sequential", "llama", "gpt2", "qwen3", "olmo2"]
)
def toy(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablations")
    return toy_model(folder, layers=2, architecture=request.param)


@pytest.fixture(scope="module")
def mini():
    return load_suite("mini").checkpoint("mini-s", 3906).load(dtype=torch.float64)


def pairs_of(seed=1):
    return toy_pairs("probability_difference", seed=seed, lengths=LENGTHS, first=(1, 2, 0, 3, 2))


def live_mask(model, share, seed):
    graph = graph_of(model)
    return graph.live(graph.mask & (np.random.default_rng(seed).random(graph.mask.shape) < share))


def logits_by_hand(literal, pairs, i, edges, written):
    """Logits at END of prompt i when each edge that is not among `edges` carries written[source],
    [pos, d_model]."""

    def patch(source, target, value):
        return value if f"{source}->{target}" in edges else written[source].expand_as(value)

    end = int(pairs.end[i])
    _, logits = literal.run(literal.embed(pairs.clean[i, : end + 1]), patch)
    return logits[end]


def measures_by_hand(literal, pairs, i, edges, written):
    """Metric, whether the right answer is first, and KL of the model to this circuit."""
    everything = {f"{s}->{t}" for s in written for t in TARGETS(literal)}
    clean = logits_by_hand(literal, pairs, i, everything, written).log_softmax(0)
    logits = logits_by_hand(literal, pairs, i, edges, written)
    one = pairs.subset([i])
    right = one.answers[0][one.signs[0] > 0]
    kl = torch.nn.functional.kl_div(logits.log_softmax(0), clean, log_target=True, reduction="sum")
    return one.metric(logits[None])[0], float(logits.argmax() in right), kl


def TARGETS(literal):
    layers, heads = len(literal.parts.blocks), literal.parts.n_heads
    inputs = [f"a{i}.h{h}<{k}>" for i in range(layers) for h in range(heads) for k in "qkv"]
    return [*inputs, *(f"m{i}" for i in range(layers)), "logits"]


def assert_measured(model, network, pairs, mask, runs, written_of):
    """`measure_circuits` gives what replacing by hand gives; written_of(i): {source: [pos, d]}."""
    literal, edges = Literal(network), set(Circuit(graph_of(model), mask).edges)
    got = measure_circuits(model, pairs, [np.zeros_like(mask), mask], runs)
    want = [measures_by_hand(literal, pairs, i, edges, written_of(i)) for i in range(len(pairs))]
    for place, name in enumerate(("metric", "top1", "kl")):
        by_hand = torch.tensor([float(row[place]) for row in want], dtype=torch.float64)
        assert_close(got[name][1], by_hand, rounds=400, size=max(1.0, float(by_hand.abs().max())))
    assert (got["metric"][0] - got["metric"][1]).abs().max() > 1e-3
    assert got["kl"].min() > -1e-9 and got["kl"][1].max() > 1e-3
    return got


@pytest.mark.parametrize("seed", [0, 1])
def test_resampled_prompts_are_corrupted_prompts_like_any(toy, seed):
    network, model = toy
    pairs = pairs_of()
    other = resampled(pairs, pairs_of(seed=7), seed)
    assert torch.equal(other.clean, pairs.clean) and "corrupted" not in other.table
    mask, literal = live_mask(model, 0.4, seed), Literal(network)

    def written_of(i):
        return literal.run(literal.embed(other.corrupted[i, : int(pairs.end[i]) + 1]))[0]

    assert_measured(model, network, other, mask, CorruptedRuns(model, other), written_of)
    circuit = Circuit(graph_of(model), mask)
    by_hand = literal.circuit(other, set(circuit.edges))
    assert_close(evaluate_circuit(model, other, circuit), by_hand, rounds=100)


@pytest.mark.parametrize("share", [0.15, 0.4, 0.7])
def test_mean_ablation_equals_means_taken_and_put_by_hand(toy, share):
    network, model = toy
    pairs, reference = pairs_of(), pairs_of(seed=7)
    mask, literal = live_mask(model, share, 3), Literal(network)

    def written_of(i):
        stop = int(pairs.end[i]) + 1
        of_length = [j for j in range(len(reference)) if int(reference.end[j]) + 1 == stop]
        runs = [literal.run(literal.embed(reference.clean[j, :stop]))[0] for j in of_length]
        return {source: sum(run[source] for run in runs) / len(runs) for source in runs[0]}

    written = mean_written(model, pairs, reference)
    runs = AblatedRuns(model, pairs, written)
    got = assert_measured(model, network, pairs, mask, runs, written_of)
    small = AblatedRuns(model, pairs, written, 60_000)
    assert len(list(small)) > len(list(runs))  # in more chunks, to the same numbers
    again = measure_circuits(model, pairs, [np.zeros_like(mask), mask], small)
    for name, value in got.items():
        assert_close(again[name], value, rounds=100, size=1.0)
    both = torch.stack(runs.baselines())
    assert_close(both[1], got["metric"][0], rounds=100)
    whole = literal.circuit(pairs, set(graph_of(model).edge_names))
    assert_close(both[0], whole, rounds=100)
    everything = measure_circuits(model, pairs, [graph_of(model).mask], runs)
    assert_close(everything["kl"], torch.zeros(1, len(pairs)).double(), rounds=100, size=1.0)


@pytest.mark.parametrize("share", [0.15, 0.6])
def test_constants_are_put_as_by_hand_and_the_plain_forward_agrees(toy, share):
    network, model = toy
    pairs, mask = pairs_of(), live_mask(toy[1], share, 5)
    literal, plain = Literal(network), network_of(model)
    written = optimal_written(model, pairs, mask, steps=4)
    heads = [z[0, 0].unbind(0) for z in written.z]

    def written_of(i):
        vectors = {"input": written.embed[0]}
        for layer, of_heads in enumerate(heads):
            for h, z in enumerate(of_heads):
                vectors[f"a{layer}.h{h}"] = (z @ literal.parts.write_scaled(layer, h).T)[None]
            vectors[f"m{layer}"] = written.mlp[layer][0]
        return vectors

    runs = AblatedRuns(model, pairs, for_prompts(written, len(pairs)))
    got = assert_measured(model, network, pairs, mask, runs, written_of)
    last = ablated_last(plain, graph_of(model), mask, plain.embed(pairs.clean), written)
    at_end = last[torch.arange(len(pairs)), pairs.end]
    assert_close(got["metric"][1], pairs.metric(plain.logits(at_end)), rounds=100)
    rows = mean_written(model, pairs, pairs_of(seed=7))
    of_rows = rows.of(torch.arange(len(pairs)), pairs.clean.shape[1])
    last = ablated_last(plain, graph_of(model), mask, plain.embed(pairs.clean), of_rows)
    at_end = last[torch.arange(len(pairs)), pairs.end]
    metric = evaluate_masks(model, pairs, [mask], runs=AblatedRuns(model, pairs, rows))[0]
    assert_close(metric, pairs.metric(plain.logits(at_end)), rounds=100)


def test_optimal_constants_are_a_minimum_along_every_direction_tried(mini):
    """Gradient descent ends where the divergence, evaluated by other code, falls no further."""
    pairs = get_task("gendered_pronoun").prompts(mini.tokenizer, n=12)
    circuit = find_circuit(mini, pairs, attribute(mini, pairs, rule="midpoint"), form="normalised")
    start = for_prompts(constant_written(mini, pairs), len(pairs))

    def kl(written):
        runs = AblatedRuns(mini, pairs, written)
        return float(measure_circuits(mini, pairs, [circuit.mask], runs)["kl"].mean())

    best = optimal_written(mini, pairs, circuit.mask, steps=200)
    few = optimal_written(mini, pairs, circuit.mask, steps=5)
    assert kl(best) < kl(few) < kl(start) and kl(best) < 0.01 * kl(start)
    generator = torch.Generator().manual_seed(0)
    for tensor in (best.embed, *best.z, *best.mlp):
        step = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        before = tensor.clone()
        changed = []
        for sign in (-1, 1):
            tensor.copy_(before + sign * 0.05 * before.abs().mean() * step)
            changed.append(kl(best))
        tensor.copy_(before)
        assert min(changed) > kl(best) - 2e-4  # no better on either side, but for what is left


def test_the_gradient_of_the_optimum_is_that_of_finite_differences(toy):
    network, model = toy
    pairs, mask, plain = pairs_of(), live_mask(toy[1], 0.5, 5), network_of(toy[1])
    target = divergence_pairs(model, pairs)
    written = constant_written(model, pairs)
    literal = Literal(network)
    edges = set(Circuit(graph_of(model), mask).edges)
    free = written.mlp[0].requires_grad_()
    with torch.enable_grad():
        last = ablated_last(plain, graph_of(model), mask, plain.embed(pairs.clean), written)
        normed = plain.norm_final(last[torch.arange(len(pairs)), pairs.end][:, None])
        loss = -target.minus_divergence(plain, normed).mean()
        (gradient,) = torch.autograd.grad(loss, free)
    free.requires_grad_(False)

    def by_hand():
        vectors = {"input": written.embed[0]}
        for layer, z in enumerate(written.z):
            for h, of_head in enumerate(z[0, 0]):
                vectors[f"a{layer}.h{h}"] = (of_head @ literal.parts.write_scaled(layer, h).T)[None]
            vectors[f"m{layer}"] = written.mlp[layer][0]
        rows = [measures_by_hand(literal, pairs, i, edges, vectors)[2] for i in range(len(pairs))]
        return float(sum(rows)) / len(rows)

    assert_close(loss.detach(), by_hand(), rounds=400, size=1.0)
    for place in (0, 3, 11):
        values = []
        for sign in (1, -1):
            free[0, 0, place] += sign * 1e-4
            values.append(by_hand())
            free[0, 0, place] -= sign * 1e-4
        assert abs((values[0] - values[1]) / 2e-4 - float(gradient[0, 0, place])) < 1e-6
    assert gradient.abs().max() > 1e-3


# ------------------------------------------------------------------ the divergence as a metric


def test_the_divergence_is_that_of_all_logits(toy):
    network, model = toy
    pairs, literal = divergence_pairs(model, pairs_of()), Literal(network)
    clean, corrupted = (
        torch.stack([literal.run(literal.embed(t[i]))[1][pairs.end[i]] for i in range(len(pairs))])
        for t in (pairs.clean, pairs.corrupted)
    )
    by_hand = torch.nn.functional.kl_div(
        corrupted.log_softmax(1), clean.log_softmax(1), log_target=True, reduction="none"
    ).sum(1)
    assert by_hand.min() > 1e-3
    assert_close(pairs.metric(corrupted), -by_hand, rounds=100)
    found = CorruptedRuns(model, pairs).baselines()
    assert_close(found[0], torch.zeros(len(pairs)).double(), rounds=400, size=10.0)
    assert_close(found[1], -by_hand, rounds=400, size=10.0)
    some = pairs.subset([3, 1])
    assert_close(some.metric(corrupted[[3, 1]]), -by_hand[[3, 1]], rounds=100)


def test_scores_of_the_divergence_are_its_slopes(toy):
    network, model = toy
    pairs = divergence_pairs(model, pairs_of())
    literal = Literal(network)
    scores = attribute(model, pairs, rule="midpoint", points=3)
    graph = graph_of(model)
    names = [name for name, _ in scores.largest(3)] + [graph.edge_name(0, graph.n_dst - 1)]
    by_hand = literal.score(pairs, names, [1 / 6, 1 / 2, 5 / 6])
    for name in names:
        assert abs(scores.of(name) - by_hand[name]) < 1e-5 + 1e-4 * abs(by_hand[name]), name
    assert abs(scores.largest(1)[0][1]) > 1e-3


def test_the_vocabulary_is_taken_in_parts(toy, monkeypatch):
    _, model = toy
    pairs = divergence_pairs(model, pairs_of())
    whole = attribute(model, pairs, rule="midpoint", points=3).values
    monkeypatch.setattr("circuitbook.model.log_total.LOGIT_BYTES", 1)
    assert_close(attribute(model, pairs, rule="midpoint", points=3).values, whole, rounds=100)


def test_a_search_by_the_divergence_keeps_what_it_says(mini):
    pairs = get_task("ioi").prompts(mini.tokenizer, n=16)
    by_kl = divergence_pairs(mini, pairs)
    scores = attribute(mini, by_kl, rule="midpoint", points=5)
    circuit = find_circuit(mini, by_kl, scores, form="normalised", min_metric=-np.inf)
    runs = CorruptedRuns(mini, pairs)
    masks = [np.zeros_like(circuit.mask), circuit.mask]
    kl = measure_circuits(mini, pairs, masks, runs)["kl"].mean(1)
    assert 0 < kl[1] / kl[0] <= 0.2 and circuit.found
    assert_close(circuit.faithfulness, float(1 - kl[1] / kl[0]), rounds=1000)


# ------------------------------------------------------------------ which prompts stand for which


def test_abc_is_the_task_own_corruption(mini):
    task = get_task("ioi")
    pairs = task.prompts(mini.tokenizer, n=40)
    theirs = task.prompts(mini.tokenizer, n=40, corruption="abc")
    ours = resampled(pairs, pairs, seed=3)
    assert torch.equal(ours.clean != ours.corrupted, theirs.clean != theirs.corrupted)
    names = set(pairs.answers.unique().tolist())
    for i in range(40):
        places = [int(pairs.positions[name][i]) for name in ("IO", "S1", "S2")]
        chosen = ours.corrupted[i, places].tolist()
        assert len(set(chosen)) == 3 and set(chosen) <= names - set(pairs.answers[i].tolist())
    assert not torch.equal(ours.corrupted, resampled(pairs, pairs, seed=4).corrupted)
    assert torch.equal(ours.corrupted, resampled(pairs, pairs, seed=3).corrupted)


@pytest.mark.parametrize("name", ["sva", "gendered_pronoun", "greater_than"])
def test_a_resampled_prompt_is_another_of_the_same_structure(mini, name):
    pairs = get_task(name).prompts(mini.tokenizer, n=60)
    pairs = pairs.subset(has_partners(pairs, pairs))
    other = resampled(pairs, pairs, seed=0)
    assert len(pairs) > 20
    of_text = {
        tuple(row.tolist()): s for row, s in zip(pairs.clean, structures(pairs), strict=True)
    }
    for i, structure in enumerate(structures(pairs)):
        stop = int(pairs.end[i]) + 1
        row = [*other.corrupted[i, :stop].tolist(), *pairs.clean[i, stop:].tolist()]
        matches = [s for text, s in of_text.items() if list(text[:stop]) == row[:stop]]
        assert structure in matches and not torch.equal(other.corrupted[i], pairs.clean[i])
    answers = {"sva": "number", "gendered_pronoun": "kind"}.get(name)
    if answers:  # what is drawn knows nothing of the answer: often the same, often another
        texts = dict(zip(pairs.table["clean"], pairs.table[answers], strict=True))
        assert len(set(texts.values())) == 2


def test_prompts_without_partners_are_told_and_refused(mini):
    pairs = get_task("sva").prompts(mini.tokenizer, n=40)
    kinds = structures(pairs)
    lonely = next(i for i, kind in enumerate(kinds) if 1 < kinds.count(kind) <= 4)
    fellows = [i for i, kind in enumerate(kinds) if kind == kinds[lonely] and i != lonely]
    reference = pairs.subset([i for i in range(40) if i not in fellows])
    found = has_partners(pairs, reference)
    assert not found[lonely] and found.any()
    with pytest.raises(ValueError, match="no other prompt of the structure of prompt 0"):
        resampled(pairs.subset([lonely]), reference)
    without = pairs.subset([i for i, kind in enumerate(kinds) if kind != kinds[lonely]])
    with pytest.raises(ValueError, match="no reference prompt has the structure of prompt 0"):
        mean_written(mini, pairs.subset([lonely]), without)
    few = get_task("ioi").prompts(mini.tokenizer, n=1)
    with pytest.raises(ValueError, match="needs three other names"):
        resampled(few, few)


def test_mean_ablation_of_a_mini_model_in_both_precisions(mini):
    pairs = get_task("ioi").prompts(mini.tokenizer, n=24)
    some = pairs.subset([0, 5, 9])
    graph = graph_of(mini)
    mask = live_mask(mini, 0.3, 1)
    plain = GPTNeoXForCausalLM.from_pretrained(mini.checkpoint.fetch(), dtype=torch.float32)
    literal, kinds = Literal(plain), structures(pairs)

    def written_of(i):
        stop = int(some.end[i]) + 1
        same = [j for j in range(24) if kinds[j] == structures(some)[i]]
        runs = [literal.run(literal.embed(pairs.clean[j, :stop]))[0] for j in same]
        return {source: sum(run[source] for run in runs) / len(runs) for source in runs[0]}

    runs = AblatedRuns(mini, some, mean_written(mini, some, pairs))
    got = assert_measured(mini, plain, some, mask, runs, written_of)
    single = mini.checkpoint.load()
    runs = AblatedRuns(single, some, mean_written(single, some, pairs))
    again = measure_circuits(single, some, [np.zeros_like(mask), mask], runs)
    assert_close(again["metric"], got["metric"], rounds=100)
    assert graph.live(mask).sum() == mask.sum()


@pytest.mark.slow
def test_a_real_vocabulary_is_taken_in_parts(smollm2):
    """49,152 tokens: the divergence of a real model, its scores, and all ablations of a circuit."""
    task, model = get_task("ioi"), smollm2
    pairs, reference = (task.prompts(model.tokenizer, n=n, seed=n) for n in (3, 40))
    pairs = pairs.subset(has_partners(pairs, reference))
    by_kl = divergence_pairs(model, pairs)
    clean, corrupted = (model.logits(t, pairs.end) for t in (pairs.clean, pairs.corrupted))
    kl = (clean.softmax(1) * (clean.log_softmax(1) - corrupted.log_softmax(1))).sum(1)
    scores = attribute(model, by_kl, rule="midpoint", points=2)
    assert_close(scores.change, kl, rounds=100, size=20.0)  # logits are of that size
    everything = graph_of(model).mask
    nothing = np.zeros_like(everything)
    for runs in (
        CorruptedRuns(model, resampled(pairs, reference)),
        AblatedRuns(model, pairs, mean_written(model, pairs, reference)),
        AblatedRuns(model, pairs, for_prompts(constant_written(model, reference), len(pairs))),
    ):
        found = measure_circuits(model, pairs, [nothing, everything], runs)
        assert found["kl"][0].min() > 0.1 and found["kl"][1].max() < 1e-3
        assert_close(found["metric"][1], pairs.metric(clean), rounds=100, size=20.0)
