"""The lab's circuit in headless Chromium: edges taken out and put in, groups, the file; the numbers
are the library's."""

import dataclasses
import re
import time

import numpy as np
import pytest
from test_explorer import found_of
from test_lab import FIRST, LAST, SUITE, Page, numbers
from test_views import data_in

from circuitbook import evaluate_circuit, get_recipe
from circuitbook.circuits.circuit import Circuit, circuit_of
from circuitbook.figures.explorer import circuit_explorer, explorer_data
from circuitbook.figures.lab import lab, lab_checkpoints
from circuitbook.figures.lab_cell import checkpoints_in_a_page
from circuitbook.figures.lab_weights import shipped, weights_files
from circuitbook.figures.scripts import SCRIPTS
from circuitbook.figures.views import script_json
from circuitbook.model.architectures import network_of
from circuitbook.model.graph import graph_of
from circuitbook.model.network import run
from circuitbook.store import Store
from circuitbook.studies.circuits import measure_circuits
from circuitbook.studies.lab import measure_example, pair_of

TASKS = ("ioi", "greater_than")
STEPS = {"mini-xs": (LAST,), "mini-s": (2896, LAST)}
ROLES = {("mini-s", LAST): {"a2.h1": ["name mover"], "a2.h2": ["negative name mover"]}}
ABOUT = {"text": FIRST.text, "other": FIRST.other, "right": [" Mary"], "wrong": [" John"]}
CHECKED = (
    "return [...document.querySelectorAll('.lb-boxes li')]"
    ".filter(li => li.querySelector('input').checked).map(li => li.dataset.edge)"
)
PRESS = "document.querySelector(arguments[0]).click()"
CLICK = (
    "const [css, keys] = arguments; const at = document.querySelector(css); "
    "at.dispatchEvent(new MouseEvent('click', { bubbles: true, ...keys }))"
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What a search finds, from few prompts and in few edges."""
    store = Store(tmp_path_factory.mktemp("store"))
    recipe = dataclasses.replace(get_recipe("robust").shortened(), threshold=0.6)
    return measure_circuits(SUITE, list(STEPS), TASKS, store, recipe, steps=STEPS)


@pytest.fixture(scope="module")
def site(tmp_path_factory, found):
    """A page with a lab that has these circuits, as the built site has it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "_static" / "lab").mkdir(parents=True)
    (folder / "notebooks").mkdir()
    for name in ("circuit-drawing.js", "circuit-explorer.js", "lab.js", "lab-engine.js"):
        (folder / "_static" / name).write_text(SCRIPTS[name](), encoding="utf8")
    for name, text in weights_files(SUITE, STEPS):
        (folder / "_static" / name).write_text(text, encoding="utf8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIRCUITBOOK_PAGES", "1")
        seen = measure_example(SUITE, "mini-s", Store(folder / "store"))
        view = lab(SUITE, seen, found, ROLES).data
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>x</title>'
    (folder / "notebooks" / "page.html").write_text(
        f"{head}<main><article>{view}</article></main>", encoding="utf8"
    )
    return folder


class CircuitPage(Page):
    def said(self, pattern=""):
        """What is said of the circuit, once it is about what is drawn."""
        time.sleep(0.15)
        return self.until(pattern or "faithfulness|Faithfulness", ".lb-circuit-status")

    def press(self, css):
        self.browser.run(PRESS, css)

    def click(self, node, **keys):
        self.browser.run(CLICK, f'.lb-circuit .node[data-node="{node}"]', keys)

    def edges(self):
        """Those that are in, with no node selected."""
        return self.browser.run(CHECKED)

    def box(self, edge):
        self.press(f'.lb-boxes [data-edge="{edge}"] input')

    def hash(self):
        time.sleep(0.4)  # the address is written when the hand rests
        return self.browser.run("return location.hash")


@pytest.fixture
def page(browser, site):
    return CircuitPage(browser, (site / "notebooks" / "page.html").as_uri())


@pytest.fixture(scope="module")
def model():
    return SUITE.checkpoint("mini-s", LAST).load()


def circuit(found, model="mini-s", step=LAST, task="ioi"):
    (result,) = [r for r in found if (r.model, r.step, r.task) == (model, step, task)]
    return result.circuit


