"""Measurements made by hand, whose right tables and sentences are known."""

import numpy as np

from circuitbook.studies.head_scores import HeadScores

ITEMS = 20
KINDS = ("previous", "duplicate", "induction", "successor", "copy", "negative_copy")


def scores_of(model: str, step: int, **by_kind: list[float]) -> HeadScores:
    """Two layers of two heads with these scores, the same for every item; `direct` helps."""
    arrays = {kind: np.zeros((4, ITEMS)) for kind in (*KINDS, "to_IO", "to_S1", "to_S2")}
    arrays |= {"clean": np.full(ITEMS, 4.0), "corrupted": np.full(ITEMS, -4.0)}
    arrays |= {"movers": np.zeros(4), "direct": np.full((4, ITEMS), 4.0)}
    arrays |= {"cspa_kept": np.ones((4, ITEMS)), "cspa_ablated": np.ones((4, ITEMS))}
    for kind, values in by_kind.items():
        column = np.array(values, dtype=float)[:, None]
        if kind == "s_inhibition":
            arrays[kind] = np.array(values, dtype=float)
        elif kind == "direct":
            arrays[kind] = np.repeat(4.0 - 8.0 * column, ITEMS, 1)
        elif kind == "copy_suppression":
            arrays["cspa_kept"] = np.repeat(1.0 - column, ITEMS, 1)
        elif kind in ("clean", "movers"):
            arrays[kind] = np.broadcast_to(values, arrays[kind].shape)
        else:
            arrays[kind] = np.repeat(column, ITEMS, 1)
    return HeadScores(model, step, 1000 * step, 2, arrays)
