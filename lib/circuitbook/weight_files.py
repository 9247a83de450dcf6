"""Which files of a checkpoint hold its weights, and one hash for them. No torch needed."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection
from pathlib import Path

KINDS = {
    "safetensors": ("model.safetensors", "model.safetensors.index.json"),
    "pickle": ("pytorch_model.bin", "pytorch_model.bin.index.json"),
}


def choose_weights(names: Collection[str], prefer: str = "safetensors") -> str | None:
    """The file that the weights start from: the only one, or the index of a sharded set; None when there is none.

    choose_weights({"pytorch_model.bin", "model.safetensors"}) -> "model.safetensors"
    """
    order = KINDS[prefer] + tuple(name for kind in KINDS for name in KINDS[kind] if kind != prefer)
    return next((name for name in order if name in names), None)


def shards(index: Path) -> tuple[str, ...]:
    """Names of the files that an index (`*.index.json`) speaks of."""
    return tuple(sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())))


def weight_files(folder: Path, prefer: str = "safetensors") -> tuple[Path, ...]:
    """The files in `folder` that hold the weights. FileNotFoundError when one is missing."""
    first = choose_weights({path.name for path in folder.iterdir()}, prefer) if folder.is_dir() else None
    if first is None:
        raise FileNotFoundError(f"{folder} holds no weights: model.safetensors or pytorch_model.bin is expected there")
    files = tuple(folder / name for name in (shards(folder / first) if first.endswith(".json") else (first,)))
    for path in files:
        if not path.exists():
            raise FileNotFoundError(f"{folder / first} speaks of {path.name}, which is not there")
    return files


def sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes. In huggingface_hub's cache a large file's name is its hash: no need to read it."""
    if path.is_symlink():
        target = Path(os.readlink(path))
        if target.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", target.name):
            return target.name
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def join_hashes(hashes: Collection[str]) -> str:
    """One hash for the weights: the file's own or, for shards in the order of their names, the hash of their hashes."""
    return next(iter(hashes)) if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()