def kept(model, edges, about=ABOUT):
    """Faithfulness of some edges on the pair, in percent, by the library."""
    pair, graph = pair_of(about, model.tokenizer), graph_of(model)
    clean, corrupted = (
        float(pair.metric(model.logits(tokens, pair.end)))
        for tokens in (pair.clean, pair.corrupted)
    )
    value = float(evaluate_circuit(model, pair, circuit_of(graph, edges))[0])
    return 100 * (value - corrupted) / (clean - corrupted)


def percents(text):
    return [float(x.replace("\u2212", "-")) for x in re.findall(r"(\u2212?[\d.]+) ?%", text)]


# ------------------------------------------------------------------ its data


def test_only_circuits_that_the_lab_can_run_are_in_the_page(monkeypatch, found, tmp_path):
    seen = measure_example(SUITE, "mini-s", Store(tmp_path))
    monkeypatch.setenv("CIRCUITBOOK_PAGES", "1")
    others = found_of(model="nobody"), found_of(model="mini-l", step=0)
    data = data_in(lab(SUITE, seen, [*found, *others], ROLES).data)["circuits"]
    assert data == explorer_data(found, ROLES) and len(script_json(data)) < 40_000
    assert data_in(lab(SUITE, seen).data)["circuits"] is None
    assert lab_checkpoints(SUITE, "mini-s") == {m: tuple(s) for m, s in shipped(SUITE).items()}
    monkeypatch.delenv("CIRCUITBOOK_PAGES")
    assert lab_checkpoints(SUITE, "mini-s") == {"mini-s": (LAST,)}
    alone = data_in(lab(SUITE, seen, found).data)["circuits"]
    assert alone["models"]["mini-s"]["steps"] == [LAST] and "mini-xs" not in alone["models"]


def test_a_pair_of_the_lab_is_two_prompts_of_as_many_tokens(model):
    pair = pair_of(ABOUT, model.tokenizer)
    assert len(pair) == 1 and pair.metric_name == "logit_difference"
    assert pair_of(ABOUT | {"wrong": [" John", " Mary"]}, model.tokenizer).signs.tolist() == [
        [1, -1, -1]
    ]
    with pytest.raises(ValueError, match="as many tokens, but 'Then, Mary.*15.*'Mary' has 1"):
        pair_of(ABOUT | {"other": "Mary"}, model.tokenizer)


def test_explorers_know_what_the_lab_has(monkeypatch, found):
    monkeypatch.setenv("CIRCUITBOOK_PAGES", "1")
    there = checkpoints_in_a_page(SUITE)
    data = data_in(circuit_explorer(found, lab=there).data)
    assert data["lab"] == {"page": "lab.html", "models": there}
    assert data_in(circuit_explorer(found).data)["lab"] is None
    monkeypatch.delenv("CIRCUITBOOK_PAGES")
    assert data_in(circuit_explorer(found, lab=there).data)["lab"] is None


# ------------------------------------------------------------------ edges


@pytest.mark.browser
def test_the_circuit_is_the_one_found_and_its_faithfulness_the_librarys(page, found, model):
    page.open()
    wanted = circuit(found)
    assert set(page.edges()) == set(wanted.edges) and wanted.n_edges > 3
    said = page.said()
    assert f"{wanted.n_edges} edges, {wanted.n_nodes} nodes, as the search found them" in said
    assert percents(said) == pytest.approx([kept(model, wanted.edges)], abs=0.06)
    page.choose("example", 9)
    other = circuit(found, task="greater_than")
    end = time.monotonic() + 10
    while set(page.edges()) != set(other.edges) and time.monotonic() < end:
        time.sleep(0.1)
    assert set(page.edges()) == set(other.edges)
    page.choose("task", "")
    assert "No task is chosen" in page.said("No task")
    page.choose("task", "ioi")
    page.choose("model", "mini-xs")
    page.until("mini-xs")
    page.said("as the search")
    assert set(page.edges()) == set(circuit(found, "mini-xs").edges)
    assert page.browser.complaints() == []


