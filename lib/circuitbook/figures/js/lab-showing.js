// Draws the lab's state: the fields at once, the results when the engine has them.

import { html } from "./dom.js";
import { spokenName } from "./graph.js";
import { drawBars } from "./lab-bars.js";
import { showCircuit } from "./lab-circuit-showing.js";
import { drawCurve } from "./lab-curve.js";
import { membersOf } from "./lab-groups.js";
import {
  momentText,
  nameOfMeasure,
  pairHint,
  sizeOf,
  statusOf,
  writeWords,
} from "./lab-sentences.js";
import { effective, readFields, seenNow } from "./lab-state.js";
import { buildTiles, drawLooks, drawTiles, HOWS } from "./lab-tiles.js";
import { keyOf } from "./lab-weights.js";
import { fillSwitches, showWrites } from "./lab-writes.js";
import { measure } from "./measures.js";
import { capitalised } from "./words.js";

/** Shows the fields and, once the reader has begun, runs and shows the results. A later call
 *  overtakes an earlier one that still waits. */
export async function show(view) {
  view.turn += 1;
  const { turn } = view;
  const read = readFields(view);
  showFields(view, read);
  view.parts.problem.textContent = complaintOf(read);
  if (!view.begun || read.problem) return;
  const { model, at } = view.state;
  const step = view.models[model].steps[at];
  try {
    if (!view.loader.has(model, step))
      view.parts.status.textContent = "The weights are on their way.";
    await view.loader.load(model, step);
    if (turn !== view.turn) return;
    const message = messageOf(view, read, step);
    const seen = await view.ask({ what: "look", ...message });
    if (turn !== view.turn) return;
    showResults(view, { read, message, model, at, ...seen });
    await showCurve(view, read, turn);
  } catch (error) {
    if (turn === view.turn) view.parts.problem.textContent = `${error.message}.`;
  }
}

function complaintOf({ problem, unknown }) {
  if (problem || !unknown.length) return problem;
  return `Not in the language: ${unknown.join(", ")}.`;
}

function messageOf({ state, reference }, read, step) {
  return {
    key: keyOf(state.model, step),
    tokens: read.tokens.map(({ id }) => id),
    other: read.other.length ? read.other.map(({ id }) => id) : null,
    switches: effective(state, read),
    reference,
  };
}

// ------------------------------------------------------------------ the fields

function showFields(view, read) {
  const { parts, state, models } = view;
  const { steps, bytes } = models[state.model];
  for (const name of ["text", "other", "right", "wrong"]) {
    if (parts[name].value !== state[name]) parts[name].value = state[name];
  }
  parts.example.value = exampleOf(view);
  parts.model.value = state.model;
  parts.off.value = state.off;
  Object.assign(parts.training, { max: steps.length - 1, value: state.at });
  parts.training.disabled = steps.length < 2;
  parts.training.setAttribute("aria-valuetext", momentText(view));
  const alone = steps.length < 2 ? ", the only one that lies beside this page" : "";
  parts.moment.textContent = momentText(view) + alone;
  writeWords(parts.textWords, read.tokens, "");
  writeWords(parts.otherWords, read.other, pairHint(read));
  parts.start.textContent = `Start: load ${state.model} ${momentText(view)}, ${sizeOf(bytes)}`;
  parts.start.parentElement.hidden = view.begun;
  view.showShare();
  parts.still.hidden = view.begun;
  parts.results.hidden = !view.begun;
  parts.reset.disabled = !Object.keys(state.switches).length;
  if (view.tilesOf !== state.model) {
    view.tiles = buildTiles(parts.tiles, models[state.model].shape);
    view.tilesOf = state.model;
    view.seen = null;
  }
}

/** The place of the example that the fields hold; "" if they hold the reader's own. */
function exampleOf({ state, examples }) {
  const names = ["text", "other", "right", "wrong"];
  const at = examples.findIndex((example) => names.every((name) => example[name] === state[name]));
  return at < 0 ? "" : String(at);
}

// ------------------------------------------------------------------ the results

function showResults(view, seen) {
  const { parts, state, words } = view;
  const { read, own, second, switched } = seen;
  const { right, wrong } = read.answers;
  const of = (run) => (run && right.length ? measure(run.logits, read.answers) : null);
  const values = { own: of(own), second: of(second), switched: of(switched) };
  parts.status.textContent = statusOf(view, read, values, effective(state, read));
  const answers = new Map([
    ...right.map((id) => [id, "right"]),
    ...wrong.map((id) => [id, "wrong"]),
  ]);
  const always = [...right.slice(0, 1), ...wrong.slice(0, 1)];
  const given = { always, answers };
  drawBars(parts.bars, words, {
    own: own.probabilities,
    switched: switched?.probabilities ?? null,
    ...given,
  });
  if (second)
    drawBars(parts.otherBars, words, { own: second.probabilities, switched: null, ...given });
  else parts.otherBars.replaceChildren(html("p", {}, "There is no other sentence."));
  view.seen = { ...seen, shown: switched ?? own };
  showTiles(view);
  if (view.circuit) showCircuit(view.circuit);
}

/** The tiles, and the one that is looked at. */
export function showTiles(view) {
  const { state, parts } = view;
  const seen = seenNow(view);
  if (!seen) return;
  const node = view.pointed ?? state.node;
  const { own, shown } = seen;
  const switches = effective(state, seen.read);
  drawTiles(view.tiles, { own, shown, switches, selected: membersOf(state.groups, node) });
  const places = view.circuit && node === state.node ? [view.circuit.parts.writes] : [];
  showWrites(view, node, [parts.writes, ...places]);
  if (!view.tiles.has(node)) {
    parts.looks.replaceChildren(
      html("p", {}, "Point at a head, or tap it in the circuit, to see where it looks."),
    );
    return;
  }
  fillSwitches(parts.node, view, node, HOWS);
  parts.node.setAttribute("aria-label", `${capitalised(spokenName(node))} is`);
  const focused = document.activeElement === parts.node;
  drawLooks(parts.looks, node, { tokens: seen.read.tokens, shown, own, control: parts.node });
  parts.looks.append(parts.writes);
  if (focused) parts.node.focus({ preventScroll: true });
}

// ------------------------------------------------------------------ over training

async function showCurve(view, read, turn) {
  if (view.shown && !view.shown.includes("curve")) return;
  const { state, models, parts, loader } = view;
  const { steps, tokens, bytes } = models[state.model];
  const there = steps
    .map((step, at) => ({ step, at }))
    .filter(({ step }) => loader.has(state.model, step));
  const missing = steps.length - there.length;
  parts.rest.hidden = !missing;
  parts.rest.textContent = `Load the other ${missing} checkpoints, ${sizeOf(missing * bytes)}`;
  const name = nameOfMeasure(view, read);
  if (!name) {
    parts.curve.replaceChildren();
    return;
  }
  const points = [];
  for (const { step, at } of there) {
    const message = { what: "curve", answers: read.answers, ...messageOf(view, read, step) };
    const values = await view.ask(message);
    if (turn !== view.turn) return;
    points.push({ at, ...values });
  }
  drawCurve(parts, { points, tokens, current: state.at, name });
}
