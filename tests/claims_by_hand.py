"""Evidence made by hand, of which it is known what each claim must be answered.

A function per kind of claim: it takes "yes", "no" or "open" and gives the evidence with that
answer. `CASES` has one for every key of the claims' table.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from handmade import scores_of

from circuitbook import load_suite
from circuitbook.circuits.circuit import NOT_DONE, Circuit
from circuitbook.model.graph import Graph
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.claims.evidence import Evidence
from circuitbook.studies.head_classes import CLASSES, STAGES, HeadClasses
from circuitbook.studies.head_scores import HeadScores
from circuitbook.studies.transfer import TRANSFER_COLUMNS
from circuitbook.studies.turnover import TURNOVER_COLUMNS

SIZES = tuple(f"size{i}" for i in range(1, 7))  # small to large
PYTHIA = ("pythia-70m", "pythia-160m", "pythia-410m")
TOKENS = 2.0 ** np.arange(0, 12, 0.125)  # of checkpoints that lie close together
PROMPTS = 40
WIDE = Graph(4, 4)
DEEP = Graph(6, 2)


def evidence(**parts: object) -> Evidence:
    """Evidence of `SIZES` with nothing measured but these."""
    nothing = Evidence(
        suite=load_suite("mini"),
        main=SIZES,
        seeds=(),
        sizes={name: 1e6 * 2**i for i, name in enumerate(SIZES)},
        answers=pd.DataFrame({"model": [], "task": [], "step": [], "metric": []}),
        heads=(),
        circuits=(),
        head_classes=(),
        transfers=pd.DataFrame(columns=TRANSFER_COLUMNS),
        turnover=pd.DataFrame(columns=TURNOVER_COLUMNS),
    )
    return dataclasses.replace(nothing, **parts)


def noise(size: int | tuple[int, ...], deviation: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, deviation, size)


# ---- when


def dates(answer: str) -> dict[str, float]:
    """Tokens at which each size gets there; the smallest, which does not count, is late always."""
    last = {"yes": 100, "no": 800, "open": 205}[answer]
    return dict.fromkeys(SIZES, 100.0) | {SIZES[0]: 1500.0, SIZES[-1]: float(last)}


def answers(task: str, of_sizes: dict[str, float]) -> pd.DataFrame:
    """A step up from 0 to 4 at these tokens."""
    frames = []
    for i, (name, date) in enumerate(of_sizes.items()):
        for step, tokens in enumerate(TOKENS):
            metric = (4.0 if tokens >= date else 0.0) + noise(PROMPTS, 0.3, 1000 * i + step)
            about = {"model": name, "task": task, "step": step, "tokens_seen": tokens}
            frames.append(pd.DataFrame(about | {"prompt": range(PROMPTS), "metric": metric}))
    return pd.concat(frames, ignore_index=True)


def with_abilities(task: str) -> Callable[[str], Evidence]:
    return lambda answer: evidence(answers=answers(task, dates(answer)))


def learning(answer: str) -> Evidence:
    second = {"yes": 100.0, "no": 800.0, "open": 200.0}[answer]
    return evidence(answers=answers("ioi", dates("yes") | {SIZES[1]: second}))


def forming(kind: str, of_models: dict[str, float], unit: float = 1.0) -> list[HeadScores]:
    """A head of a kind is there from these tokens on."""
    return [
        dataclasses.replace(
            scores_of(name, step, **{kind: [0.0, 0.9 if tokens * unit >= date else 0.0, 0.0, 0.0]}),
            tokens_seen=tokens * unit,
        )
        for name, date in of_models.items()
        for step, tokens in enumerate(TOKENS)
    ]


def with_heads(kind: str) -> Callable[[str], Evidence]:
    return lambda answer: evidence(heads=forming(kind, dates(answer)))


def of_pythia(kind: str, first: float, last: float) -> Callable[[str], Evidence]:
    def made(answer: str) -> Evidence:
        date = {"yes": (first * last) ** 0.5, "no": 8 * last, "open": last}[answer]
        heads = forming(kind, dict.fromkeys(PYTHIA, date), unit=1e8)
        return evidence(suite=load_suite("pythia"), main=PYTHIA, heads=heads)

    return made


# ---- what becomes of heads


def fading(answer: str) -> Evidence:
    """Twenty checkpoints with the head; the last ten at this share of the first, and uneven."""
    share, uneven = {"yes": (0.5, 0.02), "no": (1.0, 0.02), "open": (0.9, 0.15)}[answer]
    heads = []
    for k, name in enumerate(SIZES):
        levels = np.repeat([0.8, 0.8 * share], 10) + noise(20, uneven, k)
        for step, level in enumerate(np.clip(levels, 0, 1)):
            heads.append(scores_of(name, step, successor=[0.1, float(level), 0.0, 0.0]))
    return evidence(heads=heads)


def losing(answer: str) -> Evidence:
    """A head that looks on, and then does not, or does, or does on every second item or so."""
    heads = []
    for k, name in enumerate(SIZES):
        before = scores_of(name, 1, induction=[0.8, 0.0, 0.0, 0.0])
        after = scores_of(name, 2, induction=[{"yes": 0.0}.get(answer, 0.8), 0.0, 0.0, 0.0])
        if answer == "open":
            after.arrays["induction"][0] = 0.25 + noise(20, 0.2, k)
        heads += [before, after]
    return evidence(heads=heads)


def head_46(answer: str) -> Evidence:
    """Head 4.6 of twelve a layer; without a change, copies nothing all the time."""
    heads = []
    for step, tokens in enumerate((1e10, 2e10, 4e10, 6e10)):
        scores = np.zeros((5 * 12, PROMPTS))
        scores[54] = 0.8 if tokens < 3e10 or answer == "no" else 0.1
        if answer == "open" and tokens > 3e10:
            scores[54] = 0.4 + noise(PROMPTS, 0.4, step)
        copy = np.zeros_like(scores)
        heads.append(
            HeadScores("pythia-160m", step, tokens, 12, {"induction": scores, "copy": copy})
        )
    return evidence(suite=load_suite("pythia"), main=PYTHIA, heads=heads)


# ---- classes of heads


def classes_of(
    model: str, step: int, members: dict[str, Sequence[int]], **effects: np.ndarray
) -> HeadClasses:
    """Four heads; effects: {stage: [head, prompt]}. Clean 3, corrupted 1: 3 + 2e has effect e."""
    return HeadClasses(
        model=model,
        step=step,
        tokens_seen=step * 1000,
        n_heads=2,
        clean=np.full(PROMPTS, 3.0),
        corrupted=np.full(PROMPTS, 1.0),
        patched={stage: 3 + 2 * effect for stage, effect in effects.items()},
        classes={name: np.isin(np.arange(4), members.get(name, [])) for name in CLASSES},
        in_circuit=np.ones(4, bool),
        receivers={},
        signals=np.full((4, 3), np.nan),
        min_effect=0.01,
        why={},
    )


def even(*heads: float) -> np.ndarray:
    """These effects of four heads, the same on every prompt."""
    return np.tile(np.array(heads)[:, None], (1, PROMPTS))


def helping(answer: str) -> Evidence:
    """Of heads that suppress, by checkpoint; where we can't tell, they help as often as not."""
    signs = {"yes": [-1, -1], "no": [1, 1], "open": [-1, 1]}[answer] * 4
    return evidence(
        head_classes=[
            classes_of(
                name, step, {"copy suppression": [1]}, direct=even(0, 0.3 * sign, -0.1, -0.1)
            )
            for name in SIZES
            for step, sign in enumerate(signs, 1)
        ]
    )


