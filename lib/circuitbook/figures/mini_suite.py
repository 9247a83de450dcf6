"""The figure of the chapter on the mini suite: loss over training."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import FuncFormatter

from circuitbook.figures.panels import subplots
from circuitbook.figures.style import curve, legend_label, model_style, tokens_axis
from circuitbook.wording import short_number


def losses(logs: Mapping[str, pd.DataFrame], first_tokens: int = 64 * 2048) -> plt.Figure:
    """Loss on the training text (left) and on fresh text (right) over tokens seen.

    logs: {model: columns tokens_seen, training_loss, fresh_loss}, of which the last is missing
    where there is no checkpoint. first_tokens: where the right panel's log axis begins.
    """
    fig, (training, fresh) = subplots(1, 2, figsize=(8.4, 3.1), sharey=True)
    for name, log in logs.items():
        seen = log[log["tokens_seen"] > 0]
        style = model_style(name)
        training.plot(
            seen["tokens_seen"],
            seen["training_loss"],
            color=style["color"],
            linewidth=1,
            linestyle=style.get("linestyle", "-"),
            label=legend_label(name),
        )
        curve(fresh, log.dropna(subset=["fresh_loss"]), "fresh_loss", name)
    training.set_xscale("log")
    training.xaxis.set_major_formatter(FuncFormatter(short_number))
    training.set_xlabel("tokens seen")
    training.set_ylabel("nats per token")
    training.set_title("loss on the training text")
    tokens = next(iter(logs.values()))["tokens_seen"].drop_duplicates()
    tokens_axis(fresh, tokens[(tokens == 0) | (tokens >= first_tokens)])
    fresh.set_title("loss on fresh text")
    fresh.legend(ncols=2, fontsize=8)
    return fig
