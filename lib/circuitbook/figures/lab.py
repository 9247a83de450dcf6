"""The lab: a model in the page, run by the reader's own browser, at every step of its training.

Here are its data, and a still of it; `js/lab.js` draws it, `js/engine.js` runs the models, whose
weights are files beside the site (`lab_weights`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from transformers import PreTrainedTokenizerBase

from circuitbook.figures.algorithm import CLASS_COLOURS
from circuitbook.figures.explorer import Roles, explorer_data
from circuitbook.figures.lab_weights import (
    file_size,
    key_of,
    shape_of,
    shipped,
    weights_script,
)
from circuitbook.figures.panels import PAGE, TextFigure
from circuitbook.figures.scripts import stylesheet
from circuitbook.figures.showing import image_of
from circuitbook.figures.style import CURVES, tokens_axis
from circuitbook.figures.views import INPUTS, in_the_book, place_of, script_json, view
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.lab import Example, Seen, examples, reference
from circuitbook.suites import Suite
from circuitbook.wording import CLASS_DOES

STILL = (
    "What the lab shows at its start. Bars: the most probable next words. Curves: the logit "
    "difference of the answers over training, for the sentence and the other one. Below, the "
    "attention pattern of every head."
)


def lab(
    suite: Suite,
    seen: Seen,
    circuits: Sequence[CircuitResult] = (),
    roles: Roles | None = None,
    *,
    name: str = "lab",
    each: int = 4,
) -> HTML:
    """The lab over the checkpoints of a suite that lie beside the site.

    seen: of the model that it starts with, at its last checkpoint; until the reader starts, and
    without scripts, the page shows a still of it. circuits: what the search found, of which the
    lab's models and checkpoints are kept; without any, there is no circuit to change. roles: the
    classes of heads, as `circuit_explorer` takes them. name: keeps apart the views of a page in its
    address. each: examples of every task. In a notebook, where there is no site, it brings that
    checkpoint alone. ValueError if the suite has models that the lab cannot run.
    """
    last = suite.steps(seen.model)[-1]
    tokenizer = suite.checkpoint(seen.model, last).load().tokenizer
    return lab_view(
        suite,
        lab_checkpoints(suite, seen.model),
        {"model": seen.model, "step": last},
        name=name,
        label="The lab: a model, its sentences and its heads",
        tokenizer=tokenizer,
        examples=examples(tokenizer, each),
        circuits=circuits,
        roles=roles,
        instead=image_of(still(seen), STILL),
    )


def lab_view(
    suite: Suite,
    checkpoints: Mapping[str, Sequence[int]],
    start: Mapping[str, Any],
    *,
    name: str,
    label: str,
    tokenizer: PreTrainedTokenizerBase,
    instead: str,
    examples: Sequence[Example] = (),
    circuits: Sequence[CircuitResult] = (),
    roles: Roles | None = None,
    shown: Sequence[str] | None = None,
    full: str | None = None,
) -> HTML:
    """The lab over some checkpoints, {model: steps}, in a state to begin with.

    start: "model" and "step", and more of the state if it is not that of the first example: see
    `js/lab-state.js`. circuits, roles: see `lab`. shown: the parts that the reader sees, None: all
    (`js/lab-controls.js`). full: address of a page that has all of them. instead: HTML in its place
    until it is started.
    """
    settings = script_json(
        {
            "name": name,
            "suite": suite.name,
            "models": {model: _model(suite, model, steps) for model, steps in checkpoints.items()},
            "start": dict(start),
            "words": tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))),
            "special": tokenizer.all_special_tokens,
            "examples": _distinct(examples),
            "reference": reference(tokenizer),
            "circuits": _circuits(circuits, roles, checkpoints),
            "inputs": INPUTS,
            "classes": CLASS_COLOURS if roles else {},
            "does": CLASS_DOES if roles else {},
            "shown": shown,
            "full": full,
        }
    )
    page = view(
        place_of("lab", name, settings),
        label,
        settings,
        ["lab-engine.js", "circuit-drawing.js", "lab.js"],
        style=(stylesheet("explorer.css") if circuits else "") + stylesheet("lab.css"),
        instead=instead,
    )
    if in_the_book():
        return page
    model, step = start["model"], start["step"]
    brought = weights_script(suite.checkpoint(model, step).fetch(), key_of(model, step))
    return HTML(f"<script>{brought}</script>{page.data}")


def lab_checkpoints(suite: Suite, start: str) -> dict[str, tuple[int, ...]]:
    """What the lab can run, {model: steps}.

    In the book all that lies beside the site; in a notebook the last checkpoint of the model that
    it starts with.
    """
    if not in_the_book():
        return {start: tuple(suite.steps(start)[-1:])}
    return {model: tuple(steps) for model, steps in shipped(suite).items()}


def _circuits(
    circuits: Sequence[CircuitResult],
    roles: Roles | None,
    checkpoints: Mapping[str, Sequence[int]],
) -> dict[str, Any] | None:
    """Those of the checkpoints that the lab has, as `explorer_data` gives them; None of none."""
    kept = [found for found in circuits if found.step in checkpoints.get(found.model, ())]
    return explorer_data(kept, roles) if kept else None


def _distinct(found: Sequence[Example]) -> list[dict[str, str]]:
    return [asdict(example) for example in dict.fromkeys(found)]


def _model(suite: Suite, model: str, steps: Sequence[int]) -> dict[str, Any]:
    """What the page knows of a model before any weights are there."""
    folder = suite.checkpoint(model, steps[-1]).fetch()
    return {
        "shape": shape_of(folder),
        "steps": list(steps),
        "tokens": [suite.checkpoint(model, step).tokens_seen or 0 for step in steps],
        "bytes": file_size(folder),
    }


# ------------------------------------------------------------------ a still


def still(seen: Seen, most: int = 6) -> Figure:
    """What the lab shows at its start: the next word, the answer over training, all heads."""
    layers, heads = seen.patterns.shape[:2]
    fig = plt.figure(FigureClass=TextFigure, figsize=(PAGE, 2.4 + 1.25 * layers))
    top, below = fig.subfigures(2, 1, height_ratios=[2.4, 1.25 * layers], squeeze=False)[:, 0]
    bars, curve = top.subplots(1, 2)
    _next_words(bars, seen, most)
    _over_training(curve, seen)
    maps = below.subplots(layers, heads, squeeze=False)
    for (layer, head), ax in np.ndenumerate(maps[::-1]):
        ax.imshow(np.sqrt(seen.patterns[layer, head]), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        ax.set_title(f"{layer}.{head}", fontsize=8)
        ax.set(xticks=[], yticks=[])
    return fig


def _next_words(ax: Axes, seen: Seen, most: int) -> None:
    words = seen.next_words.iloc[:most][::-1]
    ax.barh(range(len(words)), words, color=CURVES[0])
    ax.set_yticks(range(len(words)), words.index)
    ax.set_xlim(0, 1)
    ax.set_xlabel("probability")
    ax.set_title("the next word")


def _over_training(ax: Axes, seen: Seen) -> None:
    for column, label, colour, style in (
        ("own", "sentence", CURVES[0], "o-"),
        ("other", "other sentence", CURVES[1], "s--"),
    ):
        ax.plot(seen.curve["tokens_seen"], seen.curve[column], style, color=colour, label=label)
    ax.axhline(0, color="#888888", linewidth=0.8)
    tokens_axis(ax, seen.curve["tokens_seen"])
    ax.set_title(f"logit difference, {seen.example.right} less {seen.example.wrong}")
    ax.legend(fontsize=8)