def having(answer: str) -> Evidence:
    """A head for each step of the algorithm, or none, or one whose effect is hardly any."""
    everyone = {"name mover": [3], "S-inhibition": [2], "induction": [1]}
    effects = {stage: even(-0.1, -0.4, -0.4, -0.4) for stage in STAGES}
    if answer == "open":
        effects = {stage: -0.01 + noise((4, PROMPTS), 0.05) for stage in STAGES}
        effects = {stage: e - e.mean(1, keepdims=True) - 0.01 for stage, e in effects.items()}
    members = {} if answer == "no" else everyone
    return evidence(head_classes=[classes_of(name, 1, members, **effects) for name in SIZES])


def sharing(stage: str, claimed: float) -> Callable[[str], Evidence]:
    """Two heads, of which the first is of a class of the stage and has this share of the effect."""

    def made(answer: str) -> Evidence:
        share = {"yes": claimed + 0.2, "no": claimed - 0.3, "open": claimed}[answer]
        found = []
        for k, name in enumerate(SIZES):
            effect = -even(share, 1 - share, 0, 0)
            effect = effect + noise(effect.shape, 0.1, k) * np.array([[1], [1], [0], [0]])
            if answer == "open":
                effect[:2] -= effect[:2].mean(1, keepdims=True) + np.array([[share], [1 - share]])
            stages = {"direct": even(-1, -1, 0, 0)} | {stage: effect}
            found += [classes_of(name, step, {STAGES[stage][0]: [0]}, **stages) for step in (1, 2)]
        return evidence(head_classes=found)

    return made


