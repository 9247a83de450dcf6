"""The lab in the chapters on abilities and on circuits."""

from __future__ import annotations

import pandas as pd

from circuitbook.circuits.circuit import Circuit
from circuitbook.model.loaded import Model
from circuitbook.studies.chapter import Chapter
from circuitbook.studies.findings.lab_cell import (
    SENTENCES,
    InPage,
    LabCell,
    counts,
    largest,
    load_others,
    long_label,
    measure_name,
    node_label,
    over_training,
    since_when,
    still_of,
)
from circuitbook.studies.lab import FIRST, example_of
from circuitbook.studies.switching import Switches, measure_switched
from circuitbook.tasks.base import PromptPairs
from circuitbook.wording import counted, in_markdown, short_number, two_digits

# ------------------------------------------------------------------ a sentence over training


def sentence_over_training(chapter: Chapter, there: InPage) -> LabCell | None:
    """From when on a model tells two sentences apart; None where a page can run no checkpoint."""
    model = largest(chapter, there, whole=True)
    if model is None:
        return None
    seen = over_training(chapter, there, model, FIRST)
    right, wrong = FIRST.right, FIRST.wrong
    names = pd.DataFrame(
        {"own": [at.own > 0 for at in seen], "other": [at.other > 0 for at in seen]}
    )
    told = names["own"] & ~names["other"]
    since = since_when(told)
    before = names.iloc[:since]
    alike = before[before["own"] == before["other"]]
    text = f"At its last checkpoint here {model} does not name the receiver in both sentences. "
    if since < len(seen):
        tokens = short_number(seen[since].tokens_seen)
        text = f"From {tokens} tokens on {model} prefers the one who receives in both sentences. "
    if len(alike):
        some = f"{len(alike)} of the" if len(alike) < len(before) else "all"
        text += (
            f"At {some} {counted(len(before), 'checkpoint')} before, it prefers the "
            f"same name in both, {right} at {int(alike['own'].sum())} and {wrong} at "
            f"{int((~alike['own']).sum())}: who gives makes no difference to it yet."
        )
    table = pd.DataFrame(
        {
            "tokens seen": [short_number(at.tokens_seen) for at in seen],
            "next word": [at.next_words()[0][0] for at in seen],
            f"{right} less {wrong}": [two_digits(at.own) for at in seen],
            "next word of the other sentence": [at.next_words("other")[0][0] for at in seen],
            f"{right} less {wrong} there": [two_digits(at.other) for at in seen],
        }
    )
    return LabCell(
        name="try-abilities",
        model=model,
        step=seen[-1].step,
        example=FIRST,
        shown=(*SENTENCES, "training", "bars", "curve"),
        question=(
            f"The two sentences differ in who gives. Start {in_markdown(model)}"
            f"{load_others(seen)}. **From how many tokens on does it prefer the one who receives, "
            "in both sentences? Whom does it prefer before?** Then write other people, places and "
            "things into both. Does the date move?"
        ),
        still=still_of(seen[-1], model, FIRST),
        seen=text,
        table=table,
    )


# ------------------------------------------------------------------ what a circuit leaves out


def outside_the_circuit(
    chapter: Chapter, there: InPage, model: Model, pairs: PromptPairs, circuit: Circuit
) -> LabCell | None:
    """What stays of the first pair's answer if all that a circuit leaves out writes what it writes
    on the other sentence; None where a page cannot run the checkpoint, or there is no circuit."""
    name, step = model.checkpoint.model, model.checkpoint.step
    nodes = [node for node in circuit.graph.node_names if node not in ("input", "logits")]
    left_out = {node: "other" for node in nodes if node not in circuit.nodes}
    if step not in there.get(name, ()) or not circuit.found or not left_out:
        return None
    kept = [node for node in nodes if node in circuit.nodes]
    sets: list[Switches] = [left_out, *({**left_out, node: "other"} for node in kept)]
    example = example_of(model.tokenizer, pairs, 0)
    (at,) = measure_switched(chapter.suite, name, [step], chapter.store, example, sets)
    metric, stays, too = measure_name(example), at.switched[0], at.switched[1:]
    rows = [("nothing", at.own), ("everything", at.other), ("what the circuit leaves out", stays)]
    rows += [(f"and {long_label(node)}", value) for node, value in zip(kept, too, strict=True)]
    text = (
        f"With all that the circuit leaves out from the other sentence, the {metric} goes from "
        f"{two_digits(at.own)} to {two_digits(stays)}; that of the other sentence is "
        f"{two_digits(at.other)}. "
    )
    heads = [i for i, node in enumerate(kept) if node[0] == "a"]
    if heads:
        worst = min(heads, key=lambda i: too[i])
        text += (
            f"Of the circuit's heads {node_label(kept[worst])} is missed most: with it from the "
            f"other sentence, too, {two_digits(too[worst])}. "
        )
    text += (
        "One sentence is an example, no measurement. And here every edge between the nodes that "
        f"stay is kept; the circuit has only {counted(circuit.n_edges, 'edge')}."
    )
    table = pd.DataFrame(
        [(what, two_digits(value)) for what, value in rows],
        columns=["from the other sentence", metric],
    )
    return LabCell(
        name="try-circuit",
        model=name,
        step=step,
        example=example,
        shown=("text", "other", "bars", "tiles"),
        question=(
            f"The circuit leaves out {counts(left_out)}. Here they all write what they write on "
            f"the other sentence. **How much of the {metric} stays? Then let the circuit's own "
            "heads, one at a time, do the same: which one is missed most?**"
        ),
        still=still_of(at, name, example, left_out),
        seen=text,
        table=table,
        switches=left_out,
    )
