"""Exercises of the chapter on what a circuit is: faithfulness, dead edges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from circuitbook.circuits.circuit import circuit_of
from circuitbook.circuits.faithfulness import faithfulness
from circuitbook.model.graph import Graph
from circuitbook.teaching.answers import names
from circuitbook.teaching.checking import Case, Feedback, Mistake
from circuitbook.teaching.exercises.common import CHECKS, _random, _register


def _faithfulness_cases() -> list[Case]:
    cases = []
    for about, n, kept, shift in (
        ("six prompts, most is kept", 6, 0.8, -1.0),
        ("four prompts, little is kept", 4, 0.2, -0.5),
        ("three prompts, more than all is kept", 3, 1.2, -0.8),
        ("one prompt", 1, 0.6, 0.3),
    ):
        clean, noise = 3 + _random(n, seed=n), _random(n, seed=n + 20)
        corrupted = shift * clean + 0.3 * noise
        circuit = corrupted + kept * (clean - corrupted) + 0.4 * _random(n, seed=n + 40)
        kept_mean, clean_mean, corrupted_mean = (
            float(part.mean()) for part in (circuit, clean, corrupted)
        )
        right = faithfulness(kept_mean, clean_mean, corrupted_mean, "normalised")
        cases.append(Case(about, (circuit, clean, corrupted), right))
    return cases


_register(
    "faithfulness",
    "Normalised faithfulness",
    ("circuit [prompt]", "clean [prompt]", "corrupted [prompt]"),
    _faithfulness_cases,
    (
        Mistake(
            "Your value is the ratio m / b: normalise it, by what is left when everything is "
            "corrupted.",
            lambda circuit, clean, corrupted: circuit.mean() / clean.mean(),
        ),
        Mistake(
            "You average a ratio of each prompt: take the means over the prompts first, then "
            "one ratio, since a prompt with "
            "a small difference would decide everything.",
            lambda circuit, clean, corrupted: ((circuit - corrupted) / (clean - corrupted)).mean(),
        ),
        Mistake(
            "You give what is lost: are clean and corrupted swapped? The full model gets 1, the "
            "corrupted prompts 0.",
            lambda circuit, clean, corrupted: (circuit - clean).mean() / (corrupted - clean).mean(),
        ),
        Mistake(
            "You subtract the corrupted metric above the line only: below it, too, or a perfect "
            "circuit does not get 1.",
            lambda circuit, clean, corrupted: (circuit - corrupted).mean() / clean.mean(),
        ),
        Mistake(
            "You subtract the corrupted metric below the line only: above it, too, or the empty "
            "circuit does not get 0.",
            lambda circuit, clean, corrupted: circuit.mean() / (clean - corrupted).mean(),
        ),
        Mistake(
            "You turned the fraction over: what the circuit keeps stands above the line.",
            lambda circuit, clean, corrupted: (clean - corrupted).mean()
            / (circuit - corrupted).mean(),
        ),
    ),
    each=lambda circuit, clean, corrupted: {"prompt": len(circuit)},
)


def check_faithfulness(function: Callable) -> Feedback:
    """function(circuit [prompt], clean [prompt], corrupted [prompt]) -> normalised faithfulness, of
    the three metrics."""
    return CHECKS["faithfulness"].of(function)


def _dead_cases() -> list[Case]:
    graph, cases = Graph(3, 2), []
    circuits = {
        "a circuit in which every edge lives": (
            "input->a0.h1<v> a0.h1->a1.h0<k> input->a1.h0<q> a1.h0->logits input->logits"
        ),
        "a head that nobody reads": "input->m0 m0->logits input->a0.h0<q> m0->a1.h1<v>",
        "a head that reads nothing": "input->m0 m0->logits a1.h0->logits a0.h1->m1 m1->logits",
        "chains of dead edges": (
            "input->m0 m0->logits input->a0.h0<v> a0.h0->m1 m1->a2.h0<q> "
            "a0.h1->a1.h0<k> a1.h0->m2 m2->logits"
        ),
        "no path at all": "input->a0.h0<q> m1->logits",
    }
    for about, text in circuits.items():
        edges = text.split()
        live = graph.live(circuit_of(graph, edges).mask)
        cases.append(
            Case(about, (edges,), frozenset(graph.edge_name(*edge) for edge in np.argwhere(live)))
        )
    return cases


def _ends(edge: str) -> tuple[str, str]:
    source, target = edge.split("->")
    return source, target.split("<")[0]


def _reached(edges: Iterable[str], start: str, *, forward: bool) -> set[str]:
    """Nodes that can be reached from `start`, or from which it can."""
    reached: set[str] = {start}
    before: set[str] = set()
    while reached != before:
        before = set(reached)
        for edge in edges:
            source, target = _ends(edge)
            if (source if forward else target) in reached:
                reached.add(target if forward else source)
    return reached


def _fed(edges: Sequence[str]) -> list[str]:
    """The edges whose source the input reaches."""
    reached = _reached(edges, "input", forward=True)
    return [edge for edge in edges if _ends(edge)[0] in reached]


def _leads(edges: Sequence[str]) -> list[str]:
    """The edges whose destination reaches the logits."""
    reached = _reached(edges, "logits", forward=False)
    return [edge for edge in edges if _ends(edge)[1] in reached]


def _one_round(edges: Sequence[str]) -> list[str]:
    """The edges whose ends are neither fed by nothing nor lead nowhere, taken once."""
    sources, targets = {_ends(edge)[0] for edge in edges}, {_ends(edge)[1] for edge in edges}
    return [
        edge
        for edge in edges
        if _ends(edge)[0] in targets | {"input"} and _ends(edge)[1] in sources | {"logits"}
    ]


_register(
    "dead_edges",
    "Dead edges",
    ("edges",),
    _dead_cases,
    (
        Mistake(
            "Nothing is pruned: an edge lives only if it lies on a path from input to logits.",
            lambda edges: edges,
        ),
        Mistake(
            "You prune from below only: what input feeds, but logits never hears of, is dead too.",
            _fed,
        ),
        Mistake(
            "You prune from above only: what leads to logits, but is fed by nothing, is dead too.",
            _leads,
        ),
        Mistake(
            "You prune once: taking an edge out can leave another one dead, so repeat until "
            "nothing changes.",
            _one_round,
        ),
        Mistake(
            "You take each input of a head for a node of its own: what reads its queries, keys "
            "or values feeds the whole "
            "head, so cut <q>, <k> and <v> off.",
            lambda edges: _leads(_fed([edge for edge in edges if "<" not in edge])),
        ),
        Mistake(
            "You give the dead edges: those that live are wanted.",
            lambda edges: set(edges) - set(_fed(edges)).intersection(_leads(edges)),
        ),
    ),
    read=names,
)


def check_dead_edges(function: Callable) -> Feedback:
    """function(edges) -> the edges on a path from input to logits. edges: a list of names such as
    "a0.h1->a1.h0<q>"."""
    return CHECKS["dead_edges"].of(function)
