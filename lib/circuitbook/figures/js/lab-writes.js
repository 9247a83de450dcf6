// What a node writes, in words: its direct effect on the next word.

import { measureName, shortened } from "./answers.js";
import { html } from "./dom.js";
import { isHead } from "./graph.js";
import { membersOf } from "./lab-groups.js";
import { seenNow } from "./lab-state.js";
import { twoDigits } from "./words.js";

const WORDS = 4; // up and down each

/** Shows in each of `places` what the node writes; nothing for `logits`, which writes nothing. */
export async function showWrites(view, node, places) {
  const seen = seenNow(view);
  const nodes = membersOf(view.state.groups, node).filter((name) => name && name !== "logits");
  view.writing = node;
  if (!nodes.length || !seen) return;
  const effect = await view.ask({ what: "writes", nodes, ...seen.message });
  if (seenNow(view) !== seen || view.writing !== node) return;
  for (const place of places) place.replaceChildren(...sentences(view, seen.read, effect, nodes));
}

function sentences({ state, words }, { answers }, effect, nodes) {
  const who = nodes.length > 1 ? "they write" : "it writes";
  if (effect.every((value) => value === 0)) return [html("p", {}, `Now ${who} nothing.`)];
  const order = [...effect.keys()].sort((a, b) => effect[b] - effect[a]);
  const list = (ids) =>
    ids.map((id) => `${words[id].trim() || "\u2423"} ${plus(effect[id])}`).join(", ");
  const name = measureName(answers, {
    right: shortened(state.right),
    wrong: shortened(state.wrong),
  })
    .replace(/^(logit difference, |probability of )/, "")
    .replace("less that of", "less");
  const asked = answers.right.length
    ? [html("p", { class: "lb-direct" }, `On ${name}: ${plus(onAnswers(effect, answers))} logits.`)]
    : [];
  return [
    html("p", {}, `What ${who} at the last word, straight to the logits (direct effect):`),
    html("p", { class: "lb-up" }, html("b", {}, "up"), ` ${list(order.slice(0, WORDS))}`),
    html(
      "p",
      { class: "lb-down" },
      html("b", {}, "down"),
      ` ${list(order.slice(-WORDS).reverse())}`,
    ),
    ...asked,
  ];
}

function plus(value) {
  return value < 0 ? twoDigits(value) : `+${twoDigits(value)}`;
}

/** Mean over the right words less mean over the wrong ones. */
function onAnswers(effect, { right, wrong }) {
  const mean = (ids) => ids.reduce((all, id) => all + effect[id], 0) / Math.max(1, ids.length);
  return mean(right) - mean(wrong);
}

/** Puts the ways in which a node, or all of a group, can be switched into a menu. */
export function fillSwitches(menu, { state }, node, hows) {
  const nodes = membersOf(state.groups, node);
  const ways = ["on", state.off, "other", ...(nodes.some(isHead) ? ["frozen"] : [])];
  const now = new Set(nodes.map((name) => usual(state.switches[name] ?? "on", state.off)));
  const options = ways.map((way) => new Option(hows[way], way));
  if (now.size > 1) options.unshift(new Option("partly switched", ""));
  menu.replaceChildren(...options);
  menu.value = now.size > 1 ? "" : [...now][0];
  menu.dataset.node = node;
}

function usual(how, off) {
  return how === "zero" || how === "mean" ? off : how;
}
