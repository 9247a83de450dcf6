"""Names in a syntax tree: which of them are global, and what imports bring."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Binding:
    """What an imported name stands for: a module, or `name` in it."""

    module: str
    name: str | None = None


def imported(
    statement: ast.Import | ast.ImportFrom, module: str, is_package: bool
) -> dict[str, Binding]:
    """{name: what it stands for} after an import statement in `module`.

    imported(ast.parse("from .graph import Graph as G").body[0], "a.b", False)  ->  {"G":
    Binding("a.graph", "Graph")}
    """
    if isinstance(statement, ast.Import):
        plain = {
            a.name.partition(".")[0]: Binding(a.name.partition(".")[0])
            for a in statement.names
            if not a.asname
        }
        return plain | {a.asname: Binding(a.name) for a in statement.names if a.asname}
    target = statement.module or ""
    if statement.level:
        above = module.split(".")[
            : None if is_package and statement.level == 1 else -(statement.level - is_package)
        ]
        target = ".".join(filter(None, [*above, target]))
    return {alias.asname or alias.name: Binding(target, alias.name) for alias in statement.names}


def annotations_of(node: ast.AST) -> Iterator[ast.expr]:
    """The annotations of arguments, results and variables in a tree; methods of a class are their
    own definitions.
    """
    for inner in _less_methods(node):
        if isinstance(inner, ast.arg) and inner.annotation:
            yield inner.annotation
        elif isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)) and inner.returns:
            yield inner.returns
        elif isinstance(inner, ast.AnnAssign):
            yield inner.annotation


def _less_methods(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        method = isinstance(node, ast.ClassDef) and isinstance(child, FUNCTIONS)
        if not method or str(getattr(child, "name", "")).startswith("__"):
            yield from _less_methods(child)


class GlobalNames:
    """The `ast.Name` nodes of some statements that stand for something in the module."""

    def __init__(self, nodes: Sequence[ast.stmt]):
        self._ids: set[int] = set()
        for node in nodes:
            self._visit(node, [])

    def __contains__(self, node: ast.Name) -> bool:
        return id(node) in self._ids

    def _visit(self, node: ast.AST, scopes: list[tuple[bool, set[str]]]) -> None:
        """scopes: (is it a class, names bound in it), from the outside in."""
        if isinstance(node, ast.Name):
            visible = [
                names
                for i, (is_class, names) in enumerate(scopes)
                if not is_class or i == len(scopes) - 1
            ]
            if not any(node.id in names for names in visible):
                self._ids.add(id(node))
            return
        if isinstance(node, SCOPES):
            outside, inside = _parts(node)
            for part in outside:
                self._visit(part, scopes)
            inner = [*scopes, (isinstance(node, ast.ClassDef), _bound(node))]
            for part in inside:
                self._visit(part, inner)
            return
        if isinstance(node, COMPREHENSIONS):
            names = {
                name.id
                for made in node.generators
                for name in ast.walk(made.target)
                if isinstance(name, ast.Name)
            }
            scopes = [*scopes, (False, names)]
        for child in ast.iter_child_nodes(node):
            self._visit(child, scopes)


def _parts(node: ast.AST) -> tuple[list[ast.AST], list[ast.AST]]:
    """Children that are looked up outside of a scope (decorators, defaults, bases), and those
    inside.
    """
    if isinstance(node, ast.ClassDef):
        return [*node.decorator_list, *node.bases, *node.keywords], list(node.body)
    assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    defaults = [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]
    if isinstance(node, ast.Lambda):
        return list(defaults), [node.body]
    return [*node.decorator_list, *defaults], list(node.body)


def _bound(scope: ast.AST) -> set[str]:
    """Names that a function, lambda or class body binds, less those that it declares global."""
    names: set[str] = set()
    declared: set[str] = set()
    if isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        a = scope.args
        every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, [a.vararg, a.kwarg])]
        names |= {argument.arg for argument in every}
    body = [scope.body] if isinstance(scope, ast.Lambda) else list(getattr(scope, "body", []))
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
            waiting += _parts(node)[0]
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, COMPREHENSIONS):  # only := reaches out of one
            walrus = [inner.target for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr)]
            names |= {target.id for target in walrus}
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            names.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
        elif isinstance(node, (ast.Global,)):
            declared |= set(node.names)
        elif isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
            names.add(node.name)
        waiting += list(ast.iter_child_nodes(node))
    return names - declared
