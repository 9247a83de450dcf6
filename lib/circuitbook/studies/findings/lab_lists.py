"""The lab in the chapter on two algorithms: who tells the head that chooses, in a run of each."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from circuitbook.heads.names import head_name
from circuitbook.studies.chapter import Chapter
from circuitbook.studies.findings.lab_cell import InPage, LabCell, measure_name, still_of
from circuitbook.studies.findings.two_algorithms import FETCH, MOVE
from circuitbook.studies.lab import Example
from circuitbook.studies.switching import Switches, measure_switched
from circuitbook.tasks.next_in_list import TASK
from circuitbook.tasks.stories.ordered_lists import next_of
from circuitbook.wording import head_from_label, head_label, in_markdown, two_digits

NAMES = ("Mary", "John", "Kate")  # the list
LIST = "Yesterday Mary, John and Kate went to the store. {giver} gave a ring to"
GIVER, OTHER = "John", "Mary"
SAID = {
    MOVE: "tells the name mover where to look",
    FETCH: "tells the head at END whom to name",
}


def who_tells(
    chapter: Chapter, there: InPage, last: pd.DataFrame, algorithm: str
) -> LabCell | None:
    """The head that tells the choosing one, made to speak of another giver.

    last: of `two_algorithms.last_of_runs`. None where a page can run no run of this algorithm.
    """
    runs = last[(last["algorithm"] == algorithm) & last["run"].isin(list(there))]
    runs = runs[runs["run"].isin(chapter.models)]
    if runs.empty:
        return None
    run = runs.iloc[0]
    name, step = str(run["run"]), chapter.steps[str(run["run"])][-1]
    if step not in there[name]:
        return None
    kind = "q" if algorithm == MOVE else "v"
    teller, chooser = (head_from_label(run[of]) for of in (f"chooser_by_{kind}", "chooser"))
    example = _example(algorithm)
    sets: list[Switches] = [{head_name(teller): "other"}, {head_name(chooser): "zero"}]
    (at,) = measure_switched(chapter.suite, name, [step], chapter.store, example, sets)
    told, without = at.switched.tolist()
    turned = "names another" if told < 0 else "still names the same"
    first = at.next_words("switched")[0][0]
    return LabCell(
        name=f"try-{algorithm}",
        model=name,
        step=step,
        example=example,
        shown=("text", "other", "right", "wrong", "bars", "tiles"),
        question=(
            f"Head {head_label(teller)} of {in_markdown(name)} {SAID[algorithm]}. **Give it what "
            f"it writes when {OTHER} gives: whom does the model expect now?**"
        ),
        still=still_of(at, name, example),
        seen=(
            f"The model {turned}: {first} is the likeliest word then. The logit difference of "
            f"{example.right} and {example.wrong} goes from {two_digits(at.own)} to "
            f"{two_digits(told)}; without head {head_label(chooser)}, which chooses, it is "
            f"{two_digits(without)}."
        ),
        table=_table(example, [("nothing", at.own), (f"head {head_label(teller)}", told)]),
        node=head_name(teller),
    )


def _example(algorithm: str) -> Example:
    text, other = (LIST.format(giver=giver) for giver in (GIVER, OTHER))
    right, wrong = (next_of(NAMES, giver) for giver in (GIVER, OTHER))
    return Example(f"{TASK.title}: {algorithm}", text, other, right, wrong)


def _table(example: Example, rows: Sequence[tuple[str, float]]) -> pd.DataFrame:
    shown = [(what, two_digits(value)) for what, value in rows]
    return pd.DataFrame(shown, columns=["writes as on the other sentence", measure_name(example)])