@pytest.mark.browser
def test_edges_go_and_come_by_box_by_click_and_by_key(page, found, model):
    """What is said then is what `evaluate_circuit` gives for the edges that are left."""
    page.open()
    start = list(circuit(found).edges)
    page.said()
    strongest = page.edges()[0]
    page.box(strongest)
    left = [edge for edge in start if edge != strongest]
    said = page.said("Yours")
    assert set(page.edges()) == set(left)
    own = [kept(model, left), kept(model, start)]
    assert percents(said) == pytest.approx(own, abs=0.06) and abs(own[0] - own[1]) > 1
    assert f"Shared: {len(left)} edges, Jaccard {len(left) / len(start):.2f}" in said
    graph = graph_of(model)
    dead = len(left) - Circuit(graph, graph.live(circuit_of(graph, left).mask)).n_edges
    assert (f"{dead} edge" in said and "carr" in said) == (dead > 0)
    page.browser.run(CLICK, f'.lb-circuit [data-edge="{strongest}"] .hit', {})  # it is back
    page.said("as the search found them")
    page.browser.run(CLICK, f'.lb-circuit g[data-edge="{left[0]}"] .hit', {})
    page.said("Yours")
    assert set(page.edges()) == set(start) - {left[0]}
    node = left[0].split("->")[0]
    page.browser.run(
        "document.querySelector(`.lb-circuit [data-node='${arguments[0]}']`).focus()", node
    )
    page.browser.press(f'.lb-circuit [data-node="{node}"]', "ENTER")
    page.browser.press(f'.lb-boxes [data-edge="{left[0]}"] input', "SPACE")
    page.said("as the search found them")
    focused = "return document.activeElement.closest('li').dataset.edge"
    assert page.browser.run(focused) == left[0]
    assert page.browser.complaints() == []


@pytest.mark.browser
def test_a_circuit_built_by_hand_is_compared_with_the_one_found(page, found, model):
    page.open()
    page.press("[name=nothing]")
    assert percents(page.said("Yours: 0 edges")) == pytest.approx(
        [0, kept(model, circuit(found).edges)], abs=0.06
    )
    built = ["input->m0", "m0->a2.h2<v>", "a2.h2->logits", "m0->a1.h0<q>"]
    for edge in built:
        page.click(edge.split("->")[0])
        page.box(edge)
        page.click(edge.split("->")[0])
    said = page.said("Yours: 4 edges, 5 nodes")
    assert "1 edge lies on no path from input to logits and carries nothing; nor does 1.0." in said
    shared = len(set(built) & set(circuit(found).edges))
    jaccard = shared / (4 + circuit(found).n_edges - shared)
    assert f"Shared: {shared} edge" in said and f"Jaccard {jaccard:.2f}" in said
    assert percents(said)[0] == pytest.approx(kept(model, built), abs=0.06)
    page.press("[name=everything]")
    said = page.said(f"Yours: {graph_of(model).n_edges} edges")
    assert percents(said)[0] == pytest.approx(100, abs=0.06)
    page.press("[name=found]")
    page.said("as the search found them")


@pytest.mark.browser
def test_the_slider_goes_through_the_searchs_sizes(page, found):
    page.open()
    data = explorer_data(found)["circuits"]["mini-s"]["ioi"][1]
    page.browser.run(
        "const s = document.querySelector('[name=size]'); s.value = arguments[0]; "
        "s.dispatchEvent(new Event('input'))",
        4,
    )
    graph, enters = graph_of(SUITE.checkpoint("mini-s", LAST).load()), np.cumsum(data["enters"])
    names = [graph.edge_name(*divmod(edge, graph.n_dst)) for edge in data["edges"]]
    page.said(r"Yours|as the search")
    assert set(page.edges()) == {n for n, at in zip(names, enters, strict=True) if at <= 4}


@pytest.mark.browser
def test_an_edge_of_mini_s_answers_within_a_tenth_of_a_second(page):
    page.open()
    page.said()
    times = page.browser.driver.execute_async_script(
        """
        const done = arguments[0];
        const section = document.querySelector(".lb-circuit");
        const times = [];
        const once = async () => {
          const turn = section.dataset.turn;
          const begun = performance.now();
          document.querySelector(".lb-boxes input").click();
          while (section.dataset.turn === turn) await new Promise((go) => setTimeout(go, 1));
          times.push(performance.now() - begun);
        };
        (async () => { for (let i = 0; i < 8; i++) await once(); done(times); })();"""
    )
    print(f"an edge switched: {min(times):.0f} to {max(times):.0f} ms")
    assert min(times) < 100


