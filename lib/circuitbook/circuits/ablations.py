"""What the edges outside a circuit carry: four ablations, each evaluated exactly.

    swap        what the source writes on the task's own corrupted prompt (Tigges et al. 2024)
    resample    what it writes on another prompt that says nothing of the answer: for IOI the same
                prompt with three other names ("abc", Wang et al. 2023); for the other tasks another
                prompt of the task, drawn at random among those of the same structure
    mean        the mean of what it writes on the task's prompts of the same structure, position by
                position (Wang et al. 2023)
    optimal     one vector per source, the same on every prompt and at every position, that makes
                this very circuit as good as it can be (Li and Janson 2024): see `circuits.optimal`

Two prompts have the same *structure* if they have as many tokens and the same frame: IOI's
template, the ending of Gendered Pronoun, the construction of subject-verb agreement; Greater-Than
has one frame. So position i plays the same part in both, and prompts of different lengths never
meet. What an answer hangs on (the order of the names, the number of the subject) is no part of it.

`swap` and `resample` are pairs of prompts, so all that takes such pairs can be had under them,
attribution and search too. `mean` and `optimal` are `Written`, and evaluated through `AblatedRuns`.
An edge that is not on a path from `input` to `logits` counts as absent (`Graph.live`).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuitbook.circuits.batches import at_end, metric_of_stream
from circuitbook.circuits.corrupted import CorruptedLayer, CorruptedRun, CorruptedRuns
from circuitbook.circuits.prefixes import Prefixes
from circuitbook.model.architectures import network_of
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.graph import HEAD_INPUTS
from circuitbook.model.loaded import Model
from circuitbook.model.network import Network, attend, last_stream, run
from circuitbook.tasks.base import PromptPairs

ABLATIONS = ("swap", "resample", "mean", "optimal")
FRAMES = {"ioi": "template", "gendered_pronoun": "ending", "sva": "kind"}
"""The column of a task's table that names the frame; the other tasks have one frame."""
NAMES_AT = ("IO", "S1", "S2")  # positions of IOI at which a name stands
PROMPTS = 64  # reference prompts that are run together

# ------------------------------------------------------------------ prompts


def structures(pairs: PromptPairs) -> list[tuple[int, Hashable]]:
    """Of each prompt its END and its frame: position by position comparable where they are equal.

    >>> # structures(get_task("ioi").prompts(tokenizer, n=1)) -> [(14, 6)]
    """
    column = FRAMES.get(pairs.task, "")
    frames = pairs.table[column].tolist() if column in pairs.table else [None] * len(pairs)
    return list(zip(pairs.end.tolist(), frames, strict=True))


def has_partners(pairs: PromptPairs, reference: PromptPairs) -> Bool[Tensor, " n"]:
    """Which prompts have two others at least of their structure in the reference.

    Without these there is nothing to draw from, and a mean over one prompt is that prompt.
    """
    return torch.tensor([len(others) >= 2 for others in _others(pairs, reference)])


def resampled(pairs: PromptPairs, reference: PromptPairs, seed: int = 0) -> PromptPairs:
    """The same clean prompts, whose corrupted ones are those of the ablation "resample".

    reference: prompts of the task from which others, and for IOI names, are drawn. The table has no
    column `corrupted` any more. ValueError where a prompt has no other one of its structure, or
    IOI's reference has fewer than three other names.
    """
    rng = np.random.default_rng(seed)
    corrupted = pairs.clean.clone()
    if pairs.task == "ioi":
        people = torch.cat([pairs.answers, reference.answers]).unique()
        for i, own in enumerate(pairs.answers):
            strangers = people[~torch.isin(people, own)].numpy()
            if len(strangers) < len(NAMES_AT):
                raise ValueError(f"ioi: prompt {i} needs three other names; give more prompts")
            chosen = rng.choice(strangers, size=len(NAMES_AT), replace=False)
            for name, token in zip(NAMES_AT, chosen, strict=True):
                corrupted[i, pairs.positions[name][i]] = int(token)
    else:
        for i, others in enumerate(_others(pairs, reference)):
            if not others:
                raise ValueError(
                    f"{pairs.task}: there is no other prompt of the structure of prompt {i} "
                    f"({pairs.table['clean'].iloc[i]!r}) to draw; give more prompts"
                )
            stop = int(pairs.end[i]) + 1
            corrupted[i, :stop] = reference.clean[others[rng.integers(len(others))], :stop]
    table = pairs.table.drop(columns="corrupted", errors="ignore")
    return replace(pairs, corrupted=corrupted, table=table)


