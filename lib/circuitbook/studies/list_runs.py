"""A row per run and checkpoint: what the two algorithms of the task `next_in_list` are told by."""

from __future__ import annotations

import numpy as np

from circuitbook.heads.names import Head
from circuitbook.model.graph import HEAD_INPUTS
from circuitbook.studies.head_scores import PLACES
from circuitbook.studies.list_heads import ListHeads
from circuitbook.tasks.stories.ordered_lists import SIZES
from circuitbook.wording import head_label

SHARES = ("movers", "against", "others")


def run_row(heads: ListHeads) -> dict[str, object]:
    """What the table of runs says of a checkpoint. "" stands for a head that is not there, and None
    for its numbers.

    top_2, top_3, top_4: how often IO is the likeliest of all tokens after lists of so many people;
    difference_2 ...: mean logit difference, IO less S; able: see `ListHeads`.
    movers, against, inhibits: the heads of each class, the strongest first.
    mover, writer, steerer: the strongest of each kind, as "layer.head": the mover with the largest
    direct effect, the one that writes against S with the largest, and the head with the largest
    effect through the movers' queries, whether it is S-inhibition or not; chooser, the one with the
    largest direct effect on the choice among those who do not give. Of each: its effect
    (mover_effect ..., negative helps) and its attention from END to IO and to S (S1 and S2).
    chooser_by_q, chooser_by_k, chooser_by_v: the head with the largest effect on it through
    this input of the chooser, and chooser_by_q_effect ... how large it is: through its queries the
    chooser is told where to look, through its values whom to name.
    mover_copies, writer_lowers: its (negative) copy score. steerer_direct: its direct effect.
    without_IO, without_S1, without_S2: where the strongest mover attends when the steerer reaches
    its queries corrupted. share_movers, share_against, share_others: of the direct effects that
    help, by class (a head in two counts as a mover).
    Of givers called by their roles also: tag_by_q, tag_by_k, tag_by_v, the head that, through this
    input of the chooser, tells most of who has the giver's role, as far as the list says it;
    tag_by_q_effect ..., and tag_q ..., the sum of such effects that help, over heads.
    """
    arrays = heads.arrays
    row: dict[str, object] = {"step": heads.step, "tokens_seen": heads.tokens_seen}
    for i, size in enumerate(SIZES):
        row[f"top_{size}"] = float((arrays["rank"][i] == 0).mean())
        row[f"difference_{size}"] = float(arrays["difference"][i].mean())
    row["able"] = heads.able
    steers = heads.steering < 0
    for name, among, effect in (
        ("movers", heads.movers, heads.direct),
        ("against", heads.against, heads.direct),
        ("inhibits", heads.inhibits, heads.steering),
    ):
        rows = [at for at in np.argsort(effect, kind="stable") if among[at]]
        row[name] = " ".join(head_label(divmod(int(at), heads.n_heads)) for at in rows)
    mover = heads.strongest(heads.movers, heads.direct)
    writer = heads.strongest(heads.against, heads.direct)
    steerer = heads.strongest(steers, heads.steering)
    row |= _of_head(heads, "mover", mover, heads.direct)
    row |= _of_head(heads, "writer", writer, heads.direct)
    row |= _of_head(heads, "steerer", steerer, heads.steering)
    chooses = (heads.choice < 0) & heads.chooses
    chooser = heads.strongest(chooses, heads.choice)
    row |= _of_head(heads, "chooser", chooser, heads.choice)
    for kind in HEAD_INPUTS:
        effect = heads.choice_through(kind)
        teller = None if chooser is None else heads.strongest(effect < 0, effect)
        row[f"chooser_by_{kind}"] = "" if teller is None else head_label(teller)
        told = None if teller is None else float(effect[heads.row_of(teller)])
        row[f"chooser_by_{kind}_effect"] = told
    row["mover_copies"] = _score(heads, mover, "copy")
    row["writer_lowers"] = _score(heads, writer, "negative_copy")
    row["steerer_direct"] = None if steerer is None else float(heads.direct[heads.row_of(steerer)])
    if "tag.clean" in arrays:
        row |= _of_tags(heads, chooses=chooser is not None)
    return row | _without(heads, mover, steerer) | _shares(heads)


def _of_head(
    heads: ListHeads, name: str, head: Head | None, effect: np.ndarray
) -> dict[str, object]:
    if head is None:
        return {name: "", f"{name}_effect": None, f"{name}_IO": None, f"{name}_S": None}
    at = heads.row_of(head)
    io, s1, s2 = heads.looks[at].tolist()
    return {
        name: head_label(head),
        f"{name}_effect": float(effect[at]),
        f"{name}_IO": io,
        f"{name}_S": s1 + s2,
    }


def _of_tags(heads: ListHeads, chooses: bool) -> dict[str, object]:
    found: dict[str, object] = {}
    for kind in HEAD_INPUTS:
        effect = heads.tag_through(kind)
        teller = heads.strongest(effect < 0, effect) if chooses else None
        at = None if teller is None else heads.row_of(teller)
        found[f"tag_by_{kind}"] = "" if teller is None else head_label(teller)
        found[f"tag_by_{kind}_effect"] = None if at is None else float(effect[at])
        helps = float(np.clip(effect, None, 0).sum())
        found[f"tag_{kind}"] = helps if chooses else None
    return found


def _score(heads: ListHeads, head: Head | None, kind: str) -> float | None:
    return None if head is None else float(heads.scores.score(kind)[heads.row_of(head)])


def _without(heads: ListHeads, mover: Head | None, steerer: Head | None) -> dict[str, object]:
    """Where the mover attends without the steerer."""
    names = [f"without_{place}" for place in PLACES]
    if mover is None or steerer is None:
        return dict.fromkeys(names)
    of_mover = int(heads.movers[: heads.row_of(mover)].sum())
    at = heads.row_of(steerer)
    means = [float(heads.arrays[f"without.{place}"][at, of_mover].mean()) for place in PLACES]
    return dict(zip(names, means, strict=True))


def _shares(heads: ListHeads) -> dict[str, object]:
    """Of the direct effects that help, the share of each class."""
    helps = np.clip(-heads.direct, 0, None)
    against = heads.against & ~heads.movers
    groups = (heads.movers, against, ~heads.movers & ~against)
    total = helps.sum()
    return {
        f"share_{name}": float(helps[group].sum() / total) if heads.able and total else None
        for name, group in zip(SHARES, groups, strict=True)
    }
