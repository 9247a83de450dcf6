"""How numbers, heads and tasks are written for people, in sentences, tables and figures."""

from __future__ import annotations

TASK_TITLES = {
    "ioi": "Indirect Object Identification",
    "gendered_pronoun": "Gendered Pronoun",
    "greater_than": "Greater-Than",
    "sva": "Subject-Verb Agreement",
    "repetition": "Repeated random words",
}
# where there is little room, as in tables
TASK_SHORT = TASK_TITLES | {"ioi": "IOI", "gendered_pronoun": "Pronoun", "sva": "SVA"}


def short_number(value: float, _=None) -> str:
    """short_number(1_500_000) -> "1.5M"; the second argument is for axes, which pass a tick's place."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def head_label(head: tuple[int, int]) -> str:
    """A head as people write it.  head_label((6, 3)) -> "6.3" """
    layer, number = head
    return f"{int(layer)}.{int(number)}"


def head_from_label(label: str) -> tuple[int, int]:
    """head_from_label("6.3") -> (6, 3)"""
    layer, number = label.split(".")
    return int(layer), int(number)


def head_labels(heads) -> str:
    """head_labels([(6, 3), (1, 0)]) -> "6.3, 1.0" """
    return ", ".join(head_label(head) for head in heads)
