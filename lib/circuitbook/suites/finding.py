"""Suites: which models there are, at which steps, after how many tokens, and where their weights
are.

    suite = load_suite("mini")                      # or "pythia", a folder, a hub repository
                                                    "owner/name"
    suite.models; suite.steps("mini-m")             # names; training steps, ascending
    checkpoint = suite.checkpoint("mini-m", 512)    # checkpoint.tokens_seen, .weights_hash,
                                                    .fetch(), .load()

Pythia: Biderman et al. 2023; its seeds: van der Wal et al. 2025 (PolyPythias).
"""

from __future__ import annotations

import difflib
import json
import os
import re
from pathlib import Path

from circuitbook.paths import PACKAGE
from circuitbook.suites.pythia import (
    PYTHIA_MODELS,
    PYTHIA_SCHEDULES,
    PYTHIA_STEPS,
    PYTHIA_TOKENS_PER_STEP,
    PYTHIA_VARIANTS,
)
from circuitbook.suites.sources import Folder, Hub, Repositories, _steps_in
from circuitbook.suites.suite import Suite
from circuitbook.weights.asking import Retry
from circuitbook.weights.files import weight_files
from circuitbook.weights.hub import list_steps

MODELS_VARIABLE = "CIRCUITBOOK_MODELS"


def load_suite(name: str | os.PathLike, retry: Retry = Retry()) -> Suite:
    """A suite by name: "mini", "pythia", a folder of `<model>/step<N>/`, or hub repositories
    "owner/name,owner/other".

    A folder may hold a `suite.json`: {"models": [standard models, small to large],
    "tokens_per_step": int,
    "description": str}, each of them optional; it may also be one run, with the steps in it. A hub
    repository is a model, its revisions the steps. Steps are called as in `hub.STEP_NAME`: step<N>,
    step<N>-tokens<M>B, checkpoint-<N> ...
    retry: how stubbornly to ask a hub that fails. ValueError, FileNotFoundError or HubError say
    what is wrong.
    """
    text = os.fspath(name)
    if text == "mini":
        return _folder_suite(_mini_folder(), "mini")
    if text == "pythia":
        # Some step revisions carry the final model's safetensors beside the step's own pickle, and
        # transformers would take those. So: the pickle, where there is one. Seen for 2.8b:
        # github.com/EleutherAI/pythia/issues/205
        source = Hub("EleutherAI", PYTHIA_STEPS, prefer="pickle", retry=retry)
        return Suite(
            "pythia",
            PYTHIA_MODELS,
            source,
            PYTHIA_TOKENS_PER_STEP,
            PYTHIA_VARIANTS,
            "Pythia",
            PYTHIA_SCHEDULES,
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
    revisions = {model: list_steps(repo, retry) for model, repo in models.items()}
    if missing := [models[model] for model, steps in revisions.items() if not steps]:
        raise ValueError(
            f"hub repository {missing[0]} has no revisions step<N>, so there are no checkpoints to look at"
        )
    return Suite(name, tuple(models), Repositories(models, revisions, retry=retry))


def _folder_suite(root: Path, name: str) -> Suite:
    file = root / "suite.json"
    about = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    alone = bool(_steps_in(root))  # one run: its folder is the model
    found = (
        {name}
        if alone
        else {path.name for path in root.iterdir() if path.is_dir() and _steps_in(path)}
    )
    if not found:
        raise ValueError(
            f"folder {root} holds no checkpoints; they are expected in {root / '<model>' / 'step<N>'}"
        )
    source = Folder(root.resolve().parent if alone else root)
    standard = tuple(
        about.get("models")
        or sorted(found, key=lambda model: (_bytes_of(source.root / model), model))
    )
    if missing := [model for model in standard if model not in found]:
        raise ValueError(
            f"{file} names {', '.join(missing)}, but {root} holds no checkpoints of that name"
        )
    return Suite(
        name,
        standard,
        source,
        about.get("tokens_per_step"),
        tuple(sorted(found - set(standard))),
        about.get("description", ""),
    )


def _mini_folder() -> Path:
    """models/mini: under $CIRCUITBOOK_MODELS, else in the repository that this package is run
    from."""
    told = os.environ.get(MODELS_VARIABLE)
    folder = (Path(told).expanduser() if told else PACKAGE.parents[1] / "models") / "mini"
    if folder.is_dir():
        return folder
    if told:
        raise FileNotFoundError(f"{MODELS_VARIABLE} is {told}, but there is no folder mini in it")
    raise FileNotFoundError(
        f"the mini suite is not at {folder}: it comes with the repository, not with the installed package. Clone the "
        f"repository and install it with `pip install -e .`, or set {MODELS_VARIABLE} to the clone's folder models"
    )


def _bytes_of(model: Path) -> int:
    """Size of a model's last weights: orders models by size without loading them."""
    return sum(
        path.stat().st_size for path in weight_files(model / list(_steps_in(model).values())[-1])
    )
