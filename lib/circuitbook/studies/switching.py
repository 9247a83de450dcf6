"""Heads and MLPs switched on one sentence, by the library itself: what the lab does in a page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from circuitbook.model.architectures import network_of
from circuitbook.model.loaded import Model
from circuitbook.model.network import Network, Run, run
from circuitbook.model.tokenizers import find_tokenizer, read_tokenizer
from circuitbook.store import Store
from circuitbook.studies.lab import Example
from circuitbook.studies.measurement import Measurer, at_checkpoints
from circuitbook.suites import Suite
from circuitbook.tasks.metrics import logit_difference, probability_difference

Switches = Mapping[str, str]
"""{node: how}, nodes as the graph names them, "a1.h2" or "m1". how: "zero", it writes nothing, or
"other", it writes what it writes on the other sentence."""

HOW = ("zero", "other")


# ------------------------------------------------------------------ one checkpoint


@torch.no_grad()
def switched_logits(
    model: Model, *, text: str, other: str, switches: Sequence[Switches] = ()
) -> dict[str, Float[Tensor, "run vocab"]]:
    """Logits of the next word, as float32: {"own": [1, vocab], "other": [1, vocab]} of the two
    sentences, and {"switched": [len(switches), vocab]} of the sentence with each set of switches.

    The bias of the heads' output map is no head's. ValueError for sentences of different lengths,
    an unknown node or an unknown `how`.
    """
    own, second = (model.tokenizer(one)["input_ids"] for one in (text, other))
    if len(own) != len(second):
        raise ValueError(
            f"{other!r} has {len(second)} tokens and {text!r} {len(own)}: they must have as many"
        )
    network = network_of(model)
    sentences = torch.tensor([own, second]).to(model.device)
    runs = list(run(network, network.embed(sentences)[:, None]))
    plain = network.logits(runs[-1].out[:, 0, -1])
    edited = [_last_stream(network, runs, one)[:, 0, -1] for one in switches]
    logits = torch.cat([plain, *map(network.logits, edited)]).float().cpu()
    return {"own": logits[:1], "other": logits[1:2], "switched": logits[2:]}


def _last_stream(
    network: Network, runs: Sequence[Run], switches: Switches
) -> Float[Tensor, "1 1 pos d_model"]:
    """The first sentence's stream after the last layer, run again; runs: of both sentences."""
    places = [(*_place_of(network, node), _checked(how)) for node, how in switches.items()]
    x = runs[0].x[:1]
    for layer, done in enumerate(runs):
        heads = {head: how for at, head, how in places if at == layer}

        def write(what: str, at: int, written: Tensor, heads: dict = heads) -> Tensor:
            if what != "written":
                return written
            written, other = written.clone(), runs[at].written[1:]
            for head, how in heads.items():
                if head is not None:
                    written[..., head, :] = 0 if how == "zero" else other[..., head, :]
            return written

        (now,) = run(network, x, edit=write, first=layer, stop=layer + 1)
        x = now.out
        if None in heads:
            x = x - now.mlp_out + (0 if heads[None] == "zero" else done.mlp_out[1:])
    return x


def _checked(how: str) -> str:
    if how not in HOW:
        raise ValueError(f"cannot switch a node to {how!r}; there are: {', '.join(HOW)}")
    return how


def _place_of(network: Network, node: str) -> tuple[int, int | None]:
    """(layer, head), or (layer, None) of an MLP."""
    found = re.fullmatch(r"a(\d+)\.h(\d+)|m(\d+)", node)
    layer = int(found[1] or found[3]) if found else len(network.layers)
    head = int(found[2]) if found and found[2] else None
    if layer >= len(network.layers) or (head or 0) >= len(network.layers[layer].w_out):
        raise ValueError(f"the model has no head and no MLP {node!r}")
    return layer, head


# ------------------------------------------------------------------ over training


@dataclass(frozen=True, eq=False)
class Switched:
    """An example at one checkpoint, with several sets of switches.

    The measure is the lab's: the logit difference of one answer and another, else the probability
    of the right ones less that of the wrong ones.
    """

    step: int
    tokens_seen: int
    words: tuple[str, ...]
    """The vocabulary, without the spaces in front."""
    own: float
    """The measure of the sentence,"""
    other: float
    """of the other one,"""
    switched: np.ndarray
    """and of the sentence with each set of switches, [len(switches)]."""
    logits: dict[str, np.ndarray]
    """See `switched_logits`."""

    def next_words(self, which: str = "own", row: int = 0) -> list[tuple[str, float]]:
        """All words with their probabilities, the most probable first."""
        logits = self.logits[which][row].astype(float)
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        return [(self.words[i], float(shares[i])) for i in np.argsort(-shares)]


def measure_switched(
    suite: Suite,
    model: str,
    steps: Sequence[int],
    store: Store,
    example: Example,
    switches: Sequence[Switches] = (),
) -> list[Switched]:
    """An example at these steps of a model, with each set of switches: see `Switched`."""
    tokenizer = read_tokenizer(find_tokenizer(suite.checkpoint(model, steps[-1]).fetch()))
    places = at_checkpoints(
        suite, [model], store, what="switches", steps={model: steps}, progress=False
    )
    return [_at(here, tokenizer, example, switches) for here in places]


def _at(
    here: Measurer,
    tokenizer: PreTrainedTokenizerBase,
    example: Example,
    switches: Sequence[Switches],
) -> Switched:
    logits = here.arrays(
        "switched",
        switched_logits,
        text=example.text,
        other=example.other,
        switches=[dict(one) for one in switches],
    )
    words = [str(tokenizer.decode([i])).strip() for i in range(logits["own"].shape[1])]
    right, wrong = (answer_ids(tokenizer, text) for text in (example.right, example.wrong))
    values = {name: measure(torch.tensor(some), right, wrong) for name, some in logits.items()}
    return Switched(
        step=here.checkpoint.step,
        tokens_seen=here.checkpoint.tokens_seen or 0,
        words=tuple(words),
        own=float(values["own"][0]),
        other=float(values["other"][0]),
        switched=values["switched"].numpy(),
        logits=logits,
    )


def answer_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of answers as the lab's fields take them: "Mary", "is was", "33-99"."""
    words: list[str] = []
    for word in text.split():
        ends = re.fullmatch(r"(\d\d)-(\d\d)", word)
        numbers = range(int(ends[1]), int(ends[2]) + 1) if ends else ()
        words += [f"{number:02}" for number in numbers] if ends else [word]
    known = tokenizer.get_vocab()
    spaced = [word if word.isdigit() else f" {word}" for word in words]
    return [known[token] for token in spaced]


def measure(
    logits: Float[Tensor, "run vocab"], right: Sequence[int], wrong: Sequence[int]
) -> Float[Tensor, " run"]:
    """The lab's measure of these answers: see `Switched`."""
    answers = torch.tensor([[*right, *wrong]]).expand(len(logits), -1)
    signs = torch.tensor([[1] * len(right) + [-1] * len(wrong)]).expand(len(logits), -1)
    one_each = len(right) == len(wrong) == 1
    return (logit_difference if one_each else probability_difference)(logits, answers, signs)
