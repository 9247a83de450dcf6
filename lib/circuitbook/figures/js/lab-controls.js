// The parts of the lab: its fields, menus and buttons, and the places for what is drawn and written.

import { button, html, menu, svg } from "./dom.js";

const FIELDS = {
  text: "sentence",
  other: "other sentence",
  right: "answer",
  wrong: "rather than",
};

/** Fills the place with the parts, and gives those that change. shown: names of those that the reader
 *  sees, of "example model text other right wrong training bars otherBars curve tiles circuit";
 *  null: all.
 *  full: address of the page that has all of them, or null. */
export function buildLab(place, { models, examples, words, still, shown, full }) {
  const names = Object.keys(models);
  const id = (name) => `${place.id}-${name}`;
  const parts = {
    example: exampleMenu(examples),
    model: menu("model", Object.fromEntries(names.map((name) => [name, name]))),
    training: html("input", {
      type: "range",
      min: 0,
      step: 1,
      name: "training",
      id: id("training"),
    }),
    start: button("lb-button", "start", ""),
    rest: button("lb-button", "rest", ""),
    reset: button("lb-button", "reset", "All on"),
    off: menu("off", { zero: "writes nothing", mean: "writes its mean" }),
    node: menu("node", {}),
    share: html(
      "a",
      { href: "#", class: "lb-share" },
      full ? "Open in the full lab" : "Link to this view",
    ),
    status: html("p", { class: "lb-status", role: "status" }),
    problem: html("p", { class: "lb-problem", role: "alert" }),
    bars: html("div", { class: "lb-bars" }),
    otherBars: html("div", { class: "lb-bars" }),
    curve: svg("svg", { class: "lb-curve", viewBox: "0 0 400 170", role: "img" }),
    curveLegend: html("ul", { class: "lb-legend" }),
    tiles: html("div", { class: "lb-tiles", role: "group", "aria-label": "heads and MLPs" }),
    looks: html("div", { class: "lb-looks" }),
    writes: html("div", { class: "lb-writes" }),
    words: html(
      "datalist",
      { id: id("words") },
      ...words.map((value) => html("option", { value })),
    ),
  };
  parts.still = html(
    "div",
    {
      class: "lb-still",
      tabindex: 0,
      role: "group",
      "aria-label": "what the lab shows at its start",
    },
    ...still,
  );
  parts.moment = html("output", { for: parts.training.id });
  for (const name of ["text", "other"]) Object.assign(parts, sentenceParts(name, id(name)));
  for (const name of ["right", "wrong"]) {
    parts[name] = html("input", {
      name,
      id: id(name),
      type: "text",
      list: parts.words.id,
      autocomplete: "off",
      spellcheck: "false",
    });
  }
  place.replaceChildren(arranged(parts));
  for (const block of place.querySelectorAll("[data-part]")) {
    block.hidden = shown !== null && !shown.includes(block.dataset.part);
  }
  return parts;
}

/** A menu of examples, grouped by task; "" is the reader's own. */
function exampleMenu(examples) {
  const titles = [...new Set(examples.map(({ title }) => title))];
  const groups = titles.map((title) =>
    html(
      "optgroup",
      { label: title },
      ...examples.flatMap((example, i) =>
        example.title === title ? [html("option", { value: i }, example.text)] : [],
      ),
    ),
  );
  const own = html("option", { value: "" }, "your own");
  return html("select", { autocomplete: "off", name: "example" }, own, ...groups);
}

/** A field for a sentence, the words below it, and the list that offers words. */
function sentenceParts(name, id) {
  const list = html("ul", { id: `${id}-list`, class: "lb-offer", role: "listbox", hidden: "" });
  list.setAttribute("aria-label", "words of the language");
  return {
    [name]: html("input", {
      name,
      id,
      type: "text",
      role: "combobox",
      autocomplete: "off",
      autocapitalize: "off",
      spellcheck: "false",
      "aria-autocomplete": "list",
      "aria-expanded": "false",
      "aria-controls": list.id,
      "aria-describedby": `${id}-words`,
    }),
    [`${name}List`]: list,
    [`${name}Words`]: html("p", { class: "lb-words", id: `${id}-words` }),
  };
}

function field(parts, name, ...more) {
  const label = html("label", { for: parts[name].id }, FIELDS[name]);
  return html(
    "div",
    { class: `lb-field lb-${name}`, "data-part": name },
    label,
    parts[name],
    ...more,
  );
}

export function labelled(text, control, part = null) {
  return html("label", { class: "lb-choice", "data-part": part }, text, control);
}

function section(part, title, ...inside) {
  return html("section", { class: "lb-part", "data-part": part }, html("h2", {}, title), ...inside);
}

function arranged(parts) {
  const training = html(
    "div",
    { class: "lb-line", "data-part": "training" },
    html("label", { for: parts.training.id }, "training"),
    parts.training,
    parts.moment,
  );
  const results = html(
    "div",
    { class: "lb-results" },
    html(
      "div",
      { class: "lb-columns" },
      section("bars", "The next word", parts.bars),
      section("otherBars", "... of the other sentence", parts.otherBars),
      section("curve", "The answer over training", parts.curve, parts.curveLegend, parts.rest),
    ),
    section(
      "tiles",
      "Heads and MLPs",
      html(
        "p",
        { class: "lb-help" },
        "Press one: off, from the other sentence, attention frozen, on again. A map shows where each " +
          "word (row) looks (column). Layers are read from the bottom to the top.",
      ),
      html("div", { class: "lb-controls" }, labelled("off:", parts.off), parts.reset),
      html(
        "div",
        { class: "lb-both" },
        html("div", { class: "lb-scroll" }, parts.tiles),
        parts.looks,
      ),
    ),
  );
  parts.results = results;
  return html(
    "div",
    { class: "lb" },
    parts.words,
    html(
      "div",
      { class: "lb-controls" },
      labelled("example", parts.example, "example"),
      labelled("model", parts.model, "model"),
    ),
    field(parts, "text", parts.textList, parts.textWords),
    field(parts, "other", parts.otherList, parts.otherWords),
    html("div", { class: "lb-answers" }, field(parts, "right"), field(parts, "wrong")),
    training,
    html("p", { class: "lb-begin" }, parts.start),
    parts.problem,
    parts.still,
    parts.status,
    results,
    parts.share,
  );
}
