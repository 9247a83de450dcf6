"""Sources of modules, taken apart at their top level, as they were when they were first read."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from circuitbook.store.scopes import Binding, imported


@dataclass
class Module:
    """The source of one module, taken apart at its top level."""

    name: str
    is_package: bool
    version: object  # of a loaded module its __spec__: a reload is another
    statements: dict[str, list[ast.stmt]] = field(
        default_factory=dict
    )  # name -> all that give it its value
    imports: dict[str, Binding] = field(default_factory=dict)

    def __init__(self, name: str, is_package: bool, version: object, source: str | bytes):
        self.name, self.is_package, self.version = name, is_package, version
        self.statements, self.imports = {}, {}
        for statement in ast.parse(source).body:
            self._take(statement, statement)

    def _take(self, statement: ast.stmt, whole: ast.stmt) -> None:
        """Files a statement under the names that it defines or changes; inside an `if` or `try`,
        the whole of that.
        """
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            self.imports |= imported(statement, self.name, self.is_package)
            return
        if isinstance(statement, (ast.If, ast.Try, ast.With, ast.For)):
            for inner in ast.iter_child_nodes(statement):
                if isinstance(inner, ast.stmt):
                    self._take(inner, whole)
                elif isinstance(inner, ast.ExceptHandler):
                    for handled in inner.body:
                        self._take(handled, whole)
        for name in _touched(statement):
            known = self.statements.setdefault(name, [])
            if isinstance(whole, (ast.FunctionDef, ast.ClassDef)):
                known.clear()  # of several definitions the last one holds
            if whole not in known:
                known.append(whole)


def _touched(statement: ast.stmt) -> list[str]:
    """Names that a top-level statement defines, or whose value it changes: `A = 1`, `A["x"] = 1`,
    `A.append(1)`.
    """
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, (ast.AugAssign, ast.AnnAssign)):
        targets = [statement.target]
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        targets = [statement.value.func]
    elif isinstance(statement, ast.For):
        targets = [statement.target]
    names = []
    for target in targets:
        parts = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
        for part in parts:
            while isinstance(part, (ast.Attribute, ast.Subscript, ast.Starred, ast.Call)):
                part = part.func if isinstance(part, ast.Call) else part.value
            if isinstance(part, ast.Name) and not (
                isinstance(statement, ast.Expr) and part is targets[0]
            ):
                names.append(part.id)
    return names


# A source is read once: what was read first is the code in memory, and a file that is edited while
# a sweep runs must not put its name on results of the old code. A reload makes a new __spec__.
_modules: dict[str, tuple[object, Module | None]] = {}
_read_again = 0


def times_read_again() -> int:
    """How often a module was read that had been read before, once all that were reloaded are."""
    for name in list(_modules):
        read_module(name, {})
    return _read_again


def read_module(name: str, overlay: Mapping[str, str]) -> Module | None:
    """The module, or None if there is no such module with a Python source."""
    if name in overlay:
        file = _file_of(name)
        return _given(name, bool(file and file.name == "__init__.py"), overlay[name])
    global _read_again
    version = _version(name)
    if name not in _modules or _modules[name][0] is not version:
        file = _file_of(name)
        made = None
        if file is not None:
            made = Module(name, file.name == "__init__.py", version, file.read_bytes())
        _read_again += name in _modules
        _modules[name] = version, made
    return _modules[name][1]


@lru_cache(maxsize=256)
def _given(name: str, is_package: bool, source: str) -> Module:
    return Module(name, is_package, None, source)


def _version(name: str) -> object:
    """The __spec__ of a loaded module, else that of the package that it is in: a reload makes a new
    one.
    """
    while name and name not in sys.modules:
        name = name.rpartition(".")[0]
    return getattr(sys.modules.get(name), "__spec__", None)


def _file_of(name: str) -> Path | None:
    """The source file of a module, which need not be loaded as long as its package is."""
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded:
        return Path(loaded) if loaded.endswith(".py") else None
    package, *inside = name.split(".")
    top = getattr(sys.modules.get(package), "__file__", None)
    if not top or not inside:
        return None
    path = Path(top).parent.joinpath(*inside)
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()), None)
