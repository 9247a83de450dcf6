"""GGUF files, as llama.cpp keeps models in them: which a folder holds, and what their headers say.

The header alone is read: the architecture, the tokenizer's kind, names and shapes of the tensors.
gguf's own reader takes seconds for a vocabulary of some size and fails in many ways on a damaged
file. Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from circuitbook.store.cache import cache_path, is_whole
from circuitbook.weights.files import CONFIG, TOKENIZER_FILES

# What a .gguf is made into, and so its numbers: raised whenever `model.conversion` writes other
# files for the same .gguf.
CONVERSION = "1"

_VERSIONS = (2, 3)
_NUMBERS = "<B <b <H <h <I <i <f <? string array <Q <q <d".split()  # by GGUF's number of the type
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class GGUFHeader:
    """What a .gguf says before its tensors."""

    fields: dict[str, object]
    """Numbers and strings by their key; of a list its length."""
    tensors: dict[str, tuple[int, ...]]
    """{name: shape}"""

    @property
    def parameters(self) -> int:
        """How many numbers its tensors hold."""
        return sum(math.prod(shape) for shape in self.tensors.values())


def gguf_in(folder: Path) -> Path | None:
    """The .gguf that is the checkpoint in this folder; None where a config.json says otherwise.

    ValueError if there are two: one is a checkpoint.
    """
    if not folder.is_dir() or (folder / CONFIG).exists():
        return None
    files = sorted(path for path in folder.iterdir() if path.suffix == ".gguf")
    if len(files) > 1:
        raise ValueError(
            f"{folder} holds {len(files)} .gguf files ({files[0].name}, {files[1].name}, ...), and "
            "a checkpoint is one: leave one there (parts of a split model must be merged first)"
        )
    return files[0] if files else None


def gguf_settings(sha256: str) -> dict[str, str]:
    """What `files.settings_ids` is for a folder, of a .gguf: known without converting it."""
    made = f"{sha256} converted {CONVERSION}"
    return {CONFIG: made, TOKENIZER_FILES[0]: made}


def conversion_folder(sha256: str) -> Path:
    """Where in the cache the .gguf with this hash is converted to."""
    return cache_path() / "gguf" / f"{sha256}-{CONVERSION}"


def converted(sha256: str) -> Path | None:
    """The folder that the .gguf with this hash was converted to, whole; None if it was not yet."""
    folder = conversion_folder(sha256)
    return folder if is_whole(folder) else None


def read_header(path: Path) -> GGUFHeader:
    """The header of a .gguf. ValueError where the file is damaged or cut off."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data).header()
    except (struct.error, ValueError, IndexError, KeyError, OverflowError) as error:
        raise ValueError(
            f"{path} is damaged or not a whole GGUF file ({error}): download or copy it again"
        ) from error


class _Reader:
    """Reads from a place that moves on."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place = data, 0

    def header(self) -> GGUFHeader:
        if self.data[:4] != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        self.place = 4
        version, n_tensors, n_fields = self.numbers("<IQQ")
        if version not in _VERSIONS:
            raise ValueError(f"it says that it is of version {version}")
        fields: dict[str, object] = {}
        for _ in range(n_fields):
            name = self.string()
            fields[name] = self.value(self.numbers("<I")[0])
        shapes, end = {}, 0
        for _ in range(n_tensors):
            name = self.string()
            shape = self.numbers(f"<{self.numbers('<I')[0]}Q")[::-1]  # fastest dimension first
            kind, offset = self.numbers("<IQ")
            shapes[name] = shape
            end = max(end, offset + _bytes(kind, math.prod(shape)))
        alignment = fields.get("general.alignment", 32)
        if not isinstance(alignment, int):
            raise ValueError(f"its alignment is {alignment!r}")
        end += -(-self.place // alignment) * alignment
        if len(self.data) < end:
            raise ValueError(f"it has {len(self.data):,} bytes, and its tensors reach to {end:,}")
        return GGUFHeader(fields, shapes)

    def numbers(self, form: str) -> tuple:
        values = struct.unpack_from(form, self.data, self.place)
        self.place += struct.calcsize(form)
        return values

    def string(self) -> str:
        length = self.numbers("<Q")[0]
        start, self.place = self.place, self.place + length
        if self.place > len(self.data):
            raise ValueError("it ends within a word")
        return self.data[start : self.place].decode("utf-8")

    def value(self, kind: int) -> object:
        """A number or string; of a list the length, and the place is behind it."""
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.numbers(_NUMBERS[kind])[0]
        inner, length = self.numbers("<IQ")
        if inner in (_STRING, _ARRAY):
            for _ in range(length):
                self.value(inner)
        else:
            self.place += length * struct.calcsize(_NUMBERS[inner])
        return length


def _bytes(kind: int, n: int) -> int:
    """Of n numbers of one of GGUF's types."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    of_block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    return n // of_block * size
