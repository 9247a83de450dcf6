"""Shows a page's quiz (see `circuitbook.teaching.quiz`) at its end, before what comes next.

It needs no script: radio buttons, and a style that shows what is said of the one that is chosen.
Nothing is stored or sent. With a keyboard the arrows choose; a screen reader is told what appears;
in print all explanations are there.

    ```{quiz}
    ```

puts it elsewhere: a page that has this directive is left as it is.
"""

import json
from pathlib import Path
from string import ascii_lowercase

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from circuitbook.teaching.quiz import HEADING, LAST, Question, quiz_file, quiz_of

DIRECTIVE = "```{quiz}\n```"
STYLE = "quiz.css"


class Quiz(SphinxDirective):
    """The questions of this page."""

    def run(self) -> list[nodes.Node]:
        root, page = Path(self.env.srcdir), self.env.docname
        self.env.note_dependency(str(quiz_file(root, page)))
        shown: list[nodes.Node] = []
        for number, question in enumerate(quiz_of(root, page), 1):
            shown += self.question(number, question)
        return shown

    def question(self, number: int, question: Question) -> list[nodes.Node]:
        name = f"quiz-{number}"
        shown = [
            _html(f'<fieldset class="quiz" id="{name}"><legend>{number}. '),
            *self.text(question.text),
            _html("</legend><ol>"),
        ]
        for letter, choice in zip(ascii_lowercase, question.choices, strict=False):
            button = f'<input type="radio" name="{name}" value="{letter}">'
            shown += [_html(f"<li><label>{button} <span>"), *self.text(choice.text)]
            shown.append(_html("</span></label></li>"))
        shown.append(_html('</ol><div class="quiz-says" role="status">'))
        for letter, choice in zip(ascii_lowercase, question.choices, strict=False):
            kind, word = ("right", "Right.") if choice.right else ("wrong", "Not quite.")
            begins = f'<span class="quiz-letter">{letter})</span> <strong>{word}</strong> '
            shown += [_html(f'<p class="quiz-{kind}">{begins}'), *self.text(choice.because)]
            shown.append(_html("</p>"))
        return [*shown, _html("</div></fieldset>")]

    def text(self, markdown: str) -> list[nodes.Node]:
        found, problems = self.parse_inline(" ".join(markdown.split()))
        return [*found, *problems]


def _html(text: str) -> nodes.raw:
    return nodes.raw("", text, format="html")


def append(app: Sphinx, page: str, source: list[str]) -> None:
    """Adds the directive, under a heading, to the source of a page that has questions."""
    if not quiz_file(Path(app.srcdir), page).is_file() or "```{quiz}" in source[0]:
        return
    text = f"## {HEADING}\n\n{DIRECTIVE}"
    if not app.env.doc2path(page).endswith(".ipynb"):
        before, last, after = source[0].rpartition(f"\n{LAST}")
        if not last:
            before, after = source[0], ""
        source[0] = f"{before}\n\n{text}\n{last}{after}"
        return
    notebook = json.loads(source[0])
    cells = notebook["cells"]
    at = next(
        (i for i, cell in enumerate(cells) if "".join(cell["source"]).startswith(LAST)),
        len(cells) - ("made-with" in "".join(cells[-1]["source"])),
    )
    cells.insert(at, {"cell_type": "markdown", "id": "quiz", "metadata": {}, "source": text})
    source[0] = json.dumps(notebook)


def style(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None
) -> None:
    """Asks for the style on the pages that need it."""
    if doctree is not None and any(
        'class="quiz"' in raw.astext() for raw in doctree.findall(nodes.raw)
    ):
        app.add_css_file(STYLE)


def setup(app: Sphinx) -> dict[str, object]:
    app.add_directive("quiz", Quiz)
    app.connect("source-read", append)
    app.connect("html-page-context", style)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
