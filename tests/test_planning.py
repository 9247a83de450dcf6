"""Memory plans: weights and copies as they are, and the least that attribution takes."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import random_network
from torch.profiler import ProfilerActivity, profile
from toys import toy_model, toy_pairs
from transformers import AutoModelForCausalLM, GPTNeoXConfig

from circuitbook import attribute, get_task, load_suite
from circuitbook.circuits.batches import window
from circuitbook.circuits.quadrature import METHODS
from circuitbook.model.architectures import network_of
from circuitbook.model.memory import free_memory, neox_parameters, plan_memory
from circuitbook.records.gpu import recorded_gpu
from circuitbook.records.pythia_memory import memory_table
from circuitbook.suites.pythia import PYTHIA_SHAPES


def test_parameters_are_counted_as_transformers_counts_them():
    suite = load_suite("mini")
    model = suite.checkpoint("mini-m", 3906).load()
    assert neox_parameters(model.shape) == sum(p.numel() for p in model.hf_model.parameters())
    for name, total in (
        ("70m", 70_426_624),
        ("160m", 162_322_944),
        ("12b", 11_846_072_320),
    ):  # Pythia's README
        shape = PYTHIA_SHAPES[name]
        config = GPTNeoXConfig(
            vocab_size=shape.d_vocab,
            hidden_size=shape.d_model,
            num_hidden_layers=shape.n_layers,
            num_attention_heads=shape.n_heads,
            intermediate_size=shape.d_mlp,
        )
        with torch.device("meta"):
            network = AutoModelForCausalLM.from_config(config)
        assert neox_parameters(shape) == sum(p.numel() for p in network.parameters()) == total


def test_the_plan_is_what_is_taken():
    model = load_suite("mini").checkpoint("mini-s", 3906).load()
    pairs = get_task("ioi").prompts(model.tokenizer, n=6)
    start, stop = window(pairs)
    plan = plan_memory(model.shape, torch.float32, stop - start, stop)
    network = network_of(model)
    copies = sum(
        t.nbytes
        for layer in network.layers
        for part in (layer.w_in, layer.b_in)
        for t in part.values()
    )
    assert plan.split == copies and plan.weights == sum(
        p.nbytes for p in model.hf_model.parameters()
    )
    scores = attribute(
        model, pairs, points=2, per_prompt=True, memory=plan.one_prompt
    )  # just enough for one prompt at one point
    assert plan.scores == scores.values.nbytes and plan.per_prompt == scores.per_prompt[0].nbytes
    longest = max(range(6), key=lambda i: int(pairs.end[i]))
    one = pairs.subset([longest])
    begin, end = window(one)
    least = plan_memory(model.shape, torch.float32, end - begin, end).one_prompt
    attribute(model, one, points=2, memory=least)
    with pytest.raises(ValueError, match="one prompt of ioi needs about"):
        attribute(model, one, points=2, memory=least - 1)
    half = plan_memory(model.shape, torch.bfloat16)
    assert (
        half.weights * 2 == plan_memory(model.shape).weights
        and half.scores == plan_memory(model.shape).scores
    )


def test_what_the_work_takes_besides_is_planned():
    """On a GPU the peak for one prompt at one point lay so far above all the rest, in float32."""
    for name, seen in (("160m", 66e6), ("2.8b", 216e6)):
        shape = PYTHIA_SHAPES[name]
        plan, on_cpu = plan_memory(shape), plan_memory(shape, device="cpu")
        rest = plan.weights + plan.split + plan.scores + plan.one_prompt
        assert seen < plan.minimum - rest < seen + 130e6
        assert plan.minimum - on_cpu.minimum == 144 * 2**20
        assert on_cpu.working == 3 * (shape.d_model * shape.d_model + shape.d_vocab) * 4
        assert plan_memory(shape, torch.float64, device="cpu").working == 2 * on_cpu.working
        assert not plan.fits(plan.minimum - 1) and plan.fits(plan.minimum)


def test_no_recorded_peak_lies_above_its_plan():
    """For the longest of the 16 prompts that were measured, with the mini suite's tokenizer."""
    pairs = get_task("ioi").prompts(
        load_suite("mini").checkpoint("mini-xs", 3906).load().tokenizer, n=16
    )
    start, stop = window(pairs.subset([int(pairs.end.argmax())]))
    for row in recorded_gpu()["speed"]:
        dtype = getattr(torch, row["dtype"])
        plan = plan_memory(PYTHIA_SHAPES[row["shape"]], dtype, stop - start, stop)
        assert plan.minimum == row["one_prompt_planned"]
        assert row["one_prompt_peak"] <= plan.minimum < 1.4 * row["one_prompt_peak"]


