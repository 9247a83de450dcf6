"""The lab in headless Chromium: a reader types, drags, presses; the numbers are the library's."""

import json
import re
import time
from urllib.parse import quote

import numpy as np
import pytest
import torch
from test_lab_engine import with_off
from test_views import STRANGERS, data_in

from circuitbook import get_task, load_suite
from circuitbook.figures.lab import lab, still
from circuitbook.figures.lab_weights import key_of, shipped, weights_files
from circuitbook.figures.scripts import SCRIPTS, joined, stylesheet
from circuitbook.figures.views import script_json
from circuitbook.model.architectures import network_of
from circuitbook.publishing.build import stage
from circuitbook.store import Store
from circuitbook.studies.lab import FIRST, examples, measure_example
from circuitbook.wording import short_number

SUITE = load_suite("mini")
LAST = 3906
SIGNED = r"[+\u2212]\d+(?:\.\d+)?"
WORKER = "return document.querySelector('[data-worker]').dataset.worker"
SWITCHED = "return document.querySelectorAll('.lb-tile:not([data-how=on])').length"
OFFERED = (
    "return [...document.querySelectorAll(`#${arguments[0]}-list li`)].map(l => l.textContent)"
)


@pytest.fixture(scope="module")
def seen_of(tmp_path_factory):
    """What a model makes of the first example: seen_of(model)."""
    store = Store(tmp_path_factory.mktemp("store"))
    return lambda model: measure_example(SUITE, model, store)


