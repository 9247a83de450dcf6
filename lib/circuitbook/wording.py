"""How the book writes tasks, heads and large numbers, in figures as in sentences."""

from __future__ import annotations

TASK_TITLES = {
    "ioi": "Indirect Object Identification",
    "gendered_pronoun": "Gendered Pronoun",
    "greater_than": "Greater-Than",
    "sva": "Subject-Verb Agreement",
    "repetition": "Repeated random words",
}


TASK_SHORT = TASK_TITLES | {"ioi": "IOI", "gendered_pronoun": "Pronoun", "sva": "SVA"}  # for tables


def short_number(value: float, _=None) -> str:
    """short_number(1_500_000) -> "1.5M" """
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def head_label(head: tuple[int, int]) -> str:
    """head_label((3, 1)) -> "3.1", as people write layer and head."""
    layer, number = head
    return f"{layer}.{number}"


def counted(number: int, noun: str) -> str:
    """counted(1, "checkpoint") -> "1 checkpoint"; counted(2, "checkpoint") -> "2 checkpoints" """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
