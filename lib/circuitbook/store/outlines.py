"""What a definition does, as nested tuples: its syntax, less what cannot change a result."""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass
from typing import Protocol

from circuitbook.store.scopes import Binding, GlobalNames, annotations_of, imported
from circuitbook.store.sources import Module

Place = tuple[str, str]  # (module, qualified name)
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")  # methods of a logger


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


class Resolver(Protocol):
    """Knows what names stand for, in all modules of a package."""

    package: str

    def find(self, module: str, name: str) -> Place | Binding | None: ...

    def imported(self, binding: Binding) -> Place | Binding | None: ...

    def names_in(self, module: str) -> list[str]: ...


class Outliner:
    """Makes a definition's outline: its syntax, less what cannot change a result."""

    def __init__(self, resolver: Resolver, source: Module, place: Place, nodes: list[ast.stmt]):
        self.resolver, self.source, self.place = resolver, source, place
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
        outlines: list[object]
        if isinstance(top, ast.ClassDef):
            outlines = [self.class_outline(top)]
        elif isinstance(top, (ast.FunctionDef, ast.AsyncFunctionDef)):
            in_a_class, _, method = place[1].rpartition(".")
            outlines = [self.function_outline(top, method if in_a_class else "")]
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
        if any(self._is_called_back(base) for base in node.bases):
            module, name = self.place
            self.mentions |= {(module, f"{name}.{method}") for method in self.methods}
        return (
            "class",
            self.outline(node.decorator_list),
            self.outline(node.bases),
            self.outline(node.keywords),
            tuple(body),
        )

    def _is_called_back(self, base: ast.expr) -> bool:
        """Whether a class with this base has methods that another package calls, by names that
        stand nowhere here: `forward` of a torch.autograd.Function.
        """
        found: Place | Binding | None = None
        if isinstance(base, ast.Attribute):
            found = self._of_module(base)
        elif isinstance(base, ast.Name):
            found = self.resolve(base)
        if not isinstance(found, Binding):
            return False
        return found.module.partition(".")[0] not in (self.resolver.package, "typing")

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
        whose, does = called.value.id, called.attr
        return (whose, does) == ("warnings", "warn") or (whose == "log" and does in LEVELS)

    # ---- names

    def resolve(self, node: ast.Name) -> Place | Binding | None:
        """What a name stands for, if it is no local variable and no builtin."""
        if node.id in self.local:
            return self.resolver.imported(self.local[node.id])
        if node not in self.names:
            return None
        found = self.resolver.find(self.source.name, node.id)
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
        if found.module.partition(".")[0] == self.resolver.package and found.name is None:
            return self.resolver.imported(Binding(found.module, node.attr))
        if found.name is None:
            return Binding(found.module, node.attr)
        return Binding(f"{found.module}.{found.name}", node.attr)

    def reference(self, found: Place | Binding) -> tuple:
        """In the outline, another definition is a blank that its digest fills; a name from
        elsewhere is its full name.
        """
        if isinstance(found, Binding):
            if found.name is None and found.module.partition(".")[0] == self.resolver.package:
                for name in self.resolver.names_in(found.module):  # the module itself: all in it
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
                self.resolver.imported(binding)
                if binding
                else self.resolver.find(self.source.name, name)
            )
            if name and isinstance(found, tuple):
                self.mentions.add(found)


def _literal(nodes: list[ast.stmt]) -> str:
    """The value of a constant that is a number, a text or a tuple of these; else nothing."""
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
    has_docstring = is_text and isinstance(first.value.value, str)  # type: ignore[union-attr]
    return body[1:] if has_docstring else body
