"""What a file names lies in that file's folder: an index of weights, and the store's entries."""

from __future__ import annotations

import json
import shutil
import warnings

import pandas as pd
import pytest
import torch
from conftest import random_network, save_checkpoint
from safetensors.torch import save_file

from circuitbook.store.disk import Store
from circuitbook.store.keys import measurement_key
from circuitbook.suites.finding import load_suite
from circuitbook.weights.files import weight_files

OUTSIDE = ["../other.safetensors", "part/../../other.safetensors", "..\\other", "", None, 3]


@pytest.fixture
def checkpoint(tmp_path):
    """A sharded checkpoint, with a good file of weights beside its folder."""
    folder = save_checkpoint(tmp_path / "suite/small/step1")
    weights = folder / "model.safetensors"
    shutil.copy(weights, tmp_path / "suite/small/other.safetensors")
    weights.rename(folder / "part-1.safetensors")
    return folder


def write_index(folder, *names):
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {f"w{i}": name for i, name in enumerate(names)}}))


@pytest.mark.parametrize("name", [*OUTSIDE, "absolute"])
def test_an_index_that_leads_elsewhere_is_refused_whatever_reads_it(checkpoint, name):
    if name == "absolute":
        name = str(checkpoint.parent / "other.safetensors")
    write_index(checkpoint, "part-1.safetensors")
    (checkpoint.parents[1] / "suite.json").write_text('{"tokens_per_step": 5}')
    suite = load_suite(checkpoint.parents[1])
    assert suite.checkpoint("small", 1).weights_hash
    write_index(checkpoint, name)
    for read in (
        lambda: suite.checkpoint("small", 1).weights_hash,
        lambda: suite.checkpoint("small", 1).load(),
        lambda: weight_files(checkpoint),
    ):
        with pytest.raises(ValueError, match=r"index\.json names .* not in its folder"):
            read()


def test_links_go_on_working_as_in_a_hubs_cache(checkpoint):
    write_index(checkpoint, "part-1.safetensors")
    blobs = checkpoint.parents[2] / "blobs"
    blobs.mkdir()
    (checkpoint / "part-1.safetensors").rename(blobs / "abc")
    (checkpoint / "part-1.safetensors").symlink_to("../../../blobs/abc")
    assert weight_files(checkpoint) == (checkpoint / "part-1.safetensors",)
    (checkpoint / "part").mkdir()
    save_file({"w": torch.ones(1)}, checkpoint / "part/2.safetensors")
    write_index(checkpoint, "part/2.safetensors")
    assert weight_files(checkpoint) == (checkpoint / "part/2.safetensors",)


@pytest.mark.parametrize("where", ["relative", "absolute"])
def test_an_entry_that_leads_elsewhere_is_not_read(tmp_path, where):
    store, key = Store(tmp_path / "store"), measurement_key("test", step=1)
    ours, theirs = pd.DataFrame({"a": [1.5]}), pd.DataFrame({"a": [-2.5]})
    store.table(key, lambda: ours)
    (file,) = (tmp_path / "store").rglob("*.json")
    payload = file.with_suffix(".parquet")
    elsewhere = tmp_path / "planted.parquet"
    other = Store(tmp_path / "other")
    other.table(key, lambda: theirs)
    planted = next((tmp_path / "other").rglob("*.parquet"))
    shutil.copy(planted, elsewhere)
    payload.unlink()
    record = json.loads(next((tmp_path / "other").rglob("*.json")).read_text())
    name = {"relative": "../../../planted.parquet", "absolute": str(elsewhere)}[where]
    file.write_text(json.dumps(record | {"file": name}))
    assert not store.has(key)
    with pytest.warns(UserWarning, match="left out .*planted.parquet' as its payload"):
        assert store.entries().empty
    with pytest.warns(UserWarning, match=r"is damaged and is measured again: .*planted\.parquet"):
        assert store.table(key, lambda: ours)["a"].tolist() == [1.5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.table(key, pytest.fail)["a"].tolist() == [1.5] and len(store.entries()) == 1
    assert elsewhere.exists()


def test_the_network_is_what_it_was(checkpoint):
    """The fixture's weights are those of a model that loads: no test above fails for another
    reason."""
    (checkpoint / "part-1.safetensors").rename(checkpoint / "model.safetensors")
    (checkpoint.parents[1] / "suite.json").write_text('{"tokens_per_step": 5}')
    model = load_suite(checkpoint.parents[1]).checkpoint("small", 1).load()
    wanted = random_network().gpt_neox.layers[0].mlp.dense_h_to_4h.weight
    assert torch.equal(model.hf_model.gpt_neox.layers[0].mlp.dense_h_to_4h.weight, wanted)
