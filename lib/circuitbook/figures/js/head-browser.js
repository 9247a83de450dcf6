// Choose a model, a layer and a head, and see that head's scores over training. views.py makes the
// data.

import { html, menu } from "./dom.js";

const COLOURS = ["#0072b2", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#000000"];
const DASHES = ["solid", "dot", "solid", "dash", "solid", "dashdot", "dot"];
const SYMBOLS = ["circle", "square", "diamond", "cross", "x", "triangle-up", "star"];
const HEIGHT = 350;

/** settings: {kinds: {kind: title}, start: [model, layer, head],
 *  models: {model: {tokens, heads: {"layer.head": {kind: scores, one for each of tokens}}}}} */
function render(place, { models, kinds, start }) {
  const menus = { model: menu("model", namesAsTexts(Object.keys(models))) };
  menus.layer = menu("layer", {});
  menus.head = menu("head", {});
  const figure = html("div", { class: "scores", style: `height: ${HEIGHT}px` });
  const sentence = html("p", {
    class: "words",
    role: "status",
    style: "color: #000; margin: .3rem 0",
  });
  place.replaceChildren(menuLine(menus), figure, sentence);

  const heads = () => models[menus.model.value].heads;
  const fillHeads = () => {
    fill(menus.layer, partsOfNames(heads(), 0));
    fill(menus.head, partsOfNames(heads(), 1));
  };
  const show = () => {
    const name = `${menus.layer.value}.${menus.head.value}`;
    const scores = heads()[name];
    drawScores(figure, models[menus.model.value].tokens, scores, kinds);
    sentence.textContent = highestAtTheEnd(name, menus.model.value, scores, kinds);
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
  const labels = Object.entries(menus).map(([name, select]) => {
    select.style.padding = ".15rem .4rem";
    return html("label", { style: "margin-right: 1rem" }, `${name} `, select);
  });
  return html("div", { style: "color: #000; padding: .4rem 0" }, ...labels);
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

function drawScores(figure, tokens, scores, kinds) {
  const x = tokens.map((seen) => seen || tokens[1] / 4); // a log axis has no zero
  const traces = Object.entries(kinds).map(([kind, name], i) => ({
    x,
    y: scores[kind],
    name: plotlyText(name),
    mode: "lines+markers",
    customdata: tokens,
    hovertemplate: "%{y:.2f} after %{customdata:,} tokens",
    line: { color: COLOURS[i], dash: DASHES[i] },
    marker: { symbol: SYMBOLS[i] },
  }));
  const layout = {
    height: HEIGHT,
    margin: { l: 45, r: 10, t: 10, b: 45 },
    paper_bgcolor: "white",
    plot_bgcolor: "white",
    xaxis: { type: "log", dtick: "D2", title: { text: "tokens seen (leftmost: none)" } },
    yaxis: { title: { text: "score" }, range: [-0.05, 1.05] },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
  };
  const settings = { responsive: true, displayModeBar: false, typesetMath: false };
  globalThis.Plotly.react(figure, traces, layout, settings);
}

/** Plotly reads some tags and entities in its texts; here they are letters. */
function plotlyText(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
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
