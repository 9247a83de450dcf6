"""What the runs on ordered lists say: which algorithm each seed learns, when, and whether name
movers with S-inhibition arise if and only if the strongest head that writes against S sits before
the strongest mover (the hypothesis that the study was planned for).

The unit is the run: its last checkpoint counts, if all of its lists are solved there. Two
algorithms occur. "move", the paper's: END looks at the receiver in the list, and copies the name.
"fetch": END looks at the giver, and names whom that place holds by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest, fisher_exact, permutation_test, spearmanr

from circuitbook.studies.head_classes import CLASSES, PANELS, HeadClasses
from circuitbook.studies.transfer import NULLS, places_moved
from circuitbook.tasks.stories.ordered_lists import SIZES
from circuitbook.wording import counted, head_from_label, listed, percent, short_number

SOLVED = 0.9  # of the prompts of every size have the right name on top
LEVEL = 0.95
LOOKS = 0.5  # of a head's attention from END
CHOSEN_AT = ("IO", "S", "elsewhere")
MOVE, FETCH = "move", "fetch"
ALGORITHMS = {"IO": MOVE, "S": FETCH}  # by where the head looks that carries the choice
AT_FIRST = {MOVE: "find and move", FETCH: "look up and fetch"}
THEN = {MOVE: "finding and moving", FETCH: "looking up and fetching"}
UNSOLVED = ""


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
    """The last checkpoint of every run that has ended, with `solved`, `before`, `inhibited`,
    `chosen_at` and `algorithm`.

    table: `runs.csv`, see `list_runs.run_row`. before: the strongest head that writes against S is
    in an earlier layer than the strongest mover; <NA> where the run lacks one of the two.
    chosen_at: where the head looks from END that carries the choice among those who do not give:
    "IO", as a name mover does; "S", at the giver (S1 or S2); or "elsewhere", as where no head does.
    algorithm: one of `ALGORITHMS`, "" where lists are not solved or the choice is made elsewhere.
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
    solved = (tops > SOLVED).all(axis=1)
    chosen_at = pd.Series(
        np.select(
            [last["chooser_IO"] > LOOKS, last["chooser_S"] > LOOKS], CHOSEN_AT[:2], CHOSEN_AT[2]
        ),
        index=last.index,
    )
    return last.assign(
        solved=solved,
        before=pd.array(before, dtype="boolean"),
        inhibited=last["inhibits"].fillna("").astype(str) != "",
        chosen_at=chosen_at,
        algorithm=chosen_at.map(ALGORITHMS).where(solved).fillna(UNSOLVED),
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
    return _rises(runs["layers"].to_numpy(float), runs["before"].to_numpy(float), seed)


def fetching_with_depth(last: pd.DataFrame, seed: int = 0) -> tuple[float, float]:
    """The same of depth and whether a run fetches, over those that have an algorithm."""
    runs = last[last["algorithm"] != UNSOLVED]
    fetches = (runs["algorithm"] == "fetch").to_numpy(float)
    return _rises(runs["layers"].to_numpy(float), fetches, seed)


def _rises(layers: np.ndarray, happens: np.ndarray, seed: int) -> tuple[float, float]:
    if len(set(layers)) < 2 or len(set(happens)) < 2:
        return np.nan, np.nan

    def correlation(one: np.ndarray) -> float:
        return float(spearmanr(one, happens).statistic)

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
        start += "Where all runs agree in one of the two, whether they go together is not tested"
        alone = int(counts.loc["not before", "S-inhibition"])
        if not alone:
            return start + "."
        has = "has" if alone == 1 else "have"
        return start + (
            f"; but {counted(alone, 'run')} {has} S-inhibition without that order, which speaks "
            'against "only if".'
        )
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


def answer(last: pd.DataFrame) -> str:
    """Which algorithm how many runs have, all in all and by depth; in bold."""
    if last.empty:
        return "No run has ended yet."
    counts = last["algorithm"].value_counts()
    moves, fetches = (int(counts.get(name, 0)) for name in ALGORITHMS.values())
    solved, n = int(last["solved"].sum()), len(last)
    said = (
        f"**One language, two algorithms. Of {counted(n, 'run')} that differ by their seed and "
        f"depth alone, {solved} learn all lists: {moves} as the paper has it (find the receiver, "
        f"move the name), {fetches} by another way (look the receiver up where the giver is named "
        "again, fetch it from there)."
    )
    if other := solved - moves - fetches:
        said += (
            f" In {other} the choice is carried by no single head, or by one that looks at neither "
            "name."
        )
    return said + "** " + _by_depth_in_words(last)


def _by_depth_in_words(last: pd.DataFrame) -> str:
    parts = []
    for layers, runs in last[last["algorithm"] != UNSOLVED].groupby("layers"):
        fetch = int((runs["algorithm"] == "fetch").sum())
        parts.append(f"{fetch} of {len(runs)} with {layers} layers")
    if not parts:
        return ""
    correlation, p = fetching_with_depth(last)
    words = f"They fetch in {listed(parts)}"
    if np.isnan(correlation):
        return f"{words}."
    told = "more often the deeper they are" if correlation > 0 else "less often the deeper they are"
    if p > 1 - LEVEL:
        told = "so that we can't tell whether depth matters"
    return f"{words}: {told} (permutation p = {p:.2g})."


def learned_at(table: pd.DataFrame) -> pd.Series:
    """{run: tokens seen at the first checkpoint from which on lists of three are right in `SOLVED`
    of the prompts}, nan for a run that has none."""
    found = {}
    for run, rows in table.sort_values("step").groupby("run", sort=False):
        able = (rows["top_3"] > SOLVED).to_numpy()
        from_here = np.logical_and.accumulate(able[::-1])[::-1]
        found[run] = float(rows["tokens_seen"].to_numpy()[from_here][0]) if able[-1] else np.nan
    return pd.Series(found, dtype=float)


def learning_sentence(table: pd.DataFrame, last: pd.DataFrame) -> str:
    """When lists of three are learned, and from what."""
    at = learned_at(table).reindex(last["run"])
    known = at.dropna()
    if known.empty:
        return "No run learns lists of three."
    exclude = float(table.loc[table["top_3"].between(0.4, 0.6), "top_2"].median())
    said = (
        "All runs first learn not to name the giver, which is enough for lists of two (right in "
        f"{percent(exclude)} of the prompts while lists of three are at chance among the two who "
        f"are left). Then, after {short_number(known.min())} to {short_number(known.max())} "
        "tokens, lists of three come"
    )
    if late := len(at) - len(known):
        said += f"; in {counted(late, 'run')} they do not come by the end"
    return said + "."


def seeds_table(last: pd.DataFrame) -> pd.DataFrame:
    """A row per run, for the page: which heads do what at the end, and how well it does."""
    rows = last.sort_values(["layers", "seed"])
    tell = [
        (row["chooser_by_v"], row["chooser_by_v_effect"])
        if row["algorithm"] == "fetch"
        else (row["chooser_by_q"], row["chooser_by_q_effect"])
        for _, row in rows.iterrows()
    ]
    return pd.DataFrame(
        {
            "layers": rows["layers"],
            "seed": rows["seed"],
            "algorithm": rows["algorithm"].replace(UNSOLVED, "-"),
            "lists of 2, 3, 4 right": [
                ", ".join(percent(row[f"top_{size}"]) for size in SIZES)
                for _, row in rows.iterrows()
            ],
            "chooses": rows["chooser"],
            "its effect": rows["chooser_effect"],
            "told by": [head for head, _ in tell],
            "their effect": [effect for _, effect in tell],
            "name mover": rows["mover"],
            "writes against S": rows["writer"],
            "S-inhibition": rows["inhibits"],
        }
    ).reset_index(drop=True)


def without_sentence(last: pd.DataFrame) -> str:
    """What the movers do without the head that steers them."""
    runs = last[(last["algorithm"] == "move") & last["inhibited"]]
    if runs.empty:
        return "No run has a name mover that S-inhibition steers."
    means = {name: runs[name].mean() for name in ("mover_IO", "without_IO", "without_S1")}
    return (
        f"In {counted(len(runs), 'run')} S-inhibition steers the name mover: it looks at the "
        f"receiver with {percent(means['mover_IO'])} of its attention, and with "
        f"{percent(means['without_IO'])} when the strongest of these heads tells it of another "
        f"giver (then {percent(means['without_S1'])} go to the giver of the clean prompt)."
    )


def transfer_by_algorithm(transfers: pd.DataFrame, algorithm: Mapping[str, str]) -> pd.DataFrame:
    """What circuits and patterns of classes keep in another run, at the runs' last checkpoints.

    transfers: of `studies.transfer.transfer`. Columns: what; where ("same algorithm", "other
    algorithm"); pairs; kept, lowest, own and null: mean and lowest faithfulness, that of what was
    found at the target, and of shuffled heads there.
    """
    task = transfers["task"].iloc[0] if len(transfers) else ""
    rows = []
    for what in NULLS:
        moved = places_moved(transfers, task, what)
        moved = moved[moved["source"] != moved["target"]]
        alike = moved["source"].map(algorithm) == moved["target"].map(algorithm)
        for where, part in (("same algorithm", moved[alike]), ("other algorithm", moved[~alike])):
            if len(part):
                kept = part["faithfulness"]
                numbers = (len(part), kept.mean(), kept.min(), part["own"].mean())
                rows.append((what, where, *numbers, part["null"].mean()))
    return pd.DataFrame(rows, columns=["what", "where", "pairs", "kept", "lowest", "own", "null"])


def transfer_sentence(summary: pd.DataFrame) -> str:
    """What a pattern of classes keeps among runs of one algorithm, and of the other."""
    of_classes = summary[summary["what"] == "classes"].set_index("where")
    if of_classes.empty:
        return "There are no two runs to move a pattern of classes between."
    edges = summary[summary["what"] == "circuit"]
    said = ""
    if len(edges):
        kept = np.average(edges["kept"], weights=edges["pairs"])
        said = f"Edge by edge, a circuit keeps {percent(kept)} in another run of its depth. "
    parts = [
        f"in a run of the {where} it keeps {percent(row['kept'])} (the target's own pattern "
        f"{percent(row['own'])}, shuffled heads {percent(row['null'])})"
        for where, row in of_classes.iterrows()
    ]
    return f"{said}As a pattern of classes, {'; '.join(parts)}."


def runs_with(algorithm: str, runs: Sequence[str], last: pd.DataFrame) -> list[str]:
    """Of these runs, those that end with an algorithm."""
    ends = dict(zip(last["run"], last["algorithm"], strict=True))
    return [run for run in runs if ends.get(run) == algorithm]


def parting_sentence(table: pd.DataFrame, last: pd.DataFrame) -> str:
    """Whether a run's first choice is made where its last one is."""
    same = changed = other_head = 0
    for _, end in last[last["algorithm"] != UNSOLVED].iterrows():
        rows = table[(table["run"] == end["run"]) & (table["chooser"] != "")].sort_values("step")
        first = rows.iloc[0]
        looks = "IO" if first["chooser_IO"] > first["chooser_S"] else "S"
        same += ALGORITHMS[looks] == end["algorithm"]
        changed += ALGORITHMS[looks] != end["algorithm"]
        other_head += first["chooser"] != end["chooser"]
    if not same + changed:
        return "No run has learned lists of three."
    said = (
        f"The algorithm is decided when lists of three are learned: in {same} of "
        f"{counted(same + changed, 'run')} the head that first carries the choice looks, of the "
        "two names, more at the one that the last one looks at"
    )
    if other_head:
        return said + f" (in {other_head} it is another head by then)."
    return said + ", and it is the same head."


def algorithms_over_training(table: pd.DataFrame, run: str) -> pd.DataFrame:
    """The algorithms that a run goes through: tokens_seen of the first checkpoint of each, and
    which one. Checkpoints at which nothing is chosen, or neither at the receiver nor at the giver,
    are left out."""
    rows = table[(table["run"] == run) & (table["chooser"] != "")].sort_values("step")
    rows = rows[rows[["chooser_IO", "chooser_S"]].max(axis=1) > LOOKS]
    moves = rows["chooser_IO"] > rows["chooser_S"]
    rows = rows.assign(algorithm=moves.map({True: MOVE, False: FETCH}))
    begins = rows["algorithm"] != rows["algorithm"].shift()
    return rows.loc[begins, ["tokens_seen", "algorithm"]].reset_index(drop=True)


def changes_sentence(table: pd.DataFrame, last: pd.DataFrame) -> str:
    """Whether runs change their algorithm on the way."""
    solved = last.loc[last["algorithm"] != UNSOLVED, "run"]
    phases = {run: algorithms_over_training(table, run) for run in solved}
    changed = {run: found for run, found in phases.items() if len(found) > 1}
    if not changed:
        return "No run changes its algorithm on the way." if len(solved) else ""
    parts = [
        f"{run} begins to {AT_FIRST[found['algorithm'][0]]} at "
        f"{short_number(found['tokens_seen'][0])} tokens and goes over to "
        + listed(
            [
                f"{THEN[row['algorithm']]} at {short_number(row['tokens_seen'])}"
                for _, row in found.iloc[1:].iterrows()
            ]
        )
        for run, found in changed.items()
    ]
    return (
        f"{counted(len(changed), 'run')} of {len(solved)} that end with one of the two "
        f"{'changes its' if len(changed) == 1 else 'change their'} algorithm on the way: "
        f"{'; '.join(parts)}."
    )


def stays_sentence(
    shares: pd.DataFrame, head_classes: Sequence[HeadClasses], runs: Sequence[str]
) -> str:
    """Figure 4 B to D in words, run by run, from the first checkpoint with S-inhibition on."""
    said = []
    for run in runs:
        steered = [
            at for at in head_classes if at.model == run and at.classes["S-inhibition"].any()
        ]
        if not steered:
            said.append(f"In {run} no head is S-inhibition.")
            continue
        own = shares[(shares["model"] == run) & (shares["form"] == "absolute")]
        own = own[own["step"] >= steered[0].step].dropna(subset=["share"])
        least = own.groupby("stage")["share"].min()
        parts = [
            f"{PANELS[stage]} is never below {percent(least[stage])}"
            for stage in PANELS
            if stage in least
        ]
        none = [PANELS[stage] for stage in PANELS if stage not in least]
        first, end = (
            {(name, row) for name in CLASSES for row in at.classes[name].nonzero()[0]}
            for at in (steered[0], steered[-1])
        )
        said.append(
            f"In {run}, at the {counted(len(steered), 'checkpoint')} with S-inhibition, the shares "
            f"stay ({listed(parts)}), and so do the heads: {len(first & end)} of the {len(first)} "
            "places in a class are held by the same head to the end."
        )
        if none:
            said.append(
                f"{listed(none)} has nothing to explain: what the S-inhibition head needs, the "
                "giver's name, it reads where that stands, and no other head tells it."
            )
    return " ".join(dict.fromkeys(said)) or "No run that is shown here has the paper's algorithm."


def cost_sentence(table: pd.DataFrame, read: str = "") -> str:
    """What was trained, and the processor's time for it; read: what the runs read."""
    ended = table[table["run"].isin(last_of_runs(table)["run"])]
    parts = []
    for layers, rows in ended.groupby("layers"):
        runs = rows["run"].nunique()
        minutes = rows.groupby("run")["seconds"].sum().mean() / 60
        parts.append(f"{counted(runs, 'run')} of {layers} layers, {minutes:.0f} minutes each")
    tokens = short_number(float(ended["tokens_seen"].max())) if parts else ""
    on = f"on {read}, " if read else ""
    return (
        f"Trained were, {on}for {tokens} tokens: {listed(parts)} of one core, beside other work."
        if parts
        else "No run has ended yet."
    )