def _groups(pairs: PromptPairs, reference: PromptPairs) -> list[list[int]]:
    """Of each prompt, the reference prompts of its structure."""
    of_structure: dict[tuple[int, Hashable], list[int]] = {}
    for j, structure in enumerate(structures(reference)):
        of_structure.setdefault(structure, []).append(j)
    return [of_structure.get(structure, []) for structure in structures(pairs)]


def _others(pairs: PromptPairs, reference: PromptPairs) -> list[list[int]]:
    """The same, without those that are the prompt itself."""
    own, theirs = (
        [tuple(row[: end + 1]) for row, end in zip(p.clean.tolist(), p.end.tolist(), strict=True)]
        for p in (pairs, reference)
    )
    groups = zip(own, _groups(pairs, reference), strict=True)
    return [[j for j in group if theirs[j] != tokens] for tokens, group in groups]


# ------------------------------------------------------------------ what absent edges carry


@dataclass(frozen=True, eq=False, kw_only=True)
class Written:
    """What every source writes where no edge of the circuit carries it.

    Prompts share rows; where pos is 1, all positions are the same.
    """

    embed: Float[Tensor, "row pos d_model"]
    z: tuple[Float[Tensor, "row pos head d_head"], ...]
    """By layer, `Run.written`: a head writes z @ w_written, so this is all it can write."""
    mlp: tuple[Float[Tensor, "row pos d_model"], ...]
    row_of: Int[Tensor, " prompt"]
    """Which row is a prompt's."""

    def of(self, rows: Int[Tensor, " some"], stop: int) -> Written:
        """Of some prompts and the positions before `stop`, each in a row of its own."""
        at = self.row_of[rows].to(self.embed.device)

        def pick(tensor: Tensor) -> Tensor:
            part = tensor[at, :stop]
            return part.expand(-1, stop, *part.shape[2:])

        return Written(
            embed=pick(self.embed),
            z=tuple(map(pick, self.z)),
            mlp=tuple(map(pick, self.mlp)),
            row_of=torch.arange(len(rows)),
        )


@torch.no_grad()
def mean_written(model: Model, pairs: PromptPairs, reference: PromptPairs) -> Written:
    """Of the ablation "mean": over the reference's clean prompts of the same structure.

    In the dtype of sums. ValueError where a prompt has none.
    """
    groups = _groups(pairs, reference)
    known = list(dict.fromkeys(structures(pairs)))
    row_of = torch.tensor([known.index(structure) for structure in structures(pairs)])
    width = int(pairs.end.max()) + 1
    means = []
    for row in range(len(known)):
        first = int((row_of == row).nonzero()[0])
        if not groups[first]:
            raise ValueError(
                f"{pairs.task}: no reference prompt has the structure of prompt {first} "
                f"({pairs.table['clean'].iloc[first]!r}); give more prompts"
            )
        stop = int(pairs.end[first]) + 1
        mean = _means(model, reference.clean[groups[first], :stop])
        means.append([F.pad(part, (0, 0) * (part.ndim - 1) + (0, width - stop)) for part in mean])
    return _as_written([torch.stack(part) for part in zip(*means, strict=True)], row_of)


@torch.no_grad()
def constant_written(model: Model, pairs: PromptPairs) -> Written:
    """What sources write at END, on average over these clean prompts: one vector per source."""
    sums: list[Tensor] = []
    for stop in sorted({int(end) + 1 for end in pairs.end}):
        tokens = pairs.clean[pairs.end + 1 == stop, :stop]
        parts = [part[-1] * len(tokens) for part in _means(model, tokens)]
        sums = [a + b for a, b in zip(sums, parts, strict=True)] if sums else parts
    means = [part[None, None] / len(pairs) for part in sums]
    return _as_written(means, torch.zeros(len(pairs), dtype=torch.long))