@pytest.fixture(scope="module")
def site(tmp_path_factory, seen_of):
    """A page with a lab, its scripts and the weights of two models, as the built site has them."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "_static" / "lab").mkdir(parents=True)
    (folder / "notebooks").mkdir()
    for name in ("circuit-drawing.js", "lab.js", "lab-engine.js"):
        (folder / "_static" / name).write_text(SCRIPTS[name](), encoding="utf8")
    there = {"mini-xs": SUITE.steps("mini-xs"), "mini-s": SUITE.steps("mini-s")}
    for name, text in weights_files(SUITE, there):
        (folder / "_static" / name).write_text(text, encoding="utf8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIRCUITBOOK_PAGES", "1")
        view = lab(SUITE, seen_of("mini-s")).data
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>x</title>'
    (folder / "notebooks" / "page.html").write_text(
        f"{head}<main><article>{view}</article></main>", encoding="utf8"
    )
    return folder


@pytest.fixture
def page(browser, site):
    """The page, opened and started."""
    return Page(browser, (site / "notebooks" / "page.html").as_uri())


class Page:
    def __init__(self, browser, address):
        self.browser, self.address = browser, address

    def open(self, state=None, start=True, **how):
        hash_ = "&".join(f"lab.{key}={quote(str(value))}" for key, value in (state or {}).items())
        self.browser.open(f"{self.address}#{hash_}" if hash_ else self.address, **how)
        if start:
            self.browser.click("[name=start]")
            self.until("ogit difference|robability|Say which")

    def text(self, css):
        return self.browser.run("return document.querySelector(arguments[0]).textContent", css)

    def until(self, pattern, css=".lb-status", at_most=20):
        """Waits until the text of an element matches, and gives it."""
        end = time.monotonic() + at_most
        while time.monotonic() < end:
            if re.search(pattern, text := self.text(css)):
                return text
            time.sleep(0.05)
        raise AssertionError(f"{css} says {text!r}, not {pattern!r}")

    def type(self, name, text):
        """Types into a field, in place of what is there."""
        from selenium.webdriver.common.keys import Keys

        field = self.browser.driver.find_element("css selector", f"[name={name}]")
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text)

    def choose(self, name, value):
        self.browser.run(
            "const menu = document.querySelector(`[name=${arguments[0]}]`); "
            "menu.value = arguments[1]; menu.dispatchEvent(new Event('change'))",
            name,
            str(value),
        )

    def bars(self, css=".lb-bars"):
        """{word: its numbers, in percent}"""
        rows = self.browser.run(
            "return [...document.querySelector(arguments[0]).querySelectorAll('li')]"
            ".map(li => [li.dataset.word, li.querySelector('.lb-number').textContent])",
            css,
        )
        return {word: [float(x) for x in re.findall(r"[\d.]+", text)] for word, text in rows}

    def curve(self):
        """The values of the first curve, as it is read out."""
        label = self.browser.run(
            "return document.querySelector('.lb-curve').getAttribute('aria-label') ?? ''"
        )
        return numbers(label.partition(": ")[2])


def numbers(text):
    """Signed numbers in a sentence."""
    return [float(x.replace("\u2212", "-")) for x in re.findall(SIGNED, text)]


def difference(model, step, text, right=" Mary", wrong=" John"):
    loaded = SUITE.checkpoint(model, step).load()
    tokens = torch.tensor([loaded.tokenizer(text)["input_ids"]])
    logits = loaded.logits(tokens)[0, -1]
    ids = loaded.tokenizer.convert_tokens_to_ids([right, wrong])
    return float(logits[ids[0]] - logits[ids[1]])


# ------------------------------------------------------------------ what it is made of


def test_engine_lab_and_explorer_together_stay_small():
    files = ("lab-engine.js", "lab.js", "circuit-drawing.js", "circuit-explorer.js")
    texts = [SCRIPTS[name]() for name in files] + [joined("load-view.js")]
    texts += [stylesheet(f"{name}.css") for name in ("lab", "explorer")]
    size = sum(len(text.encode()) for text in texts)
    print(f"engine, lab and explorer with their style sheets: {size / 1000:.0f} KB")
    assert size < 150_000


def test_what_the_page_knows_before_anything_is_loaded(monkeypatch, seen_of):
    monkeypatch.setenv("CIRCUITBOOK_PAGES", "1")
    view = lab(SUITE, seen_of("mini-s")).data
    data = data_in(view)
    assert data["start"] == {"model": "mini-s", "step": LAST} and len(script_json(data)) < 30_000
    assert {name: model["steps"] for name, model in data["models"].items()} == shipped(SUITE)
    assert data["models"]["mini-xs"]["tokens"][-1] == 2048 * LAST
    tokenizer = SUITE.checkpoint("mini-s", 0).load().tokenizer
    assert tokenizer.convert_tokens_to_ids(data["words"]) == list(range(len(tokenizer)))
    assert "labWeights" not in view and view.count("<img alt=") == 1
    monkeypatch.delenv("CIRCUITBOOK_PAGES")
    alone = lab(SUITE, seen_of("mini-s")).data
    assert data_in(alone)["models"]["mini-s"]["steps"] == [LAST]
    assert 'labWeights??={})["mini-s-3906"]' in alone


def test_examples_are_prompts_of_the_tasks_with_their_answers_and_metric():
    """What the lab makes of the fields' texts: one against one is a logit difference, groups are
    probabilities."""
    tokenizer = SUITE.checkpoint("mini-s", 0).load().tokenizer
    found = examples(tokenizer, 3)
    assert found[0] == FIRST and len(found) == 13
    for i, task in enumerate(("ioi", "gendered_pronoun", "greater_than", "sva")):
        pairs = get_task(task).prompts(tokenizer, 3)
        single = (pairs.signs > 0).sum(1).max() == (pairs.signs < 0).sum(1).max() == 1
        assert single == (pairs.metric_name == "logit_difference")
        for j, example in enumerate(found[1 + 3 * i : 4 + 3 * i]):
            end = int(pairs.end[j]) + 1
            assert tokenizer(example.text)["input_ids"] == pairs.clean[j, :end].tolist()
            assert tokenizer(example.other)["input_ids"] == pairs.corrupted[j, :end].tolist()
    assert re.fullmatch(r"\d\d-99", found[7].right) and found[7].wrong.startswith("00-")


def test_the_still_is_what_the_lab_shows_at_its_start(seen_of):
    seen = seen_of("mini-xs")
    wanted = [difference("mini-xs", step, FIRST.text) for step in (0, LAST)]
    np.testing.assert_allclose(seen.curve["own"].iloc[[0, -1]], wanted, atol=1e-4)
    other = difference("mini-xs", LAST, FIRST.other)
    assert seen.curve["other"].iloc[-1] == pytest.approx(other, abs=1e-4)
    assert seen.next_words.sum() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(seen.patterns.sum(-1), 1, atol=1e-4)
    fig = still(seen)
    assert len(fig.axes) == 2 + seen.patterns.shape[0] * seen.patterns.shape[1]


def test_the_build_puts_the_weights_beside_the_site_if_it_has_the_lab(tmp_path):
    root, src = tmp_path / "root", tmp_path / "src"
    (root / "book" / "_static").mkdir(parents=True)
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    (root / "_config.yml").write_text("title: A Small Book\n")
    weights = src / "book" / "_static" / "lab"
    stage(root, src, ["notebooks/lab"])
    there = {file.stem for file in weights.iterdir()}
    chosen = shipped(SUITE)
    assert there == {key_of(model, step) for model in chosen for step in chosen[model]}
    assert sum(file.stat().st_size for file in weights.iterdir()) <= 30e6
    before = {file: file.stat().st_mtime_ns for file in weights.iterdir()}
    stage(root, src, ["notebooks/lab"])
    assert before == {file: file.stat().st_mtime_ns for file in weights.iterdir()}
    stage(root, src, ["notebooks/other"])
    assert not list(weights.iterdir())


# ------------------------------------------------------------------ in a browser


@pytest.mark.browser
def test_nothing_is_loaded_before_the_reader_starts(page):
    page.open(start=False)
    asked, _ = page.browser.requests()
    assert [name for name in asked if "/lab/" in name] == []
    assert "1.2 MB" in page.text("[name=start]")
    assert not page.browser.run("return document.querySelector('.lb-results').checkVisibility()")
    still = "return document.querySelector('.lb-still img').checkVisibility()"
    assert page.browser.run(still)
    page.browser.click("[name=start]")
    said = page.until("Logit difference")
    assert not page.browser.run(still)
    asked, _ = page.browser.requests()
    assert [name.rpartition("/")[2] for name in asked if "/lab/" in name] == ["mini-s-3906.js"]
    wanted = [difference("mini-s", LAST, text) for text in (FIRST.text, FIRST.other)]
    assert numbers(said) == pytest.approx(wanted, abs=6e-3)
    assert page.browser.run(WORKER) == "true"
    assert page.browser.complaints() == []


@pytest.mark.browser
def test_bars_are_the_next_words_probabilities(page):
    page.open()
    model = SUITE.checkpoint("mini-s", LAST).load()
    for css, text in ((".lb-bars", FIRST.text), (".lb-part:nth-child(2) .lb-bars", FIRST.other)):
        tokens = torch.tensor([model.tokenizer(text)["input_ids"]])
        probabilities = 100 * model.logits(tokens)[0, -1].softmax(-1)
        best = probabilities.topk(6).indices.tolist()
        shown = page.bars(css)
        assert set(model.tokenizer.convert_ids_to_tokens(best)) <= set(shown)
        for word, (value,) in shown.items():
            wanted = float(probabilities[model.tokenizer.convert_tokens_to_ids(word)])
            assert value == pytest.approx(wanted, abs=0.06), word


@pytest.mark.browser
def test_the_curve_over_all_checkpoints_follows_what_is_typed(page):
    page.open({"model": "mini-xs"})
    assert len(page.curve()) == 1
    page.browser.click("[name=rest]")
    end = time.monotonic() + 20
    while len(page.curve()) < 13 and time.monotonic() < end:
        time.sleep(0.1)
    steps = SUITE.steps("mini-xs")
    wanted = [difference("mini-xs", step, FIRST.text) for step in steps]
    assert page.curve() == pytest.approx(wanted, abs=6e-3)
    text = "Then, Mary and John went to the park. John sent a letter to"
    page.type("text", text)
    wanted = [difference("mini-xs", step, text) for step in steps]
    end = time.monotonic() + 20
    while page.curve() != pytest.approx(wanted, abs=6e-3) and time.monotonic() < end:
        time.sleep(0.1)
    assert page.curve() == pytest.approx(wanted, abs=6e-3)
    assert page.browser.run("return document.querySelector('[name=example]').value") == ""
    page.browser.press("[name=training]", "HOME")
    said = page.until(r"step 0\)")
    assert numbers(said)[0] == pytest.approx(wanted[0], abs=6e-3)
    page.browser.press("[name=training]", "RIGHT")
    said = page.until(rf"after {short_number(2048 * steps[1])} tokens")
    assert numbers(said)[0] == pytest.approx(wanted[1], abs=6e-3)
    assert page.browser.complaints() == []


@pytest.mark.browser
def test_a_pressed_tile_goes_off_to_the_other_sentence_frozen_and_on(page):
    page.open()
    model = SUITE.checkpoint("mini-s", LAST).load()
    network, ids = network_of(model), model.tokenizer.convert_tokens_to_ids([" Mary", " John"])
    tokens = torch.tensor([model.tokenizer(FIRST.text)["input_ids"]])
    page.browser.click('[data-node="a0.h1"]')
    page.until("With 0.1 off")
    page.browser.press('[data-node="m0"]', "ENTER")
    said = page.until("With 0.1 off, MLP 0 off")
    logits = network.logits(with_off(network, tokens, None)[-1].out[0, 0, -1])
    assert numbers(said)[2] == pytest.approx(float(logits[ids[0]] - logits[ids[1]]), abs=6e-3)
    probabilities = 100 * logits.softmax(-1)
    for word, (_, after) in page.bars().items():
        at = model.tokenizer.convert_tokens_to_ids(word)
        assert after == pytest.approx(float(probabilities[at]), abs=0.06)
    moved = page.browser.run(
        "return [...document.querySelectorAll('.lb-tile.changed')].map(t => t.dataset.node)"
    )
    assert moved and not any(node.startswith(("a0", "m")) for node in moved)
    for state in ("from the other", "frozen", "on", "off"):
        page.browser.click('[data-node="a0.h1"]')
        page.until(f"^{state}$", '[data-node="a0.h1"] .lb-note')
    page.browser.click("[name=reset]")
    page.until(r"of the other sentence \S+\.$")
    assert page.browser.run(SWITCHED) == 0
    assert page.browser.complaints() == []


@pytest.mark.browser
def test_all_heads_and_mlps_from_the_other_sentence_make_it_the_other_sentence(page):
    """But for the word itself, which stays: the last one is the same in both."""
    nodes = [f"a{layer}.h{head}" for layer in range(3) for head in range(4)]
    nodes += [f"m{layer}" for layer in range(3)]
    page.open({"switched": ",".join(f"{node}:other" for node in nodes)})
    own, other, switched = numbers(page.text(".lb-status"))
    assert switched == pytest.approx(other, abs=6e-3) and abs(own - other) > 5
    assert "100% of the way" in page.text(".lb-status")


@pytest.mark.browser
def test_words_are_offered_and_strange_ones_marked(page):
    page.open()
    page.type("text", "Then, Mary and Jo")
    field = page.browser.run("return document.querySelector('[name=text]').id")
    assert page.browser.run(OFFERED, field) == ["Joe", "John", "Jones"]
    page.browser.press("[name=text]", "DOWN", "DOWN")
    active = page.browser.run(
        "const field = document.querySelector('[name=text]'); "
        "return document.getElementById(field.getAttribute('aria-activedescendant')).textContent"
    )
    assert active == "John"
    page.browser.press("[name=text]", "ENTER")
    value = "return document.querySelector('[name=text]').value"
    assert page.browser.run(value) == "Then, Mary and John"
    page.browser.driver.find_element("css selector", "[name=text]").send_keys(" zapped <b>it</b>")
    page.until("Not in the language: zapped, <, ", ".lb-text .lb-words")
    marked = page.browser.run(
        "return [...document.querySelectorAll('.lb-text mark')].map(m => m.textContent)"
    )
    assert marked[:2] == ["zapped", "<"] and page.browser.run(STRANGERS) == 0
    assert "until they are as many" in page.text(".lb-other .lb-words")
    page.type("right", "Zebra")
    page.until("Not in the language: Zebra", ".lb-problem")
    page.type("text", "Mary " * 130)
    page.until("128 words and marks at most", ".lb-problem")
    assert page.browser.complaints() == []


@pytest.mark.browser
def test_groups_of_answers_are_measured_as_their_tasks_do(page):
    page.open()
    model = SUITE.checkpoint("mini-s", LAST).load()
    for task, first in (("greater_than", 9), ("sva", 13)):
        pairs = get_task(task).prompts(model.tokenizer, 1)
        wanted = [
            float(pairs.metric(model.logits(tokens, pairs.end)))
            for tokens in (pairs.clean, pairs.corrupted)
        ]
        page.choose("example", first)
        said = page.until(r"robability of .* less that of .*: .*; of the other")
        end = time.monotonic() + 10
        while numbers(said) != pytest.approx(wanted, abs=6e-3) and time.monotonic() < end:
            said = page.text(".lb-status")
        assert numbers(said) == pytest.approx(wanted, abs=6e-3)


@pytest.mark.browser
def test_the_address_brings_it_all_back(page):
    page.open()
    page.choose("model", "mini-xs")
    page.until("mini-xs")
    page.type("wrong", "him")
    page.browser.click('[data-node="a1.h2"]')
    page.until("less him.*With 1.2 off")
    page.choose("off", "mean")
    said = page.until(r"With 1.2 off \(mean\)")
    time.sleep(0.4)  # the address is written when the hand rests
    address = page.browser.run("return location.href")
    assert "lab.switched=a1.h2%3Amean" in address
    page.browser.open(address)
    asked, _ = page.browser.requests()
    assert [name for name in asked if "/lab/" in name] == []
    page.browser.click("[name=start]")
    assert page.until("With 1.2 off") == said
    page.open({"model": "nobody", "step": "x", "switched": "a9.h9:zero,a0.h0:magic,x", "off": "x"})
    assert page.text(".lb-status").startswith(
        "mini-s after 8M tokens (step 3906). Logit difference"
    )
    assert page.browser.complaints() == []


@pytest.mark.browser
@pytest.mark.parametrize("how", ["none", "broken"])
def test_it_works_where_a_page_may_have_no_worker(page, site, how):
    """None at all, or one that fails only when it runs."""
    forbid = {
        "none": "delete globalThis.Worker;",
        "broken": "const Real = Worker; globalThis.Worker = class extends Real { constructor() "
        "{ super(URL.createObjectURL(new Blob(['throw new Error(1)']))); } };",
    }[how]
    text = (site / "notebooks" / "page.html").read_text(encoding="utf8")
    (site / "notebooks" / f"{how}.html").write_text(
        text.replace("<main>", f"<script>{forbid}</script><main>"), encoding="utf8"
    )
    page.address = (site / "notebooks" / f"{how}.html").as_uri()
    page.open()
    wanted = [difference("mini-s", LAST, text) for text in (FIRST.text, FIRST.other)]
    assert numbers(page.text(".lb-status")) == pytest.approx(wanted, abs=6e-3)
    assert page.browser.run(WORKER) == "false"


@pytest.mark.browser
def test_weights_that_cannot_be_loaded_are_named(page, site, tmp_path):
    file = site / "_static" / "lab" / "mini-s-0.js"
    kept = file.read_text()
    file.unlink()
    try:
        page.open({"step": 0}, start=False)
        page.browser.click("[name=start]")
        page.until("mini-s-0.js cannot be loaded", ".lb-problem")
    finally:
        file.write_text(kept)
    page.browser.press("[name=training]", "HOME")
    page.type("text", FIRST.text)  # a later try finds it
    page.until("Logit difference")
    assert page.text(".lb-problem") == ""


@pytest.mark.browser
def test_it_runs_in_a_notebook_with_the_checkpoint_it_brings(
    browser, tmp_path, monkeypatch, seen_of
):
    monkeypatch.delenv("CIRCUITBOOK_PAGES", raising=False)
    file = tmp_path / "alone.html"
    file.write_text(f'<!doctype html><meta charset="utf-8">{lab(SUITE, seen_of("mini-xs")).data}')
    page = Page(browser, file.as_uri())
    page.open()
    wanted = [difference("mini-xs", LAST, text) for text in (FIRST.text, FIRST.other)]
    assert numbers(page.text(".lb-status")) == pytest.approx(wanted, abs=6e-3)
    assert json.loads(page.browser.run("return JSON.stringify(Object.keys(labWeights))")) == []
    assert browser.complaints() == []


@pytest.mark.browser
def test_it_fits_a_phone_and_every_control_is_reached_by_keyboard(page):
    from test_pages import HARD_TO_READ, STICKS_OUT, UNREACHABLE

    page.open({"switched": "a1.h1:zero,m0:other"}, width=390)
    page.until("With 1.1 off")
    assert page.browser.run("return document.documentElement.scrollWidth") <= 390
    for check in (STICKS_OUT, UNREACHABLE, HARD_TO_READ):
        assert page.browser.run(check) == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(page, faults, width):
    page.open(start=False, width=width)
    assert faults("article") == []
    page.open({"node": "a1.h2", "switched": "a0.h1:zero"}, width=width)
    page.type("text", "Mar")
    field = page.browser.run("return document.querySelector('[name=text]').id")
    assert page.browser.run(SWITCHED) == 1 and page.browser.run(OFFERED, field)
    assert faults("article") == []
