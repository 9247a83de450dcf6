"""What becomes of heads once they have formed (Tigges et al. 2024, 4.1, Figure 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
import torch

from circuitbook.heads.attention import patterns_on
from circuitbook.heads.names import Head
from circuitbook.studies.chapter import Chapter
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.findings.kinds import HEADS, kind_name
from circuitbook.studies.formation import (
    BARS,
    SERVES,
    fates,
    heads_in_circuits,
    of_model,
    trajectories,
)
from circuitbook.studies.head_scores import HeadScores
from circuitbook.suites import Suite
from circuitbook.suites.names import base_model
from circuitbook.suites.sources import Folder
from circuitbook.tasks import get_task
from circuitbook.wording import (
    bullets,
    capitalised,
    counted,
    head_from_label,
    in_markdown,
    listed,
    percent,
    short_number,
)

# ---- whom the chapter follows


class Followed(NamedTuple):
    """The model whose heads are followed, runs of one size to compare as seeds, and all models."""

    model: str
    seeds: list[str]
    models: list[str]


def whom_to_follow(
    suite: Suite, model: str | None, seeds: Sequence[str] | None, whole_family: bool
) -> Followed:
    """Fills in what is left open: the largest model of a whole family, else the smallest.

    seeds: None takes the size with the most runs. Fewer than two runs are no seeds to compare.
    """
    on_disk = isinstance(suite.source, Folder)  # a hub's variants have to be asked for
    runs = list(suite.models if on_disk else suite.standard)
    sizes = [name for name in runs if base_model(name) == name] or runs
    followed = model or sizes[-1 if whole_family else 0]
    if not seeds:
        of_size = [[name for name in runs if base_model(name) == size] for size in sizes]
        seeds = max(of_size, key=len)
    seeds = list(seeds) if len(seeds) > 1 else []
    others = sizes if whole_family else []
    return Followed(followed, seeds, list(dict.fromkeys([followed, *others, *seeds])))


def followed_in_words(followed: Followed, checkpoints: int, recipe: str) -> str:
    """Whose heads the chapter follows, by how many checkpoints and which recipe, and its seeds."""
    seeds = "this suite has no seeds of one size"
    if followed.seeds:
        seeds = f"seeds: {in_markdown(*followed.seeds)}"
    seen = counted(checkpoints, "checkpoint")
    return (
        f"Followed here: **{in_markdown(followed.model)}**, {seen}, recipe **{recipe}**; {seeds}."
    )


# ---- heads of one model


def measured_kinds(heads: Sequence[HeadScores], model: str) -> list[str]:
    """Kinds that were scored; copy suppression is not where there is no text."""
    return [kind for kind in BARS if trajectories(heads, model, kind).notna().all(axis=None)]


def past_the_bar(histories: Mapping[str, pd.DataFrame]) -> dict[str, list[Head]]:
    """{kind: heads that ever pass its bar}; histories: {kind: as from `trajectories`}."""
    return {
        kind: [
            (int(layer), int(number))
            for layer, number in scores
            if scores[layer, number].max() >= BARS[kind]
        ]
        for kind, scores in histories.items()
    }


def best_in_circuits(
    histories: Mapping[str, pd.DataFrame],
    circuits: Sequence[CircuitResult],
    model: str,
    tasks: Sequence[str],
    most: int = 8,
) -> dict[str, list[Head]]:
    """{kind: the best `most` heads past its bar of those that were ever in a circuit}."""
    inside = set().union(*(heads_in_circuits(circuits, model, task) for task in tasks))
    best = {}
    for kind, passed in past_the_bar(histories).items():
        in_circuit = [head for head in passed if head in inside]
        best[kind] = _by_largest_score(in_circuit, histories[kind])[:most]
    return best


def _by_largest_score(heads: Sequence[Head], scores: pd.DataFrame) -> list[Head]:
    largest = scores.max()
    return sorted(heads, key=lambda head: largest[head], reverse=True)


def figure_3_in_words(
    passed: Mapping[str, Sequence[Head]], shown: Mapping[str, Sequence[Head]], model: str
) -> str:
    """How many heads of each kind ever pass the bar, and how many of these the figure names."""
    of_kind = [f"{len(heads)} {_one_or_more(kind, len(heads))}" for kind, heads in passed.items()]
    named = sum(map(len, shown.values()))
    return (
        f"At some checkpoint {in_markdown(model)} has {listed(of_kind)}; {named} of these stand in "
        "colour, since they were in a circuit."
    )


def _one_or_more(kind: str, number: int) -> str:
    return HEADS[kind].removesuffix("s") if number == 1 else HEADS[kind]


# ---- who keeps, who loses


def fates_of_all(
    heads: Sequence[HeadScores], models: Sequence[str], kinds: Sequence[str]
) -> pd.DataFrame:
    """What becomes of every head of a kind (see `fates`), with the column model."""
    parts = [fates(heads, model, kind).assign(model=model) for model in models for kind in kinds]
    return pd.concat(parts, ignore_index=True)


def fate_counts(fates_table: pd.DataFrame, kinds: Sequence[str]) -> pd.DataFrame:
    """How many heads of each kind keep, fade and lose."""
    counts = fates_table.pivot_table(
        index="kind", columns="fate", values="head", aggfunc="count", fill_value=0
    )
    counts = counts.reindex(kinds, fill_value=0).rename(index=kind_name)
    return counts.rename_axis(None, axis=1).rename_axis("heads of all models")


def answer(fates_table: pd.DataFrame, kinds: Sequence[str], checkpoints: int) -> str:
    """The chapter's answer: which kinds keep their function to the end, and which lose it."""
    if checkpoints < 2:
        return "**One checkpoint does not tell whether heads keep their function.**"
    keep, lose, mixed = [], [], []
    for kind in kinds:
        of_kind = fates_table.loc[fates_table["kind"] == kind, "fate"]
        n, kept, lost = len(of_kind), (of_kind == "keeps it").sum(), (of_kind == "loses it").sum()
        if not n:
            continue
        if 2 * kept > n:
            keep.append(f"{HEADS[kind]} ({kept} of {n})")
        elif 2 * lost > n:
            lose.append(f"{HEADS[kind]} ({lost} of {n})")
        else:
            mixed.append(HEADS[kind])
    clauses = []
    if keep:
        clauses.append(f"{listed(keep)} keep their function to the end")
    if lose:
        clauses.append(
            f"most {listed(lose)} lose it" if keep else f"most {listed(lose)} lose theirs"
        )
    if mixed:
        clauses.append(f"{listed(mixed)} do neither as a rule")
    if not clauses:
        return "**No head passes the bar of a kind, so there is no function to keep.**"
    return f"**{capitalised('; '.join(clauses))}.**"


