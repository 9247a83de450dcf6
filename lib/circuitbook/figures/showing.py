"""Figures in a page: as an image with a text for those who do not see it."""

from __future__ import annotations

import io
import urllib.parse

import matplotlib as mpl
import matplotlib.pyplot as plt
from IPython.display import HTML, display
from matplotlib.figure import Figure

from circuitbook.figures.panels import subplots
from circuitbook.figures.views import escaped

READABLE = " /:;=,.-!@?$*()_+~"  # what may stand as it is in an address in double quotes


def show(fig: Figure, alt: str, name: str | None = None, *, here: bool = True) -> None:
    """Shows a figure as an image with a text for those who do not see it, and closes it.

    Under a `name` other pages can show it too; with here=False it is for them alone. The image is
    SVG with its letters drawn, so that it looks the same everywhere.
    """
    image = HTML(image_of(fig, alt))
    if here:
        display(image)
    if name:
        share(name, image)


def image_of(fig: Figure, alt: str) -> str:
    """The figure as an HTML element, with a text for those who do not see it; closes it."""
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "circuitbook"}):
        fig.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    plt.close(fig)
    drawing = " ".join(buffer.getvalue().decode().split())
    data = urllib.parse.quote(drawing, safe=READABLE)  # a server compresses it better than base64
    return f'<img alt="{escaped(alt)}" src="data:image/svg+xml,{data}">'


def share(name: str, output: object) -> None:
    """Keeps something displayable under a name, for other pages of the book to show."""
    try:
        from myst_nb import glue
    except ImportError:  # as in Colab: there are no other pages there
        return
    glue(name, output, display=False)


def nothing(why: str) -> Figure:
    """In place of a figure that has nothing to show: a line that says why."""
    fig, ax = subplots(figsize=(8.4, 1.2))
    ax.text(0.5, 0.5, why, ha="center", va="center", color="#555555")
    ax.axis("off")
    return fig
