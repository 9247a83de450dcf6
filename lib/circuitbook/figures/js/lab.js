// The lab: a model of the mini suite in the page, at every step of its training. lab.py makes its
// data; the engine runs the model.

import { addressWith, stateInAddress, writeAddress } from "./address.js";
import { engineOf } from "./asking.js";
import { sameMoment } from "./circuit-data.js";
import { circuitPart } from "./lab-circuit.js";
import { showCircuit } from "./lab-circuit-showing.js";
import { buildLab } from "./lab-controls.js";
import { show, showTiles } from "./lab-showing.js";
import {
  canBeSelected,
  inModel,
  nextHow,
  noChanges,
  stateForAddress,
  stateForOtherPage,
  stateFromAddress,
  switched,
  taskOf,
  textsOf,
  usualState,
} from "./lab-state.js";
import { loaderOf } from "./lab-weights.js";
import { offerWords } from "./offering.js";
import { tokenizerOf } from "./tokenizer.js";

const ADDRESS_REST_MS = 200; // the address is written when the hand rests

/** Draws a lab into `place`.
 *
 *  settings: {name, models: {name: {shape, steps, tokens, bytes}}, start: {model, step}, words,
 *  special, examples: [{title, text, other, right, wrong}], reference: [ids], circuits, inputs, classes:
 *  `circuits` as the explorer's data, or null, and what it draws them with; shown: the parts that the
 *  reader sees, null: all (see `buildLab`); full: address of the page with all of them, or null}.
 *  start may tell more of the state (see `usualState`). Nothing is loaded before the reader says so.
 *  before: what the page shows without scripts; its still stays until then. */
function render(place, settings, before) {
  const letters = settings.words.filter((word) => /^ ?[A-Za-z]/.test(word));
  const later = letters.filter((word) => word[0] === " ").map((word) => word.slice(1));
  const first = letters.filter((word) => word[0] !== " ");
  const view = {
    ...settings,
    place,
    parts: buildLab(place, { ...settings, words: later, still: stillIn(before) }),
    tokenizer: tokenizerOf(settings.words, settings.special),
    state: usualState(settings),
    begun: false,
    turn: 0,
    tilesOf: null,
    pointed: null,
    seen: null,
    loader: null,
    ask: null,
    circuit: null,
  };
  if (view.circuits && (!view.shown || view.shown.includes("circuit"))) {
    view.circuit = circuitPart(view);
    view.parts.results.append(view.circuit.parts.section);
  }
  let saving = null;
  view.save = () => {
    clearTimeout(saving);
    saving = setTimeout(() => writeAddress(view.name, stateForAddress(view)), ADDRESS_REST_MS);
  };
  view.change = (changes) => {
    Object.assign(view.state, changes);
    view.save();
    return show(view);
  };
  view.switchTo = (node, how) => view.change({ switches: switched(view.state, node, how) });
  view.select = (node) => {
    view.state.node = node;
    view.save();
    showTiles(view);
    if (view.circuit) showCircuit(view.circuit);
  };
  view.showShare = () => {
    view.parts.share.href = view.full
      ? view.full + addressWith("lab", stateForOtherPage(view), "")
      : addressWith(view.name, stateForAddress(view));
  };
  listen(view, { first, later });
  if (restore(view)) place.scrollIntoView({ block: "start" });
  else show(view);
}

/** Its image, or what is marked as the still. */
function stillIn(elements) {
  const still = "img, [data-still]";
  return elements.flatMap((element) =>
    element.matches(still) ? [element] : [...element.querySelectorAll(still)],
  );
}

/** Makes the engine, the first time. */
function begin(view) {
  if (!view.ask) {
    const { ask, inWorker } = engineOf(globalThis.LabEngine);
    view.ask = async (message) => {
      const answer = await ask(message);
      view.place.dataset.worker = inWorker();
      return answer;
    };
    view.loader = loaderOf(view.models, view.ask);
  }
  view.begun = true;
  return show(view);
}

/** Takes the state from the address; false if it says nothing of this view. */
function restore(view) {
  const given = stateInAddress(view.name);
  if (!given) return false;
  view.state = stateFromAddress(view, given);
  show(view);
  return true;
}

