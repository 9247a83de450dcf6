"""Which code determines a result: from an entry point, everything of its package that it can reach.

    code_hash(circuit_at)       # 16 digits; another one once anything that can change the result is another

From the entry, names are followed to the functions, classes and constants that they stand for,
through imports, from module to module, in the source; modules of other packages count by their name
alone. A class counts with its fields and special methods, and with those of its other methods whose
names are used anywhere in what is reached. What a definition is called, and where it stands, does
not count, so code can be moved and renamed. Nor do comments, docstrings, layout, annotations, and
the words of errors, warnings and log messages.

What this cannot see: modules that are looked up by a computed name, and what another package does
(its version is in a measurement's provenance).
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from circuitbook.store.scopes import Binding, GlobalNames, annotations_of, imported

Place = tuple[str, str]  # (module, qualified name)


def code_hash(entry: ModuleType | Callable, overlay: Mapping[str, str] | None = None) -> str:
    """Hash of all that this function, class or module (with everything in it) can reach. 16
    hexadecimal digits.

    overlay: {module: source} to be read instead of the files, such as an edited copy.
    """
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
            f"code must be modules, or functions and classes of modules, with a source file; not {entry!r}"
        )
    assert module is not None
    return f"{module.__name__}.{inside}".rstrip(".")


# ---- sources, as they were when they were first asked for


@dataclass
class _Module:
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
_modules: dict[str, tuple[object, _Module | None]] = {}
_hashes: dict[str, _Hash] = {}


@dataclass(frozen=True)
class _Hash:
    """A hash that was taken, of which version of the entry, and with which values of constants."""

    version: object
    hash: str
    values: dict[Place, str]


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _now(place: Place) -> str:
    """The value of a constant in memory, as text; empty where its module is not loaded."""
    module, name = place
    return repr(getattr(sys.modules[module], name, "")) if module in sys.modules else ""


def _module(name: str, overlay: Mapping[str, str]) -> _Module | None:
    """The module, or None if there is no such module with a Python source."""
    if name in overlay:
        file = _file_of(name)
        return _Module(name, bool(file and file.name == "__init__.py"), None, overlay[name])
    version = _version(name)
    if name not in _modules or _modules[name][0] is not version:
        file = _file_of(name)
        made = None
        if file is not None:
            made = _Module(name, file.name == "__init__.py", version, file.read_bytes())
        _modules[name] = version, made
    return _modules[name][1]


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


# ---- what is reached


@dataclass(frozen=True)
class Definition:
    """A function, a class (less its methods), a method or a constant: its outline, and what it
    refers to.
    """

    place: Place
    outline: tuple
    refers_to: tuple[Place, ...]  # as often and in the order in which the outline does
    mentions: frozenset[Place]  # in annotations: reached, but not part of the outline
    attributes: frozenset[str]  # names after a dot, and strings that could be such names
    methods: tuple[str, ...] = ()  # of a class: those that count only if they are used
    literal: str = ""  # of a constant whose value is written out: that value

    @property
    def is_literal(self) -> bool:
        return bool(self.literal)

    @property
    def name(self) -> str:
        """circuitbook.model.graph.Graph.live, for people."""
        return ".".join(self.place)


class Closure:
    """What an entry point reaches. `definitions`: {place: Definition}; `hash`: of all that can
    change its result.
    """

    def __init__(self, entry: ModuleType | Callable, overlay: Mapping[str, str] | None = None):
        self.name = code_name(entry)
        self.overlay = dict(overlay or {})
        self.definitions: dict[Place, Definition] = {}
        self._version = entry.__spec__ if isinstance(entry, ModuleType) else entry
        if isinstance(entry, ModuleType):
            self._package = entry.__name__.partition(".")[0]
            self._entries = [
                (name, inside)
                for name in self._modules_below(entry)
                for inside in self._known(name).statements
            ]
        else:
            self._package = entry.__module__.partition(".")[0]
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
        known = _hashes.get(self.name)
        if known and not self.overlay and known.version is self._version is not None:
            if all(_now(place) == value for place, value in known.values.items()):
                return known.hash
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
        waiting, used = list(self._entries), set[str]()
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
                    (module, f"{name}.{method}") for method in definition.methods if method in used
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
        somebody may change them.
        """
        return (
            {}
            if self.overlay
            else {place: _now(place) for place, one in self.definitions.items() if one.is_literal}
        )

    # ---- one definition

    def _known(self, name: str) -> _Module:
        found = _module(name, self.overlay)
        assert found is not None, name
        return found

    def _define(self, place: Place) -> Definition | None:
        module, name = place
        source = (
            _module(module, self.overlay) if module.partition(".")[0] == self._package else None
        )
        if source is None:
            return None
        first, *inner = name.split(".")
        nodes: list[ast.stmt] = source.statements.get(first, [])
        for part in inner:
            members = [node for outer in nodes for node in ast.walk(outer) if node is not outer]
            nodes = [
                node
                for node in members
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
                and node.name == part
            ][-1:]
        if not nodes:
            return None
        return _Outliner(self, source, place, nodes).definition

    def find(self, module: str, name: str) -> Place | Binding | None:
        """What a name at the top level of a module stands for: a place in this package, or an
        import from elsewhere.
        """
        source = _module(module, self.overlay)
        if source is None:
            return None
        if name in source.statements:
            return module, name
        if name in source.imports:
            return self.imported(source.imports[name])
        return None

    def imported(self, binding: Binding) -> Place | Binding | None:
        """What an import brings: followed as long as it stays in the package."""
        if binding.module.partition(".")[0] != self._package:
            return binding
        if binding.name is None:
            return binding  # a module of the package
        found = self.find(binding.module, binding.name)
        if found is None and _module(f"{binding.module}.{binding.name}", self.overlay) is not None:
            return Binding(f"{binding.module}.{binding.name}")
        return found

    def modules(self) -> Iterator[str]:
        """Names of the modules that something was reached in."""
        return iter(dict.fromkeys(module for module, _ in self.definitions))


