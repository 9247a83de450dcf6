"""The same numbers on a GPU as on the CPU: every architecture, every kind of work. Skipped where
there is none."""

import numpy as np
import pytest
import torch
from closeness import assert_close
from test_circuits import random_circuit
from toys import toy_model, toy_pairs

from circuitbook import attribute, get_recipe, load_suite
from circuitbook.circuits.evaluation import evaluate_masks, patch_each
from circuitbook.heads.names import all_heads
from circuitbook.heads.path_patching import path_patch
from circuitbook.model.graph import graph_of
from circuitbook.studies.head_scores import score_heads

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

KINDS = (
    "gpt_neox",
    "gpt_neox sequential",
    "gpt2",
    "llama",
    "olmo",
    "olmo clipped",
    "qwen3",
    "smollm3",
)
LAST = 3906  # of the mini suite


@pytest.fixture(scope="module", params=KINDS)
def both(request, tmp_path_factory):
    """The same random model on the CPU and on the GPU, in float64."""
    folder = tmp_path_factory.mktemp("toy")
    _, on_cpu = toy_model(folder, architecture=request.param, layers=3, heads=4, d_model=16)
    on_gpu = on_cpu.checkpoint.load(device="cuda", dtype=torch.float64)
    assert on_gpu.hf_model.get_input_embeddings().weight.is_cuda
    return on_cpu, on_gpu


def same(work, both):
    """Rotary angles are float32 whatever the model is, and a GPU's cosines round otherwise."""
    on_cpu, on_gpu = (torch.as_tensor(work(model)).cpu() for model in both)
    assert on_cpu.abs().max() > 1e-3
    rotary = both[0].hf_model.config.model_type != "gpt2"
    dtype = torch.float32 if rotary else torch.float64
    assert_close(on_gpu, on_cpu, rounds=100, dtype=dtype)


@pytest.mark.parametrize("metric", ["logit_difference", "probability_difference"])
def test_scores_and_circuits(both, metric):
    pairs = toy_pairs(metric)
    same(lambda model: model.logits(pairs.clean, pairs.end), both)
    same(lambda model: attribute(model, pairs, rule="midpoint", points=3).values, both)
    graph = graph_of(both[0])
    masks = [random_circuit(graph, share, seed=seed).mask for seed, share in enumerate((0.2, 0.6))]
    same(lambda model: evaluate_masks(model, pairs, masks), both)
    same(lambda model: np.nan_to_num(patch_each(model, pairs, "edges")), both)


@pytest.mark.parametrize("at", [None, "END"])
def test_paths(both, at):
    pairs, heads = toy_pairs(), all_heads(both[0])
    for receivers in (["logits"], ["a2.h0<q>", "a2.h1<q>"], ["a2.h0<v>"]):
        to = None if receivers == ["logits"] else at
        same(
            lambda model, receivers=receivers, to=to: path_patch(
                model, pairs, heads, receivers, sender_at=at, receiver_at=to
            ).metric,
            both,
        )


def test_head_scores():
    checkpoint = load_suite("mini").checkpoint("mini-xs", LAST)
    models = [checkpoint.load(device=device, dtype=torch.float64) for device in ("cpu", "cuda")]
    on_cpu, on_gpu = (score_heads(model, get_recipe("robust").heads) for model in models)
    for name, array in on_cpu.items():
        if array.dtype.kind == "f":
            assert_close(on_gpu[name], array, rounds=100, dtype=torch.float32)
        else:
            assert (on_gpu[name] == array).all(), name
