"""The engine on a real language model (SmolLM2-135M: 30 layers, heads that share keys and values,
49,152 tokens) against transformers' own forward pass with hooks, and against TransformerLens.

Patching is compared in float64, on transformers' own modules, where one edge of 123,211 moves the
metric by far more than what is rounded.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import re
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest
import torch
from closeness import assert_close
from hooked import Hooked
from literal import Literal
from parts import ungrouped
from test_attribution import lens_name
from test_circuits import random_circuit
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.tools.analysis import attribution_patching as lens
from transformers import LlamaForCausalLM

from circuitbook import get_recipe, get_task
from circuitbook.circuits.attribution import attribute
from circuitbook.circuits.evaluation import evaluate_masks
from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.heads.path_patching import path_patch
from circuitbook.model.architectures import network_of
from circuitbook.model.graph import graph_of
from circuitbook.model.memory import plan_memory
from circuitbook.model.network import last_stream
from circuitbook.paths import PACKAGE

pytestmark = pytest.mark.slow


def transformers_own(model):
    """From the checkpoint's files, in float32."""
    return LlamaForCausalLM.from_pretrained(model.folder, dtype=torch.float32).eval()


# ---------------------------------------------------------------- in float32


MEMORY = """
import re
from pathlib import Path
import torch
from circuitbook import attribute, get_task, load_suite
from circuitbook.circuits.batches import window

def status(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

torch.set_num_threads(1)
suite = load_suite("smollm2")
(model,) = suite.standard
model = suite.checkpoint(model, suite.steps(model)[-1]).load()
pairs = get_task("ioi").prompts(model.tokenizer, n=8)
for weight in model.hf_model.parameters():
    weight.detach().sum()  # so that they are all read
Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
before = status("VmRSS")
print(*window(pairs))
for megabytes in (64, 160):
    attribute(model, pairs, rule="midpoint", points=2, memory=megabytes << 20)
    print(megabytes << 20, status("VmHWM") - before)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="no Linux")
def test_memory_is_what_is_planned(smollm2):
    """The peak of a process of its own, above what it holds before."""
    path = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    said = subprocess.run(
        [sys.executable, "-c", MEMORY],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout.splitlines()
    start, stop = map(int, said[0].split())
    plan = plan_memory(smollm2.shape, torch.float32, stop - start, stop, number=1, device="cpu")
    besides = plan.split + plan.scores + plan.working
    for line in said[1:]:
        memory, growth = map(int, line.split())
        # what the allocator holds besides depends on how long the prompts of a batch are
        assert plan.one_prompt < 0.8 * memory < growth <= 1.05 * (memory + besides)


@pytest.mark.parametrize("task", ["sva", "gendered_pronoun"])
def test_plain_eap_equals_transformer_lens(smollm2, task):
    """All edges. TransformerLens refuses shared keys and values, so it is given the same model with
    a copy of them for every head."""
    pairs = get_task(task).prompts(smollm2.tokenizer, n=2)
    pairs = pairs.subset([int(pairs.end.argmin())])
    ours = attribute(smollm2, pairs, method="eap")
    network = ungrouped(transformers_own(smollm2))
    network.set_attn_implementation("eager")
    bridge = TransformerBridge.boot_transformers(
        str(smollm2.folder),
        hf_model=network,
        device="cpu",
        tokenizer=copy.deepcopy(smollm2.tokenizer),
        dtype=torch.float32,
    )
    stop = int(pairs.end[0]) + 1
    result = lens.attribution_patch(  # theirs takes the gradient at "corrupt", towards "clean"
        bridge,
        pairs.corrupted[:, :stop],
        pairs.clean[:, :stop],
        lambda logits: pairs.metric(logits[:, -1]).sum(),
        lens.EdgeAttributionConfig(granularity="edge"),
    )
    total, at_zero = defaultdict(float), {}
    for (source, target), score in result.edge_scores.items():  # of every position by itself
        edge = source.kind, source.layer, source.head, target.kind, target.layer, target.head
        total[edge] -= score
        at_zero.setdefault(edge, (source, target))
    table = {lens_name(*at_zero[edge]): score for edge, score in total.items()}
    assert set(table) == set(ours.graph.edge_names) and len(table) == 123_211
    theirs = torch.tensor([table[name] for name in ours.graph.edge_names])
    got = ours.values[torch.from_numpy(ours.graph.mask)]
    # an error of a logit is a relative error of its probability, and logits are around 20
    rounds = 20 * 20 if pairs.metric_name == "probability_difference" else 100
    assert_close(got, theirs, rounds=rounds)


@pytest.mark.parametrize("task", ["ioi", "gendered_pronoun", "greater_than", "sva"])
def test_scores_out_of_input_are_the_change_of_the_loss(smollm2, task):
    recipe = get_recipe("robust")
    pairs = get_task(task).prompts(smollm2.tokenizer, n=8)
    scores = attribute(smollm2, pairs, **recipe.attribution)
    with torch.no_grad():
        clean, corrupted = (
            pairs.metric(smollm2.hf_model(tokens).logits[torch.arange(8), pairs.end])
            for tokens in (pairs.clean, pairs.corrupted)
        )
    change = float((clean - corrupted).mean())
    size = float((clean - corrupted).abs().mean())
    assert change > 0.1
    gap = float(scores.values[0].double().sum()) - change
    assert abs(gap) < recipe.tolerance * size


def test_the_gap_of_each_prompt_vanishes_as_midpoints_do(smollm2):
    """Four times smaller with twice the points. Of Greater-Than, where the probability goes from
    one end to the other."""
    pairs = get_task("greater_than").prompts(smollm2.tokenizer, n=4)
    gaps = []
    for points in (20, 40):
        scores = attribute(smollm2, pairs, rule="midpoint", points=points)
        gaps.append((scores.from_input - scores.change) / scores.change.abs())
    assert gaps[0].abs().max() < 1e-3
    torch.testing.assert_close(gaps[0] / gaps[1], torch.full((4,), 4.0), rtol=0.2, atol=0)


# ---------------------------------------------------------------- in float64


@pytest.fixture(scope="module")
def literal(smollm2):
    """The literal twin; its `network` is transformers' own."""
    return Literal(transformers_own(smollm2))


