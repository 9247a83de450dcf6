"""Every claim of the paper, asked of the suite at hand: holds, does not hold, or can't tell, with the number and its interval.

    evidence = measure_evidence(load_suite("mini"), ["mini-s", "mini-l"], Store())      # reads what is in the store
    table(report(evidence))

Rules are the same for every suite, so that the report fills itself in when somebody runs Pythia. Where a claim is about
Pythia's own tokens or heads and the suite is another, the answer is "can't tell", whatever was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from . import abilities, algorithm, formation, over_training, stability, transfer
from .abilities import Sameness, same_tokens
from .algorithm import Anatomy
from .heads import TITLES, HeadScores, measure_heads
from .over_training import Found
from .recipes import Recipe, get_recipe
from .stats import Emergence, interval
from .store import Store
from .suites import PYTHIA_TOKENS_PER_STEP, Suite
from .tasks import TASKS

ANSWERS = ("holds", "does not hold", "can't tell")
SMALL_SHARE = 0.05                                     # of all edges: where the paper's search ends
ALIKE = 2.0                                            # "similar token counts": within this factor
SAME = 0.9                                             # what is moved works "as well" from this share of the target's own on


@dataclass(frozen=True)
class Claim:
    """One row of the report. `chapter`: the document whose figure tests it; `source`: where the paper says so."""

    claim: str
    source: str
    chapter: str
    answer: str
    measured: str


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that the report needs, for the models of a suite. `main`: one run of each size, small to large; `seeds`: groups of one
    shape."""

    suite: Suite
    main: tuple[str, ...]
    seeds: tuple[tuple[str, ...], ...]
    sizes: Mapping[str, float]
    answers: pd.DataFrame                              # of `abilities.measure_abilities`
    heads: Sequence[HeadScores]
    circuits: Sequence[Found]
    anatomies: Sequence[Anatomy]
    shares: pd.DataFrame
    transfers: pd.DataFrame
    turnover: pd.DataFrame

    @property
    def is_pythia(self) -> bool:
        return self.suite.tokens_per_step == PYTHIA_TOKENS_PER_STEP and all(m.startswith("pythia") for m in self.main)


def measure_evidence(suite: Suite, main: Sequence[str], store: Store, recipe: Recipe | str = "robust", seeds: Sequence[Sequence[str]] = (),
                     tasks: Sequence[str] = tuple(TASKS), steps: dict | None = None, text: str | None = None, device: str = "cpu",
                     dtype: torch.dtype = torch.float32, progress: bool = True) -> Evidence:
    """Measures what is not in the store yet. `main`: one run of each size, small to large; `seeds`: groups of runs of one size
    (those in `main` may be among them)."""
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    models = tuple(dict.fromkeys([*main, *(name for group in seeds for name in group)]))
    where = {"device": device, "dtype": dtype, "progress": progress}
    answers = abilities.measure_abilities(suite, list(models), [*tasks, abilities.REPETITION], store, steps, **where)
    heads = measure_heads(suite, models, store, recipe, steps, text=text, **where)
    circuits = over_training.measure_circuits(suite, models, tasks, store, recipe, steps, **where)
    anatomies = algorithm.measure_anatomy(suite, heads, circuits, store, recipe, text=text, **where)
    transfers = transfer.transfer(suite, circuits, store, recipe, anatomies, seeds, **where)
    return Evidence(suite, tuple(main), tuple(map(tuple, seeds)), {name: stability.model_size(suite, name) for name in main}, answers, heads, circuits,
                    anatomies, algorithm.share_table(anatomies), transfers, stability.turnover(circuits, draws=0))


def report(evidence: Evidence) -> list[Claim]:
    """All claims, in the order of the paper."""
    return [Claim(claim, source, chapter, *test(evidence)) for claim, source, chapter, test in CLAIMS]


def table(claims: Sequence[Claim]) -> pd.DataFrame:
    return pd.DataFrame([vars(one) for one in claims])


def about_pythia(found: pd.DataFrame) -> int:
    """How many claims of a `table` could not be told because they are about Pythia's own models or tokens, and others were measured."""
    theirs = found["measured"].str.contains("Pythia's|is not among the models")
    return int((theirs & (found["answer"] == "can't tell")).sum())


