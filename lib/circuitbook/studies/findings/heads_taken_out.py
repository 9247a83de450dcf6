"""What happens when heads are swapped or taken out: which ones, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from circuitbook.heads.names import Head
from circuitbook.studies.findings.kinds import best_heads, kind_name
from circuitbook.studies.formation import of_model
from circuitbook.studies.head_scores import HeadScores
from circuitbook.studies.self_repair import CARRIES, Repaired
from circuitbook.wording import counted, head_label, head_labels, in_markdown, listed, percent

MEASURES = ("before", "expected", "after")

# ---- swaps


def swap_groups(last: HeadScores, most: int = 4) -> dict[str, list[Head]]:
    """The heads that carry IOI, at most four, and as many of their layers that carry least of it.

    Without a carrier the head with the largest direct effect stands for them.
    """
    direct = last.score("direct")  # negative helps
    effect = dict(zip(last.heads, -direct, strict=True))
    by_effect = [last.heads[row] for row in np.argsort(direct)]
    carriers = [head for head in by_effect if effect[head] > CARRIES][:most] or by_effect[:1]
    control: list[Head] = []
    for layer, _ in carriers:
        free = [head for head in last.heads if head[0] == layer]
        free = [head for head in free if head not in carriers and head not in control]
        control += sorted(free, key=lambda head: abs(effect[head]))[:1]
    return {"carriers of IOI": carriers, "control": control}


def swaps_in_words(swaps: pd.DataFrame, min_metric: float = 1.0) -> str:
    """Do later heads help models that do IOI already? swaps: as from `measure_swaps`."""
    if swaps.empty:
        return "Swaps need two checkpoints of a model."
    able = swaps[swaps["own"] > min_metric]
    if able.empty:
        return "No target does IOI already: there is nothing to compare."
    able = able.assign(change=able["metric"] - able["own"])
    texts, means = [], {}
    for group, part in able.groupby("group", sort=False):
        from_next = part.sort_values("source").groupby("target")["change"].first()
        from_last = part.loc[part["source"] == part["source"].max(), "change"]
        means[group] = from_last.mean()
        texts.append(
            f"{group} {_signed(from_next.mean())} from the next checkpoint and "
            f"{_signed(from_last.mean())} from the last"
        )
    first, *_ = means.values()
    helps = "help" if first > 0.1 else "harm" if first < -0.1 else "neither help nor harm"
    return (
        f"Later carriers {helps} models that do IOI already: the logit difference changes by, "
        f"on average, {'; '.join(texts)}."
    )


def _signed(value: float) -> str:
    """Two digits with a sign, and no sign before nothing."""
    rounded = round(value, 2) + 0.0
    return f"{rounded:+.2f}" if rounded else "0.00"


# ---- self-repair on IOI


def repair_on_ioi(repaired: Sequence[Repaired]) -> pd.DataFrame:
    """Mean logit differences, a row per checkpoint that has heads to take out.

    Columns: model, tokens_seen, heads (those taken out), before, expected, after.
    """
    rows = [
        {"model": at.model, "tokens_seen": at.tokens_seen, "heads": head_labels(at.carriers)}
        | {measure: float(at.ioi[measure].mean()) for measure in MEASURES}
        for at in repaired
        if at.ioi
    ]
    return pd.DataFrame(rows, columns=["model", "tokens_seen", "heads", *MEASURES])


def reactions(repaired: Sequence[Repaired]) -> pd.Series:
    """How much the direct effect of every head that is left changes, in logits: index "layer.head".

    Of the last checkpoint that has heads to take out; empty if there is none.
    """
    with_carriers = [at for at in repaired if at.ioi]
    if not with_carriers:
        return pd.Series(dtype=float)
    at = with_carriers[-1]
    change = (at.ioi["direct_after"] - at.ioi["direct_before"]).mean(-1)
    others = {
        head_label(head): change[head]
        for head in np.ndindex(change.shape)
        if head not in at.carriers
    }
    return pd.Series(others, dtype=change.dtype)


def repair_in_words(numbers: pd.DataFrame, reacting: pd.Series, model: str, how: str) -> str:
    """What taking the carriers out does at the last checkpoint; `how` as in `measure_repair`."""
    if numbers.empty:
        return (
            f"No checkpoint of {in_markdown(model)} does IOI with a head that carries it: "
            "there is nothing to take out."
        )
    end = numbers.iloc[-1]
    written, lost = end["before"] - end["expected"], end["before"] - end["after"]
    out = {"zero": "silenced", "resample": "given the corrupted prompt's output"}.get(how, how)
    return (
        f"**{_verdict(written, lost)}:** with {_heads(end['heads'])} of {in_markdown(model)} "
        f"{out}, the logit difference falls by {lost:.2f}; directly written were {written:.2f}. "
        f"The direct effects of all other heads change by {_signed(reacting.sum())} together."
    )


def _heads(labels: str) -> str:
    return f"heads {labels}" if "," in labels else f"head {labels}"


def _verdict(written: float, lost: float) -> str:
    """Within a tenth of what the heads wrote, nobody reacts."""
    if lost < 0.9 * written:
        return "The rest of the model makes up for part of it"
    if lost > 1.1 * written:
        return "Nothing is made up for; more is lost than these heads wrote"
    return "Nobody reacts"


# ---- self-repair on text


def repaired_share(at: Repaired, which: np.ndarray | None = None) -> float:
    """Share of what heads write directly on text that is not lost when they are taken out.

    which: bool [head], default all heads. Negative where more is lost in all than directly.
    """
    chosen = slice(None) if which is None else which
    return float(1 - at.text["total"][chosen].sum() / at.text["direct"][chosen].sum())


def text_repair_in_words(repaired: Sequence[Repaired]) -> str:
    """How much is repaired on text at the last of these checkpoints, and of how many heads."""
    if not repaired:
        return "No text was given (parameter TEXT), so this was not measured."
    at = repaired[-1]
    share, heads = repaired_share(at), len(at.text["total"])
    below = int((at.text["total"] < at.text["direct"]).sum())
    what = (
        f"{percent(share)} of what is lost directly is repaired"
        if share >= 0
        else f"{percent(-share)} more is lost in all than directly"
    )
    return (
        f"Summed over all heads of {in_markdown(at.model)}, {what} at the last checkpoint; "
        f"{below} of {heads} heads lie below the diagonal."
    )


# ---- who makes up for it

PARTS = {"by_heads": "later heads", "by_mlps": "later MLPs", "by_norm": "the last norm"}


def repair_parts(repaired: Sequence[Repaired], where: Literal["ioi", "text"]) -> pd.DataFrame:
    """What each part makes up for, as a share of what is lost directly: a row per checkpoint.

    Columns: model, tokens_seen, direct (logits lost directly; the mean over prompts, or summed over
    heads), later heads, later MLPs, the last norm, and all, their sum. Negative where a part makes
    it worse. On IOI direct is before - expected, and all is after - expected over that. Checkpoints
    without anything to take out are left out.
    """
    rows = []
    for at in repaired:
        arrays = at.ioi if where == "ioi" else at.text
        if not arrays:
            continue
        if where == "ioi":
            direct = float((arrays["before"] - arrays["expected"]).mean())
            parts = {title: float(arrays[name].mean()) for name, title in PARTS.items()}
        else:
            direct = float(arrays["direct"].sum())
            parts = {title: float(arrays[name].sum()) for name, title in PARTS.items()}
        shares = {title: part / direct if direct else np.nan for title, part in parts.items()}
        row = {"model": at.model, "tokens_seen": at.tokens_seen, "direct": direct}
        rows.append(row | shares | {"all": sum(shares.values())})
    return pd.DataFrame(rows, columns=["model", "tokens_seen", "direct", *PARTS.values(), "all"])


def parts_in_words(on_ioi: pd.DataFrame, on_text: pd.DataFrame) -> str:
    """Who makes up for it, or loses more, at the last checkpoint; tables from `repair_parts`."""
    told = []
    for where, table in {"IOI": on_ioi, "ordinary text": on_text}.items():
        if table.empty:
            continue
        end = table.iloc[-1]
        parts = ", ".join(f"{title} {_signed_percent(end[title])}" for title in PARTS.values())
        sign = 1 if end["all"] > 0 else -1
        largest = max(PARTS.values(), key=lambda title: sign * end[title])
        if end["all"] > 0:
            what = f"{percent(end['all'])} of what is lost directly is made up for"
        else:
            what = f"nothing is made up for: {percent(-end['all'])} more is lost than directly"
        told.append(f"On {where}, {what}, most of it by {largest} ({parts})")
    return f"{'. '.join(told)}." if told else "Nothing was taken out, so nothing is made up for."


def _signed_percent(share: float) -> str:
    """In whole percent with a sign, and no sign before nothing."""
    rounded = round(share, 2) + 0.0
    return f"{rounded:+.0%}" if rounded else "0%"


def repair_caption(on_ioi: pd.DataFrame) -> str:
    """At how many checkpoints more is lost, or less; on_ioi: see `repair_parts`."""
    more, less = (on_ioi["all"] < -0.1).sum(), (on_ioi["all"] > 0.1).sum()
    return (
        f"*At {more} of {counted(len(on_ioi), 'checkpoint')} more is lost than these heads wrote, "
        f"at {less} less.* Left: the logit difference before, expected and after. Right: the heads "
        "whose direct effects change most, at the last checkpoint."
    )


# ---- seeds


def seeds_in_words(heads: Sequence[HeadScores], seeds: Sequence[str]) -> str:
    """Of the heads that carry IOI at the end of each seed, how many look at the subject."""
    said = []
    for model in seeds:
        last = of_model(heads, model)[-1].table()
        carrying = last[last["direct"] < -CARRIES]
        at_subject = (carrying["to_S1"] + carrying["to_S2"] > carrying["to_IO"]).sum()
        said.append(f"{at_subject} of {len(carrying)} in {in_markdown(model)}")
    return (
        "Of the heads that carry IOI at the end, so many look at the subject rather than at the "
        f"indirect object: {listed(said)}."
    )


def heads_of_seeds(heads: Sequence[HeadScores], seeds: Sequence[str]) -> pd.DataFrame:
    """Each seed's strongest heads and the two that do most for IOI, at the last checkpoint."""
    rows = []
    for model in seeds:
        last = of_model(heads, model)[-1].table()
        row = {"model": model}
        for kind in ("successor", "induction", "copy"):
            (best,) = best_heads(last, [kind])
            row[kind_name(kind).lower()] = f"{head_label(best)}: {last[kind].max():.2f}"
        helping = last.sort_values("direct").head(2)
        for title, (_, head) in zip(("first for IOI", "second"), helping.iterrows(), strict=False):
            row[title] = _effect_and_place(head)
        rows.append(row)
    return pd.DataFrame(rows).set_index("model")


def _effect_and_place(head: pd.Series) -> str:
    at_subject = head["to_S1"] + head["to_S2"] > head["to_IO"]
    label = head_label((head["layer"], head["head"]))
    return f"{label}: {-head['direct']:.0%}, at {'S' if at_subject else 'IO'}"


def repair_of_seeds(repaired: Sequence[Repaired]) -> pd.DataFrame:
    """What follows when each seed's carriers are taken out, a row per seed: see `repair_on_ioi`."""
    rows = []
    for at in repaired:
        row = {"model": at.model, "taken out": head_labels(at.carriers) or "none"}
        row |= {name: f"{at.ioi[name].mean():.2f}" if at.ioi else "" for name in MEASURES}
        row["repaired on text"] = f"{repaired_share(at):.0%}" if at.text else ""
        rows.append(row)
    return pd.DataFrame(rows).set_index("model")
