"""What is said of a known circuit, on scores where the right words are known."""

import numpy as np
import pytest

from circuitbook.figures.known_circuit import known_circuit_found
from circuitbook.model.compiled import KINDS
from circuitbook.studies.findings import known_circuit as words
from circuitbook.studies.known_circuit import (
    DESIGNS,
    METHODS,
    graph_of_known,
    recovery_table,
    truth,
)

GRAPH = graph_of_known()
WHOLE = truth(GRAPH)
EVERY = tuple(KINDS)


def finds(*kinds, false=0):
    """Scores of 1 for edges of these kinds, and of 2 for so many outside the circuit."""
    scores = np.zeros(GRAPH.mask.shape)
    for kind in kinds:
        scores[truth(GRAPH, kind)] = 1
    outside = np.argwhere(GRAPH.mask & ~WHOLE)[:false]
    scores[tuple(outside.T)] = 2
    return scores


def measured(*, norms=None, minimal=None, **by_method):
    """Every method finds all but by_method's; with norms other scores, if given."""
    minimal = [WHOLE] if minimal is None else minimal
    shared = {"right": np.array(1.0), "alone": WHOLE.astype(float), "points": np.array(5)}
    shared |= {"gap": np.array(0.01), "with backup": WHOLE.astype(float)}
    shared["minimal"] = np.array(minimal)
    scores = dict.fromkeys(METHODS, finds(*EVERY)) | by_method
    made = {design: shared | scores for design in DESIGNS}
    made["norms"] = made["norms"] | (norms or {})
    return made


NO_BACKUP = finds("needed", "cancelling", "backup in attention")
PART = finds("needed", "cancelling", "backup in attention", "backup in an MLP", false=15)


SIX = ("patching", "eap", "relp", "gim", "eap-ig", "random")


def recovered(made):
    """The table of six methods."""
    table = recovery_table(made)
    return table[table["method"].isin(SIX)]


@pytest.mark.parametrize(
    ("made", "says", "never"),
    [
        (measured(**dict.fromkeys(METHODS, NO_BACKUP) | {"eap-ig": PART}),
         ["**No method puts", "EAP-IG comes closest", "Patching every edge, EAP, RelP and GIM mis"],
         ["put every"]),
        (measured(patching=NO_BACKUP, eap=NO_BACKUP, relp=NO_BACKUP, gim=NO_BACKUP),
         ["**EAP-IG puts every edge of a known circuit first, in each of its 3 forms.**"],
         ["No method"]),
        (measured(eap=NO_BACKUP),
         ["RelP, GIM and EAP-IG put every", "EAP misses", "It tells", "others from 0.88 to 0.88"],
         ["miss nodes", "They"]),
        (measured(), ["put every edge"], ["miss"]),
        (measured(norms=dict.fromkeys(METHODS, PART)), ["**No method", "come closest"], ["miss"]),
    ],
)  # fmt: skip
def test_the_answer_says_who_finds_it(made, says, never):
    said = words.answer(recovered(made))
    assert all(part in said for part in says), said
    assert not any(part in said for part in never), said


def test_each_kind_says_who_misses_it():
    made = measured(gim=NO_BACKUP, norms={"eap": finds("needed"), "relp": PART})
    lines = words.kinds_in_words(recovered(made))
    needed, attention, mlp, cancelling = lines
    assert needed.startswith(
        "*Needed* (5 edges): found by patching every edge, EAP, GIM and EAP-IG"
    )
    assert "found in part by RelP (lowest AUROC: RelP 0.94)" in needed and "missed" not in needed
    assert "missed by EAP (in: sharp attention with norms)" in attention
    assert "missed by EAP (in: sharp attention with norms); missed by GIM; found in part" in mlp
    assert "missed by EAP (in:" in cancelling and "GIM" not in cancelling.split("missed")[1]


@pytest.mark.parametrize(
    ("norms", "says", "never"),
    [
        ({"eap": PART, "eap-ig": PART},
         ["falls: of EAP from 1.00 to", "RelP and GIM stay as they"], ["GIM from"]),
        (dict.fromkeys(METHODS, PART), ["GIM from 1.00"], ["stay"]),
        ({}, ["Norms take from no method"], ["falls: of"]),
    ],
)  # fmt: skip
def test_norms_in_words(norms, says, never):
    said = words.norms_in_words(recovered(measured(norms=norms)))
    assert all(part in said for part in says), said
    assert not any(part in said for part in never), said


def test_a_truth_that_does_not_hold_is_said():
    good = measured()
    assert "245 edges outside changes nothing, and each of the 17" in words.verified_in_words(good)
    bad = measured()
    changed = bad["sharp"]["alone"].copy()
    changed[GRAPH.edge("input->m0")] = 0.5
    changed[GRAPH.edge("m1->m2")] = 0
    without = bad["sharp"]["with backup"] * 0
    bad["sharp"] = bad["sharp"] | {"alone": changed, "with backup": without}
    said = words.verified_in_words(bad)
    assert "**The truth does not hold**" in said and "It holds" not in said
    assert "1 edge outside the circuit does something, and 1 edge inside does nothing" in said
    table = words.verified_table(bad)
    assert "0.50" in list(table["patched alone"]) and len(table) == 3 * (len(KINDS) + 1)
    wrong = measured()
    wrong["soft"] = wrong["soft"] | {"right": np.array(0.5)}
    assert "answers 50% of the prompts right" in words.verified_in_words(wrong)


def test_how_many_circuits_it_holds():
    two = [truth(GRAPH, "needed"), truth(GRAPH, "cancelling")]
    assert "1 of 17 edges each, in every form" in words.taken_apart_in_words(measured())
    mixed = measured()
    mixed["soft"] = mixed["soft"] | {"minimal": np.array(two)}
    said = words.taken_apart_in_words(mixed)
    assert "2 of 4 to 5 edges with soft attention" in said and "every form" not in said


def test_points_and_gap_are_told():
    made = measured()
    made["norms"] = made["norms"] | {"points": np.array(75), "gap": np.array(-0.04)}
    said = words.completeness_in_words(made)
    assert "75 with sharp attention with norms" in said and "at most 4.0%" in said


def test_tables_and_figure_have_every_method():
    table = recovery_table(measured(eap=NO_BACKUP))
    assert len(words.recovery_summary(table)) == len(METHODS) * len(DESIGNS)
    figure = known_circuit_found(table)
    for ax in figure.axes[:3]:
        assert len(ax.get_yticks()) == len(METHODS) and len(ax.texts) == 5 * len(METHODS)
