"""Where the weights of a suite are: a folder, Pythia's hub, other repositories."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from circuitbook.weights import hub
from circuitbook.weights.asking import Retry
from circuitbook.weights.files import join_hashes, settings_ids, weight_files
from circuitbook.weights.hash_memory import HASHES
from circuitbook.weights.hub import by_step


@dataclass(frozen=True)
class Folder:
    """Checkpoints on disk: `root/<model>/step<N>/`, as transformers saves model and tokenizer.

    See `hub.STEP_NAME` for what else than step<N> they may be called. A tokenizer that all share
    may lie in `root/<model>/`.
    """

    root: Path
    prefer: ClassVar[str] = "safetensors"

    def steps(self, model: str) -> tuple[int, ...]:
        return tuple(steps_in(self.root / model))

    def fetch(self, model: str, step: int) -> Path:
        return self.root / model / steps_in(self.root / model)[step]

    def weights_hash(self, model: str, step: int) -> str:
        return join_hashes(
            [HASHES.sha256(path) for path in weight_files(self.fetch(model, step), self.prefer)]
        )

    def settings(self, model: str, step: int) -> dict[str, str]:
        return settings_ids(self.fetch(model, step))


@dataclass(frozen=True)
class Hub:
    """Pythia on a hub: repositories `owner/<model>` with revisions `step<N>`."""

    owner: str
    all_steps: tuple[int, ...]
    """The same for every model."""
    prefer: str = "safetensors"
    """Or "pickle", where a revision has both."""
    retry: Retry = Retry()

    def steps(self, model: str) -> tuple[int, ...]:
        return self.all_steps

    def revision(self, model: str, step: int) -> str:
        return f"step{step}"

    def fetch(self, model: str, step: int) -> Path:
        return hub.fetch(
            f"{self.owner}/{model}", self.revision(model, step), self.prefer, self.retry
        )

    def weights_hash(self, model: str, step: int) -> str:
        return hub.weights_hash(
            f"{self.owner}/{model}", self.revision(model, step), self.prefer, self.retry
        )

    def settings(self, model: str, step: int) -> dict[str, str]:
        return hub.settings(
            f"{self.owner}/{model}", self.revision(model, step), self.prefer, self.retry
        )


@dataclass(frozen=True)
class Repositories:
    """Checkpoints on a hub: a repository for each model, with revisions of its own.

    These are called as in `hub.STEP_NAME`.
    """

    repos: dict[str, str] = field(hash=False)
    """{model: owner/name}"""
    revisions: dict[str, dict[int, str]] = field(hash=False)
    """{model: {step: revision}}"""
    prefer: str = "safetensors"
    retry: Retry = Retry()

    def steps(self, model: str) -> tuple[int, ...]:
        return tuple(self.revisions[model])

    def revision(self, model: str, step: int) -> str:
        return self.revisions[model][step]

    def fetch(self, model: str, step: int) -> Path:
        return hub.fetch(self.repos[model], self.revision(model, step), self.prefer, self.retry)

    def weights_hash(self, model: str, step: int) -> str:
        return hub.weights_hash(
            self.repos[model], self.revision(model, step), self.prefer, self.retry
        )

    def settings(self, model: str, step: int) -> dict[str, str]:
        return hub.settings(self.repos[model], self.revision(model, step), self.prefer, self.retry)


Source = Folder | Hub | Repositories


def steps_in(folder: Path) -> dict[int, str]:
    """{step: name of its folder}, ascending."""
    if not folder.is_dir():
        return {}
    return by_step(
        (path.name for path in folder.iterdir() if (path / "config.json").exists()), folder
    )
