"""Which code determines a result: from an entry point, everything of its package that it can reach.

    code_hash(search_circuit)   # 16 digits; others once anything that can change its result does

From the entry, names are followed to the functions, classes and constants that they stand for,
through imports, from module to module, in the source; modules of other packages count by their name
alone. A class counts with its fields and special methods, and with those of its other methods whose
names are used anywhere in what is reached; one that is itself the entry, or derived from another
package's class, which may call any, with all of them. What a definition is called, and where it
stands, does not count, so code can be moved and renamed. Nor do comments, docstrings, layout,
annotations, and the words of errors, warnings and log messages.

What this cannot see: modules that are looked up by a computed name, and what another package does
(its version is in a measurement's provenance).
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from circuitbook.store.outlines import Definition, Outliner, Place
from circuitbook.store.scopes import Binding
from circuitbook.store.sources import Module, read_module, times_read_again


def code_hash(entry: ModuleType | Callable, overlay: Mapping[str, str] | None = None) -> str:
    """Hash of all that this function, class or module (with everything in it) can reach. 16
    hexadecimal digits.

    overlay: {module: source} to be read instead of the files, such as an edited copy.
    """
    known = None if overlay else _hashes.get(code_name(entry))
    if known and known.still_holds(_version_of(entry)):
        return known.hash
    return Closure(entry, overlay).hash


def code_name(entry: object) -> str:
    """circuitbook.store.disk, or circuitbook.store.disk.Store.table; TypeError for what has no
    source file.
    """
    module = (
        entry
        if isinstance(entry, ModuleType)
        else sys.modules.get(str(getattr(entry, "__module__", None)))
    )
    inside = "" if entry is module else getattr(entry, "__qualname__", "<none>")
    if not str(getattr(module, "__file__", "")).endswith(".py") or "<" in inside:
        raise TypeError(
            "code must be modules, or functions and classes of modules, with a source file; "
            f"not {entry!r}"
        )
    assert module is not None
    return f"{module.__name__}.{inside}".rstrip(".")


_hashes: dict[str, _Hash] = {}
_definitions: dict[tuple[str, int, Place], Definition | None] = {}


@dataclass(frozen=True)
class _Hash:
    """A hash that was taken, of which version of the entry, and with which values of constants."""

    version: object
    hash: str
    values: dict[Place, str]

    def still_holds(self, version: object) -> bool:
        """Whether the entry and all constants are what they were."""
        same = version is not None and version is self.version
        return same and all(_now(place, value) == value for place, value in self.values.items())


def _version_of(entry: ModuleType | Callable) -> object:
    return entry.__spec__ if isinstance(entry, ModuleType) else entry


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _now(place: Place, otherwise: str) -> str:
    """The value of a constant in memory, as text; `otherwise` where its module is not loaded."""
    module, name = place
    return repr(getattr(sys.modules[module], name, "")) if module in sys.modules else otherwise


class Closure:
    """What an entry point reaches. `definitions`: {place: Definition}; `hash`: of all that can
    change its result.
    """

    def __init__(self, entry: ModuleType | Callable, overlay: Mapping[str, str] | None = None):
        self.name = code_name(entry)
        self.overlay = dict(overlay or {})
        self.definitions: dict[Place, Definition] = {}
        self._version, self._sources = _version_of(entry), times_read_again()
        if isinstance(entry, ModuleType):
            self.package = entry.__name__.partition(".")[0]
            self._entries = [
                (name, inside)
                for name in self._modules_below(entry)
                for inside in self._known(name).statements
            ]
        else:
            self.package = entry.__module__.partition(".")[0]
            self._entries = [(entry.__module__, entry.__qualname__)]
            if self._define(self._entries[0]) is None:
                raise TypeError(f"{entry!r} is not defined in the source of {entry.__module__}")

    def _modules_below(self, module: ModuleType) -> list[str]:
        """Names of a module or, for a package, of all the modules in it."""
        if not hasattr(module, "__path__"):
            return [module.__name__]
        top = Path(str(module.__file__)).parent
        inside = [file.relative_to(top).with_suffix("").parts for file in sorted(top.rglob("*.py"))]
        return [
            ".".join([module.__name__, *(parts[:-1] if parts[-1] == "__init__" else parts)])
            for parts in inside
        ]

    @property
    def hash(self) -> str:
        self.follow()
        digests, values = self._digests(), self._values()
        entries = [digests[place] for place in self._entries if place in digests]
        changed = sorted(
            (digests[place], value)
            for place, value in values.items()
            if value != self.definitions[place].literal
        )
        found = _digest(entries, sorted(digests.values()), changed)[:16]
        if not self.overlay:
            _hashes[self.name] = _Hash(self._version, found, values)
        return found

    def follow(self) -> dict[Place, Definition]:
        """All definitions that are reached, by place."""
        waiting, used, whole = list(self._entries), set[str](), set(self._entries)
        while waiting:
            while waiting:
                place = waiting.pop()
                if place in self.definitions or (definition := self._define(place)) is None:
                    continue
                self.definitions[place] = definition
                used |= definition.attributes
                waiting += [*definition.refers_to, *definition.mentions]
            for (module, name), definition in list(
                self.definitions.items()
            ):  # methods that somebody calls by now
                methods = [
                    (module, f"{name}.{method}")
                    for method in definition.methods
                    if method in used or (module, name) in whole
                ]
                waiting += [place for place in methods if place not in self.definitions]
        return self.definitions

    def _digests(self) -> dict[Place, str]:
        """A digest for each definition that also depends on all that it refers to, whatever that is
        called.

        Starts from the outlines and mixes in the digests of what is referred to, until that tells
        no more apart.
        """
        own = {place: _digest(definition.outline) for place, definition in self.definitions.items()}
        now, apart = own, 0
        while len(set(now.values())) > apart:
            apart = len(set(now.values()))
            now = {
                place: _digest(own[place], [now.get(other, "") for other in definition.refers_to])
                for place, definition in self.definitions.items()
            }
        return now

    def _values(self) -> dict[Place, str]:
        """The values in memory of the constants whose values are written out in the source:
        somebody may change them. Of modules that are not loaded the source alone counts, so that
        loading one changes no hash.
        """
        return (
            {}
            if self.overlay
            else {
                place: _now(place, one.literal)
                for place, one in self.definitions.items()
                if one.is_literal
            }
        )

    # ---- one definition

    def _known(self, name: str) -> Module:
        found = read_module(name, self.overlay)
        assert found is not None, name
        return found

    def _define(self, place: Place) -> Definition | None:
        """The definition at a place of the package, made once for all entries that reach it."""
        if self.overlay:
            return self._defined(place)
        known = (self.package, self._sources, place)
        if known not in _definitions:
            _definitions[known] = self._defined(place)
        return _definitions[known]

    def _defined(self, place: Place) -> Definition | None:
        module, name = place
        ours = module.partition(".")[0] == self.package
        source = read_module(module, self.overlay) if ours else None
        if source is None:
            return None
        first, *inner = name.split(".")
        nodes: list[ast.stmt] = source.statements.get(first, [])
        for part in inner:
            members = [node for outer in nodes for node in ast.walk(outer) if node is not outer]
            named = [node for node in members if getattr(node, "name", None) == part]
            nodes = [node for node in named if isinstance(node, ast.stmt)][-1:]
        if not nodes:
            return None
        return Outliner(self, source, place, nodes).definition

    def names_in(self, module: str) -> list[str]:
        """All names that a module of the package defines at its top level."""
        return list(self._known(module).statements)

    def find(self, module: str, name: str) -> Place | Binding | None:
        """What a name at the top level of a module stands for: a place in this package, or an
        import from elsewhere.
        """
        source = read_module(module, self.overlay)
        if source is None:
            return None
        if name in source.statements:
            return module, name
        if name in source.imports:
            return self.imported(source.imports[name])
        return None

    def imported(self, binding: Binding) -> Place | Binding | None:
        """What an import brings: followed as long as it stays in the package."""
        if binding.module.partition(".")[0] != self.package:
            return binding
        if binding.name is None:
            return binding  # a module of the package
        found = self.find(binding.module, binding.name)
        if (
            found is None
            and read_module(f"{binding.module}.{binding.name}", self.overlay) is not None
        ):
            return Binding(f"{binding.module}.{binding.name}")
        return found

    def modules(self) -> Iterator[str]:
        """Names of the modules that something was reached in."""
        return iter(dict.fromkeys(module for module, _ in self.definitions))
