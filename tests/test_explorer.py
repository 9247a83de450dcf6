"""The circuit explorer: its data against the library's circuits, and in a browser, clicked and
moved by keyboard."""

import json
import re
import time

import numpy as np
import pandas as pd
import pytest

from circuitbook import attribute, find_circuit, get_task, load_suite
from circuitbook.circuits.circuit import Circuit, circuit_of
from circuitbook.circuits.selection import edge_order, first_edges
from circuitbook.figures.algorithm import CLASS_COLOURS
from circuitbook.figures.explorer import circuit_data, circuit_explorer, entry_sizes, explorer_data
from circuitbook.figures.views import SCRIPTS
from circuitbook.model.graph import Graph
from circuitbook.studies.circuits import CircuitResult

GRAPH = Graph(3, 2)
SCRIPTS_OF_IT = ("circuit-drawing.js", "circuit-explorer.js")


def found_of(
    model="m", step=1, task="ioi", seed=0, size=9, graph=GRAPH, selection="greedy", every=1
) -> CircuitResult:
    """What a search would give for random scores, with `size` as its answer; each `every`-th size
    was looked at."""
    scores = np.random.default_rng(seed).normal(size=graph.mask.shape)
    order = edge_order(scores, graph, selection)
    masks = [first_edges(order, graph, n) for n in range(1, graph.n_edges + 1)]
    edges = [int(mask.sum()) for mask in masks]
    kept = [n / (n + 2) for n in edges]
    curve = pd.DataFrame(
        {
            "size": range(1, len(masks) + 1),
            "edges": edges,
            "normalised": kept,
            "low": np.subtract(kept, 0.1),
            "high": np.add(kept, 0.1),
        }
    )[::every]
    about = {
        "size": size,
        "selection": selection,
        "absolute": True,
        "form": "normalised",
        "threshold": 0.8,
    }
    return CircuitResult(
        model,
        step,
        1000 * step,
        task,
        Circuit(
            graph,
            masks[size - 1],
            scores,
            faithfulness=kept[size - 1],
            curve=curve,
            about=about,
        ),
        0.0,
    )


def none_of(model="m", step=1, task="ioi") -> CircuitResult:
    return CircuitResult(
        model,
        step,
        1000 * step,
        task,
        Circuit(
            GRAPH, np.zeros(GRAPH.mask.shape, bool), reason="the model does not do the task <here>"
        ),
        np.nan,
    )


def drawn(data: dict, n: int, graph: Graph) -> dict[str, float]:
    """The edges that the explorer draws at a size, {name: score}, from its data."""
    enters = np.cumsum(data["enters"])
    return {
        graph.edge_name(*divmod(edge, graph.n_dst)): score
        for edge, score, at in zip(data["edges"], data["scores"], enters, strict=True)
        if at <= n
    }


# ------------------------------------------------------------------ its data


@pytest.mark.parametrize(
    "graph", [Graph(3, 2), Graph(2, 3, parallel=False)], ids=["parallel", "sequential"]
)
@pytest.mark.parametrize("selection", ["greedy", "top"])
def test_an_edge_enters_where_the_circuits_first_have_it(graph, selection):
    for seed in range(4):
        order = edge_order(
            np.random.default_rng(seed).normal(size=graph.mask.shape), graph, selection
        )
        for limit in (len(order), 20, 1):
            enters = entry_sizes(order[:limit], graph)
            for n in range(limit + 1):
                mask = np.zeros(graph.mask.shape, bool)
                mask[tuple(order[:limit][enters <= n].T)] = True
                np.testing.assert_array_equal(mask, first_edges(order, graph, n))


def test_what_is_drawn_at_each_size_is_the_circuit_of_that_size():
    for seed in range(3):
        result = found_of(seed=seed, size=12)
        data, order = circuit_data(result, 40), edge_order(result.circuit.scores, GRAPH)
        for n in range(41):
            shown = drawn(data, n, GRAPH)
            expected = Circuit(GRAPH, first_edges(order, GRAPH, n)).edges
            assert set(shown) == set(expected)
            assert [shown[name] for name in expected] == pytest.approx(
                [result.circuit.scores[GRAPH.edge(name)] for name in expected], rel=5e-3
            )
        assert (
            set(drawn(data, data["size"], GRAPH)) == set(result.circuit.edges) and data["end"] == 40
        )


