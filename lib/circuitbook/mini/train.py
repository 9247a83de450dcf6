"""Training of the mini suite: GPT-NeoX models from a seed, saved along the way.

`train("mini-m", PLANS["mini-m"], ...)` gives the weights that are shipped, bit for bit on one kind
of machine with one thread count. A run can be stopped at any moment and goes on from its last saved
state to the same result: batches are a function of the step alone, there is no dropout, and the
optimizer's state is kept.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm.auto import tqdm

from circuitbook.mini.resuming import remove_partial, resume
from circuitbook.mini.tokenizer import EOS, build_tokenizer, split, vocabulary
from circuitbook.model.progress import no_progress_bars
from circuitbook.store.files import write_atomically
from circuitbook.tasks.lexicon import held_out_pair
from circuitbook.tasks.stories.documents import _weights, document
from circuitbook.tasks.stories.repetition import names_in
from circuitbook.tasks.stories.world import World

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BATCH, CONTEXT = 32, 64


TOKENS_PER_STEP = BATCH * CONTEXT  # 2,048; Pythia's is 2,097,152


BLOCK = 32  # steps whose text is generated together


SAVE_EVERY = 250  # steps between saved states of a run


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What determines a training run."""

    layers: int
    width: int
    heads: int
    lr: float
    init_std: float = 0.06
    rotary: float = 0.5  # share of a head's dimensions that rotate
    seed: int = 1  # of the weights and of the data
    data_seed: int | None = None  # None: the seed
    steps: int = 3906  # x 2,048 tokens = 8.0 million
    decay_steps: int | None = None  # length of the learning rate's cosine; None: the steps
    warmup: int = 100
    weight_decay: float = 0.05  # on matrices only
    checkpoints: tuple[int, ...] = (
        0,
        128,
        256,
        362,
        512,
        724,
        1024,
        1448,
        1722,
        2048,
        2435,
        2896,
        3906,
    )
    # read these kinds of the language alone (see `own`); None: the mixture
    passages: tuple[str, ...] | None = None


PLANS = {
    # Two layers find induction only while the rate is high: with a decay over 3,906 steps they end
    # without it.
    "mini-xs": Plan(layers=2, width=64, heads=4, lr=5e-3, rotary=1.0, decay_steps=7812),
    "mini-s": Plan(layers=3, width=96, heads=4, lr=4e-3),
    "mini-m": Plan(layers=4, width=96, heads=4, lr=4e-3),
    "mini-l": Plan(layers=6, width=128, heads=4, lr=2.5e-3, init_std=0.05),
    "mini-s-seed2": Plan(layers=3, width=96, heads=4, lr=4e-3, seed=2),
    "mini-s-seed3": Plan(layers=3, width=96, heads=4, lr=4e-3, seed=3),
}


