"""What the chapter on the mini suite shows of it: sizes, language, training, and its two heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from circuitbook.model.config import read_config
from circuitbook.model.shape import count_parameters, shape_of
from circuitbook.suites.suite import Checkpoint, Suite
from circuitbook.tasks.sequences import repeated_sequences
from circuitbook.tasks.stories.documents import FAMILIES
from circuitbook.tasks.stories.world import World
from circuitbook.wording import in_markdown, short_number

Logs = Mapping[str, pd.DataFrame]  # {model: its training.csv}

# Columns of a training log, as the chapter calls them.
SCORES = {
    "ioi": "IOI",
    "ioi_accuracy": "IOI accuracy",
    "gendered_pronoun": "Pronoun",
    "greater_than": "Greater-Than",
    "sva_accuracy": "SVA accuracy",
    "repetition": "repetition",
}


# What we set out for: every model was to end above these.
BARS = {
    "ioi": 3.0,
    "gendered_pronoun": 3.0,
    "greater_than": 0.7,
    "sva_accuracy": 0.9,
    "ioi_accuracy": 0.95,
}


# ------------------------------------------------------------------ the models


def last_checkpoint(suite: Suite, name: str) -> Checkpoint:
    """A model's last checkpoint."""
    return suite.checkpoint(name, suite.steps(name)[-1])


def _tokens_seen(checkpoint: Checkpoint) -> int:
    if checkpoint.tokens_seen is None:
        raise ValueError(f"suite {checkpoint.suite} does not say how many tokens a step has")
    return checkpoint.tokens_seen


def models_table(suite: Suite) -> pd.DataFrame:
    """Layers, heads, widths, parameters and tokens seen: a row for each model."""
    rows = {}
    for name in suite.models:
        checkpoint = last_checkpoint(suite, name)
        config = read_config(checkpoint.fetch())
        shape = shape_of(config)
        rows[name] = {
            "layers": shape.n_layers,
            "heads a layer": shape.n_heads,
            "width": shape.d_model,
            "head width": shape.d_head,
            "parameters": f"{count_parameters(config):,}",
            "tokens seen": short_number(_tokens_seen(checkpoint)),
        }
    return pd.DataFrame(rows).T


def what_they_read(suite: Suite) -> str:
    """What the models read, at which steps they were saved, and how many words they know."""
    first = suite.models[0]
    steps = ", ".join(map(str, suite.steps(first)))
    words = read_config(last_checkpoint(suite, first).fetch())["vocab_size"]
    return (
        f"All sizes read the same text in the same order, {suite.tokens_per_step:,} tokens a step; "
        "`seed2` and `seed3` start from other weights and read other text of the same language. "
        f"Checkpoints were saved at steps {steps}: close together early, like Pythia's, and again "
        f"where abilities form. Weights are stored in float16, {words} words are known."
    )


# ------------------------------------------------------------------ the language


def passages(seed: int) -> pd.DataFrame:
    """The kinds of passage, the share of each in the text, and an example from one document."""
    rng = World(seed)
    rng.begin()
    rows = [
        {
            "passage": passage.__name__.replace("_", " "),
            "share of tokens": f"{share}%",
            "an example": passage(rng).strip(),
        }
        for passage, share in FAMILIES.items()
    ]
    return pd.DataFrame(rows)


# ------------------------------------------------------------------ the training


def training_logs(suite: Suite) -> dict[str, pd.DataFrame]:
    """Each model's log: losses over training, and scores at its checkpoints."""
    folders = {name: last_checkpoint(suite, name).fetch().parent for name in suite.models}
    return {name: pd.read_csv(folder / "training.csv") for name, folder in folders.items()}


def final_scores(logs: Logs) -> pd.DataFrame:
    """Scores at the last checkpoint: a row for each model, a column for each of `SCORES`."""
    last = {name: log.dropna(subset=["fresh_loss"]).iloc[-1] for name, log in logs.items()}
    return pd.DataFrame({name: row[list(SCORES)] for name, row in last.items()}).T.astype(float)


def written(final: pd.DataFrame) -> pd.DataFrame:
    """`final_scores` as the chapter shows them: two digits, under the names of `SCORES`."""
    return final.rename(columns=SCORES).map("{:.2f}".format)


def what_was_reached(final: pd.DataFrame) -> str:
    """Whether all models are above `BARS`; `final` as from `final_scores`."""
    short = [
        f"{SCORES[score]} of {in_markdown(name)} ({final.loc[name, score]:.2f}, we wanted {bar})"
        for score, bar in BARS.items()
        for name in final.index
        if final.loc[name, score] <= bar
    ]
    if short:
        reached = f"Below what we set out for: {'; '.join(short)}."
    else:
        reached = "Every model reaches what we set out for."
    return (
        "At the last checkpoint, on held-out items: logit differences of IOI and Gendered Pronoun, "
        "probability difference of Greater-Than, accuracies, and the gain in log probability "
        f"(nats) of random lines said again. {reached}"
    )


# ------------------------------------------------------------------ two heads


def strongest_attention(patterns: Sequence[Tensor], length: int) -> dict[str, list[float]]:
    """The strongest mean attention of any head of each layer in the second half of repeated lines.

    patterns: of each layer [n, head, query, key], on lines of `length` tokens said twice.
    "one token back": to the token before. "induction": to the token that followed the present
    one's earlier occurrence.
    """
    places = {"one token back": 1, "induction": length - 1}
    strongest: dict[str, list[float]] = {name: [] for name in places}
    for name, back in places.items():
        for pattern in patterns:
            attention = pattern.diagonal(-back, 2, 3)[..., -length:]  # [n, head, query]
            strongest[name].append(float(attention.mean((0, 2)).max()))
    return strongest


@torch.no_grad()
def two_heads(suite: Suite, n: int = 32, length: int = 24, seed: int = 3) -> pd.DataFrame:
    """`strongest_attention` of each layer of each size, fully trained, on `n` random lines."""
    rows = {}
    for name in suite.standard:
        model = last_checkpoint(suite, name).load()
        _, cache = model.bridge.run_with_cache(repeated_sequences(model, n, length, seed))
        patterns = [cache["pattern", layer] for layer in range(model.shape.n_layers)]
        for place, by_layer in strongest_attention(patterns, length).items():
            rows[name, place] = {f"layer {k}": f"{value:.2f}" for k, value in enumerate(by_layer)}
    return pd.DataFrame(rows).T.fillna("").rename_axis(["model", "strongest attention"])
