// The lab's state: what the reader chose, as it stands in the address.
//
// {model, at: which of the model's checkpoints, text, other, right, wrong: as typed, off: what "off"
// means, switches: {node: how}, node: the one that is looked at, or null; task, base, size, added,
// removed: of the circuit, see building.js; groups: see lab-groups.js}

import { answersIn } from "./answers.js";
import { groupsFromText, groupsToText, membersOf } from "./lab-groups.js";
import { placeOf } from "./switches.js";
import { tokensOf } from "./tokenizer.js";

const HOW = new Set(["zero", "mean", "other", "frozen"]);
const FREE = ["text", "other", "right", "wrong"];

/** The state that the page begins with: what `start` tells, {model, step, text, other, right, wrong,
 *  off, switches, node}, and the first example's texts and task, all on, where it does not. */
export function usualState({ models, start, examples, circuits }) {
  const { step, ...told } = start;
  const at = Math.max(0, models[start.model].steps.indexOf(step));
  const [first] = examples;
  return {
    ...(first ? textsOf(first) : {}),
    off: "zero",
    node: null,
    task: first ? taskOf(first, circuits) : "",
    base: "found",
    size: null,
    ...noChanges(),
    groups: [],
    ...told,
    at,
    switches: { ...told.switches },
  };
}

/** A circuit's edges, as they were at the start. */
export function noChanges() {
  return { added: new Set(), removed: new Set() };
}

/** What an example puts into the fields. */
export function textsOf(example) {
  return Object.fromEntries(FREE.map((name) => [name, example[name]]));
}

/** The task of an example, or "". */
export function taskOf(example, circuits) {
  const tasks = Object.entries(circuits?.tasks ?? {});
  return tasks.find(([, title]) => title === example.title)?.[0] ?? "";
}

/** Model and step, and what is not as usual here. */
export function stateForAddress(view) {
  return statedBeside(view, textsOfState(usualState(view), view.models));
}

/** The same for another page, which has its own usual state. */
export function stateForOtherPage(view) {
  return statedBeside(view, {});
}

function statedBeside({ state, models }, usual) {
  const own = textsOfState(state, models);
  const kept = Object.entries(own).filter(
    ([name, text]) => name === "model" || name === "step" || text !== (usual[name] ?? ""),
  );
  return Object.fromEntries(kept);
}

function textsOfState(state, models) {
  const { model, at, off, node, task, base, size, groups } = state;
  const switched = Object.entries(state.switches).map(([name, how]) => `${name}:${how}`);
  return {
    model,
    step: models[model].steps[at],
    ...textsOf(state),
    off,
    switched: switched.join(","),
    node: node ?? "",
    task,
    base,
    size: size ?? "",
    in: [...state.added].join("."),
    out: [...state.removed].join("."),
    groups: groupsToText(groups, models[model].shape),
  };
}

/** The state that an address tells, {key: text}; what cannot be is left as usual. */
export function stateFromAddress(view, given) {
  const state = usualState(view);
  if (Object.hasOwn(view.models, given.model ?? "")) state.model = given.model;
  const { steps, shape } = view.models[state.model];
  const at = steps.indexOf(Number(given.step));
  state.at = at < 0 ? steps.length - 1 : at;
  taskFromAddress(state, given, view);
  for (const name of FREE) state[name] = given[name] ?? state[name];
  if (given.off === "mean" || given.off === "zero") state.off = given.off;
  if (given.switched !== undefined) state.switches = switchesFromText(given.switched, shape);
  circuitFromAddress(state, given, shape);
  if (given.node !== undefined) {
    state.node = canBeSelected(state, shape, given.node) ? given.node : null;
  }
  return state;
}

function switchesFromText(text, shape) {
  const pairs = text.split(",").map((part) => part.split(":"));
  return Object.fromEntries(pairs.filter(([node, how]) => inModel(shape, node) && HOW.has(how)));
}

/** A task brings its first example, whose texts the address may change. */
function taskFromAddress(state, { task }, { circuits, examples }) {
  if (task !== "" && !Object.hasOwn(circuits?.tasks ?? {}, task ?? "")) return;
  state.task = task;
  const example = examples.find((one) => taskOf(one, circuits) === task);
  if (example && task) Object.assign(state, textsOf(example));
}

function circuitFromAddress(state, given, shape) {
  if (given.base === "nothing" || given.base === "everything") state.base = given.base;
  if (/^[1-9]\d*$/.test(given.size ?? "")) state.size = Number(given.size);
  const numbers = (text) => (text ?? "").split(".").filter((part) => /^\d+$/.test(part));
  state.added = new Set(numbers(given.in).map(Number));
  state.removed = new Set(numbers(given.out).map(Number));
  state.groups = groupsFromText(given.groups ?? "", shape);
}

/** Whether it is a node of the model, or a group that there is. */
export function canBeSelected({ groups }, shape, node) {
  if (node === "input" || node === "logits") return true;
  return membersOf(groups, node).some((name) => inModel(shape, name));
}

/** The switches when a node, or all of a group, goes to `how`. */
export function switched({ switches, groups }, node, how) {
  const changed = { ...switches };
  for (const name of membersOf(groups, node)) {
    delete changed[name];
    if (how !== "on" && (how !== "frozen" || name[0] === "a")) changed[name] = how;
  }
  return changed;
}

/** What was seen last, if it is of the model and checkpoint that the state wants; else null. */
export function seenNow({ seen, state }) {
  return seen?.model === state.model && seen.at === state.at ? seen : null;
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
