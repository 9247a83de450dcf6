"""S-inhibition: what heads do to where the name movers look, by path patching (Wang et al.
2023)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from circuitbook.heads.attention import attention_from_end
from circuitbook.heads.names import Head, all_heads, head_name
from circuitbook.heads.path_patching import baselines, path_patch
from circuitbook.model.architectures import network_of
from circuitbook.model.loaded import Model
from circuitbook.tasks import ioi
from circuitbook.tasks.base import PromptPairs, Task

PLACES = ("IO", "S1", "S2")
S_INHIBITION = ("through_q", "logit_difference", *PLACES)


def s_inhibition(
    model: Model,
    pairs: PromptPairs,
    movers: Sequence[Head],
    seed: int = 42,
    task: Task = ioi.TASK,
) -> Float[np.ndarray, "head 5"]:
    """What each head does to the name movers, relative to the clean run, float64.

    The columns are `S_INHIBITION`. through_q: change of the metric when the head, corrupted as in
    the task, is path-patched into the movers' queries. The others: the head's output at END comes
    from the prompt whose first two names have changed places (the repeated name is the same, its
    place is not), into the movers' queries at END: change of the logit difference, and of the
    movers' attention from END to IO, S1 and S2. (Tigges et al. 2024: an S-inhibition head lowers
    the first two and raises the third.) task: what the pairs are of.
    """
    senders, receivers = all_heads(model), [f"{head_name(head)}<q>" for head in movers]
    clean = baselines(model, pairs)[0].double().mean()
    through = path_patch(model, pairs, senders, receivers).metric.double().mean(1)
    # The other prompts: the first two names change places
    moved = task.prompts(
        model.tokenizer,
        n=len(pairs),
        seed=seed,
        corruption="order",
        prepend_bos=pairs.prepend_bos,
    )
    patched = path_patch(
        model,
        moved,
        senders,
        receivers,
        sender_at="END",
        receiver_at="END",
        watch=movers,
        places=PLACES,
    )
    assert patched.attention is not None  # movers were watched
    after = patched.attention.double().mean((1, 3))  # [head, place], on the CPU as all below
    from_end = attention_from_end(network_of(model), moved, PLACES)
    rows = [layer * model.shape.n_heads + head for layer, head in movers]
    before = torch.stack([from_end[place][rows].double().mean() for place in PLACES]).cpu()
    columns = [
        through / clean - 1,
        patched.metric.double().mean(1) / clean - 1,
        *(after / before - 1).t(),
    ]
    return torch.stack(columns, 1).numpy()