def test_a_search_and_its_curve_are_told_as_they_are():
    suite = load_suite("mini")
    model = suite.checkpoint("mini-xs", suite.steps("mini-xs")[-1]).load()
    pairs = get_task("gendered_pronoun").prompts(model.tokenizer, n=16, seed=1)
    circuit = find_circuit(
        model,
        pairs,
        attribute(model, pairs, rule="midpoint", points=5),
        form="normalised",
        threshold=0.9,
    )
    assert circuit.found and circuit.n_edges > 2
    data = circuit_data(CircuitResult("mini-xs", 1, 10, "gendered_pronoun", circuit, 0.0), 10**6)
    assert set(drawn(data, data["size"], circuit.graph)) == set(circuit.edges)
    kept = {edges: value for edges, value, _, _ in data["curve"]}
    for row in circuit.curve.itertuples():
        shown = drawn(data, row.size, circuit.graph)
        assert len(shown) == row.edges and kept[len(shown)] == pytest.approx(
            row.normalised, rel=1e-3, abs=1e-12
        )
    assert kept[circuit.n_edges] == pytest.approx(circuit.faithfulness, rel=1e-3)


def test_every_model_task_and_checkpoint_has_its_place():
    few = found_of("b", 5, "sva", seed=3, graph=Graph(2, 3))
    data = explorer_data(
        [none_of(step=2), found_of(step=8, seed=1), few],
        roles={("m", 8): {"a1.h0": ["induction"], "a1.h1": []}},
        notes={("m", 8): pd.DataFrame({"e": [0.12349, np.nan]}, index=["a1.h0", "a1.h1"])},
    )
    assert data["models"] == {
        "m": {"layers": 3, "heads": 2, "steps": [2, 8], "tokens": [2000, 8000]},
        "b": {"layers": 2, "heads": 3, "steps": [5], "tokens": [5000]},
    }
    none, circuit = data["circuits"]["m"]["ioi"]
    assert none == {"why": "the model does not do the task <here>"} and circuit["size"] == 9
    assert data["circuits"]["m"]["sva"] == [None, None] and data["circuits"]["b"]["ioi"] == [None]
    assert data["roles"]["m"] == [{}, {"a1.h0": [list(CLASS_COLOURS).index("induction")]}]
    assert data["notes"]["m"] == [{}, {"a1.h0": [0.123], "a1.h1": [None]}] and data["columns"] == [
        "e"
    ]