# ------------------------------------------------------------------ nodes and groups


@pytest.mark.browser
def test_a_node_tells_what_it_writes_wherever_it_is_selected(page, model):
    page.open()
    network, tokenizer = network_of(model), model.tokenizer
    tokens = pair_of(ABOUT, tokenizer).clean
    runs = list(run(network, network.embed(tokens)[:, None]))
    out = runs[2].z[0, 0, -1, 2] @ network.layers[2].w_out[2]
    scale = network.norm_final.standardise(runs[-1].out[0, 0, -1:], out.dtype)[1]
    effect = (out - out.mean()) * scale * network.norm_final.weight @ network.w_unembed.T
    effect = (effect - effect.mean()).flatten()
    words = [str(tokenizer.decode([i])).strip() for i in effect.argsort(descending=True)]
    page.click("a2.h2")
    for css in (".lb-panel", ".lb-looks"):
        said = page.until("On Mary less John", css)
        up, down = page.text(f"{css} .lb-up"), page.text(f"{css} .lb-down")
        assert [re.sub(r" [+\u2212].*", "", w) for w in up[3:].split(", ")] == words[:4]
        assert numbers(up)[0] == pytest.approx(float(effect.max()), abs=6e-3)
        assert numbers(down)[0] == pytest.approx(float(effect.min()), abs=6e-3)
        right, wrong = tokenizer.convert_tokens_to_ids([" Mary", " John"])
        direct = numbers(said.partition("On Mary less John")[2])[0]
        assert direct == pytest.approx(float(effect[right] - effect[wrong]), abs=6e-3)
    tile = "return document.querySelector('.lb-tile.selected').dataset.node"
    assert page.browser.run(tile) == "a2.h2"
    page.browser.run("document.querySelector('.lb-tile[data-node=m1]').focus()")
    page.until("MLP 1", ".lb-panel h3")
    page.choose("circuit-node", "zero")
    page.until("With MLP 1 off")
    page.until("Now it writes nothing", ".lb-panel")
    assert page.browser.complaints() == []


@pytest.mark.browser
def test_a_group_is_one_box_and_goes_off_together(page, found):
    page.open()
    page.click("a2.h1", shiftKey=True)
    page.browser.run("document.querySelector('.lb-circuit [data-node=\"a2.h2\"]').focus()")
    page.browser.driver.find_element("css selector", '.lb-circuit [data-node="a2.h2"]').send_keys(
        "g"
    )
    assert page.text(".lb-picked") == "2.1, 2.2"
    page.type("group", "the movers*_<b>")
    page.press("[name=make-group]")
    page.until("Group the moversb", ".lb-panel h3")
    drawn = page.browser.run(
        "return [...document.querySelectorAll('.lb-circuit .node')].map(n => n.dataset.node)"
    )
    assert "@the moversb" in drawn and not {"a2.h1", "a2.h2"} & set(drawn)
    lines = page.browser.run(
        "return [...document.querySelectorAll('.lb-circuit .cx-drawing [data-edge]')]"
        ".map(g => g.dataset.edge)"
    )
    wanted = {re.sub(r"a2\.h[12]\b", "@the moversb", edge) for edge in circuit(found).edges}
    assert set(lines) == wanted and len(lines) == len(wanted)
    page.choose("circuit-node", "zero")
    together = page.until("With 2.1 off, 2.2 off")
    page.press("[name=ungroup]")
    assert not page.browser.run("return document.querySelector('.lb-groups li')")
    page.choose("classes", "name mover")
    page.until("Group name mover", ".lb-panel h3")
    page.press("[name=open]")
    assert page.text("[name=open]") == "Close"
    assert page.browser.run("return !!document.querySelector('.lb-circuit [data-node=\"a2.h1\"]')")
    page.open({"switched": "a2.h1:zero,a2.h2:zero"})
    assert page.until("With 2.1 off, 2.2 off") == together
    assert page.browser.complaints() == []


# ------------------------------------------------------------------ address, file, page


