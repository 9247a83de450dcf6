"""What the circuits of seeds keep in each other, under which numbers of heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from circuitbook.figures.panels import PAGE, handles_in, panel_grid
from circuitbook.figures.showing import nothing
from circuitbook.figures.style import CURVES, TASK_TITLES
from circuitbook.studies.relabelling import CIRCUIT, OTHER_TASK, REWIRED, Relabelled

RANGE = (-0.12, 1.12)  # what is beyond is drawn at its ends
MARKS = {  # (what is put there, under which numbers): its name, marker, colour, size
    (CIRCUIT, "own"): ("the target's own circuit", "|", "#000000", 13),
    (OTHER_TASK, "best"): ("other tasks, best numbers", "+", "#777777", 7),
    (REWIRED, "best"): ("rewired, best numbers", "x", CURVES[1], 6),
    (CIRCUIT, "old"): ("old numbers", "o", CURVES[0], 6),
    (CIRCUIT, "roles"): ("numbers by roles", "^", CURVES[2], 6),
    (CIRCUIT, "best"): ("best numbers", "D", CURVES[3], 5),
}


def number_panels(results: Sequence[Relabelled]) -> Figure:
    """A panel for each task: a row for each circuit and the seed it is put to (in brackets the
    circuit's edges), a mark for what it keeps under each numbers, and for what is compared with it.
    """
    tasks = sorted({one.task for one in results}, key=list(TASK_TITLES).index)
    if not tasks:
        return nothing("there are no two seeds with circuits")
    circuits = [one for one in results if one.what == CIRCUIT]
    most = max(sum(one.task == task for one in circuits) for task in tasks)
    size = (PAGE / min(2, len(tasks)), 1.0 + 0.27 * most)
    fig, axes = panel_grid(len(tasks), min(2, len(tasks)), size, sharex=True)
    for ax, task in zip(axes.flat, tasks, strict=False):
        _panel(ax, [one for one in results if one.task == task])
        ax.set_title(TASK_TITLES[task])
    handles = handles_in(axes.flat)
    names = [name for name, *_ in MARKS.values() if name in handles]
    fig.legend([handles[name] for name in names], names, loc="outside upper center", ncols=3)
    fig.supxlabel("faithfulness on fresh prompts in the seed it is put to", fontsize=10)
    return fig


def _panel(ax: Axes, results: Sequence[Relabelled]) -> None:
    circuits = [one for one in results if one.what == CIRCUIT]
    rows = {(one.source, one.target): row for row, one in enumerate(circuits)}
    for one in circuits:
        ends = np.clip([one.kept("old")[0], one.kept("best")[0]], *RANGE)
        ax.plot(ends, [rows[one.source, one.target]] * 2, color="#bbbbbb", zorder=1)
    for (what, numbers), (name, marker, colour, size) in MARKS.items():
        shown = [one for one in results if one.what == what]
        ax.plot(
            np.clip([one.kept(numbers)[0] for one in shown], *RANGE),
            [rows[one.source, one.target] for one in shown],
            linestyle="",
            marker=marker,
            color=colour,
            markersize=size,
            markerfacecolor="none" if numbers in ("old", "roles") else colour,
            label=name if shown else None,
        )
    names = [f"{one.source} ({one.edges}) → {one.target}" for one in circuits]
    ax.set_yticks(range(len(circuits)), names, fontsize=8)
    ax.set_ylim(len(circuits) - 0.4, -0.6)
    ax.set_xlim(RANGE[0] - 0.03, RANGE[1] + 0.03)
    ax.set_xticks([0, 0.5, 1], ["0%", "50%", "100%"])
