"""What a circuit does: the metric, the answer that it names, how far it is from the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuitbook.circuits.corrupted import CorruptedRuns
from circuitbook.circuits.divergence import clean_logits
from circuitbook.circuits.not_finite import refuse_not_finite
from circuitbook.circuits.recompute import last_of_circuits
from circuitbook.model.dtypes import sums_dtype
from circuitbook.model.loaded import Model
from circuitbook.model.log_total import LOGIT_BYTES
from circuitbook.tasks.base import PromptPairs
from circuitbook.tasks.metrics import rank

MEASURES = ("metric", "top1", "kl")


@torch.no_grad()
def measure_circuits(
    model: Model,
    pairs: PromptPairs,
    masks: Sequence[np.ndarray],
    runs: CorruptedRuns,
    *,
    clean: Float[Tensor, "n vocab"] | None = None,
) -> dict[str, Float[Tensor, "circuit n"]]:
    """Of circuits, bool [src, dst] each, under the ablation that `runs` stand for.

    metric  the task's own
    top1    1 where a right answer has the largest logit of the whole vocabulary, else 0
    kl      KL(model || circuit) at END, in nats: the model's distribution on the clean prompt, and
            the circuit's

    clean: the model's own logits, if they are known (`divergence.clean_logits`).
    A dead edge counts as absent. float32, or float64 of a float64 model. The logits of a few
    prompts at a time are in memory. FloatingPointError where a metric is not finite.
    """
    graph, dtype = runs.graph, sums_dtype(model.dtype)
    live = [graph.live(mask) for mask in masks]
    found = {name: torch.zeros(len(masks), len(pairs), dtype=dtype) for name in MEASURES}
    rows_at_a_time = max(1, LOGIT_BYTES // (dtype.itemsize * model.shape.d_vocab))
    clean = clean_logits(model, pairs) if clean is None else clean
    for corrupted in runs:
        n_batches = -(-len(masks) // runs.together(corrupted, live))
        for circuits in np.array_split(np.arange(len(masks)), n_batches):
            last = last_of_circuits(runs.network, graph, corrupted, [live[i] for i in circuits])
            normed = runs.network.norm_final(last)
            for part in torch.arange(len(corrupted.rows)).split(rows_at_a_time):
                rows = corrupted.rows[part]
                some, log_p = pairs.subset(rows), clean[rows].to(dtype).log_softmax(1)
                answers, signs = some.answers.to(log_p.device), some.signs.to(log_p.device)
                for place, circuit in enumerate(circuits):
                    logits = runs.network.logits_of_normed(normed[part, place]).to(dtype)
                    kl = (log_p.exp() * (log_p - logits.log_softmax(1))).sum(1)
                    right = rank(logits, answers, signs) == 0
                    for name, value in zip(MEASURES, (some.metric(logits), right, kl), strict=True):
                        found[name][circuit, rows] = value.to(found[name])
    refuse_not_finite(model, pairs, found["metric"], "when it is patched")
    return found
