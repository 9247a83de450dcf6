"""What the chapter on the mini suite says, on logs and patterns whose right numbers are known."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open

from circuitbook.figures.mini_suite import losses
from circuitbook.heads.attention import repeat_scores
from circuitbook.model.architectures import network_of
from circuitbook.studies.findings import mini_suite as findings
from circuitbook.suites import load_suite
from circuitbook.tasks.sequences import repeated_sequences
from circuitbook.tasks.stories.documents import FAMILIES

SUITE = load_suite("mini")


def test_sizes_are_those_of_the_weights():
    table = findings.models_table(SUITE)
    assert table.index.tolist() == list(SUITE.models)
    folder = findings.last_checkpoint(SUITE, "mini-s").fetch()
    with safe_open(folder / "model.safetensors", "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 no mapping
    row = table.loc["mini-s"]
    assert row["parameters"] == f"{sum(tensor.size for tensor in tensors.values()):,}"
    assert row["width"] == tensors["gpt_neox.embed_in.weight"].shape[1]
    assert row["layers"] == len({name.split(".")[2] for name in tensors if ".layers." in name})
    assert row["heads a layer"] * row["head width"] == row["width"]
    assert row["tokens seen"] == "8M"


def test_what_they_read_counts_words_steps_and_tokens():
    text = findings.what_they_read(SUITE)
    first = SUITE.models[0]
    folder = findings.last_checkpoint(SUITE, first).fetch()
    words = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert f"float16, {len(words)} words are known." in text
    assert "2,048 tokens a step" in text
    assert f"steps 0, 128, {', '.join(map(str, SUITE.steps(first)[2:]))}: close" in text


def test_passages_are_one_of_each_kind_and_their_shares_are_all():
    table = findings.passages(3)
    assert table["passage"].tolist() == [family.__name__.replace("_", " ") for family in FAMILIES]
    assert sum(float(share.removesuffix("%")) for share in table["share of tokens"]) == 100
    assert table["an example"].str.len().min() > 10
    assert (findings.passages(3) == table).all().all()
    assert (findings.passages(4)["an example"] != table["an example"]).any()


def log(**last):
    """Four steps, of which the first and the third are checkpoints, the last of them with these."""
    scores = dict.fromkeys(findings.SCORES, 9.0)
    rows = [
        {"tokens_seen": 0, "training_loss": np.nan, "fresh_loss": 6.5} | scores,
        {"tokens_seen": 100_000, "training_loss": 5.0},
        {"tokens_seen": 200_000, "training_loss": 4.0, "fresh_loss": 4.1} | scores | last,
        {"tokens_seen": 300_000, "training_loss": 3.0},
    ]
    return pd.DataFrame(rows)


def test_final_scores_are_those_of_the_last_checkpoint():
    final = findings.final_scores({"a": log(ioi=2.345), "b": log()})
    assert final.loc["a", "ioi"] == 2.345 and final.loc["b", "ioi"] == 9.0
    assert findings.written(final).loc["a", "IOI"] in ("2.35", "2.34")
    assert list(findings.written(final)) == list(findings.SCORES.values())


def test_a_score_at_its_bar_is_not_above_it():
    final = findings.final_scores({"a": log(ioi=3.0), "b": log(sva_accuracy=0.5)})
    text = findings.what_was_reached(final)
    assert text.endswith(
        "Below what we set out for: IOI of a (3.00, we wanted 3.0); "
        "SVA accuracy of b (0.50, we wanted 0.9)."
    )
    final = findings.final_scores({"a": log(ioi=3.001)})
    assert findings.what_was_reached(final).endswith("Every model reaches what we set out for.")


def test_attention_is_read_along_the_right_diagonals():
    """A head that looks one token back, a perfect induction head, and one that does neither."""
    length, width = 4, 8
    back, induction, flat = torch.zeros(3, width, width)
    for query in range(1, width):
        back[query, query - 1] = 1.0
    for query in range(length, width):  # what followed the earlier occurrence: length - 1 back
        induction[query, query - length + 1] = 0.8
    flat += 1 / width
    first, second = torch.stack([back, flat])[None], torch.stack([flat, induction])[None]
    found = findings.strongest_attention([first, second], length)
    assert found["one token back"] == pytest.approx([1.0, 1 / width])
    assert found["induction"] == pytest.approx([1 / width, 0.8])


def test_induction_is_that_of_the_heads_scores():
    """The same diagonal, read by the book's own network rather than by TransformerLens."""
    small = SimpleNamespace(standard=["mini-xs"], steps=SUITE.steps, checkpoint=SUITE.checkpoint)
    table = findings.two_heads(small, n=8, length=12, seed=5)
    model = findings.last_checkpoint(SUITE, "mini-xs").load()
    tokens = repeated_sequences(model, 8, 12, seed=5)
    scores = repeat_scores(network_of(model), tokens, 12)["induction"].mean(1)
    strongest = scores.view(model.shape.n_layers, model.shape.n_heads).max(1).values
    written = [float(value) for value in table.loc["mini-xs", "induction"]]
    assert written == pytest.approx(strongest.tolist(), abs=0.0051)
    assert max(written) == written[1] > 10 * written[0]


def test_losses_are_drawn_where_they_are_known():
    fig = losses({"mini-s": log()}, first_tokens=150_000)
    training, fresh = fig.axes
    assert training.lines[0].get_ydata().tolist() == [5.0, 4.0, 3.0]
    assert fresh.lines[0].get_ydata().tolist() == [6.5, 4.1]
    assert training.get_xscale() == "log" and fresh.get_xscale() == "symlog"
    assert min(tick for tick in fresh.get_xticks() if tick > 0) >= 150_000
