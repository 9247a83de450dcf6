"""Which files of a checkpoint hold its weights, and one hash for them. No torch needed."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from circuitbook.weights.json_files import read_object

WEIGHT_FILES = {
    "safetensors": ("model.safetensors", "model.safetensors.index.json"),
    "pickle": ("pytorch_model.bin", "pytorch_model.bin.index.json"),
}


# What else than the weights determines a model's numbers; of a tokenizer, what a hub has and what
# folders may hold besides.
CONFIG = "config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
OTHER_TOKENIZER_FILES = ("vocab.json", "merges.txt", "vocab.txt", "tokenizer.model")
# What holds a tokenizer: each of these will do
SENTENCE_PIECES = "tokenizer.model"
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"), (SENTENCE_PIECES,))

# What peft and others save: the changes to another model's weights
ADAPTER = "adapter_config.json"
_ADAPTERS = re.compile(r"(pytorch_)?adapters?([_.-].*)?\.(json|safetensors|bin|pt)")
ADAPTER_ADVICE = (
    "there is an adapter, which is not applied: merge it into its model and save that, with peft's "
    "model.merge_and_unload().save_pretrained(folder)"
)


def adapter_in(folder: Path) -> str | None:
    """The first of an adapter's files in a folder: adapter_config.json, adapter_model.bin ..."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return next((name for name in names if _ADAPTERS.fullmatch(name)), None)


def choose_weights(names: Collection[str], prefer: str = "safetensors") -> str | None:
    """The file that the weights start from: the only one, or the index of a sharded set; None when
    there is none.

    choose_weights({"pytorch_model.bin", "model.safetensors"}) -> "model.safetensors"
    """
    order = WEIGHT_FILES[prefer] + tuple(
        name for kind in WEIGHT_FILES for name in WEIGHT_FILES[kind] if kind != prefer
    )
    return next((name for name in order if name in names), None)


def shards(index: Path) -> tuple[str, ...]:
    """Names of the files that an index (`*.index.json`) speaks of, which lie in its folder.

    ValueError, naming the index, where it is not one, or a file would lie elsewhere. The file
    itself may be a link, as in a hub's cache.
    """
    weight_map = read_object(index).get("weight_map")
    names = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not names:
        raise ValueError(
            f'{index} is no index of weights: it needs a "weight_map" from tensors to files'
        )
    for name in names:
        if not is_inside(name):
            raise ValueError(
                f"{index} names {str(name)[:80]!r} as a file of weights, which is not in its "
                "folder: give the index that belongs to these weights"
            )
    return tuple(sorted(set(names)))


def is_inside(name: object) -> bool:
    """Whether a name that was read from a file stays in the folder it is looked up in.

    >>> [is_inside(name) for name in ("a.bin", "part/a.bin", "../a.bin", "/etc/a", "..\\\\a", "")]
    [True, True, False, False, False, False]
    """
    if not isinstance(name, str) or not name or "\\" in name or "\0" in name:
        return False
    return not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts


def weight_files(folder: Path, prefer: str = "safetensors") -> tuple[Path, ...]:
    """The files in `folder` that hold the weights. FileNotFoundError when one is missing."""
    first = (
        choose_weights({path.name for path in folder.iterdir() if path.is_file()}, prefer)
        if folder.is_dir()
        else None
    )
    if first is None:
        adapter = f" ({ADAPTER_ADVICE})" if (folder / ADAPTER).exists() else ""
        raise FileNotFoundError(
            f"{folder} holds no weights: model.safetensors or pytorch_model.bin is expected "
            f"there{adapter}"
        )
    files = tuple(
        folder / name for name in (shards(folder / first) if first.endswith(".json") else (first,))
    )
    for path in files:
        if not path.is_file():
            raise FileNotFoundError(f"{folder / first} speaks of {path.name}, which is not there")
    return files


def sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def join_hashes(hashes: Collection[str]) -> str:
    """One hash for the weights: the file's own or, for shards in the order of their names, the hash
    of their hashes."""
    if len(hashes) == 1:
        return next(iter(hashes))
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def tokenizer_folder(folder: Path) -> Path | None:
    """Where the tokenizer of a checkpoint's folder is; None if nowhere.

    Beside the weights, in the folder above, or, in huggingface_hub's cache, in the folder of the
    repository's revision main.
    """
    places = (folder, folder.parent, _main_revision(folder))
    return next((place for place in places if place and holds_tokenizer(place)), None)


def holds_tokenizer(folder: Path) -> bool:
    """Whether a folder holds tokenizer.json, vocab.json and merges.txt, or tokenizer.model."""
    return any(all((folder / name).is_file() for name in names) for names in TOKENIZERS)


def tokenizer_names(names: Collection[str]) -> tuple[str, ...]:
    """Of a revision's files on a hub, those that its tokenizer is read from; () without one.

    >>> tokenizer_names({"tokenizer.json", "vocab.json", "config.json"})
    ('tokenizer.json',)
    """
    for needed in TOKENIZERS:
        if all(name in names for name in needed):
            return (*needed, *(name for name in TOKENIZER_FILES[1:] if name in names))
    return ()


def _main_revision(folder: Path) -> Path | None:
    """Beside a revision's folder in huggingface_hub's cache, that of the revision main."""
    main = folder.parents[1] / "refs" / "main" if folder.parent.name == "snapshots" else None
    if main is None or not main.is_file():
        return None
    return folder.with_name(main.read_text(encoding="utf-8").strip())


def settings_ids(folder: Path) -> dict[str, str]:
    """{name: git's id of the content} of config.json and the tokenizer's files, as far as there are
    any.

    A hub announces the same ids. Of large files it keeps the sha256; in its cache a file's name
    tells which.
    """
    place = tokenizer_folder(folder) or folder
    files = [
        folder / CONFIG,
        *(place / name for name in (*TOKENIZER_FILES, *OTHER_TOKENIZER_FILES)),
    ]
    return {file.name: content_id(file) for file in files if file.is_file()}


def content_id(path: Path) -> str:
    """Git's id of a file's content, or in huggingface_hub's cache of large files its sha256."""
    data = path.read_bytes()
    if path.is_symlink() and len(Path(os.readlink(path)).name) == 64:
        return hashlib.sha256(data).hexdigest()
    return git_id(data)


def git_id(data: bytes) -> str:
    """The id that git gives to this content.  git_id(b"") ->
    "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391" """
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def join_ids(ids: Mapping[str, str]) -> str:
    """One id for several named files."""
    return hashlib.sha256(
        "\n".join(f"{name} {ids[name]}" for name in sorted(ids)).encode()
    ).hexdigest()
