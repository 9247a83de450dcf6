"""The lab in the chapters on heads: one at work, some taken out, one made to write otherwise."""

from __future__ import annotations

import numpy as np
import pandas as pd

from circuitbook.heads.names import head_name
from circuitbook.model.loaded import Model
from circuitbook.studies.chapter import Chapter
from circuitbook.studies.findings.head_classes import last_of_each
from circuitbook.studies.findings.heads_taken_out import swap_groups
from circuitbook.studies.findings.kinds import best_heads, heads_in
from circuitbook.studies.findings.lab_cell import (
    SENTENCES,
    InPage,
    LabCell,
    largest,
    load_others,
    measure_name,
    over_training,
    runnable,
    since_when,
    still_of,
)
from circuitbook.studies.formation import of_model
from circuitbook.studies.head_classes import HeadClasses
from circuitbook.studies.lab import FIRST, Example
from circuitbook.studies.switching import Switches, measure_switched
from circuitbook.tasks.sequences import repeated_sequences
from circuitbook.wording import counted, head_label, in_markdown, percent, short_number, two_digits

MISSED = 1.0  # of a logit difference: what must be lost to say that a head is missed

# ------------------------------------------------------------------ an induction head at work


def line_said_twice(chapter: Chapter, there: InPage, last: pd.DataFrame) -> LabCell | None:
    """What the strongest induction head does on a line of random words.

    last: a row for each head at the last checkpoints, as from `at_last_checkpoint`. None where a
    page can run none of these checkpoints.
    """
    name = largest(chapter, there)
    if name is None:
        return None
    scores = last[last["model"] == name]
    (head,) = best_heads(scores, ["induction"])
    step = chapter.steps[name][-1]
    model = chapter.suite.checkpoint(name, step).load()
    example = _said_twice(model, chapter.recipe.seed)
    heads = heads_in(scores)
    sets = [{head_name(one): "zero"} for one in heads]
    (at,) = measure_switched(chapter.suite, name, [step], chapter.store, example, sets)
    without = dict(zip(heads, at.switched.tolist(), strict=True))
    text = (
        f"“{example.right}” has a probability of {percent(at.own)}, and of "
        f"{percent(without[head])} without head {head_label(head)}. "
    )
    earlier = [one for one in heads if one[0] < head[0]]
    if earlier:
        needed = min(earlier, key=lambda one: without[one])
        previous = scores.set_index(["layer", "head"])["previous"][needed]
        text += (
            f"Of the heads of earlier layers {head_label(needed)} is missed most: "
            f"{percent(without[needed])} is left without it. Its previous-token score is "
            f"{previous:.2f}. An induction head looks for the place after an earlier copy; so an "
            "earlier head must have written there which word came before."
        )
    most = sorted(heads, key=lambda one: without[one])[:5]
    rows = [("nothing", at.own), *((f"head {head_label(one)}", without[one]) for one in most)]
    table = pd.DataFrame(
        [(what, percent(value)) for what, value in rows],
        columns=["switched off", measure_name(example)],
    )
    return LabCell(
        name="try-induction",
        model=name,
        step=step,
        example=example,
        shown=("text", "other", "right", "bars", "tiles"),
        question=(
            "A line of random words is said twice, the second time without its last word. Head "
            f"{head_label(head)} has the highest induction score of {in_markdown(name)}. **Switch "
            f"it off: what is left of the probability of “{in_markdown(example.right)}”? And which "
            "head of an earlier layer is missed as much?**"
        ),
        still=still_of(at, name, example),
        seen=text,
        table=table,
        node=head_name(head),
    )


def _said_twice(model: Model, seed: int, length: int = 8) -> Example:
    """A line of random words, and the same words behind a line of others."""
    line, others = repeated_sequences(model, 2, length, seed=seed)[:, :length].tolist()
    text, other = (model.tokenizer.decode(first + line[:-1]) for first in (line, others))
    word = str(model.tokenizer.decode(line[-1:])).strip()
    return Example("Repetition", str(text), str(other), right=word, wrong="")


# ------------------------------------------------------------------ heads taken out