# ------------------------------------------------------------------ section 3.1 and Figure 1

Test = Callable[[Evidence], tuple[str, str]]
_NAMES = {"ioi": "IOI", "gendered_pronoun": "Pronoun", "greater_than": "Greater-Than", "sva": "SVA"}


def _sameness(found: dict[str, Emergence]) -> tuple[str, str]:
    """Within a factor of two over the sizes?"""
    same: Sameness = same_tokens(found, ALIKE)
    there = [name for name, one in found.items() if len(one.samples)]
    if np.isnan(same.fold):
        return "can't tell", f"dated in {len(there)} of {len(found)} sizes"
    answer = {"yes": "holds", "no": "does not hold"}.get(same.answer, "can't tell")
    return answer, f"slowest over quickest of {len(there)} sizes: {same.fold:.2f} [{same.low:.2f}, {same.high:.2f}]"


def _ability(task: str) -> Test:
    def test(e: Evidence) -> tuple[str, str]:
        if task not in set(e.answers["task"]):
            return "can't tell", "the task was not measured"
        found = {m: one for m, one in abilities.emergences(e.answers, task, 0.5).items() if m in e.main}
        answer, measured = _sameness(found)
        if len(e.main) > 2 and not np.isnan(rest := same_tokens({m: one for m, one in found.items() if m != e.main[0]}, ALIKE).fold):
            measured += f"; without the smallest {rest:.2f}"
        return answer, measured
    return test


def _learning_speed(e: Evidence) -> tuple[str, str]:
    """Does the second smallest size take no more than twice the tokens of the largest?"""
    if len(e.main) < 3 or "ioi" not in set(e.answers["task"]):
        return "can't tell", "needs IOI in three sizes"
    found = abilities.emergences(e.answers, "ioi", 0.5)
    second, largest = found[e.main[1]], found[e.main[-1]]
    if not (len(second.samples) and len(largest.samples)):
        return "can't tell", "IOI is not dated in both sizes"
    n = min(len(second.samples), len(largest.samples))
    low, high = interval(second.samples[:n] / largest.samples[:n])
    answer = "holds" if high < ALIKE and low > 1 / ALIKE else "does not hold" if low > ALIKE or high < 1 / ALIKE else "can't tell"
    return answer, f"tokens to half of IOI, {e.main[1]} over {e.main[-1]}: {second.tokens / largest.tokens:.2f} [{low:.2f}, {high:.2f}]"


# ------------------------------------------------------------------ section 3.2 and Figure 2

def _dated(e: Evidence, kind: str) -> dict[str, Emergence]:
    return {name: formation.formation(e.heads, name, kind) for name in e.main}


def _component(kind: str) -> Test:
    return lambda e: _sameness(_dated(e, kind))


def _tokens_of(kind: str, first: float, last: float) -> Test:
    """Do such heads form between these tokens (Pythia's)?"""
    def test(e: Evidence) -> tuple[str, str]:
        there = {name: one for name, one in _dated(e, kind).items() if len(one.samples)}
        dates = ", ".join(f"{name} {one.tokens / 1e9:.2g} billion" for name, one in there.items()) or "no such heads"
        if not e.is_pythia or not there:
            return "can't tell", f"the tokens are Pythia's; here {dates}"
        inside = [first <= one.low and one.high <= last for one in there.values()]
        outside = [one.high < first or one.low > last for one in there.values()]
        return "holds" if all(inside) else "does not hold" if any(outside) else "can't tell", dates
    return test


def _successors_fade(e: Evidence) -> tuple[str, str]:
    """Is the strongest successor head weaker at the end than at its best?"""
    left = {}
    for name in e.main:
        best = np.array([one.score("successor").max() for one in formation.of_model(e.heads, name)])
        if np.isfinite(best).all() and best.max() >= formation.BARS["successor"]:
            left[name] = best[-1] / best.max()
    if not left:
        return "can't tell", "no successor head"
    said = ", ".join(f"{name} {value:.2f}" for name, value in left.items())
    answer = "holds" if all(v < SAME for v in left.values()) else "does not hold" if all(v >= SAME for v in left.values()) else "can't tell"
    return answer, f"final over largest score of the strongest head: {said}"