# ---- circuits


def circuit(graph: Graph, edges: int, curve: pd.DataFrame | None = None) -> Circuit:
    """The first so many edges of a graph, alive or not."""
    mask = np.zeros(graph.mask.shape, bool)
    for src, dst in list(graph.edges)[:edges]:
        mask[src, dst] = True
    return Circuit(graph, mask, faithfulness=0.8, curve=curve)


def searched(model: str, step: int, found: Circuit, task: str = "ioi") -> CircuitResult:
    return CircuitResult(model, step, step * 1000, task, found, 0.0)


def small(answer: str) -> Evidence:
    """A few of the edges, or many; where we can't tell, many on other prompts."""
    few, many = WIDE.n_edges // 50, WIDE.n_edges // 3
    curve = None
    if answer == "open":
        curve = pd.DataFrame({"edges": [few, many], "normalised": [0.8, 1.0]})
        curve = curve.assign(ratio=curve["normalised"], low=[0.6, 1.0], high=[1.0, 1.0])
    edges = many if answer == "no" else few
    results = [
        searched(name, step, circuit(WIDE, edges, curve)) for name in SIZES for step in range(1, 9)
    ]
    not_done = dataclasses.replace(circuit(WIDE, 0), reason=NOT_DONE, faithfulness=None)
    return evidence(circuits=[searched(SIZES[0], 0, not_done), *results])


def chain(nodes: int) -> Circuit:
    """input -> m0 -> m1 ... -> logits, so many MLPs."""
    names = ["input", *(f"m{i}" for i in range(nodes)), "logits"]
    mask = np.zeros(DEEP.mask.shape, bool)
    for pair in itertools.pairwise(names):
        mask[DEEP.edge("->".join(pair))] = True
    return Circuit(DEEP, mask, faithfulness=0.8)


def growing(task: str) -> Callable[[str], Evidence]:
    def made(answer: str) -> Evidence:
        lengths = {"yes": [1, 1, 2, 2, 3, 5], "no": [6, 6, 5, 5, 4, 2], "open": [3, 4, 2, 4, 2, 4]}
        results = [
            searched(name, step, chain(length), task)
            for name, length in zip(SIZES, lengths[answer], strict=True)
            for step in (1, 2)
        ]
        return evidence(circuits=results)

    return made


def steady(answer: str) -> Evidence:
    parameters = 2.0 ** np.arange(6)
    means = {
        "yes": 0.3 + 0.01 * parameters,
        "no": 0.8 - 0.01 * parameters,
        "open": np.array([0.5, 0.6, 0.4, 0.6, 0.4, 0.55]),
    }[answer]
    rows = [
        {"model": name, "task": task, "step": step, "edges": mean + off}
        for name, mean in zip(SIZES, means, strict=True)
        for task in ("ioi", "sva")
        for step, off in enumerate((-0.001, 0.001, 0.0))
    ]
    return evidence(turnover=pd.DataFrame(rows))