def heads_off_over_training(chapter: Chapter, there: InPage) -> LabCell | None:
    """What a sentence loses at every checkpoint without the head that carries most of IOI, and
    without a second one; None where a page can run no checkpoint of these models."""
    name = largest(chapter, there, whole=True)
    if name is None:
        return None
    last = of_model(chapter.heads, name)[-1]
    head = swap_groups(last)["carriers of IOI"][0]
    off = {head_name(head): "zero"}
    others = [one for one in last.heads if one != head]
    sets: list[Switches] = [off, *({**off, head_name(one): "zero"} for one in others)]
    seen = over_training(chapter, there, name, FIRST, sets)
    at = seen[-1]
    worst = int(np.argmin(at.switched[1:])) + 1
    label, second = head_label(head), head_label(others[worst - 1])
    lost = pd.Series([one.own - one.switched[0] > MISSED for one in seen])
    since = since_when(lost)
    text = f"Head {label} is not missed at the last checkpoint: it costs less than {MISSED:g}. "
    if since < len(seen):
        tokens = short_number(seen[since].tokens_seen)
        text = f"From {tokens} tokens on head {label} costs more than {MISSED:g}. "
    able = [one for one in seen if one.own > 0]
    still_right = sum(one.switched[0] > 0 for one in able)
    text += (
        f"{FIRST.right} is ahead at {counted(len(able), 'checkpoint')}, and without the head still "
        f"at {still_right} of these. At the last one, the second head that costs most is {second}: "
        f"{two_digits(at.own)} with both on, {two_digits(at.switched[0])} without {label}, "
        f"{two_digits(at.switched[worst])} without the two"
    )
    turned = at.own > 0 > at.switched[worst]
    text += f", and {FIRST.wrong} is ahead." if turned else "."
    table = pd.DataFrame(
        {
            "tokens seen": [short_number(one.tokens_seen) for one in seen],
            "all on": [two_digits(one.own) for one in seen],
            f"without {label}": [two_digits(one.switched[0]) for one in seen],
            f"without {label} and {second}": [two_digits(one.switched[worst]) for one in seen],
        }
    )
    return LabCell(
        name="try-off",
        model=name,
        step=at.step,
        example=FIRST,
        shown=(*SENTENCES, "training", "bars", "curve", "tiles"),
        question=(
            f"Of the heads of {in_markdown(name)}, {label} has the largest direct effect on IOI at "
            f"the end; here it writes nothing. Start{load_others(seen)}. **Since when is it "
            f"missed? And does the model still prefer {FIRST.right} without it? Then take out a "
            f"second head, too: which one turns {FIRST.right} into {FIRST.wrong}?**"
        ),
        still=still_of(at, name, FIRST, off),
        seen=text,
        table=table,
        switches=off,
        node=head_name(head),
    )


# ------------------------------------------------------------------ the other giver


def the_other_giver(chapter: Chapter, there: InPage) -> LabCell | None:
    """What becomes of the answer if one answering head writes what it writes where the other one
    gives. The largest model that has such a head; None where a page can run none."""
    last = last_of_each(chapter.head_classes)
    for name in reversed(runnable(chapter, there)):
        classes = last.get(name)
        rows = answering_heads(classes) if classes else []
        if classes and rows:
            return _other_giver(chapter, classes, rows[0])
    return None


def answering_heads(classes: HeadClasses) -> list[int]:
    """Rows of the heads in classes of the first stage that help, the largest effect first."""
    if "direct" not in classes.patched:
        return []
    effects = classes.effects("direct")
    rows = [int(row) for row in np.argsort(effects) if effects[row] < 0]
    return [row for row in rows if classes.members("direct")[row]]


def _other_giver(chapter: Chapter, classes: HeadClasses, row: int) -> LabCell:
    name, step, heads = classes.model, classes.step, classes.heads
    node, label = head_name(heads[row]), head_label(heads[row])
    sets = [{node: "zero"}, *({head_name(one): "other"} for one in heads)]
    (at,) = measure_switched(chapter.suite, name, [step], chapter.store, FIRST, sets)
    off, given = at.switched[0], at.switched[1:]
    way = (at.own - given) / (at.own - at.other)
    rest = max((i for i in range(len(heads)) if i != row), key=lambda i: way[i])
    table = pd.DataFrame(
        [
            ("all on", two_digits(at.own)),
            (f"{label} from the other sentence", two_digits(given[row])),
            (f"{label} off", two_digits(off)),
            (f"{head_label(heads[rest])} from the other sentence", two_digits(given[rest])),
            ("the other sentence itself", two_digits(at.other)),
        ],
        columns=["heads", measure_name(FIRST)],
    )
    said = FIRST.right if given[row] > 0 else FIRST.wrong
    text = (
        f"With head {label} from the other sentence {name} prefers {said}: {two_digits(at.own)} "
        f"becomes {two_digits(given[row])}, which is {percent(way[row])} of the way to the other "
        f"sentence. If it writes nothing, {two_digits(off)} is left. Of the other heads "
        f"{head_label(heads[rest])} goes furthest, {percent(way[rest])} of the way."
    )
    return LabCell(
        name="try-giver",
        model=name,
        step=step,
        example=FIRST,
        shown=("text", "other", "bars", "tiles"),
        question=(
            f"By the test above, head {label} of {in_markdown(name)} is in the class "
            f"*{classes.role(row)}*, and of the answering heads it has the largest direct effect. "
            "**Let it write what it writes on the other sentence, where the other one gives: whom "
            "does the model name now? What if it writes nothing instead? And is there another head "
            "that does as much?**"
        ),
        still=still_of(at, name, FIRST),
        seen=text,
        table=table,
        node=node,
    )