def _suppression_helps(e: Evidence) -> tuple[str, str]:
    effects = [(a.model, a.effects("direct")[row]) for a in e.anatomies if "direct" in a.patched
               for name in ("copy suppression", "negative copy suppression") for row in a.classes[name].nonzero()[0]]
    if not effects:
        return "can't tell", "no copy suppression head at a checkpoint that does IOI"
    helps = sum(value < 0 for _, value in effects)
    answer = "holds" if helps == len(effects) else "does not hold" if helps == 0 else "can't tell"
    return answer, (f"helps at {helps} of {len(effects)} heads and checkpoints, in {', '.join(dict.fromkeys(name for name, _ in effects))}; "
                    f"mean direct effect {-np.mean([value for _, value in effects]):+.2f} of the whole")


# ------------------------------------------------------------------ section 2: circuits

def _small_circuits(e: Evidence) -> tuple[str, str]:
    done = [one.circuit for one in e.circuits if not one.circuit.reason.startswith("the model does not do the task")]
    if not done:
        return "can't tell", "no model does any of the tasks"
    share = np.array([c.n_edges / c.graph.n_edges if c.found else np.inf for c in done])
    small = (share <= SMALL_SHARE).mean()
    there = share[np.isfinite(share)]
    return ("holds" if small == 1 else "does not hold"), (f"{small:.1%} of {len(done)} searches; edges in the median "
            + (f"{np.median(there):.2%}, at most {there.max():.1%}" if len(there) else "none"))


# ------------------------------------------------------------------ section 4.1 and 4.2: heads change, the algorithm stays

def _heads_change(e: Evidence) -> tuple[str, str]:
    """Does the set of heads in some class change between two checkpoints of a run?"""
    runs = {}
    for name in dict.fromkeys(a.model for a in e.anatomies):
        mine = [a.labels for a in e.anatomies if a.model == name and any(a.labels)]
        if len(mine) > 1:
            runs[name] = sum(a != b for a, b in zip(mine, mine[1:])) / (len(mine) - 1)
    if not runs:
        return "can't tell", "no run has classified heads at two checkpoints"
    changed = [name for name, share in runs.items() if share > 0]
    return ("holds" if changed else "does not hold"), (f"heads enter or leave a class in {len(changed)} of {len(runs)} runs, between "
                                                       f"{np.mean(list(runs.values())):.0%} of neighbouring checkpoints on average")


def _share(stage: str) -> Test:
    def test(e: Evidence) -> tuple[str, str]:
        found = {}
        for name in dict.fromkeys(e.shares["model"]):
            part = e.shares[(e.shares["model"] == name) & (e.shares["stage"] == stage) & (e.shares["form"] == "absolute")]
            one = algorithm.verdict(part, algorithm.CLAIMED[stage])
            if one.checkpoints:
                found[name] = one
        if not found:
            return "can't tell", "no model has such heads"
        answers = [one.answer for one in found.values()]
        answer = "does not hold" if "does not hold" in answers else "holds" if set(answers) == {"holds"} else "can't tell"
        return answer, "lowest share: " + "; ".join(f"{name} {one.share:.0%} [{one.low:.0%}, {one.high:.0%}]" for name, one in found.items())
    return test


def _moved(what: str, where: str) -> Test:
    """Does what is moved keep `SAME` of what the target's own keeps?"""
    def test(e: Evidence) -> tuple[str, str]:
        summary = transfer.transfer_summary(e.transfers, e.seeds)
        row = summary[(summary["task"] == "ioi") & (summary["what"] == what) & (summary["where"] == where)]
        if row.empty:
            return "can't tell", "there are no two such circuits"
        r = row.iloc[0]
        answer = "holds" if r["mean"] >= SAME * r["own"] else "does not hold" if r["mean"] <= r["null"] + 0.5 * (r["own"] - r["null"]) else "can't tell"
        return answer, (f"keeps {r['mean']:.0%} on average, {r['lowest']:.0%} at worst ({int(r['pairs'])} pairs); the target's own {r['own']:.0%}, shuffled heads "
                        f"{r['null']:.0%}")
    return test


