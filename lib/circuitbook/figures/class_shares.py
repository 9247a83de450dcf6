"""How much the classes, and where heads look, explain: the book's Figure 4 B, C and D, and bars."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd

from circuitbook.figures.algorithm import share_panels, stacked_shares
from circuitbook.studies.class_shares import FUNCTIONS
from circuitbook.studies.head_classes import CLAIMED, PANELS

WAYS_TO_SUM_UP = {  # form of the share: title of its column
    "absolute": "our reading: |e|, in the circuit",
    "signed": "signed e, in the circuit",
    "all heads": "|e|, all heads",
}


def figure_4(shares: pd.DataFrame, models: list[str]) -> plt.Figure:
    """Shares of the stages B, C and D over training, summed up in three ways. See `share_table`."""
    stages = {stage: f"{panel}: {stage}" for stage, panel in PANELS.items()}
    return share_panels(shares, models, stages, WAYS_TO_SUM_UP, CLAIMED)


def function_bars(functions: pd.DataFrame, models: list[str]) -> plt.Figure:
    """The helping direct effect at each checkpoint, split by where heads look.

    functions: see `function_shares`.
    """
    return stacked_shares(functions, FUNCTIONS, models, "of the helping\ndirect effect")
