"""Suites: which models there are, at which steps, after how many tokens, and where their weights are.

    suite = load_suite("mini")                      # or "pythia", a folder, a hub repository "owner/name"
    suite.models; suite.steps("mini-m")             # names; training steps, ascending
    checkpoint = suite.checkpoint("mini-m", 512)    # checkpoint.tokens_seen, .weights_hash, .fetch(), .load()

Pythia: Biderman et al. 2023; its seeds: van der Wal et al. 2025 (PolyPythias).
"""

from __future__ import annotations

import difflib
import json
import os
import re
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from . import hub
from .hub_errors import Retry
from .weight_files import join_hashes, sha256, weight_files

if TYPE_CHECKING:
    import torch

    from .model import Model

MODELS_VARIABLE = "CIRCUITBOOK_MODELS"

# ---- Pythia ----------------------------------------------------------------------------------------------------------

PYTHIA_TOKENS_PER_STEP = 2_097_152  # 1024 sequences of 2048 tokens
PYTHIA_SIZES = ("14m", "31m", "70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")
PYTHIA_MODELS = tuple(f"pythia-{size}" for size in PYTHIA_SIZES)
PYTHIA_VARIANTS = (
    *(f"{model}-deduped" for model in PYTHIA_MODELS),
    *(f"pythia-{size}-seed{seed}" for size in PYTHIA_SIZES[:5] for seed in range(1, 10)),
    # Only the order of the data, only the initial weights, or dropout differ: these exist at 160m alone.
    *(f"pythia-160m-{what}-seed{seed}" for what in ("data", "weight") for seed in (1, 2, 3)),
    *(f"pythia-160m-{what}dropout" for what in ("attn", "hidden", "all")),
)
_EARLY = tuple(2**i for i in range(10))  # 1, 2, 4, ..., 512
PYTHIA_STEPS = (0, *_EARLY, *range(1000, 143_001, 1000))

# The authors' named schedules. "paper" is their exp_plus_detail, in which 15000 occurs twice; here once.
PYTHIA_SCHEDULES = {
    "all": PYTHIA_STEPS,
    "linear": tuple(range(1000, 143_001, 1000)),
    "exponential": (*_EARLY, *(round(2**i / 1000) * 1000 for i in range(10, 18))),
    "exp_plus_detail": (
        *_EARLY,
        *range(1000, 15_000, 1000),
        *range(15_000, 65_001, 5000),
        *range(70_000, 140_001, 10_000),
    ),
    "sparse": (
        *(256, 512),
        *range(1000, 9001, 1000),
        *range(10_000, 45_001, 5000),
        *range(50_000, 90_001, 10_000),
        *(100_000, 120_000, 140_000, 143_000),
    ),
}
PYTHIA_SCHEDULES["paper"] = PYTHIA_SCHEDULES["exp_plus_detail"]


# ---- where the weights are -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Folder:
    """Checkpoints on disk: `root/<model>/step<N>/`, each as transformers saves a model and its tokenizer (see `hub.STEP_NAME` for
    what else than step<N> they may be called). A tokenizer that all share may lie in `root/<model>/`."""

    root: Path
    prefer = "safetensors"

    def steps(self, model: str) -> tuple[int, ...]:
        return tuple(_steps_in(self.root / model))

    def fetch(self, model: str, step: int) -> Path:
        return self.root / model / _steps_in(self.root / model)[step]

    def weights_hash(self, model: str, step: int) -> str:
        return join_hashes([sha256(path) for path in weight_files(self.fetch(model, step), self.prefer)])


@dataclass(frozen=True)
class Hub:
    """Pythia on a hub: repository `owner/<model>`, revisions `step<N>`, the same steps for every model.

    prefer: "safetensors" or "pickle", where a revision has both.
    """

    owner: str
    all_steps: tuple[int, ...]
    prefer: str = "safetensors"
    retry: Retry = Retry()

    def steps(self, model: str) -> tuple[int, ...]:
        return self.all_steps

    def revision(self, model: str, step: int) -> str:
        return f"step{step}"

    def fetch(self, model: str, step: int) -> Path:
        return hub.fetch(f"{self.owner}/{model}", self.revision(model, step), self.prefer, self.retry)

    def weights_hash(self, model: str, step: int) -> str:
        return hub.weights_hash(f"{self.owner}/{model}", self.revision(model, step), self.prefer, self.retry)