# ------------------------------------------------------------------ section 4.3 and Figure 5: stability and size

def _correlated(c: stability.Correlation) -> tuple[str, str]:
    if np.isnan(c.pearson):
        return "can't tell", f"{c.n} sizes are too few"
    answer = "holds" if c.p < 0.05 and c.pearson > 0 else "does not hold" if c.p < 0.05 or c.high < 0.5 else "can't tell"
    between = "" if np.isnan(c.low) else f" [{c.low:.2f}, {c.high:.2f}]"
    return answer, f"r = {c.pearson:.2f}{between}, p = {c.p:.2g} over {c.n} sizes"


def _steadier(e: Evidence) -> tuple[str, str]:
    mean = e.turnover[e.turnover["model"].isin(e.main)].groupby(["task", "model"])["edges"].mean().groupby("model").mean()
    return _correlated(stability.correlation([e.sizes[name] for name in mean.index], mean))


def _larger(task: str) -> Test:
    def test(e: Evidence) -> tuple[str, str]:
        sizes = stability.size_table(over_training.table(e.circuits), e.sizes)
        row = sizes[sizes["task"] == task]
        if row.empty:
            return "can't tell", "no circuits of the task"
        return _correlated(stability.Correlation(**row.iloc[0].drop("task").to_dict()))
    return test


def _fluctuates(e: Evidence) -> tuple[str, str]:
    frame = over_training.table(e.circuits)
    ratio = frame[frame["found"]].groupby(["model", "task"])["edges"].agg(lambda s: s.max() / s.min())
    if ratio.empty:
        return "can't tell", "no circuits"
    varies = (ratio > 1.5).mean()
    answer = "holds" if varies > 0.75 else "does not hold" if varies < 0.25 else "can't tell"
    return answer, f"largest over smallest circuit of a run and task: {ratio.median():.1f} in the median, up to {ratio.max():.1f}"


# ------------------------------------------------------------------ Pythia's own numbers

def _head_drops(e: Evidence) -> tuple[str, str]:
    """Head 4.6 of pythia-160m: does its largest score of a kind at 2e10 tokens and before fall to less than half by 4e10?"""
    mine = [one for one in e.heads if one.model == "pythia-160m"]
    before, after = [o for o in mine if o.tokens_seen <= 2e10], [o for o in mine if o.tokens_seen >= 4e10]
    if not before or not after:
        return "can't tell", "pythia-160m is not among the models"
    row = 4 * mine[0].n_heads + 6
    falls = {}
    for kind in ("induction", "copy"):
        falls[kind] = max(o.score(kind)[row] for o in after) / max(max(o.score(kind)[row] for o in before), 1e-9)
    said = ", ".join(f"{TITLES[kind].lower()} {value:.2f}" for kind, value in falls.items())
    return ("holds" if min(falls.values()) < 0.5 else "does not hold"), f"largest score after over before: {said}"


def _logit_difference(model: str, expected: Mapping[int, float], tolerance: float = 0.15) -> Test:
    """Is the mean IOI logit difference at these steps what the authors print, to within `tolerance` of it?"""
    def test(e: Evidence) -> tuple[str, str]:
        mine = e.answers[(e.answers["task"] == "ioi") & (e.answers["model"] == model) & e.answers["step"].isin(expected)]
        if mine.empty:
            return "can't tell", f"{model} is not among the models"
        mean = mine.groupby("step")["metric"].mean()
        off = {step: value / expected[step] - 1 for step, value in mean.items()}
        said = ", ".join(f"step {step}: {value:.2f} (theirs {expected[step]:g})" for step, value in mean.items())
        return ("holds" if max(map(abs, off.values())) < tolerance else "does not hold"), said
    return test


_CHAPTER = {name: f"/notebooks/{name}" for name in ("abilities", "circuits-over-training", "components", "after-formation", "algorithm", "stability")}

