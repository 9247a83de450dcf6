"""How numbers, heads and tasks are written for people, in sentences, tables and figures."""

from __future__ import annotations

import re
from collections.abc import Iterable


class Titles(dict[str, str]):
    """Titles of tasks by name. One's own task, which is not listed, is called as its name is read.

    >>> Titles(ioi="IOI")["next_day"]
    'Next day'
    """

    def __missing__(self, name: str) -> str:
        return name.replace("_", " ").capitalize()


TASK_TITLES = Titles(
    {
        "ioi": "Indirect Object Identification",
        "gendered_pronoun": "Gendered Pronoun",
        "greater_than": "Greater-Than",
        "sva": "Subject-Verb Agreement",
        "next_in_list": "Next in a list",
        "repetition": "Repeated random words",
    }
)
# where there is little room, as in tables
TASK_SHORT = Titles(TASK_TITLES | {"ioi": "IOI", "gendered_pronoun": "Pronoun", "sva": "SVA"})

# what a head of each class does, for those who meet the field's name for the first time
CLASS_DOES = {
    "name mover": "copies the name it looks at",
    "copy suppression": "lowers a word said before, and helps",
    "negative name mover": "lowers the name it looks at",
    "negative copy suppression": "lowers a word said before, and harms",
    "S-inhibition": "turns others away from the giver",
    "induction": "looks at what followed the last time",
    "duplicate token": "looks at the same word before",
}


def short_number(value: float, _tick: int | None = None) -> str:
    """A number of tokens in three digits; also a formatter of axes, which pass a tick's place.

    >>> short_number(1_500_000)
    '1.5M'
    """
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def head_label(head: tuple[int, int]) -> str:
    """A head as people write it: layer.head.

    >>> head_label((6, 3))
    '6.3'
    """
    layer, number = head
    return f"{int(layer)}.{int(number)}"


def head_labels(heads: Iterable[tuple[int, int]]) -> str:
    """Several heads in a row.

    >>> head_labels([(6, 3), (1, 0)])
    '6.3, 1.0'
    """
    return ", ".join(head_label(head) for head in heads)


def head_from_label(label: str) -> tuple[int, int]:
    """The other way round.

    >>> head_from_label("6.3")
    (6, 3)
    """
    layer, number = label.split(".")
    return int(layer), int(number)


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "head"), counted(4, "head")
    ('1 head', '4 heads')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def capitalised(text: str) -> str:
    """With a capital first letter, and all else as it is.

    >>> capitalised("we can't tell of IOI")
    "We can't tell of IOI"
    """
    return text[:1].upper() + text[1:]


def percent(value: float, digits: int = 0) -> str:
    """A share in percent, with no space before the sign and no minus before nothing.

    >>> percent(0.376), percent(-0.001), percent(0.0158, 1)
    ('38%', '0%', '1.6%')
    """
    return f"{round(value, digits + 2) + 0.0:.{digits}%}"


def two_digits(value: float) -> str:
    """Two digits behind the point, and no minus before nothing.

    >>> two_digits(-0.001), two_digits(3.14159)
    ('0.00', '3.14')
    """
    return f"{round(float(value), 2) + 0.0:.2f}"


def listed(names: Iterable[object]) -> str:
    """Names as one says them in a sentence.

    >>> listed(["IOI"]), listed(["IOI", "SVA"]), listed(["IOI", "SVA", "Pronoun"])
    ('IOI', 'IOI and SVA', 'IOI, SVA and Pronoun')
    """
    *before, last = [str(name) for name in names] or [""]
    return f"{', '.join(before)} and {last}" if before else last


def in_markdown(*names: object) -> str:
    r"""Names as Markdown shows them: letter by letter, on one line, with commas between them.

    A model, a suite or a token may be called anything, and a name is never markup.

    >>> print(in_markdown("mini-xs", "pythia-1.4b"), in_markdown("<b>*$x$_1. a"))
    mini-xs, pythia-1.4b \<b\>\*\$x\$\_1\. a
    """
    return ", ".join(_MARKUP.sub(r"\\\g<0>", " ".join(str(name).split())) for name in names)


# Punctuation, which a backslash makes a letter; not where it stands between letters or digits and
# could never be markup.
_MARKUP = re.compile(r"[!-,:-@\[-^`{-~]|(?<![^\W_])[-._/]|[-._](?![^\W_])")


def bullets(lines: Iterable[str]) -> str:
    """Lines as a list in Markdown."""
    return "\n".join(f"- {line}" for line in lines)