def test_a_page_holds_one_script_and_only_as_much_as_it_may(monkeypatch):
    found = [
        found_of("m</script>", step, seed=step, graph=Graph(4, 4), size=150, every=40)
        for step in range(1, 5)
    ]
    monkeypatch.setenv("CIRCUITBOOK_PAGES", "1")
    page = circuit_explorer(found).data
    assert (
        page.count("</script") == 2
        and 'data-scripts="circuit-drawing.js circuit-explorer.js"' in page
        and "http" not in page
    )
    assert ends(page) == {200} and ends(circuit_explorer(found, most=100).data) == {100}
    size = len(json.dumps(settings_in(page)["data"], separators=(",", ":")))
    monkeypatch.setattr("circuitbook.figures.explorer.BUDGET", size // 2)
    small = circuit_explorer(found).data
    assert len(page) - len(small) > 0.5 * size and ends(small) < {100, 50, 25, 12}
    monkeypatch.delenv("CIRCUITBOOK_PAGES")
    alone = circuit_explorer(found).data
    assert all(SCRIPTS[name]() in alone for name in SCRIPTS_OF_IT)
    assert alone.count("</script") == 2


def settings_in(page: str) -> dict:
    """What a view hands over to its script."""
    return json.loads(re.search(r"<script type=\"application/json\"[^>]*>(.*?)</script>", page)[1])


def ends(page: str) -> set[int]:
    """The largest sizes that the circuits of a page can be drawn with."""
    circuits = settings_in(page)["data"]["circuits"]
    return {
        circuit["end"]
        for tasks in circuits.values()
        for places in tasks.values()
        for circuit in places
        if "end" in circuit
    }


def test_what_cannot_be_explored_is_refused():
    with pytest.raises(ValueError, match="needs at least one search"):
        circuit_explorer([])
    with pytest.raises(ValueError, match="nothing was measured of m and sva"):
        circuit_explorer([found_of()], start=("m", "sva"))
    by_hand = CircuitResult("m", 1, 1, "ioi", circuit_of(GRAPH, ["input->logits"]), 0.0)
    with pytest.raises(ValueError, match="the ioi circuit of m at step 1 comes from no search"):
        circuit_explorer([by_hand])
    result = found_of()
    result.circuit.mask[0, -1] ^= True
    with pytest.raises(ValueError, match="is not the first 9 edges by its scores"):
        circuit_explorer([result])


# ------------------------------------------------------------------ in a browser

CHECKPOINTS = [none_of(step=1), *(found_of(step=2 + i, seed=i, size=8 + 3 * i) for i in range(3))]
HEAD = next(node for node in CHECKPOINTS[-1].circuit.nodes if node[0] == "a")
OTHERS = [found_of(step=2 + i, seed=7 + i, task="sva") for i in range(3)] + [
    found_of("n", 3, "sva", seed=11, graph=Graph(2, 3))
]


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Address of a page with two explorers that share the script, as in the book."""
    monkeypatch.setenv("CIRCUITBOOK_PAGES", "1")
    return page_of(tmp_path, two_explorers())


def two_explorers() -> dict[str, str]:
    notes = {("m", 4): pd.DataFrame({"copy score": [0.987, np.nan]}, index=[HEAD, "m0"])}
    roles = {("m", 4): {HEAD: ["name mover"]}}
    return {
        "first": circuit_explorer([*CHECKPOINTS, *OTHERS], name="first", start=("m", "ioi")).data,
        "second": circuit_explorer(CHECKPOINTS, name="second", roles=roles, notes=notes).data,
    }


def page_of(top, views: dict[str, str]) -> str:
    """Address of a page in `top` with these views, each in a section of its name."""
    folder = top / "notebooks"
    folder.mkdir()
    (top / "_static").mkdir()
    for name in SCRIPTS_OF_IT:
        (top / "_static" / name).write_text(SCRIPTS[name](), encoding="utf8")
    body = "".join(f'<section id="{name}">{view}</section>' for name, view in views.items())
    (folder / "page.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>x</title>'
        f"<main><h1>x</h1><h2>y</h2>{body}</main>",
        encoding="utf8",
    )
    return (folder / "page.html").as_uri()


def listed(browser, view="first") -> dict[str, float]:
    """The edges in the list beside the drawing, {name: score as written}; if no node is selected,
    those in the drawing."""
    rows = browser.run(
        "return [...document.querySelectorAll(`#${arguments[0]} .cx-list li`)]"
        ".map(li => [li.dataset.edge, li.lastChild.textContent])",
        view,
    )
    return {name: float(score.replace("\u2212", "-")) for name, score in rows}


def in_drawing(browser, view="first", only="") -> set[str]:
    return set(
        browser.run(
            "return [...document.querySelectorAll(`#${arguments[0]} g[data-edge]${arguments[1]}`)]"
            ".map(g => g.dataset.edge)",
            view,
            only,
        )
    )


def status(browser, view="first") -> str:
    return browser.run(
        "return document.querySelector(`#${arguments[0]} [role=status]`).textContent", view
    )


def expected(
    result: CircuitResult, n: int | None = None, node: str | None = None
) -> dict[str, float]:
    """The same from the circuit itself: the first n edges by its scores, less the dead ones; those
    of a node."""
    circuit = result.circuit
    mask = (
        circuit.mask
        if n is None
        else first_edges(edge_order(circuit.scores, circuit.graph), circuit.graph, n)
    )
    edges = {
        name: circuit.scores[circuit.graph.edge(name)]
        for name in Circuit(circuit.graph, mask).edges
    }
    return {
        name: score
        for name, score in edges.items()
        if node in (None, name.split("->")[0], name.split("->")[1].split("<")[0])
    }


@pytest.mark.browser
def test_a_clicked_node_shows_its_edges(browser, page):
    browser.open(page)
    last = CHECKPOINTS[-1]
    assert listed(browser) == pytest.approx(expected(last), rel=5e-3) and in_drawing(
        browser
    ) == set(last.circuit.edges)
    assert f"{last.circuit.n_edges} edges and {last.circuit.n_nodes} nodes" in status(
        browser
    ) and f"{100 * last.circuit.faithfulness:.1f}%" in status(browser)
    node = next(
        name
        for name in last.circuit.nodes
        if name[0] == "a" and 1 < len(expected(last, node=name)) < last.circuit.n_edges
    )
    browser.click(f'#first [data-node="{node}"]')
    assert listed(browser) == pytest.approx(expected(last, node=node), rel=5e-3)
    assert in_drawing(browser, only=".dim") == set(last.circuit.edges) - set(
        expected(last, node=node)
    )
    pressed = (
        "return [...document.querySelectorAll('#first [aria-pressed=true]')]"
        ".map(node => node.dataset.node)"
    )
    assert browser.run(pressed) == [node]
    browser.click(f'#first [data-node="{node}"]')
    assert browser.run(pressed) == [] and listed(browser) == pytest.approx(expected(last), rel=5e-3)
    browser.press(f'#first [data-node="{node}"]', "ENTER")
    assert browser.run(pressed) == [node]
    browser.press(f'#first [data-node="{node}"]', "ESCAPE")
    assert browser.run(pressed) == []
    browser.click(
        "#first .cx-list li button:last-of-type"
    )  # a name in the list is a way to that node
    assert len(browser.run(pressed)) == 1 and browser.run(pressed) == [
        browser.run("return document.activeElement.dataset.node")
    ]
    browser.click("#first [name=none]")
    assert (
        browser.run(pressed) == []
        and browser.run("return document.activeElement.className") == "cx-list"
    )
    browser.press('#first [data-node="logits"]', "DOWN")
    focused = browser.run("return document.activeElement.dataset.node")
    assert focused in last.circuit.nodes and focused != "logits"
    assert browser.complaints() == []


@pytest.mark.browser
def test_sliders_by_keyboard_and_the_address_that_brings_it_all_back(browser, page):
    browser.open(page)
    browser.press("#first [name=training]", "LEFT")
    result = CHECKPOINTS[-2]
    assert listed(browser) == pytest.approx(
        expected(result), rel=5e-3
    ) and "after 3k tokens (step 3)" in status(browser)
    browser.press("#first [name=edges]", "RIGHT", "RIGHT", "RIGHT", "RIGHT", "RIGHT")
    n = result.circuit.about["size"] + 5
    assert listed(browser) == pytest.approx(
        expected(result, n), rel=5e-3
    ) and f"the first {n} edges" in status(browser)
    kept = result.circuit.curve.set_index("size")["normalised"][n]
    assert f"faithfulness {100 * kept:.1f}".removesuffix(".0") in status(browser)
    node = next(name for name in result.circuit.nodes if name[0] == "a")
    browser.click(f'#first [data-node="{node}"]')
    assert listed(browser, "second") == pytest.approx(
        expected(CHECKPOINTS[-1]), rel=5e-3
    )  # which nobody touched
    browser.click('#second [data-node="logits"]')
    time.sleep(0.4)  # the address is written when the hand rests
    address = browser.run("return location.href")
    browser.open(address)
    assert listed(browser) == pytest.approx(expected(result, n, node), rel=5e-3)
    assert listed(browser, "second") == pytest.approx(
        expected(CHECKPOINTS[-1], node="logits"), rel=5e-3
    )
    browser.open(
        page + "#second.model=nobody&second.step=x&second.edges=-1&second.node=a9.h9&first.step=1"
    )
    assert listed(browser, "second") == pytest.approx(expected(CHECKPOINTS[-1]), rel=5e-3)
    assert listed(browser) == {} and "no circuit. The model does not do the task <here>" in status(
        browser
    )
    assert browser.complaints() == []


@pytest.mark.browser
def test_models_tasks_classes_and_notes(browser, page):
    browser.open(page + "#first.model=m&first.task=sva&first.step=4")
    assert listed(browser) == pytest.approx(expected(OTHERS[2]), rel=5e-3)
    browser.run(
        "const model = document.querySelector('#first [name=model]'); model.value = 'n'; "
        "model.dispatchEvent(new Event('change'))"
    )
    assert listed(browser) == pytest.approx(
        expected(OTHERS[3]), rel=5e-3
    ) and "n, Subject-Verb Agreement" in status(browser)
    browser.open(page + f"#second.node={HEAD}")
    text = browser.run("return document.querySelector('#second .cx-list').textContent")
    assert f"Head {HEAD[1]}.{HEAD[4]}: name mover" in text and "copy score0.99" in text
    assert "name mover" in browser.run(
        "return document.querySelector(`#second [data-node='${arguments[0]}']`)"
        ".getAttribute('aria-label')",
        HEAD,
    )
    assert browser.complaints() == []


@pytest.mark.browser
def test_playing_goes_through_the_checkpoints_and_moves_no_node(browser, page):
    browser.open(page)
    places = (
        "return JSON.stringify([...document.querySelectorAll('#first .node')]"
        ".map(node => [node.dataset.node, node.getAttribute('transform')]))"
    )
    before = browser.run(places)
    browser.click("#first [name=play]")
    seen, until = [], time.time() + 15
    while (
        time.time() < until
        and browser.run("return document.querySelector('#first [name=play]').textContent")
        == "Pause"
    ):
        now = browser.run(
            "return [Number(document.querySelector('#first [name=training]').value), "
            "document.querySelectorAll('#first g[data-edge]').length]"
        )
        seen += [now] if now not in seen else []
        assert browser.run(places) == before
        time.sleep(0.2)
    sizes = [[at, result.circuit.n_edges] for at, result in enumerate(CHECKPOINTS)]
    assert seen[0] == sizes[0] and seen == sizes[: len(seen)] and len(seen) >= 3
    assert in_drawing(browser) == set(CHECKPOINTS[-1].circuit.edges) and len(
        json.loads(before)
    ) == len(GRAPH.node_names)
    assert browser.complaints() == []


@pytest.mark.browser
def test_two_explorers_that_bring_their_own_script(browser, tmp_path, monkeypatch):
    monkeypatch.delenv("CIRCUITBOOK_PAGES", raising=False)
    file = tmp_path / "alone.html"
    file.write_text(
        "<!doctype html><meta charset='utf-8'>"
        + "".join(
            f'<section id="{name}">{circuit_explorer([found_of(seed=seed)]).data}</section>'
            for name, seed in (("first", 1), ("second", 2))
        )
    )
    browser.open(file.as_uri())
    assert listed(browser) == pytest.approx(expected(found_of(seed=1)), rel=5e-3)
    assert listed(browser, "second") == pytest.approx(expected(found_of(seed=2)), rel=5e-3)
    browser.click('#second [data-node="logits"]')
    time.sleep(0.4)
    assert (
        "circuits-2.node=logits" in browser.run("return location.hash")
        and browser.complaints() == []
    )


@pytest.mark.browser
def test_a_compact_view_plays_by_itself_and_leads_on(browser, tmp_path):
    shown = circuit_explorer(
        [*CHECKPOINTS, *OTHERS],
        name="front",
        start=("m", "ioi"),
        compact="more.html#classes.model=m",
    ).data
    data = shown
    for name in SCRIPTS_OF_IT:
        data = data.replace(SCRIPTS[name](), "")
    assert '"ioi"' in data and '"sva"' not in data and '"n":' not in data
    (tmp_path / "page.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>x</title>'
        f'<section id="first">{shown}</section>',
        encoding="utf8",
    )
    browser.open((tmp_path / "page.html").as_uri())
    opening = browser.run("return document.querySelector('#first').textContent")
    assert "Can't do it yet" in opening and "the task <here>" not in opening
    until, at = (
        time.time() + 30,
        "return Number(document.querySelector('#first [name=training]').value)",
    )
    while (
        time.time() < until
        and browser.run("return document.querySelector('#first [name=play]').textContent")
        == "Pause"
    ):
        time.sleep(0.1)
    assert browser.run(at) == len(CHECKPOINTS) - 1
    assert f"{CHECKPOINTS[-1].circuit.n_edges} edges of m keep 80%" in status(browser)
    link = browser.run(
        "const a = document.querySelector('#first .cx-link a'); "
        "return [a.getAttribute('href'), a.textContent, a.checkVisibility()]"
    )
    assert link == ["more.html#classes.model=m", "Take it apart", True]
    assert (
        not browser.run("return document.querySelector('#first .cx-list').checkVisibility()")
        and browser.run("return location.hash") == ""
    )
    assert browser.complaints() == []


# ------------------------------------------------------------------ two circuits

# as many layers and heads as "m", other checkpoints, another order of edges
TWIN = [found_of("twin", step, seed=20 + step, size=10) for step in (2, 5)]
FATES = ("gained", "lost", "kept")


@pytest.fixture
def twins(tmp_path, monkeypatch):
    """Address of a page with an explorer of models that can be compared."""
    monkeypatch.setenv("CIRCUITBOOK_PAGES", "1")
    alone = circuit_explorer([found_of("lonely", 1, seed=1)], name="second").data
    both = circuit_explorer([*CHECKPOINTS, *TWIN, *OTHERS], name="first", start=("m", "ioi"))
    return page_of(tmp_path, {"first": both.data, "second": alone})


def change(browser, name, value):
    browser.run(
        "const part = document.querySelector(`#first [name=${arguments[0]}]`); "
        "part.value = arguments[1]; part.dispatchEvent(new Event('change'))",
        name,
        value,
    )


def difference(now: CircuitResult, other: CircuitResult, n: int | None = None):
    """([gained, lost, kept] edges, [gained, lost] nodes) of two circuits, as sets of names."""
    here, there = set(expected(now, n)), set(expected(other, n))
    nodes = [{end for e in edges for end in e.split("<")[0].split("->")} for edges in (here, there)]
    return [here - there, there - here, here & there], [nodes[0] - nodes[1], nodes[1] - nodes[0]]


def grouped(browser) -> dict[str, dict[str, str]]:
    """The list beside the drawing: {a heading: {edge: its score as written}}"""
    return browser.run(
        "return Object.fromEntries([...document.querySelectorAll('#first .cx-list .cx-head')]"
        ".map(h => [h.textContent, Object.fromEntries([...h.nextElementSibling.children].map("
        "li => [li.dataset.edge, li.lastChild.textContent]))]))"
    )


def marked(browser, kind) -> set[str]:
    """The nodes of the drawing that are marked as gained or lost."""
    return set(
        browser.run(
            "return [...document.querySelectorAll(`#first .node.${arguments[0]}`)]"
            ".filter(node => node.querySelector('.mark').textContent !== '')"
            ".map(node => node.dataset.node)",
            kind,
        )
    )


def assert_shows(browser, now, other, n=None, words=("Gained", "Lost", "Kept")):
    """List, drawing and sentence tell the difference of two circuits."""
    edges, nodes = difference(now, other, n)
    headed = {f"{word} ({len(some)})": some for word, some in zip(words, edges, strict=True)}
    shown = grouped(browser)
    assert {title: set(some) for title, some in shown.items()} == {
        title: some for title, some in headed.items() if some
    }
    scores = expected(now, n) | {e: s for e, s in expected(other, n).items() if e in edges[1]}
    listed_scores = {name: score for some in shown.values() for name, score in some.items()}
    assert {e: float(s.replace("\u2212", "-")) for e, s in listed_scores.items()} == pytest.approx(
        scores, rel=5e-3
    )
    assert in_drawing(browser) == set.union(*edges)
    drawn = browser.run(
        "return [...document.querySelectorAll('#first g[data-edge]')].map(g => [g.dataset.edge, "
        "g.firstChild.getAttribute('stroke'), g.firstChild.getAttribute('stroke-dasharray')])"
    )
    fate = {edge: kind for kind, some in zip(FATES, edges, strict=True) for edge in some}
    colours = {(fate[edge], colour) for edge, colour, _ in drawn}
    assert len(colours) == len({colour for _, colour in colours}) == sum(map(bool, edges))
    assert all((dashes == "none") == (fate[edge] == "kept") for edge, _, dashes in drawn)
    assert [marked(browser, kind) for kind in FATES[:2]] == nodes
    jaccard = len(edges[2]) / max(1, len(set.union(*edges)))
    said = re.search(r"Jaccard (\d\.\d\d); (\d+) node", status(browser))
    assert float(said[1]) == pytest.approx(jaccard, abs=0.0051) and int(said[2]) == len(nodes[0])


@pytest.mark.browser
def test_a_circuit_beside_that_of_another_checkpoint(browser, twins):
    browser.open(twins)
    assert browser.run(
        "return [...document.querySelectorAll('#first [name=against] option')].map(o => o.value)"
    ) == ["", "m", "twin"]
    visible = "return document.querySelector(arguments[0]).checkVisibility()"
    assert not browser.run(visible, "#second [name=against]")
    assert not browser.run(visible, "#first [name=since]")
    change(browser, "against", "m")  # from the first circuit on
    assert browser.run(visible, "#first [name=since]")
    last, first = CHECKPOINTS[3], CHECKPOINTS[1]
    assert_shows(browser, last, first)
    gained, lost, kept = map(len, difference(last, first)[0])
    sentence = f"Since step 2: {gained} edges gained, {lost} lost, {kept} kept; Jaccard"
    assert sentence in status(browser) and min(gained, lost, kept) > 0
    node = min(difference(last, first)[1][1])
    label = browser.run(
        "return document.querySelector(`#first [data-node='${arguments[0]}']`)"
        ".getAttribute('aria-label')",
        node,
    )
    assert ", lost: " in label
    browser.press("#first [name=since]", "RIGHT")
    assert_shows(browser, last, CHECKPOINTS[2])
    browser.press("#first [name=edges]", "LEFT", "LEFT", "LEFT")
    assert_shows(browser, last, CHECKPOINTS[2], last.circuit.about["size"] - 3)
    browser.click("#first [name=own]")
    browser.press("#first [name=training]", "LEFT", "LEFT")  # now the other one is later
    words = ("Only here", "Only there", "In both")
    assert_shows(browser, first, CHECKPOINTS[2], words=words)
    assert "Beside step 3, which is later: " in status(browser)
    time.sleep(0.4)
    address = browser.run("return location.href")
    assert "first.against=3" in address
    browser.open(address)
    assert_shows(browser, first, CHECKPOINTS[2], words=words)
    browser.press("#first [name=since]", "HOME")
    assert "nothing to compare with at step 1: no circuit. The model does" in status(browser)
    assert listed(browser) == pytest.approx(expected(first), rel=5e-3)
    change(browser, "against", "")
    assert "Since the checkpoint before" not in status(browser)
    assert "against" not in browser.run("return document.querySelector('#first a').href")
    assert browser.complaints() == []


@pytest.mark.browser
def test_a_circuit_beside_that_of_another_model(browser, twins):
    browser.open(twins + "#first.step=4&first.against=twin")
    words = ("Only here", "Only there", "In both")
    assert_shows(browser, CHECKPOINTS[3], TWIN[1], words=words)  # 4k tokens are nearer to 5k
    assert "Beside twin after 5k tokens (step 5): " in status(browser)
    assert "so the same circuit may be there under other numbers" in status(browser)
    drag(browser, "#first [name=training]", -0.3)  # of its width: a checkpoint to the left
    assert_shows(browser, CHECKPOINTS[2], TWIN[0], words=words)
    head = min(name for name in difference(CHECKPOINTS[2], TWIN[0])[1][1] if name[0] == "a")
    browser.click(f'#first [data-node="{head}"]')
    assert set().union(*grouped(browser).values()) == set(expected(TWIN[0], node=head))
    titles = [title for title in grouped(browser) if not title.startswith("Head ")]
    assert titles and all(", only there (" in title for title in titles)
    change(browser, "model", "twin")  # which is not compared with itself
    assert "Beside" not in status(browser)
    change(browser, "against", "m")
    assert "Beside m after 2k tokens (step 2)" in status(browser)
    change(browser, "model", "n")  # of another shape
    assert browser.run("return document.querySelector('#first [name=against]').value") == ""
    browser.open(twins + "#first.model=n&first.against=twin")
    assert "Beside" not in status(browser) and browser.complaints() == []


def drag(browser, css: str, share: float) -> None:
    """Drags a slider's thumb from its right end by a share of the slider's width."""
    from selenium.webdriver import ActionChains

    slider = browser.driver.find_element("css selector", css)
    width = slider.size["width"]
    mouse = ActionChains(browser.driver)
    mouse.move_to_element_with_offset(slider, width // 2 - 8, 0).click_and_hold()
    mouse.move_by_offset(int(share * width), 0).release().perform()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(browser, faults, twins, width):
    for state in ("", "step=4&first.against=2", f"step=3&first.against=twin&first.node={HEAD}"):
        browser.open(f"{twins}#first.{state}", width=width)
        assert faults(impacts=("moderate", "serious", "critical")) == []
