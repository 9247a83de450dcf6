// Attention patterns of heads: small maps to choose from, the chosen one large, and in words what
// it looks at from one token. views.py makes the data.

import { html, menu, svg } from "./dom.js";
import { percent } from "./words.js";

const CELL = 24;
const SAID = 5; // tokens that the sentence names, at most

/** settings: {tokens, attention: [head][query][key], names: of the heads} */
function render(place, { tokens, attention, names }) {
  const state = { head: 0, row: tokens.length - 1 };
  const tiles = names.map((name, head) => tile(name, attention[head]));
  const from = menu("from", Object.fromEntries(tokens.map((token, i) => [i, shown(token)])));
  const map = html("div", { class: "ah-map" });
  const looks = html("p", { class: "ah-looks", role: "status" });
  const update = (change) => {
    Object.assign(state, change);
    const { head, row } = state;
    tiles.forEach((button, i) => {
      button.setAttribute("aria-pressed", i === head);
    });
    from.value = row;
    const look = `Attention of head ${names[head]}: rows look, columns are looked at`;
    map.replaceChildren(largeMap(tokens, attention[head], row, look, (i) => update({ row: i })));
    looks.textContent = looksAt(names[head], tokens, attention[head][row], row);
  };
  tiles.forEach((button, head) => {
    button.addEventListener("click", () => update({ head }));
  });
  from.addEventListener("change", () => update({ row: Number(from.value) }));
  place.replaceChildren(
    html("div", { class: "ah-tiles", role: "group", "aria-label": "heads" }, ...tiles),
    html("div", { class: "ah-from" }, html("label", {}, "from the token ", from)),
    looks,
    map,
  );
  update({});
}

function shown(token) {
  return token.trim() || "\u2423";
}

function tile(name, pattern) {
  const size = pattern.length;
  const drawing = { viewBox: `0 0 ${size} ${size}`, "aria-hidden": "true" };
  return html("button", { type: "button" }, svg("svg", drawing, ...cells(pattern, 1)), name);
}

/** A square for each query and each key that it sees. */
function cells(pattern, side) {
  return pattern.flatMap((row, y) =>
    row
      .slice(0, y + 1)
      .map((share, x) =>
        svg("rect", { x: x * side, y: y * side, width: side, height: side, fill: blue(share) }),
      ),
  );
}

/** White for none, dark blue for all; little attention can be seen, too. */
function blue(share) {
  const dark = Math.sqrt(Math.min(1, Math.max(0, share)));
  return `rgb(${Math.round(255 - 247 * dark)},${Math.round(255 - 207 * dark)},${Math.round(255 - 148 * dark)})`;
}

function largeMap(tokens, pattern, row, label, choose) {
  const margin = 12 + 8 * Math.max(...tokens.map((token) => shown(token).length));
  const side = CELL * tokens.length;
  const [width, height] = [margin + side + 2, margin + side + 2];
  const rows = tokens.map((token, i) => text(token, margin - 6, (i + 0.7) * CELL, { end: true }));
  const columns = tokens.map((token, i) =>
    text(token, 0, 0, { turn: `translate(${margin + (i + 0.7) * CELL} ${side + 8}) rotate(90)` }),
  );
  const grid = svg("g", { transform: `translate(${margin} 0)` }, ...cells(pattern, CELL));
  const chosen = { x: margin, y: row * CELL, width: (row + 1) * CELL, height: CELL };
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, role: "img", "aria-label": label, class: "row" },
    grid,
    svg("rect", { ...chosen, fill: "none", stroke: "#d55e00", "stroke-width": 2 }),
    ...rows,
    ...columns,
  );
  drawing.addEventListener("click", (event) => {
    const box = drawing.getBoundingClientRect();
    const at = Math.floor((((event.clientY - box.top) / box.height) * height) / CELL);
    if (at < tokens.length) choose(at);
  });
  return drawing;
}

function text(token, x, y, { end = false, turn = null }) {
  const place = { x, y, transform: turn, "text-anchor": end ? "end" : "start" };
  return svg("text", { ...place, "font-size": 13, fill: "#1b1b1b" }, shown(token));
}

/** looksAt("1.2", ["A", "b"], [0.25, 0.75], 1) -> "From “b”, head 1.2 looks at “b” 75%, “A” 25%." */
function looksAt(name, tokens, row, from) {
  const most = row
    .slice(0, from + 1)
    .map((share, i) => ({ share, token: shown(tokens[i]) }))
    .filter(({ share }) => share >= 0.01)
    .sort((a, b) => b.share - a.share)
    .slice(0, SAID)
    .map(({ token, share }) => `\u201c${token}\u201d ${percent(Math.round(100 * share) / 100)}`);
  return `From \u201c${shown(tokens[from])}\u201d, head ${name} looks at ${most.join(", ")}.`;
}

globalThis.AttentionHeads = { render };
