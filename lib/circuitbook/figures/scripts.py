"""The scripts that interactive views draw with: shared by the site, none from another host.

Our own are ES modules in `js/`, small enough to read and to lint. A browser gets each view's
modules joined into one plain script, without their comments and indentation: a page opened from
disk may not load modules, an output in a notebook has no files beside it, and a bundler would ask
every reader for Node.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from circuitbook.paths import PACKAGE

MODULES = PACKAGE / "figures" / "js"
_IMPORT = re.compile(r'^import \{([^{}]*)\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?function|const)", re.MULTILINE)
_EXPORTED = re.compile(r"^export (?:(?:async )?function|const) (\w+)", re.MULTILINE)
_OTHER = re.compile(r"^(import|export)\b.*", re.MULTILINE)
_END_OF_LINE_COMMENT = re.compile(r"""\s+// [^"'`/]*$""")  # what a quote ends may be no comment
_LICENCE = "/*! circuitbook, MIT License */\n"


@dataclass(frozen=True)
class Shared:
    """Modules that several scripts need, as a script of its own that stands before these."""

    name: str
    """That it puts into the page's globals."""
    entries: tuple[str, ...]
    """The modules; all that they import comes with them."""

    @property
    def modules(self) -> list[str]:
        """All of them, each after those it needs."""
        return _in_order(self.entries)


@cache
def joined(entry: str, shared: Shared | None = None) -> str:
    """The module `entry` and all that it imports as one script, each after those it needs.

    Modules may say `import { name, ... } from "./module.js";`, `export function` and `export
    const`. They share one scope: what one declares at its top level no other may declare. Those
    that are `shared` are taken from its script.
    """
    if shared is None:
        return f"{_LICENCE}({_as_function(_in_order([entry]))})();\n"
    own = [module for module in _in_order([entry]) if module not in shared.modules]
    imports = [found for module in own for found in _IMPORT.findall(_text(module))]
    names = {
        name.strip()
        for listed, module in imports
        if module in shared.modules
        for name in listed.split(",")
        if name.strip()
    }
    given = f"const {{{','.join(sorted(names))}}} = globalThis.{shared.name};\n"
    return f"{_LICENCE}({_as_function(own, given)})();\n"


def shared_script(shared: Shared) -> str:
    """What `joined` scripts take from it, as the property of the page's globals that it names."""
    names = [name for module in shared.modules for name in _EXPORTED.findall(_text(module))]
    body = _as_function(shared.modules, end=f"return {{{','.join(names)}}};\n")
    return f"{_LICENCE}globalThis.{shared.name} = ({body})();\n"


def callable_as(name: str, entry: str) -> str:
    """The same as a function of the page's globals, for a script that calls it when it needs it.

    Its text is what a worker can be made of, where no file can be asked for.
    """
    return f"{_LICENCE}globalThis.{name} = {_as_function(_in_order([entry]))};\n"


def _as_function(modules: Sequence[str], begin: str = "", end: str = "") -> str:
    sources = "".join(map(_source, modules))
    return f'() => {{\n"use strict";\n{begin}{sources}{end}}}'


def _in_order(entries: Sequence[str]) -> list[str]:
    """Names of the modules and of all that they import, each after those it needs."""
    order: list[str] = []

    def visit(module: str, importers: tuple[str, ...]) -> None:
        if module in importers:
            raise ValueError(f"modules import each other: {' -> '.join([*importers, module])}")
        if module not in order:
            for _, needed in _IMPORT.findall(_text(module)):
                visit(needed, (*importers, module))
            order.append(module)

    for entry in entries:
        visit(entry, ())
    return order


def _source(module: str) -> str:
    """What a module declares and does, without its imports and the word `export`."""
    source = _EXPORT.sub("", _IMPORT.sub("", _text(module)))
    if other := _OTHER.search(source):
        raise ValueError(f"{module} cannot be joined with others: {other[0]}")
    return _stripped(source, module)


def _stripped(source: str, name: str) -> str:
    """Without comments, indentation and empty lines; every other line stays as it is.

    Only what is surely a comment goes: whole lines, and the end of a line where no quote follows.
    ValueError for a template over several lines, whose indentation counts.
    """
    lines = []
    inside = False  # a comment over several lines
    for line in map(str.strip, source.splitlines()):
        inside = inside or line.startswith("/*")
        if inside:
            inside = not line.endswith("*/")
        elif line and not line.startswith("//"):
            lines.append(_END_OF_LINE_COMMENT.sub("", line))
    if several := [line for line in lines if line.count("`") % 2]:
        raise ValueError(f"{name}: a template may not go on in the next line: {several[0]}")
    return "".join(f"{line}\n" for line in lines)


def _text(module: str) -> str:
    return (MODULES / module).read_text(encoding="utf8")


def stylesheet(name: str) -> str:
    """A style sheet of `js/`, without comments and indentation."""
    return _stripped(_text(name), name)


def _circuitsvis() -> str:
    return (files("circuitsvis") / "dist" / "cdn" / "iife.js").read_text(encoding="utf8")


@dataclass(frozen=True)
class Script:
    """A script file: its text, and the name that it puts into the page's globals."""

    read: Callable[[], str]
    global_name: str
    ours: bool = True


# What the explorer and the lab draw circuits with.
_DRAWING = Shared(
    "CircuitDrawing", ("address.js", "drawing.js", "edge-list.js", "legend.js", "pointing.js")
)

_SCRIPTS = {
    "circuitsvis.js": Script(_circuitsvis, "CircuitsVis", ours=False),
    "attention-heads.js": Script(lambda: joined("attention-heads.js"), "AttentionHeads"),
    "circuit-drawing.js": Script(lambda: shared_script(_DRAWING), _DRAWING.name),
    "circuit-explorer.js": Script(lambda: joined("explorer.js", _DRAWING), "CircuitExplorer"),
    "lab-engine.js": Script(lambda: callable_as("LabEngine", "engine.js"), "LabEngine"),
    "lab.js": Script(lambda: joined("lab.js", _DRAWING), "Lab"),
    "head-browser.js": Script(lambda: joined("head-browser.js"), "HeadBrowser"),
}

# What `build.stage` puts into _static of the book.
SCRIPTS = {name: script.read for name, script in _SCRIPTS.items()}


def global_name(file: str) -> str:
    """The name that a script of SCRIPTS puts into the page's globals."""
    return _SCRIPTS[file].global_name


def brought(file: str) -> str:
    """The script as a view brings it in its own script element, where there is no _static.

    A library declares its name with `var`, which in some notebooks is a function's own: so it is
    put into the globals.
    """
    script = _SCRIPTS[file]
    text = script.read().replace("</script", "<\\/script")
    if script.ours:
        return text
    return f"{text};\nwindow.{script.global_name} = {script.global_name};\n"