# (what is claimed, where, the chapter that tests it, how it is asked); claims in our words, see Tigges et al. 2024
CLAIMS: tuple[tuple[str, str, str, Test], ...] = (
    *((f"{_NAMES[task]}: the ability appears after similar numbers of tokens at every size", "abstract; Figure 1", _CHAPTER["abilities"], _ability(task)) for task in _NAMES),
    ("Learning does not go on getting faster with size: the largest models are like the second smallest", "Figure 1", _CHAPTER["abilities"], _learning_speed),
    *((f"{TITLES[kind].split(' (')[0]} heads form after similar numbers of tokens at every size", "abstract; Figure 2", _CHAPTER["components"], _component(kind))
      for kind in ("induction", "successor", "copy", "copy_suppression")),
    ("Induction heads form near 2 billion tokens", "Figure 2", _CHAPTER["components"], _tokens_of("induction", 1e9, 4e9)),
    ("Successor heads form at 2 to 5 billion tokens", "Figure 2", _CHAPTER["components"], _tokens_of("successor", 2e9, 5e9)),
    ("Name movers form at 2 to 8 billion tokens", "Figure 2", _CHAPTER["components"], _tokens_of("copy", 2e9, 8e9)),
    ("Copy suppression forms at 2 to 8 billion tokens", "Figure 2", _CHAPTER["components"], _tokens_of("copy_suppression", 2e9, 8e9)),
    ("Successor heads are weaker later", "Figure 2", _CHAPTER["after-formation"], _successors_fade),
    ("Copy suppression heads help IOI (in GPT-2 they work against it)", "section 4.2", _CHAPTER["algorithm"], _suppression_helps),
    ("At most 5 % of the edges keep 80 % of a task", "section 2", _CHAPTER["circuits-over-training"], _small_circuits),
    ("Heads take up a job and lose it again", "abstract; section 4.1", _CHAPTER["algorithm"], _heads_change),
    ("Name movers and copy suppression explain more than 70 % of the direct effect at all checkpoints", "Figure 4 B", _CHAPTER["algorithm"], _share("direct")),
    ("S-inhibition explains more than 50 % of what steers them", "Figure 4 C", _CHAPTER["algorithm"], _share("steering")),
    ("Induction and duplicate-token heads explain more than 50 % of what informs those", "Figure 4 D", _CHAPTER["algorithm"], _share("tertiary")),
    ("The IOI circuit of one checkpoint works at another of the run", "ours; after section 4.2", _CHAPTER["algorithm"], _moved("circuit", "same run")),
    ("The algorithm (the classes, on other heads) of one checkpoint works at another of the run", "abstract; ours", _CHAPTER["algorithm"], _moved("classes", "same run")),
    ("The algorithm of one size works in another", "abstract; ours", _CHAPTER["algorithm"], _moved("classes", "other size")),
    ("Circuits of larger models are steadier", "Figure 5", _CHAPTER["stability"], _steadier),
    *((f"{_NAMES[task]}: the circuit grows with the model", "section 4.3", _CHAPTER["stability"], _larger(task)) for task in _NAMES),
    ("The size of a circuit fluctuates during training", "abstract", _CHAPTER["circuits-over-training"], _fluctuates),
    ("Head 4.6 of pythia-160m loses its job near 30 billion tokens", "section 4.1", _CHAPTER["after-formation"], _head_drops),
    ("IOI logit difference of pythia-160m at the end: 4.13", "authors' notebook", _CHAPTER["abilities"], _logit_difference("pythia-160m", {143000: 4.134})),
    ("IOI logit difference of pythia-410m: 1.81 at step 4,000 and 3.28 at 5,000", "authors' notebook", _CHAPTER["abilities"],
     _logit_difference("pythia-410m", {4000: 1.81, 5000: 3.28})),
    ("IOI logit difference of pythia-2.8b: 1.89 at step 3,000, 3.5 at 10,000, 3.67 at the end", "authors' notebook", _CHAPTER["abilities"],
     _logit_difference("pythia-2.8b", {3000: 1.89, 10000: 3.5, 143000: 3.67})),
)