def _means(model: Model, tokens: Int[Tensor, "prompt pos"]) -> list[Tensor]:
    """Means over prompts of equal length, each [pos, ...]: embeddings, then z and MLP by layer."""
    network, dtype = network_of(model), sums_dtype(model.dtype)
    sums: list[Tensor] = []
    for part in tokens.split(PROMPTS):
        x = network.embed(part.to(model.device))[:, None]
        found = [x]
        for done in run(network, x):
            found += [done.written, done.mlp_out]
        found = [tensor[:, 0].to(dtype).sum(0) for tensor in found]
        sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
    return [total / len(tokens) for total in sums]


def _as_written(parts: list[Tensor], row_of: Tensor) -> Written:
    return Written(embed=parts[0], z=tuple(parts[1::2]), mlp=tuple(parts[2::2]), row_of=row_of)


# ------------------------------------------------------------------ evaluation


class AblatedRuns(CorruptedRuns):
    """For `evaluate_masks` and `measure_circuits`: absent edges carry what is `Written`.

    In place of a corrupted run stands the run in which every edge carries that: its streams are the
    sums of what is written, and the empty circuit is this run.
    """

    def __init__(
        self, model: Model, pairs: PromptPairs, written: Written, memory: int | None = None
    ) -> None:
        # no token of -1 is a prompt's: chunks are made as if all positions differed, which they do
        super().__init__(model, replace(pairs, corrupted=-torch.ones_like(pairs.clean)), memory)
        self.clean, self.written = pairs, written

    @torch.no_grad()
    def run_of(self, rows: Int[Tensor, " prompt"], prefixes: Prefixes) -> CorruptedRun:
        network, pairs = self.network, self.clean.subset(rows)
        stop, end = int(pairs.end.max()) + 1, pairs.end.to(self.device)
        clean = network.embed(pairs.clean[:, :stop].to(self.device))
        written = self.written.of(rows, stop)
        layers, x = _layers_of(network, written, clean.dtype)
        last = at_end(torch.stack([last_stream(network, clean[:, None])[:, 0], x], 1), end)
        dtype = sums_dtype(clean.dtype)
        return CorruptedRun(
            rows=rows,
            pairs=pairs,
            start=0,
            end=end,
            change=clean.to(dtype) - written.embed.to(dtype),
            layers=layers,
            last=last[:, 1].contiguous(),
            prefix=[],
            metric=metric_of_stream(network, pairs, last).t(),
        )


def _layers_of(
    network: Network, written: Written, dtype: torch.dtype
) -> tuple[list[CorruptedLayer], Float[Tensor, "prompt pos d_model"]]:
    """The layers of the run in which all edges carry what is written, and the last stream.

    written: of these very prompts, in rows of their own. Behind a norm that they share, what heads
    give of these streams counts for the others, though no edge carries it.
    """
    streams, last = streams_of(network, written, dtype)
    cos_sin = network.rotary_cos_sin(last, 0, last.shape[1])
    layers = []
    for i, (layer, (x, x_mlp)) in enumerate(zip(network.layers, streams, strict=True)):
        read = layer.norm_attention(x)
        inputs = {
            kind: layer.attended(kind, layer.project(kind, read), cos_sin) for kind in HEAD_INPUTS
        }
        z, instead = written.z[i], None
        if layer.norm_out is not None:
            q, k, v = (inputs[kind][:, None] for kind in HEAD_INPUTS)
            z, instead = attend(q, k, v, network.scale)[:, 0], z
        layers.append(
            CorruptedLayer(
                x=x, x_mlp=x_mlp, inputs=inputs, z=z, instead=instead, mlp=written.mlp[i]
            )
        )
    return layers, last


def streams_of(
    network: Network, written: Written, dtype: torch.dtype
) -> tuple[list[tuple[Tensor, Tensor]], Float[Tensor, "row pos d_model"]]:
    """What inputs read if all edges carry what is written, and the last stream.

    By layer: what its heads read, and what its MLP reads, each [row, pos, d_model].
    """
    x = written.embed.to(dtype)
    streams = []
    for layer, z, mlp in zip(network.layers, written.z, written.mlp, strict=True):
        between = x + layer.add_up(z.to(dtype))
        streams.append((x, x if network.parallel else between))
        x = between + mlp.to(dtype)
    return streams, x
