"""Sweeps: the section notebooks over many checkpoints, on Dask, with nothing lost.

    python -m circuitbook sweep --suite pythia --models pythia-160m --steps paper --notebooks all

A shard is a few checkpoints of one model: one worker downloads them, executes every section
notebook on them with papermill, and drops them again if the disk budget is spent. What the
notebooks measure goes to the store, which all workers share. When the shards are done, the
notebooks are executed once over everything: all is in the store by then, and what comes out is the
tables and figures of the whole sweep.

In the folder of a sweep (`--out`):

    shards/<model>-<first step>-<last step>.json      one file a shard, written whole when it ends:
                                                      done, or failed and why
    notebooks/<shard>/<notebook>.ipynb                executed copies; of what failed, as far as it
                                                      came
    <notebook>.ipynb                                  over everything

Killed at any moment, the same command goes on: what is done is not done again. What failed stays
failed, is listed with its reason, and is tried again with --retry-failed; the exit status tells.
Nothing here needs the scheduler to survive.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from circuitbook.publishing.errors import BuildError
from circuitbook.publishing.execute import execute_notebook
from circuitbook.publishing.fingerprints import checkpoint_identity, contents, package_contents
from circuitbook.store.files import write_atomically
from circuitbook.store.provenance import versions

if TYPE_CHECKING:  # imports torch
    from circuitbook.studies.parameters import Selection

SECTIONS = (
    "abilities",
    "circuits-over-training",
    "components",
    "after-formation",
    "algorithm",
    "stability",
)


FINAL = ("report",)  # over everything only: they compare checkpoints and models


TEACHING = ("instructor", "exercise", "solution")  # cells that measure nothing a chapter needs


PER_SHARD = 8  # checkpoints: a kernel takes seconds to start


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Some checkpoints of one model and what is executed on them. Travels to the workers as it is.

    identities: of each step, as planned: hashes of weights, config.json and tokenizer; on a hub,
    the revision's name. root: the folder with notebooks/. budget_gb: what downloaded checkpoints
    may take on a worker's disk.
    """

    model: str
    steps: tuple[int, ...]
    identities: tuple[dict[str, str], ...] = field(hash=False)
    notebooks: tuple[str, ...]
    parameters: dict[str, object] = field(hash=False)
    root: str
    out: str
    budget_gb: float | None = None

    @property
    def name(self) -> str:
        """pythia-160m-0-512, or pythia-160m-512 of a single step."""
        ends = dict.fromkeys([self.steps[0], self.steps[-1]])
        return "-".join([self.model, *map(str, ends)])

    @property
    def record(self) -> Path:
        """The file that says how it ended."""
        return Path(self.out) / "shards" / f"{self.name}.json"

    @property
    def fingerprint(self) -> str:
        """What decides whether a shard that is done is this one: its checkpoints and what is in
        them, its notebooks and parameters, and the library."""
        notebooks = [Path(self.root) / "notebooks" / f"{name}.ipynb" for name in self.notebooks]
        what = [
            self.model,
            self.steps,
            self.identities,
            [contents(notebook) for notebook in notebooks],
            self.parameters,
            package_contents(),
            versions(),
        ]
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Outcome:
    """How a shard ended. `state`: "done", "failed", or "missing" if it has not been executed (or
    something changed since)."""

    name: str
    state: str
    seconds: float = 0.0
    reason: str = ""
    notebook: str = ""  # the executed copy, as far as it came, of what failed
    fingerprint: str = ""


# ------------------------------------------------------------------ what there is to do


def plan(
    root: Path,
    out: Path,
    store: Path,
    selection: Selection,
    notebooks: Sequence[str],
    parameters: dict[str, object],
    *,
    per_shard: int = PER_SHARD,
    budget_gb: float | None = None,
) -> list[Shard]:
    """The shards of a selection (see `parameters.select`), model after model, steps ascending."""
    if per_shard < 1:
        raise ValueError(f"{per_shard} checkpoints a shard are not possible; give at least 1")
    shards = []
    for model, steps in selection.steps.items():
        for i in range(0, len(steps), per_shard):
            some = tuple(steps[i : i + per_shard])
            own = {"MODELS": [model], "STEPS": list(some), "STORE": str(store)}
            shards.append(
                Shard(
                    model=model,
                    steps=some,
                    notebooks=tuple(notebooks),
                    parameters=parameters | own,
                    root=str(root),
                    out=str(out),
                    budget_gb=budget_gb,
                    identities=tuple(
                        checkpoint_identity(selection.suite, model, step) for step in some
                    ),
                )
            )
    named: dict[str, str] = {}
    for shard in shards:
        if (other := named.setdefault(shard.name, shard.model)) != shard.model:
            raise ValueError(
                f"shards of {other} and {shard.model} would both be called {shard.name}, and write "
                "the same files; sweep one model after the other, each with an --out of its own"
            )
    return shards