@dataclass(frozen=True)
class Repositories:
    """Checkpoints on a hub: a repository for each model, with revisions of its own (see `hub.STEP_NAME`)."""

    repos: dict[str, str] = field(hash=False)                              # {model: owner/name}
    revisions: dict[str, dict[int, str]] = field(hash=False)               # {model: {step: revision}}
    prefer: str = "safetensors"
    retry: Retry = Retry()

    def steps(self, model: str) -> tuple[int, ...]:
        return tuple(self.revisions[model])

    def revision(self, model: str, step: int) -> str:
        return self.revisions[model][step]

    def fetch(self, model: str, step: int) -> Path:
        return hub.fetch(self.repos[model], self.revision(model, step), self.prefer, self.retry)

    def weights_hash(self, model: str, step: int) -> str:
        return hub.weights_hash(self.repos[model], self.revision(model, step), self.prefer, self.retry)


# ---- checkpoint and suite --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """One model at one training step.

    tokens_seen: tokens that the model was trained on until then; None when the suite does not say.
    """

    suite: str
    model: str
    step: int
    tokens_seen: int | None
    source: Folder | Hub | Repositories = field(repr=False)

    def fetch(self) -> Path:
        """Local folder with config.json, weights and tokenizer; from a hub, downloaded first, or HubError."""
        return self.source.fetch(self.model, self.step)

    @property
    def weights_hash(self) -> str:
        """sha256 of the file that holds the weights (of shards: of their hashes). Changes when any weight changes.

        Made anew at each call, in milliseconds for mini; for a hub it is the announced hash, without a download.
        """
        return self.source.weights_hash(self.model, self.step)

    def load(self, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> Model:
        """The model, ready to run (see circuitbook.model.load_model). dtype: float32 unless told otherwise."""
        # Here, since torch and transformers take seconds to import, and listing checkpoints needs neither.
        from .model import load_model

        return load_model(self, device, dtype)


@dataclass(frozen=True)
class Suite:
    """A family of models with their checkpoints.

    standard: the models that differ in size, small to large. variants: the others (seeds, data, dropout).
    tokens_per_step: None when unknown.
    """

    name: str
    standard: tuple[str, ...]
    source: Folder | Hub | Repositories = field(repr=False)
    tokens_per_step: int | None = None
    variants: tuple[str, ...] = field(default=(), repr=False)
    description: str = field(default="", repr=False)
    schedules: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of all models: the standard ones, small to large, then the variants."""
        return self.standard + self.variants

    def steps(self, model: str) -> tuple[int, ...]:
        """Training steps at which `model` was saved, ascending."""
        self._check_model(model)
        return self.source.steps(model)

    def checkpoint(self, model: str, step: int) -> Checkpoint:
        """`model` after `step` training steps."""
        steps = self.steps(model)
        if step not in steps:
            raise ValueError(
                f"step {step} of {model} does not exist; {_nearest(step, steps)} (see suite.steps({json.dumps(model)}))"
            )
        step = int(step)  # a numpy integer would overflow below
        tokens = None if self.tokens_per_step is None else step * self.tokens_per_step
        return Checkpoint(self.name, model, step, tokens, self.source)

    def schedule(self, model: str, name: str = "all") -> tuple[int, ...]:
        """The steps of a named schedule, ascending: "all" in every suite, more of them for Pythia."""
        steps = self.steps(model)
        if name != "all" and name not in self.schedules:
            names = ", ".join(dict.fromkeys(("all", *self.schedules)))
            raise ValueError(f"schedule {name!r} is unknown in suite {self.name}; it has: {names}")
        return steps if name == "all" else self.schedules[name]

    def _check_model(self, model: str) -> None:
        if model not in self.models:
            close = difflib.get_close_matches(str(model), self.models, n=3, cutoff=0.6)
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has: {', '.join(self.standard)}"
            raise ValueError(f"model {model!r} is unknown in suite {self.name}; {hint} (see suite.models)")