def largest_losses(fates_table: pd.DataFrame) -> pd.DataFrame:
    """Heads that lose their function, the largest fall first."""
    lost = fates_table[fates_table["fate"] == "loses it"]
    fall = lost["largest"] - lost["final"]
    return lost.loc[fall.sort_values(ascending=False).index]


def losses_in_words(heads: Sequence[HeadScores], fates_table: pd.DataFrame, most: int = 4) -> str:
    """The largest losses, a line each, and whether another head gains meanwhile."""
    losses = largest_losses(fates_table)
    if losses.empty:
        return "No head that passed a bar falls below half of its largest score by the end."
    heirs = [_who_gains(heads, loss) for _, loss in losses.iterrows()]
    lines = [
        f"{in_markdown(loss['model'])}, head {loss['head']}, {kind_name(loss['kind']).lower()}: "
        f"from {loss['largest']:.2f} after {short_number(loss['at'])} tokens to "
        f"{loss['final']:.2f} at the end; {heir or 'no other head gains as much as 0.1'}."
        for (_, loss), heir in zip(losses.iterrows(), heirs, strict=True)
    ]
    taken_over = sum(heir is not None for heir in heirs)
    return (
        f"{counted(len(losses), 'head')} lose their function. **In {taken_over} of these cases "
        f"another head gains in the meantime.** The largest losses:\n\n{bullets(lines[:most])}"
    )