def peak_of(work):
    """The most bytes of tensors that it held at a time on the CPU."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        work()
    events = [e for e in watched.profiler.kineto_results.events() if e.name() == "[memory]"]
    steps = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(np.cumsum(steps).max())


def test_no_method_holds_more_than_is_planned(tmp_path):
    """One prompt at one point at a time; the methods differ in what they hold."""
    network = random_network(layers=3, heads=8, d_model=64)
    _, model = toy_model(tmp_path, dtype=torch.float32, network=network)
    pairs, peaks = toy_pairs(lengths=(24,), first=(4,)), {}
    attribute(model, pairs, method="eap")  # cuts the queries, keys and values out
    for method in METHODS:
        plan = plan_memory(model.shape, torch.float32, 20, 24, device="cpu", method=method)
        how = dict(method=method, rule="midpoint", points=2, memory=plan.one_prompt)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peaks[method] = peak_of(lambda how=how: attribute(model, pairs, **how))
        planned = plan.one_prompt + plan.scores + plan.working
        assert 0.3 * planned < peaks[method] <= planned, method
    assert peaks["eap-qk"] > peaks["eap"] and peaks["eap-ig-activations"] > peaks["eap-ig"]


@pytest.mark.parametrize("kind", ["gemma2", "gemma3_text"])
def test_wide_heads_and_caps_are_planned(tmp_path, kind):
    """Heads that are twice as wide as the stream, a cap that keeps a pattern more."""
    network = random_network(layers=3, heads=8, d_model=64, architecture=kind)
    network.config.sliding_window = 128
    _, model = toy_model(tmp_path, dtype=torch.float32, network=network)
    pairs = toy_pairs(lengths=(100,), first=(80,))
    attribute(model, pairs, method="eap")
    plan = plan_memory(model.shape, torch.float32, 20, 100, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peak = peak_of(lambda: attribute(model, pairs, points=2, memory=plan.one_prompt))
    planned = plan.one_prompt + plan.scores + plan.working
    assert model.shape.capped == (kind == "gemma2") and 0.6 * planned < peak <= planned
    narrow = replace(model.shape, capped=False, d_head=8)
    less = plan_memory(narrow, torch.float32, 20, 100, device="cpu")
    assert less.one_prompt + less.scores + less.working < peak


def test_what_cannot_fit_is_refused_with_numbers(monkeypatch):
    checkpoint = load_suite("mini").checkpoint("mini-l", 3906)
    shape = checkpoint.load().shape
    full, half = (
        plan_memory(shape, dtype, device="cpu") for dtype in (torch.float32, torch.bfloat16)
    )
    monkeypatch.setattr(
        "circuitbook.model.memory.free_memory", lambda device: (full.minimum + half.minimum) // 2
    )
    with pytest.raises(
        ValueError,
        match=r"mini-l at step 3906 does not fit on cpu: it needs 0.0 GB in float32 "
        r'.*DTYPE = "bfloat16" needs 0.0 GB',
    ):
        checkpoint.load()
    assert checkpoint.load(dtype=torch.bfloat16).dtype == torch.bfloat16
    monkeypatch.setattr("circuitbook.model.memory.free_memory", lambda device: 1000)
    with pytest.raises(ValueError, match="take a smaller model, or a device with more memory"):
        checkpoint.load(dtype=torch.bfloat16)
    monkeypatch.setattr(
        "circuitbook.model.memory.free_memory", lambda device: None
    )  # not known: not refused
    assert checkpoint.load()


def test_the_table_says_what_fits():
    table = memory_table().set_index(["model", "dtype"])
    assert (
        table.loc[("pythia-12b", "bfloat16"), "H100 (80 GB)"] > 0
        and table.loc[("pythia-12b", "float32"), "A100 (40 GB)"] == 0
    )
    assert (
        table.loc[("pythia-2.8b", "bfloat16"), "T4 (16 GB)"] > 0
        and table.loc[("pythia-12b", "bfloat16"), "T4 (16 GB)"] == 0
    )
    plan = plan_memory(PYTHIA_SHAPES["1b"], torch.bfloat16)
    assert (
        plan.prompts_at_once(plan.minimum) == 1
        and plan.prompts_at_once(plan.minimum - 1) == 0
        and plan.prompts_at_once(plan.minimum + plan.one_prompt) == 2
    )
    assert free_memory(torch.device("cpu")) is None or free_memory(torch.device("cpu")) > 1e8