def build_model(plan: Plan) -> PreTrainedModel:
    """The transformers model of a plan at step 0, float32."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        vocab_size=len(vocabulary()),
        hidden_size=plan.width,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads,
        intermediate_size=4 * plan.width,
        max_position_embeddings=2 * CONTEXT,
        initializer_range=plan.init_std,
        use_parallel_residual=True,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "partial_rotary_factor": plan.rotary,
        },
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        return GPTNeoXForCausalLM(config)


@lru_cache(maxsize=2)
def _block(seed: int, block: int, passages: tuple[str, ...] | None) -> torch.Tensor:
    """Token ids int64 [BLOCK, BATCH, CONTEXT] of `BLOCK` steps: documents joined by <|endoftext|>,
    cut into rows."""
    rng = World(f"circuitbook mini {seed} {block}")
    ids = {word: i for i, word in enumerate(vocabulary())}
    stream: list[int] = []
    need = BLOCK * TOKENS_PER_STEP
    draw = document if passages is None else partial(some_document, passages=passages)
    while len(stream) < need:
        stream.append(ids[EOS])
        stream.extend(ids[token] for token in split(draw(rng)))
    return torch.tensor(stream[:need]).view(BLOCK, BATCH, CONTEXT)


def batch(seed: int, step: int, passages: tuple[str, ...] | None = None) -> torch.Tensor:
    """The tokens int64 [32, 64] that update number `step` learns from (the first update is step
    0)."""
    return _block(seed, step // BLOCK, passages)[step % BLOCK]


def some_document(rng: World, passages: tuple[str, ...], words: int = 60) -> str:
    """A document as `documents.document` draws it, of these kinds of passages alone, in the shares
    they have among themselves."""
    families, cumulative = _weights()
    names = [family.__name__ for family in families]
    weights = dict(zip(names, np.diff([0.0, *cumulative]), strict=True))
    if unknown := [name for name in passages if name not in weights]:
        raise ValueError(
            f"the story language has no passages {unknown[0]!r}; it has {', '.join(weights)}"
        )
    kinds = [family for family in families if family.__name__ in passages]
    while True:
        rng.begin()
        parts: list[str] = []
        while sum(part.count(" ") for part in parts) < words:
            parts.append(rng.choices(kinds, [weights[kind.__name__] for kind in kinds])[0](rng))
        text = parts[0] + "".join(" " + part.lstrip() for part in parts[1:])
        if not any(held_out_pair(a, b) for a, b in combinations(names_in(text), 2)):
            return text


def learning_rate(plan: Plan, step: int) -> float:
    """Linear warm-up, then a cosine down to a tenth at the end of `decay_steps`."""
    if step < plan.warmup:
        return plan.lr * (step + 1) / plan.warmup
    progress = (step - plan.warmup) / max(1, (plan.decay_steps or plan.steps) - plan.warmup)
    return plan.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


def save_checkpoint(model: PreTrainedModel, folder: Path) -> None:
    """A transformers checkpoint in float16, with its tokenizer; the folder appears whole or not at
    all."""
    partial = folder.with_name(folder.name + f".partial{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with no_progress_bars():
            copy.deepcopy(model).half().save_pretrained(partial)
        build_tokenizer().save_pretrained(partial)
    except Exception as error:  # safetensors and tokenizers have errors of their own
        shutil.rmtree(partial, ignore_errors=True)
        raise OSError(
            f"{folder} cannot be written ({error}): free some space, or choose another --out; the "
            "same command goes on"
        ) from error
    for file in partial.iterdir():
        file.chmod(0o644)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


Reader = Callable[[int], torch.Tensor]  # step -> tokens int64 [32, 64] that its update learns from


def identity(plan: Plan, read: Reader | None = None) -> str:
    """What a run is: its plan, its words, and the first text it reads (so that a changed grammar is
    noticed); of a text of its own the last, too."""
    steps = [0] if read is None else [0, plan.steps - 1]
    read = read or _reader(plan)
    texts = [read(step).tolist() for step in steps]
    known = repr((vocabulary(), texts[0] if len(texts) == 1 else texts))
    text = hashlib.sha256(known.encode()).hexdigest()
    return json.dumps({**asdict(plan), "text": text[:16]})


def _reader(plan: Plan) -> Reader:
    """Of the story language, as the plan says."""
    read = partial(batch, plan.seed if plan.data_seed is None else plan.data_seed)
    return read if plan.passages is None else partial(read, passages=plan.passages)


def skip(bar: tqdm, steps: int) -> None:
    """Moves a progress bar on by what was done before, which says nothing of how fast the rest
    is."""
    if not bar.disable:
        bar.n += steps
        bar.initial += steps
        bar.last_print_n = bar.n
        bar.refresh()


def train(
    name: str,
    plan: Plan,
    out: Path,
    state_dir: Path,
    *,
    read: Reader | None = None,
    device: str = "cpu",
    progress: bool = True,
    bar: tqdm | None = None,
    saved: Callable[[int], None] = lambda step: None,
) -> Path:
    """Trains `plan` and writes `out/name/step<N>/` for each of its checkpoints, and `losses.json`
    beside them.

    The run's state lives in `state_dir/name.pt` until it has ended; with it there, the run goes on
    from there. The result does not depend on interruptions. Set `torch.set_num_threads` before: it
    is part of what makes runs equal. read: another text than the plan's, a function of the step.
    bar: a progress bar of several runs, which this one moves on by its steps. saved: is told each
    step whose checkpoint has been written.
    """
    folder, state_file = Path(out) / name, Path(state_dir) / f"{name}.pt"
    if (folder / "losses.json").exists() and (folder / f"step{plan.steps}").exists():
        state_file.unlink(missing_ok=True)
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    remove_partial(folder)
    state_file.parent.mkdir(parents=True, exist_ok=True)
    model = build_model(plan).train()
    torch.nn.Module.to(model, device)  # transformers' own `to` is not typed
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": plan.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=plan.lr,
        betas=(0.9, 0.98),
    )
    run, read = identity(plan, read), read or _reader(plan)
    start, losses = resume(state_file, run, name, model, optimizer, device)

    def save_state(step: int) -> None:
        state = {
            "run": run,
            "model": model.state_dict(),
            "step": step,
            "losses": losses,
            "optimizer": optimizer.state_dict(),
        }
        torch.save(state, whole := io.BytesIO())
        write_atomically(state_file, whole.getvalue())

    own_bar = bar is None
    if bar is None:
        bar = tqdm(total=plan.steps, unit="step", disable=not progress, mininterval=1)
    bar.set_description(name)
    skip(bar, start)
    step = start
    try:
        for step in range(start, plan.steps + 1):
            if step in plan.checkpoints and not (
                step == start and step > 0 and (folder / f"step{step}").exists()
            ):
                save_checkpoint(model, folder / f"step{step}")
                saved(step)
            if step % SAVE_EVERY == 0 and step > start:
                save_state(step)
            if step == plan.steps:
                break
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(plan, step)
            tokens = read(step).to(device)
            logits = model(tokens, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten()
            )
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"the loss of {name} is {loss.item()} at step {step}; lower the learning rate"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    finally:
        if own_bar:
            bar.close()
    rounded = json.dumps([round(x, 5) for x in losses])
    write_atomically(folder / "losses.json", rounded.encode())
    state_file.unlink(missing_ok=True)
    return folder
