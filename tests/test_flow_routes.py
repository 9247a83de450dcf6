"""Information flow routes: against their definition written out, and hannamw/EAP-IG's numbers."""

import json

import pytest
import torch
from edge_gradients import assert_same_scores
from literal import Literal
from test_architectures import OTHERS, size_of
from test_attribution import DATA, model_of, pairs_of
from toys import toy_model, toy_pairs

from circuitbook import attribute


def by_hand(network, pairs):
    """{edge: mean over prompts, and over the positions of each}, one position at a time."""
    literal, total = Literal(network), {}
    for i in range(len(pairs)):
        reads = {}

        def keep(source, target, written, reads=reads):
            reads.setdefault(target, {})[source] = written
            return written

        literal.run(literal.embed(pairs.clean[i]), keep)
        n_pos = int(pairs.end[i]) + 1
        for target, sources in reads.items():
            layer = len(literal.parts.blocks) if target == "logits" else int(target[1])
            own = target != "logits" and target[0] == "m" and not literal.parts.parallel
            bias = sum(literal.parts.output_bias(j) for j in range(layer + own))
            for pos in range(n_pos):
                x = sum(written[pos] for written in sources.values()) + bias
                near = {
                    source: max(0.0, float(x.abs().sum() - (x - written[pos]).abs().sum()))
                    for source, written in sources.items()
                }
                for source, value in near.items():
                    name, whole = f"{source}->{target}", sum(near.values())
                    share = value / whole / n_pos / len(pairs) if whole else 0.0
                    total[name] = total.get(name, 0.0) + share
    return total


@pytest.mark.parametrize("kind", ["gpt_neox", *OTHERS])
def test_scores_are_the_definition(tmp_path, kind):
    size = size_of(kind)
    network, model = toy_model(tmp_path, architecture=kind, **size)
    pairs = toy_pairs()
    scores = attribute(model, pairs, method="ifr", per_prompt=True)
    assert_same_scores(scores, by_hand(network, pairs))
    assert scores.points == 0
    total = scores.values.sum(0)
    assert (total < 1 + 1e-9).all()
    if kind not in ("olmo2", "gemma3_text"):  # where at one position no source is near what is read
        torch.testing.assert_close(total, torch.ones_like(total))  # all comes from somewhere
    torch.testing.assert_close(scores.per_prompt.mean(0), scores.values)
    small = attribute(model, pairs, method="ifr", memory=120_000)
    torch.testing.assert_close(small.values, scores.values)


def test_equals_the_scores_of_eap_ig(tmp_path):
    record = json.loads((DATA / "eap_ig_scores.json").read_text())
    _, model = model_of(record, tmp_path)
    scores, table = attribute(model, pairs_of(record), method="ifr"), record["scores"]["ifr"]
    assert set(table) == set(scores.graph.edge_names)
    for name, value in table.items():  # float64 on either side, theirs rounded to 11 digits
        assert scores.of(name) == pytest.approx(value, abs=1e-10)


def test_there_are_no_positions(tmp_path):
    _, model = toy_model(tmp_path)
    with pytest.raises(ValueError, match="shares are averaged over positions"):
        attribute(model, toy_pairs(), method="ifr", per_position=True)
