"""The front page's five sentences, where the numbers say one thing and where they say the other."""

import numpy as np
import pandas as pd
import pytest

from circuitbook.circuits.circuit import Circuit
from circuitbook.model.graph import Graph
from circuitbook.studies.circuits import CircuitResult
from circuitbook.studies.findings import front_page


def claims(**verdicts: str) -> pd.DataFrame:
    rows = [(key.replace("_", " ", 1), verdict) for key, verdict in verdicts.items()]
    return pd.DataFrame(rows, columns=["key", "verdict"])


@pytest.mark.parametrize(
    ("verdicts", "bold", "rest"),
    [
        (("holds", "holds"), "Small and large models learn", "gift and making the"),
        (("does not hold", "does not hold"), "at different times", "more than a factor of two"),
        (("holds", "does not hold"), "Some tasks", "; for making the verb agree, sizes are more"),
        (
            ("holds", "can't tell"),
            "about the same time",
            "; for making the verb agree, we can't decide",
        ),
        (("can't tell", "can't tell"), "Do small and large models", "We can't decide here."),
    ],
)
def test_when_goes_by_the_verdicts(verdicts, bold, rest):
    said = front_page.when(claims(ability_ioi=verdicts[0], ability_sva=verdicts[1]))
    assert bold in said.split("**")[1] and rest in said.split("**")[2]


def last(edges: int, model: str = "m") -> CircuitResult:
    graph = Graph(2, 2)
    mask = np.zeros(graph.mask.shape, bool)
    mask[tuple(np.array(list(graph.edges)[:edges]).T)] = True
    circuit = Circuit(graph, mask, reason="" if edges else "none was found")
    return CircuitResult(model, 1, 1, "ioi", circuit, relative_gap=0.0)


def test_a_part_is_small_or_not():
    small = front_page.how_large_a_part([last(1), last(2, "n"), last(0, "o")])
    assert small.startswith("**A small part of a model") and "2 circuits" in small
    assert "has 4% of the model's connections (from 2% to 5%)" in small  # 1, 2 of 42
    large = front_page.how_large_a_part([last(20)])
    assert (
        large.startswith("**More than a small part")
        and "1 circuit " in large
        and "has 48% of the model's connections." in large
    )
    assert "No model has a circuit" in front_page.how_large_a_part([last(0)])


def moved(source: str, kept: float, own: float = 0.9, null: float = 0.3) -> list[dict]:
    """A circuit that is put from `source`, step 1, to model a, step 2."""
    at = {"task": "ioi", "target": "a", "target_step": 2, "edges": 1.0}
    here = {"source": "a", "source_step": 2}
    return [
        at | {"source": source, "source_step": 1, "what": "circuit", "faithfulness": kept},
        at | here | {"what": "circuit", "faithfulness": own},
        at | here | {"what": "shuffled", "faithfulness": null},
    ]


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ([0.88], "works"),
        ([1.0, 0.99, 0.98, 0.97, 0.96, 0.3], "mostly works"),
        ([0.6], "works in part"),
        ([0.3], "fails"),
    ],
)
def test_a_circuit_lasts_or_fails(kept, words):
    rows = [row for number in kept for row in moved("a", number)]
    pairs = pd.DataFrame(rows).drop_duplicates()
    pairs.loc[pairs["source_step"] == 1, "source_step"] = range(3, 3 + len(kept))
    said = front_page.how_long_it_lasts(pairs, [])
    assert said.startswith(f"**On average, a circuit {words} at other times of its training.**")
    assert "where their own circuits keep 90%" in said and "seed" not in said


def test_a_circuit_in_another_seed_is_the_other_half():
    pairs = pd.DataFrame([*moved("a", 0.88), *moved("b", 0.2)]).drop_duplicates()
    said = front_page.how_long_it_lasts(pairs, [["a", "b"]])
    assert said.startswith("**On average, a circuit works at other times of its training; it fails")
    only = front_page.how_long_it_lasts(pd.DataFrame(moved("b", 0.88)), [["a", "b"]])
    assert only.startswith("**A circuit works in another seed.**")
    none = front_page.how_long_it_lasts(pd.DataFrame(moved("a", 0.9)[1:]), [])
    assert "no other checkpoint" in none


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        ("holds", None, "at every size.** Each has heads for each"),
        ("does not hold", "holds", "Not every size here has heads"),
        ("does not hold", "does not hold", "a real language model has not."),
        ("can't tell", "can't tell", "of a real language model we can't say."),
    ],
)
def test_the_algorithm_is_there_or_not(here, there, said):
    real = None if there is None else claims(heads_exist=there)
    text = front_page.which_algorithm(claims(heads_exist=here), real)
    assert said in text
    assert ("real language model has." in text) == (there == "holds")
    assert ("can do without" in text) == (here == "does not hold")


def judged(top1: float, model: str = "a") -> pd.DataFrame:
    row = {"model": model, "task": "ioi", "faithfulness": 0.85, "model_top1": 1.0, "top1": top1}
    row |= {"top1_low": top1 - 0.05, "top1_high": top1 + 0.05}
    return pd.DataFrame([row | {"ablation": name} for name in ("swap", "resample")])


@pytest.mark.parametrize(
    ("top1", "bold"),
    [
        ([0.1], "A circuit may work only for the question"),
        ([0.95], "A circuit is enough for more than"),
        ([0.1, 0.95], "Not every circuit is enough"),
        ([0.8], "Not every circuit is enough"),
    ],
)
def test_what_a_circuit_is_enough_for(top1, bold):
    rows = [judged(share, str(place)) for place, share in enumerate(top1)]
    said = front_page.what_it_is_enough_for(pd.concat(rows))
    assert said.startswith(f"**{bold}") and front_page.between(top1) in said
    assert "the model: 100%" in said
    assert "No model has one" in front_page.what_it_is_enough_for(rows[0].iloc[:0])
