"""NaN and infinity end every measurement, with checkpoint, task and layer; nothing is kept."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from circuitbook import attribute, evaluate_circuit, find_circuit, load_suite
from circuitbook.circuits.circuit import Circuit
from circuitbook.heads.ablation import ablate
from circuitbook.heads.edge_patching import patch_edges
from circuitbook.heads.path_patching import path_patch
from circuitbook.model.graph import graph_of
from circuitbook.recipes import get_recipe
from circuitbook.studies.chapter import open_chapter
from circuitbook.studies.head_scores import HeadScores, score_heads
from circuitbook.studies.measurement import Measurer
from circuitbook.studies.self_repair import repair_arrays
from circuitbook.tasks import get_task

WEIGHT = "gpt_neox.layers.1.mlp.dense_4h_to_h.weight"


def broken_suite(tmp_path, value, weight=WEIGHT):
    """mini-xs at its last step, with one number of one weight replaced."""
    mini = load_suite("mini")
    step = mini.steps("mini-xs")[-1]
    folder = tmp_path / "suite" / "tiny" / f"step{step}"
    shutil.copytree(mini.checkpoint("mini-xs", step).fetch(), folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors[weight] = tensors[weight].float()
    tensors[weight][0, 0] = value
    save_file({k: v.float() for k, v in tensors.items()}, file, metadata={"format": "pt"})
    return tmp_path / "suite"


@pytest.fixture(scope="module", params=[float("nan"), 3e38], ids=["a NaN", "beyond float32"])
def broken(request, tmp_path_factory):
    """A chapter on it, and what every error says."""
    root = tmp_path_factory.mktemp("broken")
    suite = broken_suite(root, request.param)
    chapter = open_chapter(
        suite=str(suite), tokens_per_step=1, device="cpu", store=str(root / "store")
    )
    return chapter, (WEIGHT if request.param != request.param else "layer 1")


def model_of(chapter):
    return chapter.suite.checkpoint(*chapter.places[-1]).load()


@pytest.mark.parametrize("what", ["answers", "abilities", "heads", "circuits", "next_words"])
def test_a_study_of_a_broken_checkpoint_ends_with_its_layer(broken, what):
    chapter, layer = broken
    with pytest.raises(FloatingPointError, match="tiny at step") as error:
        getattr(chapter, what)
    assert "\n" not in str(error.value)
    if what not in ("abilities", "heads") or layer == WEIGHT:
        assert layer in str(error.value)
    assert not list(chapter.store.path.rglob("*.npz")) + list(chapter.store.path.rglob("*.parquet"))


def test_so_does_every_function_that_is_called_by_itself(broken):
    chapter, layer = broken
    model, recipe = model_of(chapter), get_recipe("robust")
    pairs = get_task("ioi").prompts(model.tokenizer, n=4)
    whole = Circuit(graph_of(model), graph_of(model).mask.copy())
    scores = attribute(load_suite("mini").checkpoint("mini-xs", 0).load(), pairs, points=1)
    calls = {
        "attribute": lambda: attribute(model, pairs, points=2),
        "evaluate": lambda: evaluate_circuit(model, pairs, whole),
        "search": lambda: find_circuit(model, pairs, scores, min_metric=1.0),
        "paths": lambda: path_patch(model, pairs, ["a0.h0"], ["logits"]),
        "ablation": lambda: ablate(model, pairs, [(0, 0)]),
        "edges": lambda: patch_edges(model, pairs),
        "heads": lambda: score_heads(model, recipe.with_prompts(4).heads),
    }
    for name, call in calls.items():
        with pytest.raises(FloatingPointError, match="tiny at step") as error:
            call()
        if name != "heads":
            assert layer in str(error.value), name
            assert "ioi" in str(error.value), name


def test_a_study_over_several_checkpoints_keeps_what_was_whole(tmp_path):
    suite = broken_suite(tmp_path, float("nan"))
    mini = load_suite("mini")
    early = mini.steps("mini-xs")[2]
    shutil.copytree(mini.checkpoint("mini-xs", early).fetch(), suite / "tiny" / f"step{early}")
    chapter = open_chapter(
        suite=str(suite), tasks="ioi", tokens_per_step=1, device="cpu", store=str(tmp_path / "s")
    )
    with pytest.raises(FloatingPointError, match=r"tiny at step .* ioi"):
        chapter.answers  # noqa: B018
    assert len(chapter.store.entries()) == 1


@pytest.mark.parametrize("carriers", [[], [(0, 0)]], ids=["on text", "with a head taken out"])
def test_self_repair_keeps_nothing_either(broken, carriers):
    chapter, layer = broken
    here = Measurer((chapter.suite.checkpoint(*chapter.places[-1]),), chapter.store)
    what = {"how": "resample", "prompts": 4, "texts": 3, "length": 20, "seed": 1, "text": None}
    with pytest.raises(FloatingPointError, match="tiny at step"):
        here.arrays("repair", repair_arrays, carriers=carriers, **what)
    assert not chapter.store.entries("repair").size


def test_copy_suppression_is_never_zero_for_want_of_a_number():
    nothing = torch.full((2, 3), float("nan")).numpy()
    arrays = {"previous": nothing, "cspa_kept": nothing, "cspa_ablated": nothing}
    assert torch.tensor(HeadScores("", 0, 0, 2, arrays).score("copy_suppression")).isnan().all()
