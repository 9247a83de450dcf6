"""Three questions at the end of a chapter, to answer without a computer.

They stand in the book's folder `book/quiz`, a file for each chapter that has some, as
`book/quiz/abilities.yml`:

    - question: What does the interval of a date not know of?
      choices:
        - right: Other training runs.
          because: It resamples prompts. ...
        - wrong: Other prompts.
          because: ...

Texts are Markdown. The book shows them with `book/_ext/quiz.py`; in notebooks they are text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from string import ascii_lowercase

import yaml

HEADING = "Check yourself"
LAST = "**Next:**"  # begins a chapter's last paragraph, before which the questions stand


@dataclass(frozen=True)
class Choice:
    """What may be chosen, and why it is right or wrong."""

    text: str
    right: bool
    because: str


@dataclass(frozen=True)
class Question:
    """A question with its choices, of which one is right."""

    text: str
    choices: tuple[Choice, ...]


def quiz_file(root: Path, page: str) -> Path:
    """Where the questions of a page are.  quiz_file(root, "notebooks/abilities") ->
    root/book/quiz/abilities.yml"""
    return root / "book" / "quiz" / f"{PurePosixPath(page).name}.yml"


def quiz_of(root: Path, page: str) -> tuple[Question, ...]:
    """The questions of a page; () where it has none. ValueError that names the file and the
    question where they are not written as above."""
    file = quiz_file(root, page)
    if not file.is_file():
        return ()
    try:
        written = yaml.safe_load(file.read_text(encoding="utf8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    if not isinstance(written, list):
        raise ValueError(f"{file} is no list of questions")
    return tuple(_question(item, f"{file}, question {i}") for i, item in enumerate(written, 1))


def _question(item: object, where: str) -> Question:
    if not isinstance(item, dict) or set(item) != {"question", "choices"}:
        raise ValueError(f"{where}: a question has `question` and `choices`, and nothing else")
    choices = []
    for choice in item["choices"]:
        if set(choice) not in ({"right", "because"}, {"wrong", "because"}):
            raise ValueError(f"{where}: a choice is `right` or `wrong`, and has its `because`")
        right = "right" in choice
        text = str(choice["right" if right else "wrong"])
        choices.append(Choice(text.strip(), right, str(choice["because"]).strip()))
    if len(choices) < 2 or sum(choice.right for choice in choices) != 1:
        raise ValueError(f"{where}: of two or more choices exactly one is right")
    return Question(str(item["question"]).strip(), tuple(choices))


def quiz_as_markdown(questions: Sequence[Question], *, answers: bool) -> str:
    """The questions as text, for a notebook; with the right letters and all explanations, or
    without."""
    parts = [f"## {HEADING}"]
    for number, question in enumerate(questions, 1):
        parts.append(f"**{number}.** {question.text}")
        lines = []
        for letter, choice in zip(ascii_lowercase, question.choices, strict=False):
            line = f"- {letter}) {choice.text}"
            if answers:
                line += f" *{'Right' if choice.right else 'Wrong'}.* {choice.because}"
            lines.append(line)
        parts.append("\n".join(lines))
    if not answers:
        parts.append("The chapter's page in the book says why each choice is right or wrong.")
    return "\n\n".join(parts)
