"""Markdown that Jupyter and Colab show, of what MyST adds to it for the book.

markdown-it-py finds the directives, so what stands in a block of code stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token


def plain_markdown(
    text: str,
    number: Mapping[str, str],
    titles: Mapping[str, str],
    there: Collection[str] | None = None,
) -> str:
    """Markdown without directives and roles.

    number: of the exercises, by label. titles: of the notebooks, by name. there: those that a link
    finds, by default all of them.

    plain_markdown("See {doc}`/notebooks/circuits`.", {}, {"circuits": "What is a circuit?"})
        ->  "See [What is a circuit?](circuits.ipynb)."
    """

    def inside(body: str) -> str:
        return plain_markdown(body, number, titles, there)

    def exercise(title: str, options: dict[str, str], body: str) -> str:
        return f"### Exercise {number[options['label']]}: {title}\n\n{inside(body)}\n"

    def solution(label: str, options: dict[str, str], body: str) -> str:
        shown = inside(body)
        return f"**Solution to exercise {number[label]}**" + (f"\n\n{shown}" if shown else "")

    def prediction(name: str, options: dict[str, str], body: str) -> str:
        return f"**A prediction to make now.** {inside(body)}"

    def dropdown(title: str, options: dict[str, str], body: str) -> str:
        return f"<details><summary>{title}</summary>\n\n{inside(body)}\n\n</details>"

    directives: dict[str, Callable[[str, dict[str, str], str], str]] = {
        "exercise": exercise,
        "solution": solution,
        "solution-start": solution,
        "solution-end": lambda title, options, body: "",
        "math": _equation,
        "dropdown": dropdown,
        "more": lambda title, options, body: f"**{title}**",
        "prediction": prediction,
        "answer": lambda name, options, body: dropdown("I have made my guess", options, body),
    }
    lines = text.split("\n")
    parts, end = [], len(lines)  # from the last to the first, each block and what follows it
    for block in reversed([block for block in _parser().parse(text) if _is_fence(block)]):
        first, after = block.map or (0, 0)
        parts.append(_without_roles(lines[after:end], titles, there))
        named = re.fullmatch(r"\{([\w-]+)\}\s*(.*?)\s*", block.info)
        if named and named[1] in directives:
            parts.append([directives[named[1]](named[2], *_options(block))])
        else:
            parts.append(lines[first:after])
        end = first
    parts.append(_without_roles(lines[:end], titles, there))
    return "\n".join(line for part in reversed(parts) for line in part).strip("\n")


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt
    from mdit_py_plugins.colon_fence import colon_fence_plugin

    return MarkdownIt().use(colon_fence_plugin)


def _is_fence(block: Token) -> bool:
    return block.level == 0 and block.type in ("fence", "colon_fence")


def _options(block: Token) -> tuple[dict[str, str], str]:
    """({option: value}, body) of a directive, whose options are lines like `:label: eap` at its
    top."""
    options, lines = {}, block.content.split("\n")
    while lines and (option := re.fullmatch(r":([\w-]+):\s*(.*)", lines[0])):
        options[option[1]] = option[2]
        lines.pop(0)
    return options, "\n".join(lines)


def _equation(title: str, options: dict[str, str], body: str) -> str:
    tag = f" \\tag{{{options['label']}}}" if "label" in options else ""
    return f"$$\n{body.strip()}{tag}\n$$"


def _without_roles(
    lines: list[str], titles: Mapping[str, str], there: Collection[str] | None
) -> list[str]:
    """The lines with {doc}, {term}, {ref}, {eq}, {numref}, {cite:t} and {math} as plain
    Markdown."""

    def role(match: re.Match) -> str:
        name, content = match.groups()
        explicit = re.fullmatch(r"(.*?)\s*<(.+)>", content, re.DOTALL)
        shown, target = (explicit[1], explicit[2]) if explicit else ("", content)
        if name == "doc":
            page = target.rsplit("/", 1)[-1]
            shown = shown or titles.get(page, page)
            found = page in (titles if there is None else there)
            return f"[{shown}]({page}.ipynb)" if found else shown
        if name == "math":
            return f"${content}$"
        if name == "numref":  # the numbers are the book's
            return f"the figure “{target.removeprefix('fig-').replace('-', ' ')}”"
        if name.startswith("cite"):
            return ", ".join(map(_cited, content.split(",")))
        return shown or target

    roles = r"\{(doc|math|term|ref|eq|numref|cite:[tp])\}`([^`]+)`"
    return re.sub(roles, role, "\n".join(lines)).split("\n") if lines else []


def _cited(key: str) -> str:
    """_cited("tigges2024llm") -> "Tigges et al. (2024)", as far as a key can tell."""
    match = re.match(r"([a-z]+)(\d{4})", key.strip())
    return f"{match[1].capitalize()} et al. ({match[2]})" if match else key
