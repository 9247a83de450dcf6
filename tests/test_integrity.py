"""Steps with the weights of another step are found out, whatever kind of file they are in."""

from __future__ import annotations

import pytest
import torch
from conftest import as_on_pythia, random_network, save_checkpoint
from hub_standin import Hub

from circuitbook import load_suite
from circuitbook.store.disk import Store
from circuitbook.studies.parameters import select
from circuitbook.suites.integrity import announced, check, duplicate_weights, tensors_hash


def test_doubles_by_hand():
    assert duplicate_weights({0: "a", 1: "b", 2: "b", 3: "c", 4: "a"}) == {2: 1, 0: 4}
    assert duplicate_weights({}) == {} and duplicate_weights({5: "x", 9: "y"}) == {}
    assert duplicate_weights({1: "x", 2: "x", 3: "x"}) == {1: 3, 2: 3}


@pytest.fixture
def pythia(tmp_path, monkeypatch):
    """pythia-14m at 1, 2, 4 and the end; 2 serves the final weights in the same file, 4 has those
    of 1 in another kind of file."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    forms = {1: (1, "pickle"), 2: (9, "pickle"), 4: (1, "safetensors"), 143000: (9, "pickle")}
    revisions = {
        f"step{step}": as_on_pythia(
            save_checkpoint(tmp_path / f"step{step}", random_network(seed=seed)), form
        )
        for step, (seed, form) in forms.items()
    }
    with Hub({"EleutherAI/pythia-14m": revisions}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def test_a_step_that_serves_the_final_weights_is_left_out(pythia, tmp_path):
    chosen = select("pythia", "pythia-14m", [1, 2, 4], None, "cpu")
    assert chosen.steps == {"pythia-14m": (1, 4)} and chosen.left_out == {"pythia-14m": {2: 143000}}
    assert not pythia.asked("GET /blob")  # announced hashes: nothing was downloaded
    assert select("pythia", "pythia-14m", [1, 2, 4], None, "cpu", keep_doubles=True).steps == {
        "pythia-14m": (1, 2, 4)
    }
    with pytest.raises(
        ValueError,
        match="every step of pythia-14m that was asked for has the weights of another step",
    ):
        select("pythia", "pythia-14m", [2], None, "cpu")
    found = check(
        load_suite("pythia"),
        ["pythia-14m"],
        Store(tmp_path / "store"),
        {"pythia-14m": (1, 2, 4, 143000)},
    ).set_index("step")
    assert found["same_as"].to_dict() == {
        1: -1,
        2: 143000,
        4: 1,
        143000: -1,
    }  # by tensors: the other kind of file, too
    assert found["files"].nunique() == 3 and found["tensors"].nunique() == 2


def test_the_shipped_checkpoints_all_differ(tmp_path):
    suite = load_suite("mini")
    hashes = announced(suite, "mini-s", suite.steps("mini-s"))
    assert len(hashes) == 13 and duplicate_weights(hashes) == {}
    network = random_network(seed=3)
    before = tensors_hash(network)
    with torch.no_grad():
        network.lm_head.weight[0, 0] += 1e-3
    assert tensors_hash(network) != before


def test_only_the_revisions_named_are_dropped_and_only_beyond_the_budget(pythia, tmp_path):
    from circuitbook.weights.hub import drop_beyond

    suite = load_suite("pythia")
    for step in (1, 4):
        suite.checkpoint("pythia-14m", step).fetch()

    def weights():
        files = (tmp_path / "cache").glob("models--*/snapshots/*/*")
        return sorted(file.parent.name for file in files if file.suffix in (".bin", ".safetensors"))

    before = weights()
    assert (
        len(before) == 2
        and drop_beyond(1e9, "EleutherAI/pythia-14m", {"step1"}) == 0
        and drop_beyond(0, "EleutherAI/pythia-31m", {"step1"}) == 0
        and weights() == before
    )
    assert drop_beyond(0, "EleutherAI/pythia-14m", {"step1"}) > 1000 and len(weights()) == 1
    assert (
        suite.checkpoint("pythia-14m", 4).load().shape.n_layers == 2
        and drop_beyond(0, "EleutherAI/pythia-14m", {"step1"}) == 0
    )
