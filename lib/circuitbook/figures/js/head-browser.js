// Choose a model, a layer and a head, and see that head's scores over training. views.py makes the
// data.

import { html, menu } from "./dom.js";
import { scoreChart } from "./score-chart.js";

/** settings: {kinds: {kind: title}, start: [model, layer, head],
 *  models: {model: {tokens, heads: {"layer.head": {kind: scores, one for each of tokens}}}}} */
function render(place, { models, kinds, start }) {
  const menus = { model: menu("model", namesAsTexts(Object.keys(models))) };
  menus.layer = menu("layer", {});
  menus.head = menu("head", {});
  const figure = html("div", { class: "hb-figure" });
  const sentence = html("p", { class: "words", role: "status" });
  place.replaceChildren(menuLine(menus), figure, sentence);

  const heads = () => models[menus.model.value].heads;
  const fillHeads = () => {
    fill(menus.layer, partsOfNames(heads(), 0));
    fill(menus.head, partsOfNames(heads(), 1));
  };
  const show = () => {
    const name = `${menus.layer.value}.${menus.head.value}`;
    const scores = heads()[name];
    const said = highestAtTheEnd(name, menus.model.value, scores, kinds);
    const lines = Object.entries(kinds).map(([kind, title]) => ({ title, values: scores[kind] }));
    figure.replaceChildren(...scoreChart(models[menus.model.value].tokens, lines, said));
    sentence.textContent = said;
  };
  [menus.model.value] = start;
  fillHeads();
  [, menus.layer.value, menus.head.value] = start;
  menus.model.addEventListener("change", () => {
    fillHeads();
    show();
  });
  menus.layer.addEventListener("change", show);
  menus.head.addEventListener("change", show);
  show();
}

function namesAsTexts(names) {
  return Object.fromEntries(names.map((name) => [name, name]));
}

function menuLine(menus) {
  const labels = Object.entries(menus).map(([name, select]) =>
    html("label", {}, `${name} `, select),
  );
  return html("div", { class: "hb-menus" }, ...labels);
}

/** Other values in a menu; what was chosen stays chosen if it is among them. */
function fill(select, values) {
  const before = select.value;
  select.replaceChildren(...values.map((value) => new Option(value, value)));
  if (values.includes(before)) select.value = before;
}

/** All layers (part 0) or heads (part 1) of names such as "2.1". */
function partsOfNames(heads, part) {
  return [...new Set(Object.keys(heads).map((name) => name.split(".")[part]))];
}

function highestAtTheEnd(name, model, scores, kinds) {
  const [highest] = Object.entries(kinds)
    .map(([kind, title]) => ({ title, score: scores[kind].at(-1) }))
    .filter(({ score }) => score !== null)
    .sort((a, b) => b.score - a.score);
  const head = `Head ${name} of ${model} at the end`;
  if (!highest) return `${head}: no score.`;
  return `${head}: highest is ${highest.title.toLowerCase()}, ${highest.score.toFixed(2)}.`;
}

globalThis.HeadBrowser = { render };