// ------------------------------------------------------------------ what the reader does

function listen(view, words) {
  const { parts } = view;
  for (const name of ["text", "other"]) {
    const changed = () => view.change({ [name]: parts[name].value });
    offerWords(parts[name], parts[`${name}List`], words, changed);
    parts[name].addEventListener("input", changed);
  }
  for (const name of ["right", "wrong"]) {
    parts[name].addEventListener("input", () => view.change({ [name]: parts[name].value }));
  }
  parts.example.addEventListener("change", () => {
    const example = view.examples[Number(parts.example.value)];
    if (parts.example.value !== "") changeExample(view, example);
  });
  parts.model.addEventListener("change", () => changeModel(view, parts.model.value));
  // while it is dragged, only to checkpoints that are there: no others are loaded on the way
  parts.training.addEventListener("input", () => {
    const at = Number(parts.training.value);
    const { steps } = view.models[view.state.model];
    if (!view.begun || view.loader.has(view.state.model, steps[at])) view.change({ at });
  });
  parts.training.addEventListener("change", () =>
    view.change({ at: Number(parts.training.value) }),
  );
  parts.start.addEventListener("click", () => begin(view));
  parts.rest.addEventListener("click", () => loadRest(view));
  parts.reset.addEventListener("click", () => view.change({ switches: {} }));
  parts.off.addEventListener("change", () => changeOff(view, parts.off.value));
  parts.node.addEventListener("change", () => {
    view.switchTo(parts.node.dataset.node, parts.node.value);
  });
  listenToTiles(view);
  addEventListener("hashchange", () => restore(view));
}

function listenToTiles(view) {
  const { tiles } = view.parts;
  const nodeOf = (event) => event.target.closest(".lb-tile")?.dataset.node ?? null;
  const point = (node) => {
    if (node === view.pointed) return;
    view.pointed = node;
    showTiles(view);
  };
  tiles.addEventListener("click", (event) => {
    const node = nodeOf(event);
    if (!node) return;
    view.state.node = node;
    view.switchTo(node, nextHow(node, view.state.switches[node] ?? "on", view.state.off));
  });
  tiles.addEventListener("pointerover", (event) => point(nodeOf(event)));
  tiles.addEventListener("pointerleave", () => point(null));
  tiles.addEventListener("focusin", (event) => {
    const node = nodeOf(event);
    if (node && node !== view.state.node) view.select(node);
  });
}

/** Its sentences, and the circuit of its task. */
function changeExample(view, example) {
  const { circuits, state } = view;
  const task = taskOf(example, circuits);
  const kept = task === state.task || state.base !== "found" ? {} : { size: null, ...noChanges() };
  view.change({ ...textsOf(example), task, ...kept });
}

/** What "off" means, for those that are off already, too. */
function changeOff(view, off) {
  const switches = Object.entries(view.state.switches).map(([node, how]) => [
    node,
    how === "zero" || how === "mean" ? off : how,
  ]);
  view.change({ off, switches: Object.fromEntries(switches) });
}

/** Another model, at the checkpoint that has seen about as many tokens, with all on that it lacks. Edges
 *  and groups stay if it has the same nodes. */
function changeModel(view, model) {
  const { state, models } = view;
  const [before, after] = [models[state.model].shape, models[model].shape];
  const kept = Object.entries(state.switches).filter(([node]) => inModel(after, node));
  const alike = before.layers === after.layers && before.heads === after.heads;
  if (!alike) Object.assign(state, { size: null, ...noChanges(), groups: [] });
  view.change({
    model,
    at: sameMoment(models[state.model], models[model], state.at),
    switches: Object.fromEntries(kept),
    node: canBeSelected(state, after, state.node) ? state.node : null,
  });
}

/** The model's other checkpoints, one after the other; the curve grows. */
async function loadRest(view) {
  const { model } = view.state;
  view.parts.rest.disabled = true;
  try {
    for (const step of view.models[model].steps) await view.loader.load(model, step);
  } catch (error) {
    view.parts.problem.textContent = `${error.message}.`;
  }
  view.parts.rest.disabled = false;
  show(view);
}

globalThis.Lab = { render };
