// Attention patterns of heads: circuitsvis draws them, small maps to choose from and the chosen one
// large. It answers to the mouse alone, so a menu and a sentence stand above: what a head looks at
// from a token, in words. views.py makes the data.

import { html, menu } from "./dom.js";
import { loaded } from "./static-files.js";
import { percent } from "./words.js";

const SAID = 5; // tokens that the sentence names, at most

/** settings: {tokens, attention: [head][query][key], names: of the heads} */
function render(place, { tokens, attention, names }) {
  const head = menu("head", Object.fromEntries(names.map((name, i) => [i, name])));
  const from = menu("from", Object.fromEntries(tokens.map((token, i) => [i, shown(token)])));
  const looks = html("p", { class: "ah-looks", role: "status" });
  const say = () => {
    const [i, row] = [Number(head.value), Number(from.value)];
    looks.textContent = looksAt(names[i], tokens, attention[i][row], row);
  };
  from.value = tokens.length - 1;
  for (const choice of [head, from]) choice.addEventListener("change", say);
  // all that it shows is said above
  const maps = html("div", { class: "ah-map", id: `${place.id}-maps`, "aria-hidden": "true" });
  const line = [html("label", {}, "head ", head), html("label", {}, "from the token ", from)];
  place.replaceChildren(html("div", { class: "ah-from" }, ...line), looks, maps);
  say();
  onceNear(place, () => drawMaps(maps, { tokens, attention, names }));
}

/** The maps once circuitsvis is there, which is large: so it comes when a reader comes near. */
function drawMaps(maps, { tokens, attention, names }) {
  const draw = () => {
    const { CircuitsVis } = globalThis;
    CircuitsVis.render(maps.id, CircuitsVis.AttentionHeads, {
      tokens,
      attention,
      attentionHeadNames: names,
      maskUpperTri: true,
    });
  };
  loaded("circuitsvis.js", "CircuitsVis").then(draw, ({ message }) => {
    maps.textContent = `The maps cannot be drawn: ${message}.`;
  });
}

function onceNear(place, act) {
  if (!("IntersectionObserver" in globalThis)) {
    act();
    return;
  }
  const observer = new IntersectionObserver(
    (entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      act();
    },
    { rootMargin: "400px" },
  );
  observer.observe(place);
}

function shown(token) {
  return token.trim() || "\u2423";
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
