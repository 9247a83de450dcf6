"""Exercises of the chapter on components."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

from circuitbook.heads.attention import repeat_scores
from circuitbook.heads.copying import TOP, copy_hits, values_without_attention
from circuitbook.heads.unembedding import folded_unembedding
from circuitbook.model.architectures import network_of
from circuitbook.model.network import attention_pattern, run
from circuitbook.tasks.registry import get_task
from circuitbook.tasks.sequences import repeated_sequences
from circuitbook.teaching.checking import Case, Feedback, Mistake
from circuitbook.teaching.exercises.common import CHECKS, _model, _register


@cache
def _induction_cases() -> list[Case]:
    cases = []
    for name, length in (("mini-xs", 8), ("mini-s", 6)):
        model = _model(name)
        net, tokens = network_of(model), repeated_sequences(model, 4, length, seed=1)
        runs = run(net, net.embed(tokens)[:, None])
        patterns = torch.cat(
            [attention_pattern(layer.q, layer.k, net.scale)[:, 0] for layer in runs], 1
        ).detach()
        scores = repeat_scores(net, tokens, length)
        for kind in ("induction", "previous"):
            row = int(scores[kind].mean(1).argmax())
            layer, head = divmod(row, model.shape.n_heads)
            cases.append(
                Case(
                    f"head {layer}.{head} of {name}, {length} words said twice",
                    (patterns[:, row], length),
                    float(scores["induction"][row].mean()),
                )
            )
    return cases


def _along(pattern: torch.Tensor, offset: int) -> torch.Tensor:
    """[sequence, entries]: attention to the token `offset` places back, from all positions that
    have one."""
    return pattern.diagonal(-offset, 1, 2)


_register(
    "induction_score",
    "The induction score",
    ("pattern [sequence, to, from]", "length"),
    lambda: _induction_cases(),
    (
        Mistake(
            "You measure the attention to the same token, the duplicate-token score: look at "
            "the one after it.",
            lambda pattern, length: _along(pattern, length).mean(),
        ),
        Mistake(
            "You measure the attention to the token before, the previous-token score: look at "
            "the token after the earlier copy.",
            lambda pattern, length: _along(pattern, 1).mean(),
        ),
        Mistake(
            "You look at the token before the earlier copy: the one after it is wanted.",
            lambda pattern, length: _along(pattern, length + 1).mean(),
        ),
        Mistake(
            "Rows and columns are swapped: rows are the tokens that look, columns those that "
            "are looked at.",
            lambda pattern, length: _along(pattern.transpose(1, 2), length - 1)[:, 1:].mean(),
        ),
        Mistake(
            "You sum along the diagonal: take the mean over the tokens of the second half, and "
            "over the sequences.",
            lambda pattern, length: _along(pattern, length - 1)[:, 1:].sum(1).mean(),
        ),
        Mistake(
            "You sum over the sequences: take the mean over them, too.",
            lambda pattern, length: _along(pattern, length - 1)[:, 1:].mean(1).sum(),
        ),
        Mistake(
            "You divide by all positions of the line: only the tokens of the second half have "
            "an earlier copy.",
            lambda pattern, length: _along(pattern, length - 1)[:, 1:].sum()
            / (2 * length * len(pattern)),
        ),
        Mistake(
            "You count the last token of the first half, which has no earlier copy: begin with "
            "the second half (the authors' "
            "code counts it too).",
            lambda pattern, length: _along(pattern, length - 1).mean(),
        ),
        Mistake(
            "You use the first sequence alone: average over all of them.",
            lambda pattern, length: _along(pattern, length - 1)[0, 1:].mean(),
        ),
    ),
    each=lambda pattern, length: {"sequence": len(pattern), "token of the second half": length},
)


def check_induction_score(function: Callable) -> Feedback:
    """function(pattern [sequence, to, from], length) -> one head's induction score, on random words
    said twice.

    The lines have 2 * length tokens; row i of a pattern is how much token i looks at each token."""
    return CHECKS["induction_score"].of(function)


@cache
def _copy_cases() -> list[Case]:
    model = _model("mini-m")
    net, pairs = network_of(model), get_task("ioi").prompts(model.tokenizer, n=12, seed=1)
    places = torch.stack([pairs.positions[place] for place in ("IO", "S1", "S2")], 1)
    rows = torch.arange(len(pairs))[:, None]
    stream = next(iter(run(net, net.embed(pairs.clean)[:, None]))).out[:, 0][rows, places]
    unembed = folded_unembedding(net, torch.float64)
    raised, lowered = (hits.mean(1) for hits in copy_hits(net, pairs.clean, places))
    # the heads whose score is least decided, and the one that lowers names most
    heads = [*(raised - 0.5).abs().argsort()[:3].tolist(), int(lowered.argmax())]
    cases = []
    for place in heads:
        layer, head = divmod(place, model.shape.n_heads)
        values = values_without_attention(net.layers[layer], stream, norms=True)[:, :, head]
        written = values.double() @ net.layers[layer].w_out[head].double()
        inputs = (written.detach(), unembed, pairs.clean[rows, places])
        cases.append(Case(f"head {layer}.{head} of mini-m", inputs, float(raised[place])))
    return cases


def _of_hits(
    reduce: Callable[[torch.Tensor], torch.Tensor], *, k: int = TOP, lowest: bool = False
) -> Callable:
    """A wrong score that is made of hits, bool [prompt, place]: whether the place's own name is
    among the k tokens with the highest logits, or the lowest."""

    def score(written: torch.Tensor, unembedding: torch.Tensor, names: torch.Tensor) -> object:
        chosen = (written @ unembedding.T).topk(k, -1, largest=not lowest).indices
        return reduce((chosen == names[..., None]).any(-1))

    return score


def _share_of_any_name(
    written: torch.Tensor, unembedding: torch.Tensor, names: torch.Tensor
) -> torch.Tensor:
    chosen = (written @ unembedding.T).topk(TOP, -1).indices
    return (chosen[..., None] == names[:, None, None, :]).any(-1).any(-1).double().mean()


_register(
    "copy_score",
    "The copy score",
    ("written [prompt, 3, d]", "unembedding [token, d]", "names [prompt, 3]"),
    lambda: _copy_cases(),
    (
        Mistake(
            "You count only the single highest token: a name counts if it is among the five "
            "highest.",
            _of_hits(lambda hits: hits.double().mean(), k=1),
        ),
        Mistake(
            "You count the five lowest tokens, the negative copy score: the five highest are "
            "wanted.",
            _of_hits(lambda hits: hits.double().mean(), lowest=True),
        ),
        Mistake(
            "You count any name of the prompt: at each place, the name that stands there is "
            "wanted.",
            _share_of_any_name,
        ),
        Mistake(
            "You count a prompt if one of its three places hits: take the share of all places.",
            _of_hits(lambda hits: hits.any(-1).double().mean()),
        ),
        Mistake(
            "You count a prompt only if all three places hit: take the share of all places.",
            _of_hits(lambda hits: hits.all(-1).double().mean()),
        ),
        Mistake(
            "You count how often the name's logit is raised at all: it must be among the five "
            "highest tokens.",
            lambda written, unembedding, names: (
                (written @ unembedding.T).gather(-1, names[..., None]) > 0
            )
            .double()
            .mean(),
        ),
        Mistake(
            "You give a number of hits: divide by the number of places.",
            _of_hits(lambda hits: hits.double().sum()),
        ),
        Mistake(
            "You divide by the prompts alone: each prompt has three places.",
            _of_hits(lambda hits: hits.double().sum() / len(hits)),
        ),
    ),
    each=lambda written, unembedding, names: {"prompt": len(written)},
)


def check_copy_score(function: Callable) -> Feedback:
    """function(written [prompt, 3, d], unembedding [token, d], names [prompt, 3]) -> one head's
    copy score.

    written: what the head would write if it looked at the name of each place alone; the score is
    the share of the places whose name is among the five tokens with the highest logit."""
    return CHECKS["copy_score"].of(function)