@pytest.fixture(scope="module")
def exact_model(smollm2, literal):
    """The library's model around the same weights."""
    return dataclasses.replace(smollm2, hf_model=literal.network, dtype=torch.float64)


def two_prompts(model, task):
    """The shortest and the longest of some prompts."""
    pairs = get_task(task).prompts(model.tokenizer, n=16)
    return [pairs.subset([int(end)]) for end in (pairs.end.argmin(), pairs.end.argmax())]


def test_logits_are_those_of_transformers(smollm2, literal):
    pairs = get_task("ioi").prompts(smollm2.tokenizer, n=16)
    lengths = pairs.lengths.tolist()
    pairs = pairs.subset([lengths.index(length) for length in sorted(set(lengths))[::2]])
    assert len(pairs) >= 3
    theirs, network = transformers_own(smollm2), network_of(smollm2)
    padded = smollm2.logits(pairs.clean, pairs.end)
    for i in range(len(pairs)):
        tokens = pairs.clean[i : i + 1, : int(pairs.end[i]) + 1]
        with torch.no_grad():
            expected, truth = theirs(tokens).logits, literal.network(tokens).logits
            ours = network.logits(last_stream(network, network.embed(tokens)[:, None])[:, 0])
        for got in (ours, smollm2.logits(tokens)):
            assert_close(got, expected, rounds=100)
            assert rms(got - truth) < 2 * rms(expected - truth)  # as near to float64 as theirs
        assert_close(padded[i], expected[0, -1], rounds=100)


def rms(x):
    return float(x.double().square().mean().sqrt())


