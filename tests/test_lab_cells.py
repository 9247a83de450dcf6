"""Lab cells: what they ask and what is seen, by the library; a reader who types and presses."""

import json
import re
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from test_lab import Page, difference, numbers
from test_views import data_in

from circuitbook import attribute, find_circuit, get_task, load_suite
from circuitbook.circuits.circuit import Circuit
from circuitbook.circuits.evaluation import evaluate_circuit
from circuitbook.figures.lab import lab
from circuitbook.figures.lab_cell import answer, checkpoints_in_a_page, lab_cell, try_it
from circuitbook.figures.lab_weights import weights_files
from circuitbook.figures.scripts import SCRIPTS
from circuitbook.heads.ablation import ablate
from circuitbook.heads.names import head_name
from circuitbook.model.graph import graph_of
from circuitbook.store import Store
from circuitbook.studies.findings.lab_cells import outside_the_circuit, sentence_over_training
from circuitbook.studies.findings.lab_heads import (
    heads_off_over_training,
    line_said_twice,
    the_other_giver,
)
from circuitbook.studies.lab import FIRST, example_of, measure_example
from circuitbook.studies.switching import answer_ids, measure, measure_switched, switched_logits

SUITE = load_suite("mini")
STEPS = (0, 1448, 3906)
XS = {"mini-xs": STEPS}


