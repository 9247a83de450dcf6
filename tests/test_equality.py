"""The table of architectures: measured on random models, and what it says where one is wrong."""

from dataclasses import replace

import nbformat
import pandas as pd
import pytest
import torch
from closeness import assert_close
from literal import Literal
from test_circuits import random_circuit
from toys import toy_model, toy_pairs

from circuitbook.circuits.by_hand import circuits_by_hand
from circuitbook.model import architectures
from circuitbook.model.architectures import network_of
from circuitbook.model.graph import graph_of
from circuitbook.model.samples import SAMPLES, random_model
from circuitbook.model.shape import ARCHITECTURES
from circuitbook.paths import PACKAGE
from circuitbook.studies.equality import equality_of, for_every_architecture
from circuitbook.studies.findings.own_suite import architectures_table, equality_sentence


@pytest.fixture(scope="module")
def equality():
    return for_every_architecture()


def test_every_architecture_is_there_and_read_rightly(equality):
    assert {sample.model_type for sample in SAMPLES.values()} == set(ARCHITECTURES)
    assert (equality["logits"] < 2e-6).all() and (equality["patched"] < 1e-13).all()
    of_float64 = equality.loc[["gpt_neox", "gpt_neox, sequential", "gpt2", "gpt2, scaled"]]
    assert (of_float64["logits"] < 1e-13).all()
    assert (equality["completeness"].drop("olmo, clipped") < 1e-3).all()
    assert equality.loc["olmo, clipped", "completeness"] < 0.02  # 200 points over its kinks
    assert equality["edges"].nunique() == 2  # heads feed the MLP of their layer, or do not


@pytest.mark.parametrize("kind", ["gpt_neox", "llama", "olmo2", "gemma2", "gemma3_text"])
def test_by_hand_is_by_hand(kind, tmp_path):
    """The library's literal way is that of the tests, which uses transformers' modules."""
    network, model = toy_model(tmp_path, architecture=kind, layers=2, heads=4, d_model=16)
    pairs, graph = toy_pairs(), graph_of(model)
    circuits = [random_circuit(graph, 0.4, seed) for seed in range(2)]
    masks = [circuit.mask for circuit in circuits]
    got = circuits_by_hand(network_of(model), graph, pairs, masks)
    for circuit, metric in zip(circuits, got, strict=True):
        assert_close(metric, Literal(network).circuit(pairs, set(circuit.edges)), rounds=100)


def test_what_is_read_wrongly_shows(monkeypatch):
    """Biases forgotten: the logits show it, and only they."""
    right = equality_of(random_model(SAMPLES["qwen2"]))
    layer_of = architectures.layer_of

    def without_biases(shape, **parts):
        layer = layer_of(shape, **parts)
        return replace(layer, b_in={kind: 0 * bias for kind, bias in layer.b_in.items()})

    monkeypatch.setattr(architectures, "layer_of", without_biases)
    wrong = equality_of(random_model(SAMPLES["qwen2"]))
    assert right.logits < 2e-6 and wrong.logits > 0.01
    assert wrong.patched < 1e-13  # both ways read the same wrong tensors
    table = pd.DataFrame([vars(right), vars(wrong)], index=["llama", "qwen2"])
    said = equality_sentence(table)
    assert "qwen2 gave other numbers" in said and "llama" not in said


def test_the_sentence_and_the_table(equality):
    said = equality_sentence(equality)
    assert said.startswith(f"All {len(SAMPLES)} gave the same numbers here.")
    assert f"{equality['logits'].max():.0e}" in said
    for column in ("logits", "patched", "completeness"):
        for value in (0.2, float("nan")):
            spoilt = equality.copy()
            spoilt.loc["mistral", column] = value
            assert equality_sentence(spoilt).startswith("**mistral gave other numbers")
    table = architectures_table(equality)
    assert list(table["model_type"]) == list(SAMPLES)
    assert table["logits"].iloc[0] == f"{equality['logits'].iloc[0]:.0e}"


def test_the_recipe_of_the_page_is_right(monkeypatch):
    """What "Your own models" shows of adding an architecture works as it stands there, in fewer
    than fifty lines; with a slip it shows."""
    page = nbformat.read(PACKAGE.parents[1] / "notebooks" / "own-suite.ipynb", as_version=4)
    cells = {cell.get("id"): cell.source for cell in page.cells}
    for place in (ARCHITECTURES, architectures.NETWORKS):
        monkeypatch.setitem(place, "starcoder2", None)  # taken out again at the end
    names: dict = {}
    exec(cells["recipe"], names)
    exec(cells["tried"], names)
    assert len((cells["recipe"] + cells["tried"]).splitlines()) < 50
    model = random_model(names["sample"])
    found = equality_of(model)
    assert found.logits < 1e-13 and found.patched < 1e-13 and found.completeness < 0.005
    slip = cells["recipe"].replace("block.post_attention_layernorm", "block.input_layernorm")
    exec(slip, names)
    assert equality_of(model).logits > 0.01
    with torch.no_grad():
        assert model(torch.tensor([[1, 2, 3]])).logits.std() > 0.5
