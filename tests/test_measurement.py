"""The runner: what a key holds, what is loaded, what is never kept, what may be lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import save_checkpoint
from safetensors.torch import load_file, save_file

from circuitbook import load_suite
from circuitbook.store import Store
from circuitbook.studies import head_scores
from circuitbook.studies.abilities import measure_abilities
from circuitbook.studies.head_scores import measure_heads
from circuitbook.studies.measurement import Measurer, at_checkpoints, at_places, places_of
from circuitbook.suites import Checkpoint


@pytest.fixture
def suite(tmp_path):
    """One run with two checkpoints, in a folder."""
    for step in (2, 10):
        save_checkpoint(tmp_path / "run" / f"step{step}", seed=step)
    return load_suite(str(tmp_path / "run"))


@pytest.fixture
def loads(monkeypatch) -> list[tuple[str, int]]:
    """The checkpoints that were loaded."""
    loaded, load = [], Checkpoint.load

    def noted(self, **how):
        loaded.append((self.model, self.step))
        return load(self, **how)

    monkeypatch.setattr(Checkpoint, "load", noted)
    return loaded


def embedding_sum(model, *, times: int = 1) -> dict[str, np.ndarray]:
    return {"sum": times * model.hf_model.get_input_embeddings().weight.detach().double().sum()}


def embedding_change(before, after) -> dict[str, np.ndarray]:
    return {"sum": embedding_sum(after)["sum"] - embedding_sum(before)["sum"]}


def measured(suite, store, **what) -> list[float]:
    here = at_checkpoints(suite, suite.models, store, what="sums", progress=False)
    return [float(at.arrays("test", embedding_sum, **what)["sum"]) for at in here]


def test_what_is_stored_needs_no_model(suite, tmp_path, loads):
    store = Store(tmp_path / "store")
    first = measured(suite, store)
    assert loads == [("run", 2), ("run", 10)] and len(set(first)) == 2
    assert measured(suite, store) == first and len(loads) == 2
    tripled = measured(suite, store, times=3)
    assert tripled == pytest.approx([3 * value for value in first]) and len(loads) == 4


def test_neighbours_that_are_the_same_checkpoint_share_one_loading(suite, tmp_path, loads):
    places = [("run", 2), ("run", 2), ("run", 10)]
    for i, here in enumerate(
        at_places(suite, places, Store(tmp_path / "store"), what="sums", progress=False)
    ):
        here.arrays("test", embedding_sum, times=i)
    assert loads == [("run", 2), ("run", 10)]
    assert places_of(suite, ["run"]) == [("run", 2), ("run", 10)]
    assert places_of(suite, ["run"], {"run": (10,)}) == [("run", 10)]


def test_several_checkpoints_make_one_measurement(suite, tmp_path):
    both = tuple(suite.checkpoint("run", step) for step in (2, 10))
    store = Store(tmp_path / "store")
    here = Measurer(both, store)
    fields = json.loads(here.key("test", embedding_change).fields)["what"]
    assert [one["step"] for one in fields["checkpoints"]] == [2, 10]
    change = float(here.arrays("test", embedding_change)["sum"])
    assert len(store.entries()) == 1 and change != 0
    before, after = measured(suite, store)
    assert change == after - before


# ---- what else determines a number


def damage_nothing(folder: Path) -> None:
    """Another date, the same content."""
    for file in folder.iterdir():
        file.touch()


def mend_rope(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 500.0
    (folder / "config.json").write_text(json.dumps(config))


def replace_tokenizer(folder: Path) -> None:
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().replace('" John"', '" Joan"'))


def rename_special_token(folder: Path) -> None:
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | {"model_max_length": 7}))


def change_a_weight(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("embed_in.weight"))
    tensors[name][0, 0] += 1
    save_file(tensors, file, {"format": "pt"})


@pytest.mark.parametrize(
    ("edit", "anew"),
    [
        (damage_nothing, False),
        (mend_rope, True),
        (replace_tokenizer, True),
        (rename_special_token, True),
        (change_a_weight, True),
    ],
)
def test_weights_config_and_tokenizer_are_in_the_key(suite, tmp_path, loads, edit, anew):
    store = Store(tmp_path / "store")
    measured(suite, store)
    edit(tmp_path / "run" / "step10")
    measured(suite, store)
    assert loads[2:] == ([("run", 10)] if anew else [])


def test_a_tokenizer_that_the_run_shares_is_in_the_key_too(suite, tmp_path, loads):
    store, run = Store(tmp_path / "store"), tmp_path / "run"
    for step in (2, 10):
        for file in run.glob(f"step{step}/*token*"):
            shutil.move(file, run / file.name)
    measured(suite, store)
    replace_tokenizer(run)
    measured(suite, store)
    assert loads == [("run", 2), ("run", 10)] * 2


def test_the_dtype_is_in_the_key(suite):
    def key(dtype):
        here = Measurer((suite.checkpoint("run", 2),), Store("unused"), dtype=dtype)
        return here.key("test", embedding_sum)

    assert key(torch.float32) == key(torch.float32) != key(torch.bfloat16)


# ---- what is never kept


def with_a_value(model, *, value: str) -> dict[str, np.ndarray]:
    return {"fine": np.ones(3), "scores": np.array([[1.0, 2.0], [float(value), 4.0]])}


def table_with_a_value(model, *, value: str) -> pd.DataFrame:
    absent = pd.array([0.5, None], dtype="Float64")
    return pd.DataFrame({"name": ["a", "b"], "metric": [0.5, float(value)], "absent": absent})


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_nan_and_infinity_are_never_kept(suite, tmp_path, value):
    store = Store(tmp_path / "store")
    here = Measurer((suite.checkpoint("run", 10),), store, dtype=torch.bfloat16)
    expected = rf"run at step 10: 'scores' of the test is {value} at \[1, 0\] in bfloat16; use"
    with pytest.raises(FloatingPointError, match=expected):
        here.arrays("test", with_a_value, value=value)
    with pytest.raises(FloatingPointError, match=rf"'metric' of the test is {value} at \[1\]"):
        here.table("test", table_with_a_value, value=value)
    assert store.entries().empty
    kept = here.table("test", table_with_a_value, value="1.5")  # an absence is no NaN
    assert kept["absent"].isna().tolist() == [False, True] and len(store.entries()) == 1


def test_a_damaged_checkpoint_is_named_and_nothing_of_it_is_kept(suite, tmp_path):
    file = tmp_path / "run" / "step10" / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("embed_in.weight"))
    tensors[name][0] = torch.nan
    save_file(tensors, file, {"format": "pt"})
    store = Store(tmp_path / "store")
    with pytest.raises(FloatingPointError, match="run at step 10: 'sum' of the test is nan"):
        measured(suite, store)
    assert store.entries()["step"].tolist() == [2]  # what was measured before stays


def test_an_absence_is_left_out_rather_than_kept_as_nan(tmp_path):
    suite, store = load_suite("mini"), Store(tmp_path / "store")
    [early] = measure_heads(suite, ["mini-xs"], store, steps={"mini-xs": (0,)}, progress=False)
    assert not early.able and "s_inhibition" not in early.arrays
    assert early.table()["s_inhibition_IO"].isna().all()
    assert all(np.isfinite(array).all() for array in early.arrays.values())


# ---- what an interruption loses

PARTS = ("repeated", "successor", "copying", "attention", "direct")


def test_an_interruption_loses_one_kind_of_score(tmp_path, monkeypatch):
    suite, store, steps = load_suite("mini"), Store(tmp_path / "store"), {"mini-xs": (3906,)}
    suppress = head_scores.copy_suppression

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(head_scores, "copy_suppression", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure_heads(suite, ["mini-xs"], store, steps=steps, progress=False)
    kinds = [f"heads-{part}" for part in PARTS]
    assert store.entries()["kind"].tolist() == kinds
    before = store.entries()["date"].tolist()
    monkeypatch.setattr(head_scores, "copy_suppression", suppress)
    [scores] = measure_heads(suite, ["mini-xs"], store, steps=steps, progress=False)
    entries = store.entries()
    assert entries["kind"].tolist() == [*kinds, "heads-suppression", "heads-inhibition"]
    assert entries["date"].tolist()[:5] == before and scores.able


def test_where_a_number_comes_from_is_beside_it(suite, tmp_path):
    store = Store(tmp_path / "store")
    measured(suite, store)
    entry = store.entries().iloc[0]
    assert {"torch", "transformers", "numpy"} <= set(entry["versions"])  # provenance, not key
    assert (entry["model"], entry["step"]) == ("run", 2) and len(entry["tokenizer"]) == 64
    assert any(name.endswith("embedding_sum") for name in entry["code"])


def test_abilities_come_from_the_runner(tmp_path, loads):
    suite, store = load_suite("mini"), Store(tmp_path / "store")

    def answers():
        tasks, steps = ["ioi", "repetition"], {"mini-xs": (0,)}
        return measure_abilities(suite, ["mini-xs"], tasks, store, steps, n=5, progress=False)

    pd.testing.assert_frame_equal(answers(), answers())
    assert loads == [("mini-xs", 0)]
