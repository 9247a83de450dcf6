"""What the runs on ordered lists say of the hypothesis: name movers with S-inhibition arise if and
only if the strongest head that writes against S sits before the strongest mover, and it does so
more often in deeper models.

The unit is the run: its last checkpoint counts, if all of its lists are solved there. A run without
a name mover has another algorithm: see `chosen_at`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest, fisher_exact, permutation_test, spearmanr

from circuitbook.tasks.stories.ordered_lists import SIZES
from circuitbook.wording import counted, head_from_label, percent

SOLVED = 0.9  # of the prompts of every size have the right name on top
LEVEL = 0.95
LOOKS = 0.5  # of a head's attention from END
CHOSEN_AT = ("IO", "S", "elsewhere")


@dataclass(frozen=True, kw_only=True)
class Association:
    """A 2x2 table over runs, and Fisher's exact test of it."""

    counts: pd.DataFrame
    """Rows "before", "not before": where the strongest head that writes against S sits, seen from
    the strongest mover; columns "S-inhibition", "none"."""
    p: float
    """Two-sided."""

    @property
    def runs(self) -> int:
        return int(self.counts.to_numpy().sum())

    @property
    def exceptions(self) -> int:
        """Runs that "if and only if" does not allow."""
        counts = self.counts.to_numpy()
        return int(counts[0, 1] + counts[1, 0])

    @property
    def tests(self) -> bool:
        """Whether the runs differ at all in both: with an empty row or column nothing is
        tested."""
        counts = self.counts.to_numpy()
        return bool(counts.sum(0).all() and counts.sum(1).all())


def last_of_runs(table: pd.DataFrame) -> pd.DataFrame:
    """The last checkpoint of every run that has ended, with `solved`, `before`, `inhibited` and
    `chosen_at`.

    table: `runs.csv`, see `list_runs.run_row`. before: the strongest head that writes against S is
    in an earlier layer than the strongest mover; <NA> where the run lacks one of the two.
    chosen_at: where the head looks from END that carries the choice among those who do not give:
    "IO", as a name mover does; "S", at the giver (S1 or S2); or "elsewhere", as where no head does.
    """
    last = table[table["step"] == table["steps"]].reset_index(drop=True)
    tops = last[[f"top_{size}" for size in SIZES]]
    layers = {
        name: [_layer(label) for label in last[name].fillna("").astype(str)]
        for name in ("mover", "writer")
    }
    before = [
        pd.NA if mover is None or writer is None else writer < mover
        for mover, writer in zip(layers["mover"], layers["writer"], strict=True)
    ]
    return last.assign(
        solved=(tops > SOLVED).all(axis=1),
        before=pd.array(before, dtype="boolean"),
        inhibited=last["inhibits"].fillna("").astype(str) != "",
        chosen_at=np.select(
            [last["chooser_IO"] > LOOKS, last["chooser_S"] > LOOKS], CHOSEN_AT[:2], CHOSEN_AT[2]
        ),
    )


def _layer(label: str) -> int | None:
    return head_from_label(label)[0] if label else None


def association(last: pd.DataFrame) -> Association:
    """The hypothesis' first half, on runs that are solved and have a mover and a writer."""
    runs = last[last["solved"] & last["before"].notna()]
    before, inhibited = runs["before"].to_numpy(bool), runs["inhibited"].to_numpy(bool)
    counts = [
        [int((where & with_it).sum()) for with_it in (inhibited, ~inhibited)]
        for where in (before, ~before)
    ]
    table = pd.DataFrame(counts, ["before", "not before"], ["S-inhibition", "none"])
    return Association(counts=table, p=float(fisher_exact(counts).pvalue))


def by_depth(last: pd.DataFrame) -> pd.DataFrame:
    """A row per depth: layers; runs that ended; solved; of those, chosen at IO, S or elsewhere (see
    `last_of_runs`), and with_both, a mover and a head that writes against S; before and inhibited,
    as shares of these last, with _low and _high (Clopper and Pearson's exact interval of 95%); nan
    where there is no run.
    """
    rows = []
    for layers, of_depth in last.groupby("layers"):
        both = of_depth[of_depth["solved"] & of_depth["before"].notna()]
        row: dict[str, object] = {
            "layers": layers,
            "runs": len(of_depth),
            "solved": int(of_depth["solved"].sum()),
            **{
                f"chosen_at_{place}": int(
                    (of_depth["chosen_at"] == place)[of_depth["solved"]].sum()
                )
                for place in CHOSEN_AT
            },
            "with_both": len(both),
        }
        for name in ("before", "inhibited"):
            hits = int(both[name].sum())
            share = low = high = np.nan
            if len(both):
                test = binomtest(hits, len(both))
                low, high = test.proportion_ci(LEVEL, method="exact")
                share = hits / len(both)
            row |= {name: share, f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def trend(last: pd.DataFrame, seed: int = 0) -> tuple[float, float]:
    """Spearman's correlation of depth with `before` over runs, and its p (two-sided, permuted).

    (nan, nan) where all runs have one depth, or all are alike.
    """
    runs = last[last["solved"] & last["before"].notna()]
    layers, before = runs["layers"].to_numpy(float), runs["before"].to_numpy(float)
    if len(set(layers)) < 2 or len(set(before)) < 2:
        return np.nan, np.nan

    def correlation(one: np.ndarray) -> float:
        return float(spearmanr(one, before).statistic)

    test = permutation_test(
        (layers,),
        correlation,
        permutation_type="pairings",
        n_resamples=5000,
        rng=np.random.default_rng(seed),
    )
    return float(test.statistic), float(test.pvalue)


def hypothesis_sentence(last: pd.DataFrame) -> str:
    """What the runs say of the hypothesis."""
    found = association(last)
    n, solved = found.runs, last[last["solved"]]
    if not n:
        at_subject = int((solved["chosen_at"] == "S").sum())
        return (
            f"Of {counted(len(last), 'run')}, {len(solved)} solved all lists, none of them with a "
            "name mover and a head that writes against S, so that the hypothesis is not tested; in "
            f"{at_subject} the head that chooses the receiver looks at the giver."
        )
    counts = found.counts
    before, inhibited = counts.loc["before"].sum(), counts["S-inhibition"].sum()
    start = (
        f"In {before} of {counted(n, 'run')} the strongest head that writes against S sits before "
        f"the strongest name mover, and {inhibited} have S-inhibition. "
    )
    if not found.tests:
        return start + "Where all runs agree in one of the two, their relation is not tested."
    p = f"Fisher's exact p = {found.p:.2g}"
    if found.exceptions == 0:
        return start + f"They are the same runs ({p})."
    share = percent(1 - found.exceptions / n)
    (both, before_alone), (inhibited_alone, neither) = found.counts.to_numpy()
    related = "are not seen to go together"
    if found.p < 1 - LEVEL:
        together = both * neither > before_alone * inhibited_alone
        related = "go together" if together else "exclude one another"
    return start + (
        f"The two {related} ({p}), and {counted(found.exceptions, 'run')} "
        f"{'contradicts' if found.exceptions == 1 else 'contradict'} "
        f'"if and only if" ({share} do not).'
    )