class _Outliner:
    """Makes a definition's outline: its syntax as nested tuples, less what cannot change a result."""

    def __init__(self, closure: Closure, source: _Module, place: Place, nodes: list[ast.stmt]):
        self.closure, self.source = closure, source
        self.refers_to: list[Place] = []
        self.mentions: set[Place] = set()
        self.attributes: set[str] = set()
        self.methods: list[str] = []
        self.names = GlobalNames(nodes)
        self.local: dict[str, Binding] = {}
        for node in nodes:
            for inner in ast.walk(node):
                if isinstance(inner, (ast.Import, ast.ImportFrom)):
                    self.local |= imported(inner, source.name, source.is_package)
        top = nodes[-1]
        if isinstance(top, ast.ClassDef):
            outlines = [self.class_outline(top)]
        elif isinstance(top, (ast.FunctionDef, ast.AsyncFunctionDef)):
            outlines = [
                self.function_outline(top, place[1].rpartition(".")[2] if "." in place[1] else "")
            ]
        else:
            outlines = [self.outline(node) for node in nodes]
        for node in nodes:
            for annotation in annotations_of(node):
                self.mention(annotation)
        self.definition = Definition(
            place,
            tuple(outlines),
            tuple(self.refers_to),
            frozenset(self.mentions),
            frozenset(self.attributes),
            tuple(self.methods),
            _literal(nodes),
        )

    # ---- statements

    def class_outline(self, node: ast.ClassDef) -> tuple:
        """Decorators, bases, fields and special methods; the other methods are definitions of their
        own.
        """
        body = []
        for statement in _without_docstring(node.body):
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)) and not _special(
                statement.name
            ):
                self.methods.append(statement.name)
            else:
                body.append(self.outline(statement))
        return (
            "class",
            self.outline(node.decorator_list),
            self.outline(node.bases),
            self.outline(node.keywords),
            tuple(body),
        )

    def function_outline(self, node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> tuple:
        arguments = self.outline(node.args)
        body = self.outline(_without_docstring(node.body))
        return (type(node).__name__, name, self.outline(node.decorator_list), arguments, body)

    def outline(self, node: object) -> object:
        """Nested tuples. Not `ast.dump`: empty fields are left out, as they differ between versions
        of Python.
        """
        if isinstance(node, list):
            return tuple(self.outline(item) for item in node if not self._says_only(item))
        if isinstance(node, ast.Attribute):
            if (found := self._of_module(node)) is not None:
                return self.reference(found)
            self.attributes.add(node.attr)
        elif isinstance(node, ast.Name):
            if (found := self.resolve(node)) is not None:
                return self.reference(found)
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str) and node.value.isidentifier():
                self.attributes.add(node.value)  # it may be asked for with getattr
            return ("Constant", repr(node.value))
        elif isinstance(node, ast.Raise):
            kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            return ("Raise", self.outline(kind))
        elif isinstance(node, ast.Assert):
            return ("Assert", self.outline(node.test))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return self.function_outline(node, node.name)
        elif isinstance(node, ast.AnnAssign):
            value = None if node.value is None else self.outline(node.value)
            return ("Assign", self.outline(node.target), value)
        elif isinstance(node, ast.arg):
            return ("arg", node.arg)
        if isinstance(node, ast.AST):
            fields = [
                (name, self.outline(value))
                for name, value in ast.iter_fields(node)
                if value is not None and value != [] and name not in ("ctx", "type_comment", "kind")
            ]
            return (type(node).__name__, *fields)
        return repr(node)

    def _says_only(self, statement: object) -> bool:
        """Whether a statement only tells somebody something: an import, a warning, a log message, a
        string.
        """
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            return True
        if not isinstance(statement, ast.Expr):
            return False
        if isinstance(statement.value, ast.Constant):
            return True
        called = statement.value.func if isinstance(statement.value, ast.Call) else None
        if not isinstance(called, ast.Attribute) or not isinstance(called.value, ast.Name):
            return False
        return (called.value.id, called.attr) == ("warnings", "warn") or called.value.id == "log"

    # ---- names

    def resolve(self, node: ast.Name) -> Place | Binding | None:
        """What a name stands for, if it is no local variable and no builtin."""
        if node.id in self.local:
            return self.closure.imported(self.local[node.id])
        if node not in self.names:
            return None
        found = self.closure.find(self.source.name, node.id)
        return None if found is None and hasattr(builtins, node.id) else found

    def _of_module(self, node: ast.Attribute) -> Place | Binding | None:
        """What `module.name` stands for, of modules of this package and of others."""
        value = node.value
        found: Place | Binding | None = None
        if isinstance(value, ast.Name):
            found = self.resolve(value)
        elif isinstance(value, ast.Attribute):
            found = self._of_module(value)
        if not isinstance(found, Binding):
            return None
        if found.module.partition(".")[0] == self.closure._package and found.name is None:
            return self.closure.imported(Binding(found.module, node.attr))
        if found.name is None:
            return Binding(found.module, node.attr)
        return Binding(f"{found.module}.{found.name}", node.attr)

    def reference(self, found: Place | Binding) -> tuple:
        """In the outline, another definition is a blank that its digest fills; a name from
        elsewhere is its full name.
        """
        if isinstance(found, Binding):
            if found.name is None and found.module.partition(".")[0] == self.closure._package:
                for name in self.closure._known(
                    found.module
                ).statements:  # the module itself: all that is in it
                    self.mentions.add((found.module, name))
            return ("from", found.module, found.name or "")
        self.refers_to.append(found)
        return ("definition",)

    def mention(self, annotation: ast.expr) -> None:
        """Classes named in an annotation are reached: their methods may be called on what it
        annotates.
        """
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            try:
                annotation = ast.parse(annotation.value, mode="eval").body
            except SyntaxError:
                return
        for node in ast.walk(annotation):
            name = node.id if isinstance(node, ast.Name) else ""
            binding = self.local.get(name)
            found = (
                self.closure.imported(binding)
                if binding
                else self.closure.find(self.source.name, name)
            )
            if name and isinstance(found, tuple):
                self.mentions.add(found)


def _literal(nodes: list[ast.stmt]) -> str:
    """The value of a constant that is a number, a text or a tuple of these, as text; else nothing."""
    if (
        len(nodes) != 1
        or not isinstance(nodes[0], ast.Assign)
        or not isinstance(nodes[0].targets[0], ast.Name)
    ):
        return ""
    try:
        value = ast.literal_eval(nodes[0].value)
    except (ValueError, TypeError):
        return ""
    return repr(value) if isinstance(value, (bool, int, float, str, tuple)) else ""


def _special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if is_text and isinstance(first.value.value, str) else body  # type: ignore[union-attr]
