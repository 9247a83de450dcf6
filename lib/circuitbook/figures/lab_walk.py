"""A walk through the lab, as a list of links that carry its state in the address."""

from __future__ import annotations

from urllib.parse import urlencode

from IPython.display import HTML

from circuitbook.figures.tables import folded
from circuitbook.figures.views import escaped, in_the_book
from circuitbook.studies.findings.lab_walk import Walk, WalkStep


def walk_links(walk: Walk, name: str = "lab") -> HTML:
    """The steps, each a link that puts the lab `name` of this page into its state, and folded below
    what is seen at every checkpoint. Where there is no site, the latter alone."""
    table = folded("What is seen at each checkpoint", walk.table, text=walk.seen).data
    if not in_the_book():
        return HTML(f"<p>In the book's page, links set up the lab. What they show:</p>{table}")
    steps = "".join(
        f'<li><a href="{escaped(address_of(walk, step, name))}">{escaped(step.title)}</a>: '
        f"{escaped(step.to_do)}</li>"
        for step in walk.steps
    )
    return HTML(f"<ol>{steps}</ol>{table}")


def address_of(walk: Walk, step: WalkStep, name: str = "lab") -> str:
    """The state as the lab writes it into the address: see `js/lab-state.js`."""
    example = walk.example
    state = {
        "model": walk.model,
        "step": step.step,
        "text": example.text,
        "other": example.other,
        "right": example.right,
        "wrong": example.wrong,
        "off": "zero",
        "switched": ",".join(f"{node}:{how}" for node, how in step.switches.items()),
        "node": step.node,
    }
    return "#" + urlencode({f"{name}.{key}": value for key, value in state.items()})
