// What the lab says: below the fields, and about what is seen.

import { measureName, shortened } from "./answers.js";
import { html } from "./dom.js";
import { nodeLabel } from "./graph.js";
import { HOWS } from "./lab-tiles.js";
import { capitalised, percent, shortNumber, signed } from "./words.js";

export function momentText({ state, models }) {
  const { steps, tokens } = models[state.model];
  return `after ${shortNumber(tokens[state.at])} tokens (step ${steps[state.at]})`;
}

/** The words of a sentence as the model reads them; those that it does not know are marked. */
export function writeWords(place, tokens, hint) {
  const words = tokens.map(({ text, known }) =>
    known
      ? html("span", {}, text.trim() || "\u2423")
      : html("mark", { title: "not in the language" }, text.trim() || "\u2423"),
  );
  const unknown = tokens.filter(({ known }) => !known).map(({ text }) => text.trim());
  const said = unknown.length ? ` Not in the language: ${unknown.join(", ")}.` : "";
  place.replaceChildren(...words, html("small", {}, [said, hint].filter(Boolean).join(" ")));
}

/** Why the second sentence cannot be compared, or "". */
export function pairHint({ tokens, other, pair }) {
  if (pair || !other.length) return "";
  return (
    `It has ${other.length} words and marks, the sentence above ${tokens.length}: nothing can be ` +
    "taken from it until they are as many."
  );
}

export function nameOfMeasure({ state }, { answers }) {
  if (!answers.right.length) return "";
  return measureName(answers, { right: shortened(state.right), wrong: shortened(state.wrong) });
}

/** The sentence above the results. values: {own, second, switched} of the measure, null where there is
 *  none. */
export function statusOf(view, read, values, switches) {
  const where = `${view.state.model} ${momentText(view)}`;
  const name = nameOfMeasure(view, read);
  if (!name) return `${where}. Say which answer you ask about, and the rest follows.`;
  const second =
    values.second === null ? "" : `; of the other sentence ${written(values.second, name)}`;
  const first = `${where}. ${capitalised(name)}: ${written(values.own, name)}${second}.`;
  if (values.switched === null) return first;
  return `${first} With ${listed(switches)}: ${written(values.switched, name)}${wayOf(values)}.`;
}

function written(value, name) {
  return name.startsWith("probability of") && !name.includes("less")
    ? percent(value)
    : signed(value);
}

function wayOf({ own, second, switched }) {
  if (second === null || Math.abs(own - second) < 0.05) return "";
  const way = (own - switched) / (own - second);
  if (way < -0.005) return ", further from the other sentence";
  return `, ${percent(way)} of the way to the other sentence`;
}

function listed(switches) {
  const parts = Object.entries(switches).map(([node, how]) => `${nodeLabel(node)} ${HOWS[how]}`);
  return parts.length > 4
    ? `${parts.slice(0, 3).join(", ")} and ${parts.length - 3} more`
    : parts.join(", ");
}

/** sizeOf(1190000) -> "1.2 MB" */
export function sizeOf(bytes) {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
