"""What a folder says of itself in suite.json, and what is in one that holds no checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from circuitbook.suites.suite import check_tokens_per_step
from circuitbook.weights.files import ADAPTER_ADVICE, CONFIG, WEIGHT_FILES, adapter_in
from circuitbook.weights.json_files import read_object, shown
from circuitbook.weights.step_names import STEP_NAME

READ = (
    "read are folders with config.json and weights (or one .gguf) called step<N>, "
    "step<N>-tokens<M>B, checkpoint-<N> or ckpt_<N>, in <model>/ or side by side"
)


@dataclass(frozen=True, kw_only=True)
class About:
    """A checked suite.json, each of whose entries may be left out."""

    models: tuple[str, ...] = ()
    tokens_per_step: int | None = None
    description: str = ""
    prepend_bos: bool = False
    notes: dict[str, str] = field(default_factory=dict)


def read_about(file: Path) -> About:
    """suite.json, or what counts without one. ValueError that names it, and the entry, if wrong."""
    if not file.exists():
        return About()
    entries = read_object(file)
    models = entries.get("models") or []
    if not isinstance(models, list) or not all(isinstance(name, str) for name in models):
        raise ValueError(
            f"{file}: models is {shown(models)}; a list of names of models is expected"
        )
    if twice := [name for name in models if models.count(name) > 1]:
        raise ValueError(f"{file}: models names {twice[0]} twice")
    if (tokens := entries.get("tokens_per_step")) is not None:
        tokens = check_tokens_per_step(tokens, f"{file}: tokens_per_step")
    if not isinstance(description := entries.get("description", ""), str):
        raise ValueError(f"{file}: description is {shown(description)}; text is expected")
    if not isinstance(prepend_bos := entries.get("prepend_bos", False), bool):
        raise ValueError(f"{file}: prepend_bos is {shown(prepend_bos)}; true or false is expected")
    notes = entries.get("notes") or {}
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise ValueError(f"{file}: notes is {shown(notes)}; an object of texts is expected")
    return About(
        models=tuple(models),
        tokens_per_step=tokens,
        description=description,
        prepend_bos=prepend_bos,
        notes=notes,
    )


def what_is_there(root: Path) -> str:
    """The error about a folder in which no checkpoint was found."""
    if (root / CONFIG).exists() or _weights_in(root) or any(root.glob("*.gguf")):
        above = root.resolve().parent
        way = f"give the folder above, {above}"
        if not STEP_NAME.fullmatch(root.resolve().name):
            way = f"move it to {above / '<model>' / 'step<N>'} and give {above}"
        return f"folder {root} is a checkpoint itself, and a suite is a folder of them: {way}"
    if adapters := [place for place in (root, *_below(root)) if adapter_in(place)]:
        return f"folder {root} holds no checkpoints; in {adapters[0]} {ADAPTER_ADVICE}"
    found = [str(place.relative_to(root)) for place in _below(root)]
    there = f"there are {', '.join(found[:4])}" + (" ..." if len(found) > 4 else "")
    return f"folder {root} holds no checkpoints; {there if found else 'it has no folders'}; {READ}"


def _below(root: Path) -> Iterator[Path]:
    """The folders that might hold checkpoints: children's children, and childless children."""
    for child in sorted(path for path in root.iterdir() if path.is_dir()):
        inner = sorted(path for path in child.iterdir() if path.is_dir())
        yield from inner or [child]


def _weights_in(folder: Path) -> bool:
    return any((folder / name).exists() for names in WEIGHT_FILES.values() for name in names)