@pytest.mark.browser
def test_the_address_brings_the_circuit_back(page, found):
    page.open()
    page.box(page.edges()[0])
    page.click("a1.h0")
    page.box("m0->a1.h0<v>")
    page.click("a2.h1", shiftKey=True)
    page.click("m2", ctrlKey=True)
    page.press("[name=make-group]")
    said = page.said("Yours")
    hash_ = page.hash()
    for part in ("lab.out=", "lab.in=", "lab.groups=group+1_12.15", "lab.node=%40group+1"):
        assert part in hash_
    assert len(hash_) < 140
    page.browser.open(page.browser.run("return location.href"))
    page.browser.click("[name=start]")
    assert page.said("Yours") == said
    page.until("Group group 1", ".lb-panel h3")
    junk = {"base": "x", "in": "9999.a", "size": "-1", "groups": "*_99*a_x", "node": "@no"}
    page.open(junk | {"task": "no"})
    assert "as the search found them" in page.said()
    page.open({"task": "greater_than", "size": 3, "node": "m0"})
    page.said("Yours")
    page.until("MLP 0", ".lb-panel h3")
    assert "less that of" in page.text(".lb-status")
    assert page.browser.complaints() == []


@pytest.mark.browser
def test_the_file_is_a_circuit_that_the_library_loads(page, model, tmp_path):
    page.open()
    page.browser.driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    page.box(page.edges()[1])
    page.click("a1.h0")
    page.box("m0->a1.h0<v>")
    page.click("a1.h0")
    said, edges = page.said("Yours"), page.edges()
    page.press("[name=download]")
    file, end = tmp_path / f"circuit-mini-s-{LAST}.json", time.monotonic() + 10
    while not file.is_file() and time.monotonic() < end:
        time.sleep(0.1)
    loaded = Circuit.load(file)
    assert set(loaded.edges) == set(edges) and loaded.graph == graph_of(model)
    assert loaded.faithfulness == pytest.approx(kept(model, edges) / 100, abs=1e-3)
    assert 100 * loaded.faithfulness == pytest.approx(percents(said)[0], abs=0.06)
    about = loaded.about
    assert (about["suite"], about["model"], about["step"]) == ("mini", "mini-s", LAST)
    assert kept(model, loaded.edges, about) == pytest.approx(100 * loaded.faithfulness, abs=0.1)
    pair = pair_of(about, model.tokenizer)
    clean = float(pair.metric(model.logits(pair.clean, pair.end)))
    assert loaded.clean == pytest.approx(clean, abs=1e-3)
    loaded.save(tmp_path / "again.json")
    assert Circuit.load(tmp_path / "again.json").edges == loaded.edges


@pytest.mark.browser
def test_an_explorer_leads_into_the_lab(browser, site, monkeypatch, found):
    monkeypatch.setenv("CIRCUITBOOK_PAGES", "1")
    page = circuit_explorer(found, start=("mini-s", "ioi"), lab={"mini-s": [LAST]}).data
    file = site / "notebooks" / "explorer.html"
    file.write_text(f'<!doctype html><meta charset="utf-8">{page}')
    browser.open(f"{file.as_uri()}#circuits.node=a2.h2&circuits.edges=9")
    link = "const a = document.querySelector('.cx-lab'); return a.checkVisibility() && a.href"
    where = browser.run(link).partition("lab.html#")[2].split("&")
    assert set(where) == {
        "lab.model=mini-s", "lab.task=ioi", f"lab.step={LAST}", "lab.size=9", "lab.node=a2.h2"
    }  # fmt: skip
    browser.press("[name=training]", "HOME")
    assert browser.run(link) is False
    assert browser.complaints() == []


@pytest.mark.browser
def test_it_fits_a_phone_and_can_be_read_and_reached(page, faults):
    from test_pages import HARD_TO_READ, STICKS_OUT, UNREACHABLE

    page.open({"node": "a2.h2", "groups": "movers_12.8", "out": "559"}, width=390)
    page.said()
    assert page.browser.run("return document.documentElement.scrollWidth") <= 390
    for check in (STICKS_OUT, UNREACHABLE, HARD_TO_READ):
        assert page.browser.run(check) == []
    assert faults("article") == []
