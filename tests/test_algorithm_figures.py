"""The algorithm chapter's figures show what was measured, and the explorer gets the classes."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from findings_by_hand import answer_readers, head_classes, head_scores

from circuitbook.circuits.circuit import Circuit
from circuitbook.figures.algorithm import CLASS_COLOURS, class_strips
from circuitbook.figures.class_explorer import (
    class_explorer,
    class_notes,
    class_roles,
    front_explorer,
)
from circuitbook.figures.class_shares import figure_4
from circuitbook.figures.transfers import (
    RANGE,
    kept_elsewhere,
    model_matrices,
    reader_panels,
    run_matrices,
)
from circuitbook.model.graph import Graph
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.class_shares import share_table
from circuitbook.studies.findings.answer_readers import reader_shares
from circuitbook.studies.head_classes import CLASSES
from circuitbook.studies.transfer import transfer_summary
from circuitbook.wording import CLASS_DOES


def titles(fig) -> list[str]:
    """Of the matrices in a figure; the book's style puts titles to the left."""
    return [ax.get_title() or ax.get_title(loc="left") for ax in fig.axes if ax.images and ax.texts]


def test_every_class_has_plain_words_in_the_legends():
    assert list(CLASS_DOES) == list(CLASS_COLOURS) and set(CLASS_DOES) == set(CLASSES)
    at = head_classes([-0.5, 0.1], {"induction": [0], "name mover": [0]})
    shown = [text.get_text() for text in class_strips([at], ["m"]).legends[0].get_texts()]
    assert shown == [
        f"N  name mover: {CLASS_DOES['name mover']}",
        f"I  induction: {CLASS_DOES['induction']}",
    ]


def test_the_explorer_gets_the_classes_and_numbers_of_each_head():
    classes = head_classes([-0.5, 0.1], {"induction": [0], "name mover": [0]})
    scores = head_scores(copy=[0.7, 0.2], direct=[-0.5, 0.1])
    assert class_roles([classes]) == {("m", 8): {"a0.h0": ["name mover", "induction"], "a0.h1": []}}
    notes = class_notes([classes], [scores])["m", 8]
    np.testing.assert_allclose(notes["direct effect e"], [-0.5, 0.1])
    np.testing.assert_allclose(notes["Name mover (copy score)"], [0.7, 0.2])
    assert notes["e through queries of the answering heads"].isna().all()

    def result(model, n_edges, task="ioi"):
        graph = Graph(1, 2)
        circuit = Circuit(
            graph, np.arange(graph.mask.size).reshape(graph.mask.shape) < n_edges, reason="none"
        )
        return CircuitResult(model, 8, 8, task, circuit, 0.0)

    circuits = [result("m", 2), result("n", 5), result("o", 1), result("m", 9, "sva")]
    front = front_explorer(circuits, [classes], page="there.html").data
    assert "there.html#classes.model=n" in front and '"sva"' not in front
    whole = class_explorer(circuits, [classes], [scores], model="o").data
    assert '["o","ioi"]' in whole.replace(" ", "") and "direct effect e" in whole
    some = class_explorer(circuits, [classes], [scores], model="o", among=["o", "m"]).data
    assert '"o":{' in some.replace(" ", "") and '"n":{' not in some.replace(" ", "")
    assert '"n":{' in whole.replace(" ", "")


def test_matrices_leave_out_what_cannot_be_compared():
    columns = ["source", "target", "source_step", "target_step", "what", "faithfulness"]
    rows = [("a", "a", s, t, "circuit", 0.1 * s + 0.3 * t) for s in (1, 2) for t in (1, 2)]
    rows += [("b", "b", 2, 2, "circuit", 0.5), ("a", "a", 2, 2, "classes", 0.25)]
    table = pd.DataFrame(rows, columns=columns).assign(task="ioi")
    table = table.assign(
        source_tokens=table["source_step"] * 1000, target_tokens=table["target_step"] * 1000
    )
    fig = run_matrices(table, ["a", "b"])
    assert titles(fig) == ["a"]
    assert [text.get_text() for text in fig.axes[0].texts] == [".40", ".70", ".50", ".80"]
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["1k", "2k"]
    plt.close(fig)
    fig = model_matrices(table)
    assert titles(fig) == ["the circuit, edge by edge", "its classes"]
    assert [text.get_text() for text in fig.axes[1].texts] == [".25"]
    plt.close(fig)


def test_curves_show_the_shares():
    shares = share_table([head_classes([-0.5, -0.3], {"name mover": [0]}, tokens=9)], draws=50)
    fig = figure_4(shares, ["m"])
    assert [ax.get_ylabel() for ax in fig.axes[::3]] == ["B: direct", "C: steering", "D: tertiary"]
    assert fig.axes[0].lines[1].get_ydata() == pytest.approx([0.625])
    plt.close(fig)
    fig = reader_panels(
        reader_shares([answer_readers(), answer_readers("sva", "n")]), ["ioi", "sva"], ["m", "n"]
    )
    assert [line.get_label() for line in fig.axes[0].lines] == ["n"]
    assert fig.axes[0].lines[0].get_ydata() == pytest.approx([0.8])
    plt.close(fig)


def test_what_is_kept_elsewhere_is_drawn_as_the_table_has_it():
    """Two circuits are put to step 2, one to step 1: a target counts once, whatever is put there;
    what lies beyond the axis counts in the mean as it is."""

    def row(source_step, target_step, what, faithfulness):
        at = {"task": "ioi", "source": "a", "target": "a", "edges": 1.0, "what": what}
        steps = {"source_step": source_step, "target_step": target_step}
        return at | steps | {"faithfulness": faithfulness}

    table = pd.DataFrame(
        [
            *(row(1, 2, "circuit", 0.9), row(3, 2, "circuit", 0.5), row(2, 1, "circuit", 1.5)),
            *(row(2, 2, "circuit", 0.8), row(1, 1, "circuit", 1.0)),
            *(row(2, 2, "shuffled", 0.2), row(1, 1, "shuffled", 0.4)),
        ]
    )
    dots, *marks = kept_elsewhere(table, []).axes[0].lines
    assert dots.get_xdata().tolist() == [0.9, 0.5, RANGE[1]]
    drawn = [float(mark.get_xdata()[0]) for mark in marks]
    assert drawn == pytest.approx([2.9 / 3, 0.9, 0.3])
    told = transfer_summary(table).iloc[0]
    assert drawn == pytest.approx([told["mean"], told["own"], told["null"]])
