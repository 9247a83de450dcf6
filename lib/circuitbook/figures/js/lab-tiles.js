// Heads and MLPs as tiles: each head with its attention pattern on this sentence.

import { html } from "./dom.js";
import { nodeLabel, spokenName } from "./graph.js";
import { capitalised, percent, twoDigits } from "./words.js";

export const HOWS = {
  on: "on",
  zero: "off",
  mean: "off (mean)",
  other: "from the other",
  frozen: "frozen",
};
const CHANGED = 0.1; // of attention: what of a pattern must move so that its tile says so

/** The tiles of a model, without patterns; gives {node: {tile, canvas, note}}. */
export function buildTiles(place, { layers, heads }) {
  const tiles = new Map();
  const rows = Array.from({ length: layers }, (_, layer) => {
    const nodes = [
      ...Array.from({ length: heads }, (_, head) => `a${layer}.h${head}`),
      `m${layer}`,
    ];
    return html(
      "div",
      { class: "lb-row", role: "group", "aria-label": `layer ${layer}` },
      html("span", { class: "lb-layer", "aria-hidden": "true" }, `layer ${layer}`),
      ...nodes.map((node) => buildTile(tiles, node)),
    );
  });
  place.replaceChildren(...rows.reverse());
  return tiles;
}

function buildTile(tiles, node) {
  const canvas = html("canvas", { width: 1, height: 1, "aria-hidden": "true" });
  const note = html("span", { class: "lb-note" });
  const name = html("span", { class: "lb-name" }, nodeLabel(node));
  const tile = html(
    "button",
    { type: "button", class: "lb-tile", "data-node": node },
    canvas,
    name,
    note,
  );
  tiles.set(node, { tile, canvas, note });
  return tile;
}

/** Shows what each does. shown, own: of what `look` gave, the run that is drawn and the one without
 *  switches. */
export function drawTiles(tiles, { shown, own, switches, selected }) {
  for (const [node, { tile, canvas, note }] of tiles) {
    const how = switches[node] ?? "on";
    const change = changeOf(node, shown, own);
    drawMap(canvas, node, shown);
    tile.dataset.how = how;
    tile.classList.toggle("changed", change > CHANGED && how === "on");
    tile.classList.toggle("selected", selected.includes(node));
    note.textContent = how === "on" && change > CHANGED ? `moved ${twoDigits(change)}` : HOWS[how];
    tile.setAttribute("aria-label", `${capitalised(spokenName(node))}: ${note.textContent}`);
  }
}

/** The most that a head's attention moved from a word, in any row; of an MLP 0. */
function changeOf(node, shown, own) {
  if (shown === own || node[0] === "m") return 0;
  const [now, before] = [patternOf(node, shown), patternOf(node, own)];
  return now.reduce((most, value, i) => Math.max(most, Math.abs(value - before[i])), 0);
}

export function patternOf(node, { patterns }) {
  const [layer, head] = node.slice(1).split(".h").map(Number);
  return patterns[layer][head];
}

/** A head: row and column a pixel each, darker for more attention. An MLP: how much it writes at each
 *  word. */
function drawMap(canvas, node, shown) {
  const isHead = node[0] === "a";
  const values = isHead ? patternOf(node, shown) : shown.sizes[Number(node.slice(1))];
  const length = isHead ? Math.sqrt(values.length) : values.length;
  const most = isHead ? 1 : Math.max(...values) || 1;
  canvas.width = length;
  canvas.height = isHead ? length : 1;
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(canvas.width, canvas.height);
  values.forEach((value, i) => {
    const dark = Math.sqrt(value / most);
    image.data.set([255 - 247 * dark, 255 - 207 * dark, 255 - 148 * dark, 255], 4 * i);
  });
  pen.putImageData(image, 0, 0);
}

/** What a head looks at from the last word, as the sentence with shares; for an MLP a sentence. */
export function drawLooks(place, node, { tokens, shown, own, control }) {
  const head = html("h3", {}, capitalised(spokenName(node)));
  const line = html("label", { class: "lb-choice" }, "is", control);
  if (node[0] === "m") {
    const said = "An MLP looks at one word at a time: the strip shows where it writes most.";
    place.replaceChildren(head, line, html("p", {}, said));
    return;
  }
  const last = (pattern) => pattern.slice(-tokens.length);
  const now = last(patternOf(node, shown));
  const before = last(patternOf(node, own));
  const words = tokens.map(({ text }, i) => {
    const moved = Math.abs(now[i] - before[i]) > 0.005;
    const number = moved ? `${percent(before[i])} \u2192 ${percent(now[i])}` : percent(now[i]);
    return html(
      "li",
      { class: now[i] > 0.5 ? "much" : null },
      html("span", { class: "lb-word" }, text.trim() || "\u2423"),
      html("i", { style: `width: ${(100 * now[i]).toFixed(1)}%`, "aria-hidden": "true" }),
      html("span", { class: "lb-number" }, number),
    );
  });
  const from = `From the last word, \u201c${tokens.at(-1).text.trim()}\u201d, it looks at`;
  place.replaceChildren(head, line, html("p", {}, from), html("ul", {}, ...words));
}
