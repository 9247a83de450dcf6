"""Where the weights of a suite are: a folder, Pythia's hub, other repositories."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from circuitbook.weights import hub
from circuitbook.weights.asking import Retry
from circuitbook.weights.files import CONFIG, join_hashes, settings_ids, weight_files
from circuitbook.weights.gguf import converted, gguf_in, gguf_settings
from circuitbook.weights.hash_memory import HASHES
from circuitbook.weights.step_names import by_step


@dataclass(frozen=True)
class Folder:
    """Checkpoints on disk: `root/<model>/step<N>/`, as transformers saves model and tokenizer.

    See `step_names.STEP_NAME` for what else than step<N> they may be called. A tokenizer that all
    share may lie in `root/<model>/`. A folder without config.json may hold one .gguf instead,
    tokenizer and all: it is converted once, when it is fetched (see `model.conversion`).
    """

    root: Path
    prefer: ClassVar[str] = "safetensors"

    def steps(self, model: str) -> tuple[int, ...]:
        return tuple(finished_steps(self.root / model))

    def fetch(self, model: str, step: int) -> Path:
        folder = self._folder(model, step)
        gguf = gguf_in(folder)
        return converted_gguf(gguf, model) if gguf else folder

    def weights_hash(self, model: str, step: int) -> str:
        files = files_with_weights(self._folder(model, step), self.prefer)
        return join_hashes([HASHES.sha256(path) for path in files])

    def settings(self, model: str, step: int) -> dict[str, str]:
        folder = self._folder(model, step)
        if (gguf := gguf_in(folder)) is None:
            return settings_ids(folder)
        return gguf_settings(HASHES.sha256(gguf))

    def revision(self, model: str, step: int) -> str:
        return steps_in(self.root / model)[step]

    def repo(self, model: str) -> None:
        """The repository on a hub: none."""

    def _folder(self, model: str, step: int) -> Path:
        return self.root / model / self.revision(model, step)


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

    def repo(self, model: str) -> str:
        return f"{self.owner}/{model}"

    def fetch(self, model: str, step: int) -> Path:
        return hub.fetch(self.repo(model), self.revision(model, step), self.prefer, self.retry)

    def weights_hash(self, model: str, step: int) -> str:
        return hub.weights_hash(
            self.repo(model), self.revision(model, step), self.prefer, self.retry
        )

    def settings(self, model: str, step: int) -> dict[str, str]:
        return hub.settings(self.repo(model), self.revision(model, step), self.prefer, self.retry)


@dataclass(frozen=True)
class Repositories:
    """Checkpoints on a hub: a repository for each model, with revisions of its own.

    A model's revisions are asked for when its steps are first needed.
    """

    repos: dict[str, str] = field(hash=False)
    """{model: owner/name}"""
    steps_of: Mapping[str, Callable[[set[str], str], dict[int, str]]] = field(
        default_factory=dict, hash=False
    )
    """{model: which revisions are steps, and of what number}; else by `step_names.by_step`."""
    prefer: str = "safetensors"
    retry: Retry = Retry()
    _revisions: dict[str, dict[int, str]] = field(
        default_factory=dict, init=False, repr=False, hash=False, compare=False
    )

    def revisions(self, model: str) -> dict[int, str]:
        """{step: revision}, ascending. ValueError where there are none."""
        if model not in self._revisions:
            repo = self.repos[model]
            found = hub.list_steps(repo, self.retry, self.steps_of.get(model, by_step))
            if not found:
                raise ValueError(
                    f"hub repository {repo} has no revisions step<N>, so there are no checkpoints "
                    "to look at"
                )
            self._revisions[model] = found
        return self._revisions[model]

    def steps(self, model: str) -> tuple[int, ...]:
        return tuple(self.revisions(model))

    def revision(self, model: str, step: int) -> str:
        return self.revisions(model)[step]

    def repo(self, model: str) -> str:
        return self.repos[model]

    def fetch(self, model: str, step: int) -> Path:
        return hub.fetch(self.repo(model), self.revision(model, step), self.prefer, self.retry)

    def weights_hash(self, model: str, step: int) -> str:
        return hub.weights_hash(
            self.repo(model), self.revision(model, step), self.prefer, self.retry
        )

    def settings(self, model: str, step: int) -> dict[str, str]:
        return hub.settings(self.repo(model), self.revision(model, step), self.prefer, self.retry)


class Source(Protocol):
    """What a suite asks the place of its weights: how a model's checkpoint is had and told
    apart.
    """

    @property
    def prefer(self) -> str: ...
    def steps(self, model: str) -> tuple[int, ...]: ...
    def fetch(self, model: str, step: int) -> Path: ...
    def weights_hash(self, model: str, step: int) -> str: ...
    def settings(self, model: str, step: int) -> dict[str, str]: ...
    def revision(self, model: str, step: int) -> str: ...
    def repo(self, model: str) -> str | None: ...


def steps_in(folder: Path) -> dict[int, str]:
    """{step: name of its folder}, ascending."""
    if not folder.is_dir():
        return {}
    return by_step((path.name for path in folder.iterdir() if _holds_checkpoint(path)), folder)


def finished_steps(folder: Path) -> dict[int, str]:
    """`steps_in`, less the newest if that has no weights yet, of a training that still runs.

    Then a warning says so. A checkpoint that is the only one, or is not the newest, counts, and
    loading it says what it lacks.
    """
    steps = steps_in(folder)
    if len(steps) > 1:
        newest = list(steps)[-1]
        try:
            files_with_weights(folder / steps[newest])
        except FileNotFoundError as error:
            warnings.warn(f"left out, if training still runs: {error}", stacklevel=3)
            del steps[newest]
    return steps


def last_weights(folder: Path) -> tuple[Path, ...]:
    """The files of a model's newest weights. FileNotFoundError where no step has any."""
    *later, first = reversed(steps_in(folder).values())
    for name in later:
        with contextlib.suppress(FileNotFoundError):
            return files_with_weights(folder / name)
    return files_with_weights(folder / first)


def _holds_checkpoint(folder: Path) -> bool:
    return (folder / CONFIG).exists() or any(folder.glob("*.gguf"))


def converted_gguf(gguf: Path, model: str) -> Path:
    """The folder that a .gguf becomes, converted now if need be."""
    if folder := converted(HASHES.sha256(gguf)):
        return folder
    # Here, since torch and transformers take seconds to import, and most questions need neither.
    from circuitbook.model.conversion import convert_gguf

    return convert_gguf(gguf, model)


def files_with_weights(folder: Path, prefer: str = "safetensors") -> tuple[Path, ...]:
    """`files.weight_files`, or the one .gguf of a folder that holds that instead."""
    return (gguf,) if (gguf := gguf_in(folder)) else weight_files(folder, prefer)