def unsteady_sizes(answer: str) -> Evidence:
    """Sizes of a run's circuits; where we can't tell, they stay and then jump once or twice."""
    series = {"yes": [8, 16] * 6, "no": [9] * 12, "open": [8] * 9 + [13, 8, 8]}[answer]
    results = [
        searched(name, step, circuit(WIDE, edges))
        for name in SIZES
        for step, edges in enumerate(series, 1)
    ]
    return evidence(circuits=results)


def moving(what: str, null: str, other_size: bool) -> Callable[[str], Evidence]:
    """Own circuits keep all, shuffled ones a fifth; what is moved keeps this much."""

    def made(answer: str) -> Evidence:
        rows = []
        places = [(name, step) for name in SIZES for step in ((9,) if other_size else (7, 8, 9))]
        for source, target in itertools.product(places, places):
            if other_size or source[0] == target[0]:
                odd = target[0] == SIZES[-1]  # whether it counts depends on who is drawn
                kept = {"yes": 0.97, "no": 0.3, "open": 0.5 if odd else 0.97}[answer]
                kept = 1.0 if source == target else kept
                rows.append((*source, *target, what, kept))
                if source == target:
                    rows.append((*source, *target, null, 0.2))
        names = ["source", "source_step", "target", "target_step", "what", "faithfulness"]
        return evidence(transfers=pd.DataFrame(rows, columns=names).assign(task="ioi"))

    return made


def printed(model: str, expected: dict[int, float]) -> Callable[[str], Evidence]:
    def made(answer: str) -> Evidence:
        share, uneven = {"yes": (1.0, 0.1), "no": (0.3, 0.1), "open": (0.85, 0.4)}[answer]
        frames = []
        for k, (step, theirs) in enumerate(expected.items()):
            values = noise(PROMPTS, uneven, k)
            values += theirs * share - values.mean()
            about = {"model": model, "task": "ioi", "step": step, "tokens_seen": step}
            frames.append(pd.DataFrame(about | {"prompt": range(PROMPTS), "metric": values}))
        frames.append(frames[0].assign(step=1, metric=0.0))
        return evidence(suite=load_suite("pythia"), main=PYTHIA, answers=pd.concat(frames))

    return made


TASKS = ("ioi", "gendered_pronoun", "greater_than", "sva")
CASES: dict[str, Callable[[str], Evidence]] = {
    **{f"ability {task}": with_abilities(task) for task in TASKS},
    "learning speed": learning,
    **{
        f"component {kind}": with_heads(kind)
        for kind in ("induction", "successor", "copy", "copy_suppression")
    },
    "tokens induction": of_pythia("induction", 1e9, 4e9),
    "tokens successor": of_pythia("successor", 2e9, 5e9),
    "tokens copy": of_pythia("copy", 2e9, 8e9),
    "tokens copy_suppression": of_pythia("copy_suppression", 2e9, 8e9),
    "successors fade": fading,
    "suppression helps": helping,
    "small circuits": small,
    "heads change": losing,
    "heads exist": having,
    "share direct": sharing("direct", 0.7),
    "share steering": sharing("steering", 0.5),
    "share tertiary": sharing("tertiary", 0.5),
    "circuit moves": moving("circuit", "shuffled", other_size=False),
    "algorithm moves": moving("classes", "other classes", other_size=False),
    "algorithm crosses sizes": moving("classes", "other classes", other_size=True),
    "steadier": steady,
    **{f"larger {task}": growing(task) for task in TASKS},
    "fluctuates": unsteady_sizes,
    "head drops": head_46,
    "printed pythia-160m": printed("pythia-160m", {143000: 4.134}),
    "printed pythia-410m": printed("pythia-410m", {4000: 1.81, 5000: 3.28}),
    "printed pythia-2.8b": printed("pythia-2.8b", {3000: 1.89, 10000: 3.5, 143000: 3.67}),
}
