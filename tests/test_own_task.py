"""A task of one's own: from a list of pairs to abilities and circuits, and what the page says."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from circuitbook.circuits.attribution import attribute
from circuitbook.circuits.search import find_circuit
from circuitbook.stats import Emergence
from circuitbook.store import measurement_key
from circuitbook.studies.chapter import OWN_PROMPTS, open_chapter
from circuitbook.studies.findings import own_task as findings
from circuitbook.studies.findings.abilities import onsets
from circuitbook.suites import load_suite
from circuitbook.tasks import get_task
from circuitbook.tasks.own import Pair, add_task, own_task
from circuitbook.tasks.registry import TASKS
from circuitbook.wording import TASK_SHORT

ROOT = Path(__file__).resolve().parents[1]
WEEK = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
LETTERS = "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z".split()


def pairs_of(words, ahead=3):
    following = list(zip(words, words[1:], strict=False))
    others = following[ahead:] + following[:ahead]
    return [
        Pair(f"After {word} comes", f"After {other} comes", right, wrong)
        for (word, right), (other, wrong) in zip(following, others, strict=True)
    ]


PAIRS = pairs_of(WEEK) + pairs_of(LETTERS)


@pytest.fixture
def task(monkeypatch):
    for name in ("next_word", "next_day"):  # taken out again afterwards
        monkeypatch.setitem(TASKS, name, None)
        del TASKS[name]
    return add_task(own_task("next_word", PAIRS))


@pytest.fixture(scope="module")
def model():
    return load_suite("mini").checkpoint("mini-xs", 3906).load()


def test_prompts_are_the_list_in_an_order_of_the_seed(task, model):
    pairs = task.prompts(model.tokenizer, n=100, seed=1)
    assert sorted(pairs.table["clean"]) == sorted(pair.clean for pair in PAIRS)
    few = task.prompts(model.tokenizer, n=5, seed=1)
    assert list(few.table["clean"]) == list(pairs.table["clean"][:5])
    assert list(task.prompts(model.tokenizer, n=100, seed=2).table["clean"]) != list(
        pairs.table["clean"]
    )
    by_clean = {pair.clean: pair for pair in PAIRS}
    tokenizer = model.tokenizer
    for i, row in pairs.table.iterrows():
        pair = by_clean[row["clean"]]
        assert tokenizer.decode(pairs.corrupted[i, : pairs.lengths[i]]) == pair.corrupted
        assert [tokenizer.decode([token]).strip() for token in pairs.answers[i].tolist()] == [
            pair.right,
            pair.wrong,
        ]


def test_its_metric_is_right_less_wrong_at_the_end(task, model):
    pairs = task.prompts(model.tokenizer, n=6)
    logits = model.logits(pairs.clean, pairs.end)
    right, wrong = pairs.answers.T
    rows = torch.arange(6)
    assert torch.equal(pairs.metric(logits), logits[rows, right] - logits[rows, wrong])
    assert pairs.metric(logits).mean() > 3  # it knows its alphabet


def test_the_pairs_are_the_measurements_key_also_in_a_notebook(task):
    def key(made):
        return str(measurement_key("ability", task=made, n=3))

    space = {"__name__": "__main__", "Pair": Pair, "own_task": own_task, "PAIRS": PAIRS}
    exec("made = own_task('next_word', [Pair(*vars(pair).values()) for pair in PAIRS])", space)
    assert key(space["made"]) == key(task) == key(own_task("next_word", PAIRS, title="Other"))
    assert key(task) != key(own_task("next_word", PAIRS[1:]))
    assert key(task) != key(own_task("next_word", PAIRS, metric_name="probability_difference"))
    assert key(task) != key(own_task("next_word", PAIRS, min_metric=2.0))


def test_what_is_no_task_is_refused_with_the_reason(task, model):
    for name in ("Next day", "1st", ""):
        with pytest.raises(ValueError, match="its name is made of lower-case letters"):
            own_task(name, PAIRS)
    with pytest.raises(ValueError, match="next_day: 1 pairs are too few"):
        own_task("next_day", PAIRS[:1])
    with pytest.raises(ValueError, match="next_day: the pair .*Monday.* is there twice"):
        own_task("next_day", [*PAIRS, PAIRS[0]])
    with pytest.raises(ValueError, match="nothing tells 'After A comes' from its corrupted twin"):
        own_task("next_day", [*PAIRS[:2], Pair("After A comes", "After A comes", "B", "C")])
    with pytest.raises(ValueError, match="there is a task 'ioi' already; give yours another name"):
        add_task(own_task("ioi", PAIRS))
    longer = Pair("After A comes", "Then after A comes", "B", "C")
    with pytest.raises(ValueError, match="next_day: 'After A comes' has 3 tokens and 'Then after"):
        own_task("next_day", [*PAIRS[:2], longer]).prompts(model.tokenizer, n=9)
    several = Pair("After A comes", "After B comes", "B C", "C")
    with pytest.raises(ValueError, match="next_day: 'B C' is 2 tokens, where one is needed"):
        own_task("next_day", [*PAIRS[:2], several]).prompts(model.tokenizer, n=9)
    unknown = Pair("After A comes", "After B comes", "Zanzibar", "C")
    with pytest.raises(ValueError, match="next_day: 'Zanzibar' is not known"):
        own_task("next_day", [*PAIRS[:2], unknown]).prompts(model.tokenizer, n=9)


def test_studies_take_it_by_its_name(task, tmp_path):
    """Abilities, circuits and held-out prompts; the circuit is the one that the parts find."""
    assert get_task("next_word") is task and TASK_SHORT["next_word"] == "Next word"
    chapter = open_chapter(
        suite="mini", models="mini-xs", steps=[256, 3906], tasks=["next_word"], device="cpu",
        store=str(tmp_path),
    )  # fmt: skip
    assert chapter.recipe.prompts["next_word"] == OWN_PROMPTS
    half = onsets(chapter.answers, ["next_word"], 0.5)["next_word"]["mini-xs"]
    assert 256 * 2048 < half.tokens < 3906 * 2048
    early, late = chapter.circuits
    assert not early.circuit.found and late.circuit.found
    suite_model = chapter.suite.checkpoint("mini-xs", 3906).load()
    pairs = task.prompts(suite_model.tokenizer, n=OWN_PROMPTS, seed=chapter.recipe.seed)
    scores = attribute(suite_model, pairs, **chapter.recipe.attribution)
    again = find_circuit(suite_model, pairs, scores, **chapter.recipe.circuit("next_word"))
    assert np.array_equal(again.mask, late.circuit.mask)
    (row,) = chapter.held_out.to_dict("records")
    assert row["prompts"] == len(PAIRS) - OWN_PROMPTS
    said = findings.circuit_in_words(late, chapter.held_out)
    assert f"{again.n_edges} of {again.graph.n_edges} edges keep {again.faithfulness:.0%}" in said
    assert f"on {row['prompts']} prompts" in said and f"{row['held_out']:.0%}" in said
    heads = [f"{a}.{b}" for a, b in (node[1:].split(".h") for node in again.nodes if "h" in node)]
    assert said.endswith(f"its heads are {', '.join(heads)}.")
    assert findings.last_circuit([late, early], "next_word") is late
    assert findings.circuit_in_words(early, chapter.held_out).startswith(
        "There is no circuit in mini-xs at step 256: "
    )


def test_its_own_bar_decides_whether_it_is_an_ability(task, tmp_path):
    add_task(own_task("next_word", PAIRS, min_metric=1000.0))
    chapter = open_chapter(
        suite="mini", models="mini-xs", steps=[3906], tasks=["next_word"], device="cpu",
        store=str(tmp_path),
    )  # fmt: skip
    onset = onsets(chapter.answers, ["next_word"], 0.5)["next_word"]["mini-xs"]
    assert not len(onset.samples) and onset.final > 3
    assert not chapter.circuits[0].circuit.found


def onset(low, high, final=5.0):
    if low is None:
        return Emergence.undated(0.5, final)
    samples = np.array([low, high])
    middle = (low + high) / 2
    return Emergence(share=0.5, final=final, tokens=middle, low=low, high=high, samples=samples)


@pytest.mark.parametrize(
    ("mine", "other", "said"),
    [
        ((1e6, 2e6), (3e6, 4e6), "after 1.5M  [1M, 2M] tokens, before IOI (3.5M  [3M, 4M])."),
        ((3e6, 4e6), (1e6, 2e6), "after 3.5M  [3M, 4M] tokens, after IOI (1.5M  [1M, 2M])."),
        ((1e6, 3e6), (2e6, 4e6), "before IOI or after, we can't tell (3M  [2M, 4M])."),
        ((1e6, 3e6), (None, None), "tokens; IOI is not an ability of this model."),
        ((None, None), (1e6, 2e6), "no ability at the last checkpoint, with a score of 5.00."),
    ],
)
def test_what_forms_first_is_said_only_where_intervals_part(mine, other, said):
    half = {"next_word": {"m": onset(*mine)}, "ioi": {"m": onset(*other)}}
    text = findings.formed_beside(half, "next_word", "ioi")
    assert text.startswith("**Next word in m**: ") and text.endswith(said)


def test_the_page_writes_its_task_in_fifteen_lines():
    notebook = nbformat.read(ROOT / "notebooks/own-task.ipynb", as_version=4)
    (cell,) = [cell.source for cell in notebook.cells if "own_task(" in cell.source]
    assert len([line for line in cell.splitlines() if line.strip()]) <= 15
    assert all(len(line) < 80 for line in cell.splitlines())
