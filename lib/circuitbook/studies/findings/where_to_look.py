"""Does it pay to choose checkpoints by what was seen, and not evenly? Beside hindsight."""

from __future__ import annotations

import numpy as np
import pandas as pd

from circuitbook.stats import bootstrap_draws, interval
from circuitbook.wording import counted


def choice_in_words(table: pd.DataFrame, n: int) -> str:
    """What n checkpoints miss of all, chosen three ways; table: of `where_to_look.compared`."""
    if table.empty:
        return ""
    missed = {name: table[name].mean() for name in ("bisection", "even", "best")}
    gain = (table["even"] - table["bisection"]).to_numpy(float)
    low, high = (-np.inf, np.inf)
    if len(gain) > 1:
        low, high = map(float, interval(bootstrap_draws(len(gain)) @ gain))
    if low > 0:
        verdict = "It pays"
    elif high < 0:
        verdict = "It does not pay: evenly spread checkpoints miss less"
    else:
        verdict = "Here we see no difference"
    return (
        f"**{verdict}.** With {counted(n, 'checkpoint')} of a run, chosen one by one where the "
        "circuits had changed most, the circuit at any checkpoint differs from the one last "
        f"measured by {missed['bisection']:.2f} on average (1 less Jaccard, mean over "
        f"{counted(len(table), 'run')}); evenly spread, by {missed['even']:.2f}; chosen by one who "
        f"had seen all, by {missed['best']:.2f}."
    )