def a_chapter(store, models=("mini-xs",), steps=STEPS, **measured):
    """What makers of cells ask of a chapter."""
    return SimpleNamespace(
        suite=SUITE,
        store=store,
        models=tuple(models),
        main=list(models),
        steps=dict.fromkeys(models, tuple(steps)),
        recipe=SimpleNamespace(seed=42),
        **measured,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def model():
    return SUITE.checkpoint("mini-xs", 3906).load()


# ------------------------------------------------------------------ switches, by the library


def test_switched_heads_are_as_in_ablation(model):
    pairs = get_task("ioi").prompts(model.tokenizer, 6)
    for heads in ([(1, 2)], [(0, 0), (1, 1)]):
        for how, name in (("zero", "zero"), ("resample", "other")):
            wanted = ablate(model, pairs, heads, how)
            for i in range(len(pairs)):
                example = example_of(model.tokenizer, pairs, i)
                logits = switched_logits(
                    model,
                    text=example.text,
                    other=example.other,
                    switches=[{head_name(head): name for head in heads}],
                )
                ids = [answer_ids(model.tokenizer, text) for text in (example.right, example.wrong)]
                got = [float(measure(logits[which], *ids)) for which in ("own", "switched")]
                assert got == pytest.approx(
                    [float(wanted.before[i]), float(wanted.after[i])], abs=1e-4
                )
            assert (wanted.before - wanted.after).abs().mean() > 0.01


@pytest.mark.parametrize("task", ["ioi", "greater_than", "sva"])
def test_nodes_from_the_other_sentence_are_a_circuit_without_their_edges(model, task):
    """Edges out of a node that are not in a circuit carry what the other sentence has."""
    graph, nodes = graph_of(model), ["a0.h2", "a1.h2", "m0"]
    pairs = get_task(task).prompts(model.tokenizer, 3)
    mask = graph.mask.copy()
    mask[[graph.node_names.index(node) for node in nodes]] = False
    wanted = evaluate_circuit(model, pairs, Circuit(graph, mask)).numpy()
    seen = []
    for i in range(len(pairs)):
        example = example_of(model.tokenizer, pairs, i)
        logits = switched_logits(
            model, text=example.text, other=example.other, switches=[dict.fromkeys(nodes, "other")]
        )
        ids = [answer_ids(model.tokenizer, text) for text in (example.right, example.wrong)]
        seen.append([float(measure(logits[which], *ids)) for which in ("own", "switched")])
    seen = np.array(seen)
    np.testing.assert_allclose(seen[:, 1], wanted, atol=1e-4)
    assert np.abs(seen[:, 0] - seen[:, 1]).max() > 0.01


def test_an_mlp_that_writes_nothing_is_as_a_hook_makes_it(model):
    layers = model.hf_model.base_model.layers
    handle = layers[0].mlp.register_forward_hook(lambda module, inputs, out: 0 * out)
    tokens = torch.tensor([model.tokenizer(FIRST.text)["input_ids"]])
    wanted = model.logits(tokens)[0, -1]
    handle.remove()
    got = switched_logits(
        model, text=FIRST.text, other=FIRST.other, switches=[{"m0": "zero"}, {"m0": "other"}]
    )
    np.testing.assert_allclose(got["switched"][0], wanted, atol=1e-4)
    assert (got["switched"][1] - got["own"][0]).abs().max() > 0.01
    assert (wanted - got["own"][0]).abs().max() > 0.1


def test_switches_that_cannot_be_are_one_line(model):
    both = {"text": FIRST.text, "other": FIRST.other}
    with pytest.raises(ValueError, match="no head and no MLP 'a9.h0'"):
        switched_logits(model, **both, switches=[{"a9.h0": "zero"}])
    with pytest.raises(ValueError, match="no head and no MLP 'logits'"):
        switched_logits(model, **both, switches=[{"logits": "zero"}])
    with pytest.raises(ValueError, match="'frozen'; there are: zero, other"):
        switched_logits(model, **both, switches=[{"a0.h0": "frozen"}])
    with pytest.raises(ValueError, match="has 1 tokens and .* 15: they must have as many"):
        switched_logits(model, text=FIRST.text, other="Mary", switches=[])


# ------------------------------------------------------------------ what they ask and say


def test_a_sentence_over_training(store):
    cell = sentence_over_training(a_chapter(store), XS)
    wanted = [
        [difference("mini-xs", step, text) for step in STEPS] for text in (FIRST.text, FIRST.other)
    ]
    for column, values in zip((2, 4), wanted, strict=True):
        got = cell.table.iloc[:, column].astype(float).tolist()
        assert got == pytest.approx(values, abs=6e-3)
    told = [own > 0 > other for own, other in zip(*wanted, strict=True)]
    assert told == [False, False, True]
    assert "From 8M tokens on mini-xs prefers the one who receives" in cell.seen
    assert "At all 2 checkpoints before" in cell.seen and "Mary at 1 and John at 1" in cell.seen
    assert cell.step == 3906 and "mini-xs" in cell.question and "“Mary” (92%)" in cell.still
    early = sentence_over_training(a_chapter(store, steps=(0,)), {"mini-xs": (0,)})
    assert "does not name the receiver in both" in early.seen
    assert "load its other checkpoints" not in early.question


def test_what_a_circuit_leaves_out(store, model):
    pairs = get_task("ioi").prompts(model.tokenizer, 12)
    circuit = find_circuit(model, pairs, attribute(model, pairs), threshold=0.8)
    cell = outside_the_circuit(a_chapter(store), XS, model, pairs, circuit)
    nodes = set(graph_of(model).node_names) - {"input", "logits"}
    assert set(cell.switches) == nodes - set(circuit.nodes)
    (at,) = measure_switched(SUITE, "mini-xs", [3906], store, cell.example, [cell.switches])
    values = cell.table["logit difference"].astype(float).tolist()
    assert values[:3] == pytest.approx([at.own, at.other, at.switched[0]], abs=6e-3)
    assert len(values) == 3 + len(nodes & set(circuit.nodes))
    assert f"goes from {at.own:.2f} to {at.switched[0]:.2f}" in cell.seen
    assert outside_the_circuit(a_chapter(store), {"mini-xs": (0,)}, model, pairs, circuit) is None


def scored(**induction):
    """A table of heads of mini-xs whose induction scores are 0, unless told: a1h3=0.5."""
    heads = [(layer, head) for layer in range(2) for head in range(4)]
    return pd.DataFrame(
        {
            "model": "mini-xs",
            "layer": [layer for layer, _ in heads],
            "head": [head for _, head in heads],
            "induction": [induction.get(f"a{layer}h{head}", 0.0) for layer, head in heads],
            "previous": [0.25 if layer == 0 else 0.0 for layer, _ in heads],
        }
    )


def test_a_line_said_twice(store):
    cell = line_said_twice(a_chapter(store), XS, scored(a1h3=0.5))
    assert cell.node == "a1.h3" and "Head 1.3 has the highest" in cell.question
    line, other = cell.example.text.split(), cell.example.other.split()
    assert line[:7] == line[8:] and other[8:] == line[8:] and not set(line) & set(other[:8])
    assert cell.example.right == line[7] and cell.example.right in cell.question
    sets = [{"a1.h3": "zero"}, *({f"a0.h{head}": "zero"} for head in range(4))]
    (at,) = measure_switched(SUITE, "mini-xs", [3906], store, cell.example, sets)
    assert at.own == pytest.approx(dict(at.next_words())[cell.example.right], abs=1e-5)
    assert f"probability of {at.own:.0%}, and of {at.switched[0]:.0%} without head 1.3" in cell.seen
    needed = int(at.switched[1:].argmin())
    assert f"0.{needed} is missed most" in cell.seen and "score is 0.25" in cell.seen
    first = line_said_twice(a_chapter(store), XS, scored(a0h1=0.5))
    assert first.node == "a0.h1" and "earlier layers" not in first.seen


def of_heads(direct):
    """Scores at the last checkpoint; direct: of each head, below zero helps."""
    heads = [(layer, head) for layer in range(2) for head in range(4)]
    return SimpleNamespace(
        model="mini-xs", step=3906, heads=heads, score=lambda kind: np.array(direct)
    )


def test_heads_off_over_training(store):
    heads = [of_heads([0, 0, 0, 0, 0, 0, -0.9, -0.1])]
    cell = heads_off_over_training(a_chapter(store, heads=heads), XS)
    assert cell.switches == {"a1.h2": "zero"} and cell.node == "a1.h2"
    sets = [cell.switches, *(
        {**cell.switches, f"a{layer}.h{head}": "zero"}
        for layer in range(2) for head in range(4) if (layer, head) != (1, 2)
    )]  # fmt: skip
    seen = measure_switched(SUITE, "mini-xs", STEPS, store, FIRST, sets)
    for column, values in (("all on", [at.own for at in seen]),
                           ("without 1.2", [at.switched[0] for at in seen])):  # fmt: skip
        assert cell.table[column].astype(float).tolist() == pytest.approx(values, abs=6e-3)
    worst = float(seen[-1].switched[1:].min())
    assert cell.table.iloc[-1, -1] == f"{worst:.2f}" and f"{worst:.2f} without the two" in cell.seen
    assert "From 8M tokens on head 1.2 costs more than 1" in cell.seen
    assert ("John is ahead" in cell.seen) == (worst < 0)


def classes_with(rows, effects, patched=True):
    member = np.isin(np.arange(8), rows)
    heads = [(layer, head) for layer in range(2) for head in range(4)]
    return SimpleNamespace(
        model="mini-xs", step=3906, heads=heads, role=lambda row: "name mover",
        patched={"direct": 0} if patched else {},
        effects=lambda stage: np.array(effects), members=lambda stage: member,
    )  # fmt: skip


def test_the_other_giver(store):
    classes = classes_with([5, 6, 7], [0, 0, -0.9, 0, 0, 0.3, -0.5, -0.1])
    cell = the_other_giver(a_chapter(store, head_classes=[classes]), XS)
    assert cell.node == "a1.h2" and "*name mover*" in cell.question and not cell.switches
    (at,) = measure_switched(
        SUITE, "mini-xs", [3906], store, FIRST, [{"a1.h2": "other"}, {"a1.h2": "zero"}]
    )
    given, off = at.switched
    assert at.own > 0 > given and "prefers John" in cell.seen
    way = (at.own - given) / (at.own - at.other)
    assert f"{two(given)}, which is {way:.0%} of the way" in cell.seen and two(off) in cell.seen
    nobody = classes_with([5], [0, 0, 0, 0, 0, 0.3, 0, 0])
    assert the_other_giver(a_chapter(store, head_classes=[nobody]), XS) is None
    early = classes_with([], [0] * 8, patched=False)
    assert the_other_giver(a_chapter(store, head_classes=[early]), XS) is None


def two(value):
    return f"{value:.2f}"


def test_a_suite_that_a_page_cannot_run_gets_a_sentence(store, capsys):
    own = SimpleNamespace(name="mini", source=SimpleNamespace(root="elsewhere"))
    assert checkpoints_in_a_page(own) == checkpoints_in_a_page(SimpleNamespace(name="pythia")) == {}
    there = checkpoints_in_a_page(SUITE)
    assert len(there["mini-s"]) == 13 and 3906 in there["mini-l"]
    chapter = a_chapter(store, heads=[], head_classes=[])
    makers = (
        sentence_over_training, heads_off_over_training, the_other_giver,
        lambda chapter, there: line_said_twice(chapter, there, scored()),
    )  # fmt: skip
    assert [make(chapter, {}) for make in makers] == [None] * 4
    try_it(SUITE, None)
    assert "Markdown" in capsys.readouterr().out


# ------------------------------------------------------------------ in a browser


@pytest.fixture(scope="module")
def cells(store, model):
    """A cell of each kind, on mini-xs, by name."""
    pairs = get_task("ioi").prompts(model.tokenizer, 12)
    circuit = find_circuit(model, pairs, attribute(model, pairs), threshold=0.8)
    heads = [of_heads([0, 0, 0, 0, 0, 0, -0.9, -0.1])]
    classes = [classes_with([6], [0, 0, 0, 0, 0, 0, -0.5, 0])]
    chapter = a_chapter(store, steps=SUITE.steps("mini-xs"), heads=heads, head_classes=classes)
    there = {"mini-xs": SUITE.steps("mini-xs")}
    made = [
        sentence_over_training(chapter, there),
        outside_the_circuit(chapter, there, model, pairs, circuit),
        line_said_twice(chapter, there, scored(a1h3=0.5)),
        heads_off_over_training(chapter, there),
        the_other_giver(chapter, there),
    ]
    return {cell.name: cell for cell in made}


@pytest.fixture(scope="module")
def site(tmp_path_factory, cells, store):
    """A page for each cell, one with the whole lab, scripts and weights, as the built site has."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "_static" / "lab").mkdir(parents=True)
    (folder / "notebooks").mkdir()
    for name in ("circuit-drawing.js", "lab.js", "lab-engine.js"):
        (folder / "_static" / name).write_text(SCRIPTS[name](), encoding="utf8")
    for name, text in weights_files(SUITE, {"mini-xs": SUITE.steps("mini-xs")}):
        (folder / "_static" / name).write_text(text, encoding="utf8")
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>x</title><main><article>'
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIRCUITBOOK_PAGES", "1")
        pages = {
            name: lab_cell(SUITE, cell).data + answer(cell).data for name, cell in cells.items()
        }
        pages["lab"] = lab(SUITE, measure_example(SUITE, "mini-xs", store)).data
    for name, text in pages.items():
        page = folder / "notebooks" / f"{name}.html"
        page.write_text(f"{head}{text}</article></main>", encoding="utf8")
    return folder


@pytest.fixture
def page_of(browser, site):
    def opened(name, start=True):
        page = Page(browser, (site / "notebooks" / f"{name}.html").as_uri())
        page.open(start=start)
        return page

    return opened


def near(values):
    """As the lab writes them: three digits."""
    return pytest.approx(values, rel=6e-3, abs=6e-3)


SHOWN = """
    const seen = (css) => document.querySelector(css)?.checkVisibility() ?? false;
    return Object.fromEntries(Object.entries(arguments[0]).map(([k, css]) => [k, seen(css)]))"""
PARTS = {
    "example": "[name=example]", "model": "[name=model]", "text": "[name=text]",
    "other": "[name=other]", "right": "[name=right]", "wrong": "[name=wrong]",
    "training": "[name=training]", "bars": ".lb-bars", "curve": ".lb-curve", "tiles": ".lb-tiles",
}  # fmt: skip


@pytest.mark.browser
@pytest.mark.parametrize(
    "name", ["try-abilities", "try-circuit", "try-induction", "try-off", "try-giver"]
)
def test_a_cell_shows_its_parts_loads_nothing_by_itself_and_starts_in_its_state(
    page_of, cells, store, name
):
    page, cell = page_of(name, start=False), cells[name]
    asked, _ = page.browser.requests()
    assert [one for one in asked if "/lab/" in one] == []
    assert cell.still in page.text("main") and "needs JavaScript" not in page.text("main")
    closed = "return document.querySelector('details > p').checkVisibility()"
    assert not page.browser.run(closed)
    page.browser.click("[name=start]")
    page.until("With|ogit difference|robability")
    shown = page.browser.run(SHOWN, PARTS)
    assert shown == {part: part in cell.shown for part in PARTS}
    asked, _ = page.browser.requests()
    assert [one.rpartition("/")[2] for one in asked if "/lab/" in one] == ["mini-xs-3906.js"]
    (at,) = measure_switched(SUITE, "mini-xs", [3906], store, cell.example, [cell.switches])
    said = page.until(r"(With|ifference|robability).*: .*\d.*of the other sentence .*\d")
    wanted = [at.own, at.other, *([at.switched[0]] if cell.switches else [])]
    if cell.example.wrong:
        assert numbers(said)[: len(wanted)] == near(wanted)
    else:
        shares = [float(x) for x in re.findall(r"([\d.]+) ?%", said)]
        assert shares[:2] == pytest.approx([100 * at.own, 100 * at.other], abs=0.06)
    assert page.browser.complaints() == []


@pytest.mark.browser
def test_a_head_is_given_the_other_giver_and_the_full_lab_takes_over(page_of, cells):
    page, cell = page_of("try-giver"), cells["try-giver"]
    values = dict(
        zip(cell.table["heads"], cell.table["logit difference"].astype(float), strict=True)
    )
    page.browser.click('[data-node="a1.h2"]')
    said = page.until("With 1.2 off")
    assert numbers(said)[2] == near(values["1.2 off"])
    page.browser.click('[data-node="a1.h2"]')
    said = page.until("With 1.2 from the other")
    assert numbers(said)[2] == near(values["1.2 from the other sentence"])
    assert "of the way to the other sentence" in said
    page.browser.press(".lb-share", "ENTER")
    page.until("Start", "[name=start]")
    address = page.browser.run("return location.href")
    assert "/lab.html#lab." in address and "lab.switched=a1.h2%3Aother" in address
    assert page.browser.run("return document.querySelector('[name=example]').checkVisibility()")
    page.browser.click("[name=start]")
    assert page.until("With 1.2 from the other") == said
    assert page.browser.complaints() == []


@pytest.mark.browser
def test_heads_are_taken_out_at_every_checkpoint(page_of, cells):
    page, cell = page_of("try-off"), cells["try-off"]
    page.browser.click("[name=rest]")
    steps = SUITE.steps("mini-xs")
    wanted = cell.table["all on"].astype(float).tolist()
    assert len(wanted) == len(steps)
    until_curve(page, wanted)
    label = cell.table.columns[-1]
    second = re.fullmatch(r"without 1.2 and (\d)\.(\d)", label)
    page.browser.click(f'[data-node="a{second[1]}.h{second[2]}"]')
    said = page.until(f"{second[1]}.{second[2]} off")
    assert numbers(said)[2] == near(float(cell.table[label].iloc[-1]))
    page.browser.press("[name=training]", "HOME")
    said = page.until(r"step 0\).*With")
    assert numbers(said)[2] == near(float(cell.table[label].iloc[0]))
    page.browser.click("[name=reset]")
    page.until(r"of the other sentence \S+\.$")
    time.sleep(0.4)  # the address is written when the hand rests
    address = page.browser.run("return location.href")
    assert re.search(r"try-off\.switched=(&|$)", address)
    page.browser.open(address)  # all on now, although the cell begins with a head off
    page.browser.click("[name=start]")
    page.until(r"of the other sentence \S+\.$")
    assert page.browser.complaints() == []


def until_curve(page, wanted, at_most=30):
    end = time.monotonic() + at_most
    while page.curve() != near(wanted) and time.monotonic() < end:
        time.sleep(0.1)
    assert page.curve() == near(wanted)


@pytest.mark.browser
def test_a_sentence_of_ones_own_over_training(page_of):
    page = page_of("try-abilities")
    page.browser.click("[name=rest]")
    text = "Then, Mary and John went to the park. John sent a letter to"
    page.type("text", text)
    until_curve(page, [difference("mini-xs", step, text) for step in SUITE.steps("mini-xs")])


@pytest.mark.browser
def test_an_induction_head_is_switched_off(page_of, cells):
    page, cell = page_of("try-induction"), cells["try-induction"]
    rows = dict(cell.table.itertuples(index=False))
    assert page.text(".lb-looks h3") == "Head 1.3"
    page.browser.click('[data-node="a1.h3"]')
    said = page.until("With 1.3 off")
    word = f" {cell.example.right}"
    before, after = page.bars()[word]
    assert [f"{round(before)}%", f"{round(after)}%"] == [rows["nothing"], rows["head 1.3"]]
    assert f"probability of {cell.example.right}" in said.lower()


@pytest.mark.browser
def test_a_head_of_the_circuit_goes_the_way_of_those_outside(page_of, cells):
    page, cell = page_of("try-circuit"), cells["try-circuit"]
    rows = {what: float(value) for what, value in cell.table.itertuples(index=False)}
    said = page.until("With")
    assert numbers(said)[2] == near(rows["what the circuit leaves out"])
    name = next(what for what in rows if what.startswith("and head"))
    layer, head = name.removeprefix("and head ").split(".")
    tile = f'[data-node="a{layer}.h{head}"]'
    page.browser.click(tile)
    page.until("^off$", f"{tile} .lb-note")
    page.browser.click(tile)
    page.until("^from the other$", f"{tile} .lb-note")
    end = time.monotonic() + 10
    while numbers(page.text(".lb-status"))[2] != near(rows[name]) and time.monotonic() < end:
        time.sleep(0.1)
    assert numbers(page.text(".lb-status"))[2] == near(rows[name])


@pytest.mark.browser
@pytest.mark.parametrize("name", ["try-off", "try-induction"])
def test_a_cell_fits_a_phone_and_is_reached_by_keyboard(page_of, browser, site, name):
    from test_pages import HARD_TO_READ, STICKS_OUT, UNREACHABLE

    page = Page(browser, (site / "notebooks" / f"{name}.html").as_uri())
    page.open(width=390)
    page.until("ogit difference|robability")
    assert browser.run("return document.documentElement.scrollWidth") <= 390
    for check in (STICKS_OUT, UNREACHABLE, HARD_TO_READ):
        assert browser.run(check) == []


@pytest.mark.browser
def test_a_cell_in_a_notebook_brings_its_checkpoint(browser, tmp_path, monkeypatch, cells):
    monkeypatch.delenv("CIRCUITBOOK_PAGES", raising=False)
    cell, file = cells["try-giver"], tmp_path / "alone.html"
    file.write_text(f'<!doctype html><meta charset="utf-8">{lab_cell(SUITE, cell).data}')
    page = Page(browser, file.as_uri())
    page.open()
    own = difference("mini-xs", 3906, FIRST.text)
    assert numbers(page.text(".lb-status"))[0] == near(own)
    assert "view" in page.text(".lb-share") and browser.complaints() == []


def test_a_page_stays_light(cells, monkeypatch):
    monkeypatch.setenv("CIRCUITBOOK_PAGES", "1")
    for name, cell in cells.items():
        view = lab_cell(SUITE, cell).data
        data = len(json.dumps(data_in(view)))
        print(f"{name}: {len(view) / 1000:.0f} KB, {data / 1000:.0f} of data")
        assert len(view) < 20_000 and "labWeights" not in view