KINDS = {
    "input->q": r"input->a.*<q>",
    "head->q": r"a.*->a.*<q>",
    "head->k": r"a.*->a.*<k>",
    "head->v": r"a.*->a.*<v>",
    "head->MLP of its layer": r"a(\d+)\..*->m\1",
    "head->later MLP": r"a(\d+)\..*->m(?!\1$).*",
    "MLP->MLP": r"m.*->m.*",
    "MLP->head": r"m.*->a.*",
    "head->logits": r"a.*->logits",
    "MLP->logits": r"m.*->logits",
    "input->logits": r"input->logits",
}


@pytest.mark.parametrize("task", ["ioi", "sva"])
def test_edges_patched_by_hooks(exact_model, literal, task):
    """Of every kind of edge the one with the largest score."""
    shortest, longest = two_prompts(exact_model, task)
    pairs, graph = longest if task == "ioi" else shortest, graph_of(exact_model)
    scores = attribute(exact_model, pairs, method="eap").values.numpy()[graph.mask]
    names = [graph.edge_names[i] for i in np.argsort(-np.abs(scores))]
    edges = {
        kind: next(name for name in names if re.fullmatch(pattern, name))
        for kind, pattern in KINDS.items()
    }
    masks = []
    for name in edges.values():
        masks.append(graph.mask.copy())
        masks[-1][graph.edge(name)] = False
    got = evaluate_masks(exact_model, pairs, masks)
    twin = Hooked(literal.network, pairs, 0)
    by_hooks = torch.stack([twin.edge_patched(*name.split("->")) for name in edges.values()])
    assert_close(got[:, 0], by_hooks, rounds=100, size=size_of(pairs))
    moved = (by_hooks - twin.metric).abs()
    stays = task == "ioi"  # END is the same word there, so that its embedding does not change
    assert moved[:-1].min() > 1e-6 and (moved[-1] == 0) == stays


def size_of(pairs):
    """What the metric is a difference of: logits, or probabilities."""
    return 30 if pairs.metric_name == "logit_difference" else 1


@pytest.mark.parametrize("edges", [400, "half"])
def test_circuits_are_the_literal_twins(exact_model, literal, edges):
    pairs, graph = two_prompts(exact_model, "ioi")[0], graph_of(exact_model)
    if edges == "half":
        mask = random_circuit(graph, 0.5, seed=0).mask
    else:
        scores = attribute(exact_model, pairs, method="eap").values
        mask = first_edges(edge_order(scores, graph), graph, edges)
    (got,) = evaluate_masks(exact_model, pairs, [mask])
    names = {graph.edge_name(*edge) for edge in graph.edges[mask[graph.mask]]}
    want = literal.circuit(pairs, names)
    assert_close(got, want, rounds=100, size=size_of(pairs))


PATHS = [  # sender, receiver, where the one writes, where the other reads
    ("a23.h1", "logits", "END", None),
    ("a21.h8", "a23.h1<q>", "END", "END"),
    ("a17.h4", "a21.h8<v>", None, "S2"),
    ("a15.h6", "a18.h6<k>", None, None),
    ("a20.h0", "m25", None, "END"),
]


def test_paths_patched_by_hooks(exact_model, literal):
    pairs = get_task("ioi").prompts(exact_model.tokenizer, n=2)
    twins = [Hooked(literal.network, pairs, i) for i in range(len(pairs))]
    clean = torch.stack([twin.metric for twin in twins])
    for sender, receiver, sender_at, receiver_at in PATHS:
        got = path_patch(
            exact_model,
            pairs,
            [sender],
            [receiver],
            sender_at=sender_at,
            receiver_at=receiver_at,
        )
        want = torch.stack(
            [twin.path_patched(sender, receiver, sender_at, receiver_at) for twin in twins]
        )
        assert_close(got.metric[0], want, rounds=100, size=size_of(pairs))
        assert (want - clean).abs().max() > 1e-6
