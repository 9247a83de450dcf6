"""What a model cannot take is refused in words: long prompts, ids that are no token."""

import pytest
import torch
from conftest import random_network
from toys import toy_model, toy_pairs

from circuitbook import attribute, load_suite
from circuitbook.heads.ablation import ablate
from circuitbook.heads.edge_patching import patch_edges
from circuitbook.heads.path_patching import path_patch
from circuitbook.tasks.sequences import documents, ordinary_tokens, repeated_sequences


def short_sighted(tmp_path, limit, most):
    """A toy model whose config.json says that it, or some layer, sees `most` tokens."""
    network = random_network(
        seed=5, architecture="mistral" if limit == "sliding_window" else "gpt_neox"
    )
    setattr(network.config, limit, most)
    return toy_model(tmp_path, network=network)[1]


@pytest.mark.parametrize("limit", ["max_position_embeddings", "sliding_window"])
def test_prompts_longer_than_the_context_are_refused_everywhere(tmp_path, limit):
    pairs = toy_pairs()  # of up to 8 tokens
    fits, model = short_sighted(tmp_path / "a", limit, 8), short_sighted(tmp_path / "b", limit, 7)
    for call in (
        lambda m: attribute(m, pairs, rule="midpoint", points=1),
        lambda m: path_patch(m, pairs, ["a0.h0"], ["logits"]),
        lambda m: ablate(m, pairs, [(0, 0)]),
        lambda m: patch_edges(m, pairs),
        lambda m: m.logits(pairs.clean),
    ):
        call(fits)
        with pytest.raises(ValueError, match=r"of 8 tokens is longer than toy takes: 7 \(max_pos"):
            call(model)


def test_within_its_window_a_layer_sees_everything():
    """So that up to there the numbers are right: one token more, and transformers' change."""
    network = random_network(seed=5, architecture="mistral")
    tokens = torch.randint(1, 15, (3, 9), generator=torch.Generator().manual_seed(0))
    logits = {}
    for window in (None, 8, 9):
        network.config.sliding_window = window
        logits[window] = network(tokens).logits.detach()
    assert torch.equal(logits[9], logits[None])
    assert torch.equal(logits[8][:, :8], logits[None][:, :8])
    assert not torch.allclose(logits[8][:, 8], logits[None][:, 8])


def test_sequences_and_documents_longer_than_the_context_are_refused():
    suite = load_suite("mini")
    model = suite.checkpoint("mini-xs", 0).load()
    context = model.shape.context
    assert repeated_sequences(model, 2, context // 2).shape == (2, context)
    assert documents(model, 2, context).shape == (2, context)
    with pytest.raises(ValueError, match=f"said twice, of {context + 2} tokens is longer than"):
        repeated_sequences(model, 2, context // 2 + 1)
    with pytest.raises(ValueError, match=f"a document of {context + 1} tokens is longer than"):
        documents(model, 2, context + 1)


class Vocabulary:
    """A tokenizer that knows these ids."""

    def __init__(self, ids):
        self.init_kwargs, self.ids = {}, ids

    def get_vocab(self):
        return {f"word {i}": i for i in self.ids}


def test_random_sequences_are_of_tokens_alone(tmp_path, monkeypatch):
    """An embedding padded to a round number has rows for ids that are no token."""
    _, model = toy_model(tmp_path, vocab=300)
    for ids, expected in (
        (range(250), list(range(100, 250))),
        (set(range(400)) - {120}, [i for i in range(100, 300) if i != 120]),
    ):
        object.__setattr__(model, "tokenizer", Vocabulary(ids))
        assert ordinary_tokens(model).tolist() == expected
    object.__setattr__(model, "tokenizer", Vocabulary(range(90)))
    with pytest.raises(ValueError, match=r"drawn from the tokens 100 to 19,999.* has 90 tokens"):
        ordinary_tokens(model)


@pytest.mark.slow
def test_ordinary_tokens_of_a_full_vocabulary_are_the_papers(smollm2):
    assert torch.equal(ordinary_tokens(smollm2), torch.arange(100, 20_000))
