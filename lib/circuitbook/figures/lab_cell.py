"""The lab at the point of a chapter: a question, some of its parts, and a folded answer."""

from __future__ import annotations

from IPython.display import HTML, Markdown, display

from circuitbook.figures.explorer import LAB_PAGE
from circuitbook.figures.lab import lab_view
from circuitbook.figures.lab_weights import beside_the_site
from circuitbook.figures.tables import folded
from circuitbook.figures.views import escaped, in_the_book
from circuitbook.model.tokenizers import find_tokenizer, read_tokenizer
from circuitbook.studies.findings.lab_cell import InPage, LabCell
from circuitbook.suites import Suite, load_suite
from circuitbook.suites.finding import SHIPPED

NOTHING = (
    "There is nothing to try here: the lab runs checkpoints that come with the book, and none of "
    "this run's shows it. The whole lab is in {doc}`/notebooks/lab`."
)


def checkpoints_in_a_page(suite: Suite) -> InPage:
    """The checkpoints that the lab can run, {model: steps}, small to large; {} for a suite whose
    weights do not lie beside the site."""
    if suite.name not in SHIPPED or suite.source != load_suite(suite.name).source:
        return {}
    return beside_the_site(suite)


def try_it(suite: Suite, cell: LabCell | None) -> None:
    """Shows the question, the lab, and folded below what you should have seen; without a cell, a
    sentence that says so."""
    if cell is None:
        display(Markdown(NOTHING))
        return
    display(Markdown(cell.question))
    display(lab_cell(suite, cell))
    display(Markdown("*The lab, set up for this question: a model at work in this page.*"))
    display(answer(cell))


def lab_cell(suite: Suite, cell: LabCell) -> HTML:
    """The lab with some of its parts, in the state in which the cell begins."""
    model, step = cell.model, cell.step
    texts = {name: getattr(cell.example, name) for name in ("text", "other", "right", "wrong")}
    state = texts | {"switches": dict(cell.switches), "node": cell.node}
    return lab_view(
        suite,
        {model: beside_the_site(suite)[model] if in_the_book() else [step]},
        {"model": model, "step": step} | state,
        name=cell.name,
        label=f"The lab with {model}: {', '.join(cell.shown)}",
        tokenizer=read_tokenizer(find_tokenizer(suite.checkpoint(model, step).fetch())),
        instead=f"<p data-still>{escaped(cell.still)}</p>",
        shown=cell.shown,
        full=LAB_PAGE if in_the_book() and suite.name == "mini" else None,
    )


def answer(cell: LabCell) -> HTML:
    """What you should have seen, folded."""
    return folded("What you should have seen", cell.table, text=cell.seen)