def _who_gains(heads: Sequence[HeadScores], loss: pd.Series) -> str | None:
    scores = trajectories(heads, loss["model"], loss["kind"])
    since = scores[scores.index >= loss["at"]]
    first, last = since.iloc[0], since.iloc[-1]
    gains = (last - first).drop(head_from_label(loss["head"]))
    if not gains.max() > 0.1:
        return None
    layer, number = heir = gains.idxmax()
    return f"meanwhile {layer}.{number} goes from {first[heir]:.2f} to {last[heir]:.2f}"


def head_to_try(fates_table: pd.DataFrame) -> str:
    """Which head to look at in the browser: the one that loses most, if there is one."""
    losses = largest_losses(fates_table)
    if losses.empty:
        return "No head loses its function here."
    loss = losses.iloc[0]
    kind = _one_or_more(loss["kind"], 1)
    article = "an " if kind[0] in "aeiou" else "a "
    return (
        f"Head {loss['head']} of {in_markdown(loss['model'])} is {article}{kind} after "
        f"{short_number(loss['at'])} tokens. What is it at the end?"
    )


@dataclass(frozen=True, eq=False)
class HeadThenAndNow:
    """Where a head looks on one prompt, at an earlier checkpoint and at the last one."""

    model: str
    label: str  # layer.head
    kind: str
    loses: bool  # it loses its function; else it is the head that ends highest
    words: list[str]
    patterns: dict[str, torch.Tensor]  # {"1.48M tokens": [query, key]}

    @property
    def in_words(self) -> str:
        """Which head it is, and at which word END looks most."""
        looks = []
        for when, pattern in self.patterns.items():
            from_end = pattern[-1]
            word = self.words[int(from_end.argmax())].strip()
            share = percent(float(from_end.max()))
            looks.append(f"at “{in_markdown(word)}” after {when} ({share})")
        which = "loses most" if self.loses else "ends highest"
        return (
            f"Head {self.label} of {in_markdown(self.model)}, which {which} "
            f"({kind_name(self.kind).lower()}), looks from END most {listed(looks)}."
        )


def head_then_and_now(chapter: Chapter, fates_table: pd.DataFrame) -> HeadThenAndNow | None:
    """The head that loses most or, if none does, the one that ends highest; None without heads.

    Earlier is the checkpoint of its largest score, for a head that loses, else the first one.
    """
    if fates_table.empty:
        return None
    losses = largest_losses(fates_table)
    loses = len(losses) > 0
    head = losses.iloc[0] if loses else fates_table.sort_values("final").iloc[-1]
    checkpoints = of_model(chapter.heads, head["model"])
    then = checkpoints[0]
    if loses:
        then = next(at for at in checkpoints if at.tokens_seen == head["at"])
    words, patterns = [], {}
    for at in dict.fromkeys([then, checkpoints[-1]]):
        model = chapter.suite.checkpoint(at.model, at.step).load(**chapter.device)
        task = get_task(SERVES[head["kind"]])
        pairs = task.prompts(model.tokenizer, n=1, seed=chapter.recipe.seed)
        tokens = pairs.clean[0, : int(pairs.end[0]) + 1]
        words = [str(model.tokenizer.decode([token])) for token in tokens.tolist()]
        (pattern,) = patterns_on(model, tokens, [head_from_label(head["head"])])
        patterns[f"{short_number(at.tokens_seen)} tokens"] = pattern
    return HeadThenAndNow(head["model"], head["head"], head["kind"], loses, words, patterns)
