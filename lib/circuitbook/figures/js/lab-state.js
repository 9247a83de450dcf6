// The lab's state: what the reader chose, as it stands in the address.
//
// {model, at: which of the model's checkpoints, text, other, right, wrong: as typed, off: what "off"
// means, switches: {node: how}, node: the tile that is looked at, or null}

import { answersIn } from "./answers.js";
import { placeOf } from "./switches.js";
import { tokensOf } from "./tokenizer.js";

const HOW = new Set(["zero", "mean", "other", "frozen"]);
const FREE = ["text", "other", "right", "wrong"];

/** The state that the page begins with: what `start` tells, {model, step, text, other, right, wrong,
 *  off, switches, node}, and the first example's texts, all on, where it does not. */
export function usualState({ models, start, examples }) {
  const { step, ...told } = start;
  const at = Math.max(0, models[start.model].steps.indexOf(step));
  const texts = examples.length ? textsOf(examples[0]) : {};
  return { ...texts, off: "zero", node: null, ...told, at, switches: { ...told.switches } };
}

/** What an example puts into the fields. */
export function textsOf(example) {
  return Object.fromEntries(FREE.map((name) => [name, example[name]]));
}

export function stateForAddress({ state, models }) {
  const { model, at, off, node } = state;
  const switched = Object.entries(state.switches).map(([name, how]) => `${name}:${how}`);
  const texts = Object.fromEntries(FREE.map((name) => [name, state[name]]));
  const rest = { off, switched: switched.join(","), node: node ?? "" };
  return { model, step: models[model].steps[at], ...texts, ...rest };
}

/** The state that an address tells, {key: text}; what cannot be is left as usual. */
export function stateFromAddress(view, given) {
  const state = usualState(view);
  if (Object.hasOwn(view.models, given.model ?? "")) state.model = given.model;
  const { steps, shape } = view.models[state.model];
  const at = steps.indexOf(Number(given.step));
  state.at = at < 0 ? steps.length - 1 : at;
  for (const name of FREE) state[name] = given[name] ?? state[name];
  if (given.off === "mean") state.off = "mean";
  if (given.switched !== undefined) state.switches = {};
  for (const part of (given.switched ?? "").split(",")) {
    const [node, how] = part.split(":");
    if (inModel(shape, node) && HOW.has(how)) state.switches[node] = how;
  }
  if (inModel(shape, given.node)) state.node = given.node;
  return state;
}

export function inModel({ layers, heads }, node) {
  const place = placeOf(node ?? "");
  return place !== null && place.layer < layers && (place.head ?? 0) < heads;
}

/** How a tile goes on when it is pressed: on, off, from the other sentence, frozen (heads), on. */
export function nextHow(node, how, off) {
  const order = ["on", off, "other", ...(node[0] === "a" ? ["frozen"] : [])];
  const at = how === "zero" || how === "mean" ? 1 : order.indexOf(how);
  return order[(at + 1) % order.length];
}

/** What the fields hold: {tokens, other, pair, answers, problem}. pair: whether the sentences are as
 *  long as each other; problem: why nothing can be run, or "". */
export function readFields({ state, tokenizer, models }) {
  const tokens = tokensOf(tokenizer, state.text);
  const other = tokensOf(tokenizer, state.other);
  const [right, wrong] = [state.right, state.wrong].map((text) => answersIn(tokenizer, text));
  return {
    tokens,
    other,
    pair: other.length > 0 && other.length === tokens.length,
    answers: { right: right.ids, wrong: wrong.ids },
    unknown: [...right.unknown, ...wrong.unknown],
    problem: problemOf(tokens, other, models[state.model].shape.context),
  };
}

function problemOf(tokens, other, context) {
  if (!tokens.length) return "Type a sentence, or choose an example.";
  if (Math.max(tokens.length, other.length) <= context) return "";
  return `The models read ${context} words and marks at most.`;
}

/** The switches that have an effect: none from another sentence that does not fit. */
export function effective({ switches }, { pair }) {
  return Object.fromEntries(Object.entries(switches).filter(([, how]) => how !== "other" || pair));
}