def load_suite(name: str | os.PathLike, retry: Retry = Retry()) -> Suite:
    """A suite by name: "mini", "pythia", a folder of `<model>/step<N>/`, or hub repositories "owner/name,owner/other".

    A folder may hold a `suite.json`: {"models": [standard models, small to large], "tokens_per_step": int,
    "description": str}, each of them optional; it may also be one run, with the steps in it. A hub repository is a model, its
    revisions the steps. Steps are called as in `hub.STEP_NAME`: step<N>, step<N>-tokens<M>B, checkpoint-<N> ...
    retry: how stubbornly to ask a hub that fails. ValueError, FileNotFoundError or HubError say what is wrong.
    """
    text = os.fspath(name)
    if text == "mini":
        return _folder_suite(_mini_folder(), "mini")
    if text == "pythia":
        # Some step revisions carry the final model's safetensors beside the step's own pickle, and transformers would
        # take those. So: the pickle, where there is one. Seen for 2.8b: github.com/EleutherAI/pythia/issues/205
        source = Hub("EleutherAI", PYTHIA_STEPS, prefer="pickle", retry=retry)
        return Suite(
            "pythia", PYTHIA_MODELS, source, PYTHIA_TOKENS_PER_STEP, PYTHIA_VARIANTS, "Pythia", PYTHIA_SCHEDULES
        )
    folder = Path(text).expanduser()
    if folder.is_dir():
        return _folder_suite(folder, folder.resolve().name)
    repos = [part.strip() for part in text.split(",")]
    if all(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo) for repo in repos):
        return _hub_suite(text, repos, retry)
    close = difflib.get_close_matches(text, ("mini", "pythia"), n=1)
    hint = f'did you mean "{close[0]}"?' if close else "no folder of that name exists"
    ways = '"mini", "pythia", a folder, or hub repositories "owner/name,owner/other"'
    raise ValueError(f"suite {text!r} is unknown; {hint} (give {ways})")


def _hub_suite(name: str, repos: list[str], retry: Retry) -> Suite:
    models = {repo.split("/")[1]: repo for repo in repos}
    if len(models) < len(repos):
        raise ValueError(f"suite {name!r} has two repositories of one name, and models go by it")
    revisions = {model: hub.list_steps(repo, retry) for model, repo in models.items()}
    if missing := [models[model] for model, steps in revisions.items() if not steps]:
        raise ValueError(f"hub repository {missing[0]} has no revisions step<N>, so there are no checkpoints to look at")
    return Suite(name, tuple(models), Repositories(models, revisions, retry=retry))


def _folder_suite(root: Path, name: str) -> Suite:
    file = root / "suite.json"
    about = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    alone = bool(_steps_in(root))                      # one run: its folder is the model
    found = {name} if alone else {path.name for path in root.iterdir() if path.is_dir() and _steps_in(path)}
    if not found:
        raise ValueError(f"folder {root} holds no checkpoints; they are expected in {root / '<model>' / 'step<N>'}")
    source = Folder(root.resolve().parent if alone else root)
    standard = tuple(about.get("models") or sorted(found, key=lambda model: (_bytes_of(source.root / model), model)))
    if missing := [model for model in standard if model not in found]:
        raise ValueError(f"{file} names {', '.join(missing)}, but {root} holds no checkpoints of that name")
    return Suite(name, standard, source, about.get("tokens_per_step"), tuple(sorted(found - set(standard))),
                 about.get("description", ""))


def _mini_folder() -> Path:
    """models/mini: under $CIRCUITBOOK_MODELS, else in the repository that this package is run from."""
    told = os.environ.get(MODELS_VARIABLE)
    folder = (Path(told).expanduser() if told else Path(__file__).resolve().parents[2] / "models") / "mini"
    if folder.is_dir():
        return folder
    if told:
        raise FileNotFoundError(f"{MODELS_VARIABLE} is {told}, but there is no folder mini in it")
    raise FileNotFoundError(
        f"the mini suite is not at {folder}: it comes with the repository, not with the installed package. Clone the "
        f"repository and install it with `pip install -e .`, or set {MODELS_VARIABLE} to the clone's folder models"
    )


def _steps_in(folder: Path) -> dict[int, str]:
    """{step: name of its folder}, ascending."""
    if not folder.is_dir():
        return {}
    return hub.by_step((path.name for path in folder.iterdir() if (path / "config.json").exists()), folder)


def _bytes_of(model: Path) -> int:
    """Size of a model's last weights: orders models by size without loading them."""
    return sum(path.stat().st_size for path in weight_files(model / list(_steps_in(model).values())[-1]))


def _nearest(step: int, steps: tuple[int, ...]) -> str:
    """_nearest(1001, (512, 1000, 2000)) -> "nearest are 1000 and 2000"."""
    if not steps:
        return "there are none"
    try:
        place = bisect_left(steps, step)
    except TypeError:
        return "a step is a whole number"
    near = steps[max(0, place - 1) : place + 1]
    return f"nearest are {near[0]} and {near[1]}" if len(near) == 2 else f"nearest is {near[0]}"
