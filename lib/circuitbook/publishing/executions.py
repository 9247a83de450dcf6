"""The page that says how each chapter was made: time, measurements, machine, date and versions,
from the executed copies."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from pathlib import Path

from circuitbook.publishing.execute import METADATA, duration, machine_text

# a comment in Markdown; `build.stage` puts the record in its place
PLACE = "% the execution record is put here by the build"


def execution_record(src: Path, chapters: Iterable[str]) -> str:
    """Markdown for the executed copies `src`/<chapter>.ipynb: one table, and what it was all made
    on and with.

    A machine or a set of versions that all chapters share is said once, below the table; else each
    row says its own.
    """
    made = {
        chapter: record for chapter in chapters if (record := record_of(src / f"{chapter}.ipynb"))
    }
    if not made:
        return "No chapter has been executed yet."
    machines = {chapter: machine_text(record["machine"]) for chapter, record in made.items()}
    shared = len(set(machines.values())) == 1
    rows = [
        ["chapter", "ran in", "measurements", "new", "they took", "date", "machine"],
        ["---", "--:", "--:", "--:", "--:", "---", "---"],
    ]
    for chapter, record in made.items():
        uses = record["measurements"]
        rows.append(
            [
                f"{{doc}}`/{chapter}`",
                _took(record["seconds"]),
                f"{uses['used']:,}",
                f"{uses['measured']:,}",
                _took(uses["seconds"]),
                _day(record["date"]),
                machines[chapter],
            ]
        )
    used, new = (
        sum(record["measurements"][key] for record in made.values()) for key in ("used", "measured")
    )
    seconds = sum(record["seconds"] for record in made.values())
    rows.append(["**all**", _took(seconds), f"{used:,}", f"{new:,}", "", "", ""])
    sentences = _versions(made)
    if shared:
        rows = [row[:-1] for row in rows]
        sentences = [f"All on {next(iter(machines.values()))}.", *sentences]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return "\n\n".join([table, " ".join(sentences)])


def record_of(executed: Path) -> dict | None:
    """What `execute_notebook` wrote down in this executed copy; None where there is none that can
    be read."""
    try:
        return json.loads(executed.read_text(encoding="utf8"))["metadata"][METADATA]
    except (OSError, ValueError, LookupError):
        return None


def _took(seconds: float) -> str:
    return duration(seconds).replace(" ", "\u00a0") if seconds else ""  # stays on one line


def _day(date: str) -> str:
    day = datetime.datetime.fromisoformat(date)
    return f"{day.day} {day:%b %Y}".replace(" ", "\u00a0")


def _versions(made: dict[str, dict]) -> list[str]:
    """A sentence for each set of versions, the first with all of them, the others with what differs
    from it."""
    sets: dict[str, list[str]] = {}
    for chapter, record in made.items():
        sets.setdefault(json.dumps(record["versions"], sort_keys=True), []).append(chapter)
    (first, _), *others = sets.items()
    usual = json.loads(first)
    sentences = [f"{'Made' if others else 'All'} with {_listed(usual)}."]
    for other, chapters in others:
        differs = {
            name: version
            for name, version in json.loads(other).items()
            if usual.get(name) != version
        }
        named = ", ".join(f"{{doc}}`/{chapter}`" for chapter in chapters)
        sentences.append(f"But {named} with {_listed(differs) or 'fewer packages'}.")
    return sentences


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