def chosen_notebooks(names: str | Sequence[str], root: Path) -> tuple[str, ...]:
    """Section notebooks by name; "all" for every section. ValueError for others."""
    names = [names] if isinstance(names, str) else list(names)
    if names == ["all"]:
        names = list(SECTIONS)
    for name in names:
        if name not in SECTIONS:
            raise ValueError(
                f"no section notebook {name!r} to sweep over; "
                f"there are: {', '.join(SECTIONS)}, or all"
            )
        if not (root / "notebooks" / f"{name}.ipynb").is_file():
            raise ValueError(
                f"there is no {root / 'notebooks' / name}.ipynb: "
                "run this in the book's folder, or pass --root"
            )
    return tuple(dict.fromkeys(names))


def outcome(shard: Shard) -> Outcome:
    """What the disk says of a shard."""
    missing = Outcome(shard.name, "missing")
    try:
        recorded = Outcome(**json.loads(shard.record.read_text(encoding="utf8")))
    except (OSError, ValueError, TypeError):  # no file, or not ours
        return missing
    return recorded if recorded.fingerprint == shard.fingerprint else missing


def write_record(shard: Shard, ended: Outcome) -> None:
    """Writes down how a shard ended; if the disk is full, the sweep still hears of it."""
    with contextlib.suppress(OSError):
        write_atomically(shard.record, json.dumps(dataclasses.asdict(ended), indent=1).encode())


# ------------------------------------------------------------------ one shard, on a worker


def run_shard(shard: Shard) -> Outcome:
    """Executes a shard's notebooks one after the other and writes its record; never raises but for
    Ctrl-C.

    If a notebook fails, the others are tried all the same, for what they can still put into the
    store.
    """
    begun, fingerprint = time.monotonic(), shard.fingerprint
    reasons, first_failed = [], ""
    for name in shard.notebooks:
        target = Path(shard.out) / "notebooks" / shard.name / f"{name}.ipynb"
        try:
            execute_notebook(
                Path(shard.root) / "notebooks" / f"{name}.ipynb",
                target,
                shard.parameters,
                root=Path(shard.root),
                title=f"{shard.name} {name}",
                without=TEACHING,
            )
        except BuildError as error:
            reasons.append(_reason(name, str(error)))
            first_failed = first_failed or str(target.with_suffix(".partial.ipynb"))
        # a full disk, a kernel that does not start
        except (OSError, RuntimeError, ValueError) as error:
            told = str(error).splitlines() or [traceback.format_exc(1)]
            reasons.append(f"{name}: {type(error).__name__}: {told[0]}")
            first_failed = first_failed or str(target)
    if shard.budget_gb is not None:
        # a cache that cannot be tidied is no reason to lose a result
        with contextlib.suppress(Exception):
            _tidy_cache(shard, shard.budget_gb)
    ended = Outcome(
        name=shard.name,
        state="failed" if reasons else "done",
        seconds=round(time.monotonic() - begun, 2),
        reason="; ".join(reasons),
        notebook=first_failed,
        fingerprint=fingerprint,
    )
    write_record(shard, ended)
    return ended


def _tidy_cache(shard: Shard, budget_gb: float) -> None:
    """Drops the shard's checkpoints from the hub's cache, if that takes more than the budget."""
    from circuitbook.suites.finding import load_suite
    from circuitbook.weights.hub import drop_beyond

    source = load_suite(str(shard.parameters["SUITE"])).source
    if repo := source.repo(shard.model):
        revisions = {source.revision(shard.model, step) for step in shard.steps}
        drop_beyond(budget_gb * 1e9, repo, revisions)


def _reason(notebook: str, message: str) -> str:
    """One line of a BuildError: the notebook and what its cell said."""
    lines = [line.strip() for line in message.splitlines()]
    raised = next((line for line in lines[1:] if re.match(r"[\w.]+: ", line)), lines[0])
    return f"{notebook}: {raised}"
