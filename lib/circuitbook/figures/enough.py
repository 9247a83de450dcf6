"""What circuits are enough for, circuit by circuit."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from circuitbook.figures.matrices import matrices
from circuitbook.figures.panels import PAGE
from circuitbook.studies.findings.enough import per_circuit


def enough_matrices(enough: pd.DataFrame) -> Figure:
    """A panel per measure, a row per circuit, a column per ablation; 1 is what the model does.

    enough: of `measure_enough`. In the panel of the answer the first column is the model's own.
    """
    frames = {title: frame for title, frame in per_circuit(enough).items() if len(frame)}
    height = 1.2 + 0.19 * max((len(frame) for frame in frames.values()), default=0)
    figure = matrices(
        frames,
        label="share of what the model does",
        size=PAGE / 3,
        height=height,
    )
    for ax in figure.axes[1 : len(frames)]:
        ax.set_yticklabels([])
    return figure
