"""Claims about circuits and the algorithm (sections 2, 4.1 and 4.2, Figure 4)."""

from __future__ import annotations

import numpy as np

from circuitbook.studies.claims.evidence import Evidence
from circuitbook.studies.claims.formation import SAME, Test
from circuitbook.studies.class_shares import verdict
from circuitbook.studies.head_classes import CLAIMED
from circuitbook.studies.transfer import transfer_summary

SMALL_SHARE = 0.05  # of all edges: where the paper's search ends


# ------------------------------------------------------------------ section 2: circuits


def _small_circuits(e: Evidence) -> tuple[str, str]:
    done = [
        one.circuit
        for one in e.circuits
        if not one.circuit.reason.startswith("the model does not do the task")
    ]
    if not done:
        return "can't tell", "no model does any of the tasks"
    share = np.array([c.n_edges / c.graph.n_edges if c.found else np.inf for c in done])
    small = (share <= SMALL_SHARE).mean()
    there = share[np.isfinite(share)]
    return ("holds" if small == 1 else "does not hold"), (
        f"{small:.1%} of {len(done)} searches; edges in the median "
        + (f"{np.median(there):.2%}, at most {there.max():.1%}" if len(there) else "none")
    )


# ------------------------------------------------------------------ section 4.1 and 4.2: heads change, the algorithm stays


def _heads_change(e: Evidence) -> tuple[str, str]:
    """Does the set of heads in some class change between two checkpoints of a run?"""
    runs = {}
    for name in dict.fromkeys(a.model for a in e.anatomies):
        mine = [a.labels for a in e.anatomies if a.model == name and any(a.labels)]
        if len(mine) > 1:
            runs[name] = sum(a != b for a, b in zip(mine, mine[1:])) / (len(mine) - 1)
    if not runs:
        return "can't tell", "no run has classified heads at two checkpoints"
    changed = [name for name, share in runs.items() if share > 0]
    return ("holds" if changed else "does not hold"), (
        f"heads enter or leave a class in {len(changed)} of {len(runs)} runs, between "
        f"{np.mean(list(runs.values())):.0%} of neighbouring checkpoints on average"
    )


def _share(stage: str) -> Test:
    def test(e: Evidence) -> tuple[str, str]:
        found = {}
        for name in dict.fromkeys(e.shares["model"]):
            part = e.shares[
                (e.shares["model"] == name)
                & (e.shares["stage"] == stage)
                & (e.shares["form"] == "absolute")
            ]
            one = verdict(part, CLAIMED[stage])
            if one.checkpoints:
                found[name] = one
        if not found:
            return "can't tell", "no model has such heads"
        answers = [one.answer for one in found.values()]
        answer = (
            "does not hold"
            if "does not hold" in answers
            else "holds"
            if set(answers) == {"holds"}
            else "can't tell"
        )
        return answer, "lowest share: " + "; ".join(
            f"{name} {one.share:.0%} [{one.low:.0%}, {one.high:.0%}]" for name, one in found.items()
        )

    return test


def _moved(what: str, where: str) -> Test:
    """Does what is moved keep `SAME` of what the target's own keeps?"""

    def test(e: Evidence) -> tuple[str, str]:
        summary = transfer_summary(e.transfers, e.seeds)
        row = summary[
            (summary["task"] == "ioi") & (summary["what"] == what) & (summary["where"] == where)
        ]
        if row.empty:
            return "can't tell", "there are no two such circuits"
        r = row.iloc[0]
        answer = (
            "holds"
            if r["mean"] >= SAME * r["own"]
            else "does not hold"
            if r["mean"] <= r["null"] + 0.5 * (r["own"] - r["null"])
            else "can't tell"
        )
        return answer, (
            f"keeps {r['mean']:.0%} on average, {r['lowest']:.0%} at worst ({int(r['pairs'])} pairs); the target's own {r['own']:.0%}, shuffled heads "
            f"{r['null']:.0%}"
        )

    return test
