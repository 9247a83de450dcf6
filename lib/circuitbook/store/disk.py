"""Measurements on disk: each one is made once, and read ever after.

A measurement is filed under a key made of everything that determines it: its kind, its parameters
(model, step, hashes of weights, config.json and tokenizer, task, recipe, seed) and the source code
that computes it.

    store = Store()
    key = measurement_key("ability", code=(measure,), n=70, **checkpoint.identity)
    table = store.table(key, lambda: measure(...))  # measured once, then read from disk

On disk, `<store>/<kind>/<xx>/<digest>` with three endings: `.parquet` (a table) or `.safetensors`
(arrays), `.json` (where it comes from, and the payload's sha256) and `.lock`. The payload is
written first and the JSON last, each to a temporary file that is then renamed, so a process that
dies leaves nothing that could be read.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from circuitbook.paths import checkout
from circuitbook.store.drive import DRIVE, mount_drive
from circuitbook.store.files import write_atomically
from circuitbook.store.formats import ARRAYS, TABLE, _Format
from circuitbook.store.keys import Key
from circuitbook.store.locks import acquire
from circuitbook.store.provenance import machine, versions
from circuitbook.store.sweeping import sweep_store


class StoreError(RuntimeError):
    """The store cannot be written. `value` is the measurement that could not be kept (None if it
    was not made yet).
    """

    def __init__(self, message: str, value: object = None):
        super().__init__(message)
        self.value = value


def default_store_path() -> Path:
    """$CIRCUITBOOK_STORE if set, else `.store` in the book's checkout, else `.store` in the current
    folder.
    """
    if os.environ.get("CIRCUITBOOK_STORE"):
        return Path(os.path.expanduser(os.environ["CIRCUITBOOK_STORE"])).absolute()
    return (checkout() or Path.cwd()) / ".store"


# What comes of reading a JSON that is not an entry's: no JSON, no UTF-8, entries of other types
_NOT_WRITTEN = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


class _Damaged(Exception):
    """A payload or its JSON is there but is not what was written."""


def _payload_beside(file: Path, record: dict) -> Path:
    """The payload of an entry's JSON: the file of the same name beside it, and no other.

    ValueError where the JSON names another one, which this store never wrote.
    """
    if record["file"] not in [file.stem + form.suffix for form in (TABLE, ARRAYS)]:
        raise ValueError(f"it names {record['file']!r} as its payload, which is not beside it")
    return file.with_name(record["file"])


class Store:
    """A folder of measurements, safe to share between processes on one machine.

    Of several processes that want the same key, one measures while the others wait, say for whom
    (a warning in the log), and then read; the lock is the operating system's, so that of a process
    which died is free again. On Google Drive, which has no such locks, it does without: two
    sessions may then measure the same, and neither harms the other.

    With $CIRCUITBOOK_STORE_TRACE set to a file, each use adds a line to it: `<digest> measured|read
    <seconds>`, the seconds being what measuring took. The book's build tells from it what a chapter
    would cost from nothing.
    """

    def __init__(self, path: str | os.PathLike | None = None):
        self.path = (
            default_store_path() if path is None else Path(os.path.expanduser(path)).absolute()
        )
        mount_drive(self.path)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def table(self, key: Key, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """The table kept under `key`; if there is none (or it is damaged), compute() is called,
        once, and kept.

        Errors: TypeError if compute() does not return a DataFrame that parquet can hold; StoreError
        if the store cannot be written. What compute() raises comes through, and nothing is kept.
        """
        return self._get(key, compute, TABLE)

    def arrays(
        self, key: Key, compute: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """The arrays kept under `key`, by name; like `table` otherwise. Numbers and booleans of any
        shape.
        """
        return self._get(key, compute, ARRAYS)

    def has(self, key: Key) -> bool:
        """Whether `key` is there to be read (the checksum is only looked at when it is read)."""
        try:
            record = self._record(key)
        except _Damaged:
            return False
        return record is not None and record["file"].is_file()

    def entries(self, kind: str | None = None) -> pd.DataFrame:
        """Where every measurement comes from: one row each, oldest first.

        Columns: kind, digest, payload, date (UTC), seconds (to measure), bytes, file, cpu, host,
        versions, code, and one column for each parameter of the keys.
        """
        rows = []
        for file in sorted(self.path.glob(f"{kind or '*'}/*/*.json")):
            try:
                record = json.loads(file.read_text(encoding="utf8"))
                row = {
                    name: record[name]
                    for name in ("kind", "digest", "payload", "date", "seconds", "bytes")
                }
                row |= {"file": str(_payload_beside(file, record)), "cpu": record["machine"]["cpu"]}
                row |= {
                    "host": record["machine"]["host"],
                    "versions": record["versions"],
                    "code": record["code"],
                }
                rows.append(
                    row | {name: value for name, value in record["what"].items() if name not in row}
                )
            except (OSError, *_NOT_WRITTEN) as error:
                warnings.warn(f"{file} is not readable and is left out ({error})", stacklevel=2)
        if not rows:
            return pd.DataFrame(
                columns=["kind", "digest", "payload", "date", "seconds", "bytes", "file"]
            )
        table = pd.DataFrame(rows)
        return table.sort_values(
            "date", key=lambda date: date.map(str), kind="stable", ignore_index=True
        )

    def _get(self, key: Key, compute: Callable[[], object], form: _Format) -> Any:
        if not isinstance(key, Key):
            raise TypeError(f"a key comes from measurement_key(...), not {key!r}")
        with contextlib.suppress(_Damaged):  # without the lock: a read-only store can still be read
            if found := self._read(key, form):
                return self._used(key, "read", *found)
        with self._locked(key) if not self.path.is_relative_to(DRIVE) else contextlib.nullcontext():
            try:
                if found := self._read(key, form):  # another process measured it while we waited
                    return self._used(key, "read", *found)
            except _Damaged as damage:
                warnings.warn(
                    f"measurement {key} is damaged and is measured again: {damage}", stacklevel=3
                )
            started = time.perf_counter()
            value = compute()
            seconds = time.perf_counter() - started
            self._write(key, value, form, seconds)
            written = self._read(key, form)
            assert written is not None, f"{key} was written a moment ago"
            return self._used(key, "measured", *written)

    def _base(self, key: Key) -> Path:
        return self.path / key.kind / key.digest[:2] / key.digest

    def _record(self, key: Key) -> dict | None:
        """The JSON beside the payload, its file as a path, or None if this key was never
        finished."""
        file = self._base(key).with_suffix(".json")
        try:
            record = json.loads(file.read_text(encoding="utf8"))
            kept = {name: record[name] for name in ("payload", "sha256", "seconds")}
            return kept | {"file": _payload_beside(file, record)}
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (IsADirectoryError, *_NOT_WRITTEN) as error:
            raise _Damaged(f"{file} is not the JSON that was written ({error!r})") from error

    def _read(self, key: Key, form: _Format) -> tuple[object, float] | None:
        """(value, seconds it took to measure), or None if there is nothing yet."""
        record = self._record(key)
        if record is None:
            return None
        if record["payload"] not in (TABLE.name, ARRAYS.name):
            raise _Damaged(f"its JSON says that it holds {record['payload']!r}")
        if record["payload"] != form.name:
            raise TypeError(
                f"{key} holds {record['payload']}: ask for it with store.{record['payload']}(...)"
            )
        file = record["file"]
        try:
            payload = file.read_bytes()
        except (FileNotFoundError, IsADirectoryError) as error:
            raise _Damaged(f"{file} is missing") from error
        if hashlib.sha256(payload).hexdigest() != record["sha256"]:
            raise _Damaged(f"{file} ({len(payload)} bytes) does not match its checksum")
        return form.decode(payload), record["seconds"]

    def _write(self, key: Key, value: object, form: _Format, seconds: float) -> None:
        payload = form.encode(value, key)
        base = self._base(key)
        fields = json.loads(key.fields)
        record = {
            "kind": key.kind,
            "digest": key.digest,
            "what": fields["what"],
            "code": key.code,
            "payload": form.name,
            "file": base.name + form.suffix,
            "sha256": hashlib.sha256(payload).hexdigest(),
            "bytes": len(payload),
            "seconds": round(seconds, 4),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds"),
            "machine": machine(),
            "versions": versions(),
        }
        try:
            write_atomically(base.with_suffix(form.suffix), payload)
            write_atomically(base.with_suffix(".json"), json.dumps(record, indent=1).encode())
        except OSError as error:
            raise StoreError(
                f"measurement {key} took {seconds:.0f} s but could not be written to {self.path}: "
                f"{error.strerror or error}; what was there before is unharmed, and the result is "
                "in this error's .value. Free some space, or set CIRCUITBOOK_STORE to another "
                "folder",
                value,
            ) from error

    @contextlib.contextmanager
    def _locked(self, key: Key) -> Iterator[None]:
        base = self._base(key)
        try:
            base.parent.mkdir(parents=True, exist_ok=True)
            sweep_store(self.path)
            lock = acquire(base.with_suffix(".lock"), f"is measuring {key}")
        except OSError as error:
            raise StoreError(
                f"the store {self.path} cannot be written: {error.strerror or error}; "
                "set CIRCUITBOOK_STORE to a folder that can be"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _used(self, key: Key, how: str, value: object, seconds: float) -> object:
        if trace := os.environ.get("CIRCUITBOOK_STORE_TRACE"):
            with open(
                trace, "a", encoding="utf8"
            ) as file:  # one short line in append mode: whole, from any process
                file.write(f"{key.digest} {how} {seconds}\n")
        return value
