"""A random model with hand-made prompt pairs of different lengths, for attribution and circuits."""

import pandas as pd
import torch
from conftest import WORDS, random_network, save_checkpoint

from circuitbook.suites.finding import load_suite
from circuitbook.tasks.base import PromptPairs

LENGTHS, FIRST = (5, 8, 7, 6), (0, 4, 3, 5)  # tokens of a prompt; the first that differs
VOCAB = len(WORDS)


def toy_pairs(
    metric="logit_difference", vocab=VOCAB, seed=1, lengths=LENGTHS, first=FIRST
) -> PromptPairs:
    generator = torch.Generator().manual_seed(seed)
    n, width = len(lengths), max(lengths)
    clean = torch.randint(1, vocab, (n, width), generator=generator)
    corrupted = clean.clone()
    for i, (length, start) in enumerate(zip(lengths, first, strict=True)):
        corrupted[i, start] = 1 + clean[i, start] % (vocab - 1)  # never the same token
        if start + 2 < length:
            corrupted[i, start + 2] = 1 + (clean[i, start + 2] + 3) % (vocab - 1)
        clean[i, length:] = corrupted[i, length:] = 0
    answers = torch.stack([torch.randperm(vocab, generator=generator)[:4] for _ in range(n)])
    signs = torch.tensor([1, -1, 1, -1]).expand(n, -1).contiguous()
    end = torch.tensor(lengths) - 1
    table = pd.DataFrame({"clean": [f"prompt {i}" for i in range(n)], "corrupted": [""] * n})
    return PromptPairs(
        task="toy",
        metric_name=metric,
        clean=clean,
        corrupted=corrupted,
        end=end,
        answers=answers,
        signs=signs,
        positions={"END": end},
        table=table,
    )


def toy_model(folder, dtype=torch.float64, seed=5, network=None, **size):
    """(network as transformers has it, the same as a Model)."""
    network = network or random_network(seed=seed, **size)
    save_checkpoint(folder / "toy" / "step1", network)
    return network, load_suite(folder).checkpoint("toy", 1).load(dtype=dtype)
