"""Trainings that others have published on a hub: what their revisions are called, how many tokens
a step has, and where that is said.

Which steps there are is asked of the hub. What nobody says, or what could not be checked, is not
here: K2's tokens (LLM360), the other sizes of DataDecide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from circuitbook.suites.smollm2 import (
    SMOLLM2_REPOS,
    SMOLLM2_TOKENS_PER_STEP,
    SMOLLM2_TOKENS_PER_STEP_OF,
)
from circuitbook.weights.step_names import by_step, numbered


@dataclass(frozen=True, kw_only=True)
class Training:
    """One run: a repository, of whose revisions some are its steps."""

    repo: str
    tokens_per_step: int
    revision: re.Pattern[str] | None = None
    """Its first group is the number of the step; None: by `step_names.by_step`."""
    first: int = 0
    """The step of the revision with the number 0."""

    def steps_of(self, names: set[str], where: str) -> dict[int, str]:
        """{step: revision}, ascending, of the names of a repository's revisions."""
        if self.revision is None:
            return by_step(names, where)
        return numbered(names, self.revision, where, self.first)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A suite of such runs."""

    description: str
    standard: tuple[str, ...]
    """Models that differ in size, small to large; or in the data, where there is one size."""
    trainings: Mapping[str, Training] = field(repr=False)
    """By model, the variants too."""


# Every 40,000 steps of 2,359,296 tokens; three stages of pretraining whose steps are counted
# through, to 4,720,000 (the card of the repository). Its lengthening of the context is left out.
_SMOLLM3 = Training(
    repo="HuggingFaceTB/SmolLM3-3B-checkpoints",
    tokens_per_step=2_359_296,
    revision=re.compile(r"stage[123]-step-(\d+)"),
)

# 64 replicas x 4 x 4 sequences of 2048 tokens (the authors in the discussion 39 of
# HuggingFaceFW/fineweb; 167,000 such steps are the 350 billion tokens of the cards)
_FINEWEB = re.compile(r"HuggingFaceFW/(ablation-model-[\w.-]+)")
_FINEWEB_TOKENS_PER_STEP = 2_097_152

# Karamcheti et al. 2021 (Mistral): 512 sequences of 1024 tokens (conf/trainers/gpt2-small.yaml and
# conf/models/gpt2-small.yaml in stanford-crfm/mistral), 400,000 steps, saved some 600 times. Layer
# i divides its attention scores by i + 1. The medium models have no such revisions.
_GPT2_SMALL = {
    "gpt2-small": "alias-gpt2-small-x21",
    "gpt2-small-seed49": "battlestar-gpt2-small-x49",
    "gpt2-small-seed81": "caprica-gpt2-small-x81",
    "gpt2-small-seed343": "darkmatter-gpt2-small-x343",
    "gpt2-small-seed777": "expanse-gpt2-small-x777",
}
_GPT2_TOKENS_PER_STEP = 524_288

# Liu et al. 2023 (LLM360): ckpt_<i> is saved after the i-th of 360 chunks of the data, each of
# 1,706,976 sequences of 2048 tokens and the one that follows (main.py in LLM360/amber-train; 360 of
# them are the 1259.13 billion tokens of the card, which counts 2049 a sequence). So a step here is
# a chunk, and ckpt_356 is step 357.
_AMBER = Training(
    repo="LLM360/Amber",
    tokens_per_step=1_706_976 * 2048,
    revision=re.compile(r"ckpt_(\d+)"),
    first=1,
)

# Magnusson et al. 2025 (DataDecide): sequences of 2048 tokens, and so many of them in a step
# (scripts/ladder.py in allenai/OLMo: 160 (N / 108 million)^(2/3), to a multiple of 32). Here are
# the sizes for which that could be checked: the last step's tokens are 100 times the parameters.
_DATADECIDE_SEQUENCES = {
    "4M": 32,
    "20M": 64,
    "60M": 96,
    "90M": 160,
    "150M": 192,
    "300M": 320,
    "530M": 448,
    "1B": 704,
}
_DATADECIDE_RECIPES = (
    "dolma1_7",
    "dolma1_7-no-code",
    "dolma1_7-no-math-code",
    "dolma1_7-no-reddit",
    "dolma1_7-no-flan",
    "dolma1_6plus",
    "c4",
    "fineweb-pro",
    "fineweb-edu",
    "falcon",
    "falcon-and-cc",
    "falcon-and-cc-qc-10p",
    "falcon-and-cc-qc-20p",
    "falcon-and-cc-qc-orig-10p",
    "falcon-and-cc-qc-tulu-10p",
    "dclm-baseline",
    "dclm-baseline-qc-7p-fw2",
    "dclm-baseline-qc-7p-fw3",
    "dclm-baseline-qc-fw-3p",
    "dclm-baseline-qc-fw-10p",
    "dclm-baseline-qc-10p",
    "dclm-baseline-qc-20p",
    "dclm-baseline-25p-dolma1.7-75p",
    "dclm-baseline-50p-dolma1.7-50p",
    "dclm-baseline-75p-dolma1.7-25p",
)
# The second and third seed have other names at 1B: small-aux-2, large-aux-2. They go on for a
# quarter of the training, but for those at 1B.
_DATADECIDE_SEEDS = {
    "": "default",
    "-seed2": "(?:small|large)-aux-2",
    "-seed3": "(?:small|large)-aux-3",
}


def _datadecide() -> dict[str, Training]:
    return {
        f"DataDecide-{recipe}-{size}{suffix}": Training(
            repo=f"allenai/DataDecide-{recipe}-{size}",
            tokens_per_step=2048 * sequences,
            revision=re.compile(rf"step(\d+)-seed-{seed}"),
        )
        for recipe in _DATADECIDE_RECIPES
        for size, sequences in _DATADECIDE_SEQUENCES.items()
        for suffix, seed in _DATADECIDE_SEEDS.items()
    }


PUBLISHED = {
    "smollm3": Published(
        description="SmolLM3, 3 billion parameters, 11 trillion tokens",
        standard=("SmolLM3-3B",),
        trainings={"SmolLM3-3B": _SMOLLM3},
    ),
    "fineweb": Published(
        description="FineWeb's ablations: one Llama of 1.8 billion parameters on several texts",
        standard=("fineweb-v1", "fineweb-edu", "the-pile"),
        trainings={
            text: Training(
                repo=f"HuggingFaceFW/ablation-model-{text}",
                tokens_per_step=_FINEWEB_TOKENS_PER_STEP,
            )
            for text in ("fineweb-v1", "fineweb-edu", "the-pile")
        },
    ),
    "stanford-gpt2": Published(
        description="GPT-2 small, trained anew with five seeds on OpenWebText",
        standard=("gpt2-small",),
        trainings={
            model: Training(
                repo=f"stanford-crfm/{name}",
                tokens_per_step=_GPT2_TOKENS_PER_STEP,
                revision=re.compile(r"checkpoint-(\d+)"),
            )
            for model, name in _GPT2_SMALL.items()
        },
    ),
    "amber": Published(
        description="Amber, a Llama of 7 billion parameters: a step is one of 360 chunks of text",
        standard=("Amber",),
        trainings={"Amber": _AMBER},
    ),
    "datadecide": Published(
        description="DataDecide: 25 texts, sizes of 4 million to 1 billion parameters, three seeds",
        standard=tuple(f"DataDecide-dolma1_7-{size}" for size in _DATADECIDE_SEQUENCES),
        trainings=_datadecide(),
    ),
}


def training_of(repo: str) -> Training | None:
    """What is known of a repository, if anything is."""
    for published in PUBLISHED.values():
        for training in published.trainings.values():
            if training.repo == repo:
                return training
    for model, known in SMOLLM2_REPOS.items():
        if known == repo:
            tokens = SMOLLM2_TOKENS_PER_STEP_OF.get(model, SMOLLM2_TOKENS_PER_STEP)
            return Training(repo=repo, tokens_per_step=tokens)
    if _FINEWEB.fullmatch(repo):
        return Training(repo=repo, tokens_per_step=_FINEWEB_TOKENS_PER_STEP)
    return None
