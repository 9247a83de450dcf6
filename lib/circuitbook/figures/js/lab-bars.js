// The next word's probabilities as bars: before and after something was switched.

import { html } from "./dom.js";
import { percent } from "./words.js";

const BARS = 6;

/** own, switched: probabilities of all words, the second null if nothing is switched; always: ids that
 *  are shown wherever they rank. */
export function drawBars(place, words, { own, switched, always, answers }) {
  const shown = new Set([...top(own, BARS), ...always, ...(switched ? top(switched, 3) : [])]);
  const ids = [...shown].sort((a, b) => own[b] - own[a]);
  const rows = ids.map((id) => row(words[id], own[id], switched?.[id] ?? null, answers.get(id)));
  place.replaceChildren(html("ul", {}, ...rows), ...(switched ? [key()] : []));
}

function top(probabilities, n) {
  return [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]).slice(0, n);
}

function key() {
  const sample = (kind) => html("i", { class: kind });
  return html("p", { class: "lb-key" }, sample("before"), "all on", sample("after"), "as switched");
}

function row(word, before, after, kind) {
  const bars = [bar("before", before), ...(after === null ? [] : [bar("after", after)])];
  const numbers = after === null ? percent(before) : `${percent(before)} \u2192 ${percent(after)}`;
  const mark = { right: " \u2713", wrong: " \u2717" }[kind] ?? "";
  return html(
    "li",
    { class: kind ?? null, "data-word": word },
    html("span", { class: "lb-word" }, word.trim() || "\u2423", mark),
    html("span", { class: "lb-track", "aria-hidden": "true" }, ...bars),
    html("span", { class: "lb-number" }, numbers),
  );
}

function bar(kind, share) {
  return html("i", { class: kind, style: `width: ${(100 * share).toFixed(2)}%` });
}
