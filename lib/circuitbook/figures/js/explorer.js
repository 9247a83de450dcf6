// The circuit explorer. explorer.py makes its data and says what they mean; here they are drawn,
// without a library.

import { stateInAddress, writeAddress } from "./address.js";
import { modelOf, sameMoment } from "./circuit-data.js";
import { firstCircuit, modelsLike } from "./comparing.js";
import { buildControls } from "./controls.js";
import { layOut } from "./layout.js";
import { player } from "./playing.js";
import { listenToDrawing } from "./pointing.js";
import { show, stateForAddress } from "./showing.js";

const REST_MS = 150; // the address is written when the hand rests

/** Draws an explorer into `place`.
 *
 *  settings: {name, start: [model, task], inputs: {kind: [colour, text]}, classes: {name: colour},
 *  does: {class: in plain words}, data, compact, lab}. compact: for a front page, the address that it
 *  leads to: one model and task, no sizes, no lists; it plays by itself once it is seen, and leaves
 *  the address alone. lab: {page, models: {name: steps}}, what the lab has, or null. */
function render(place, settings) {
  const view = {
    ...settings,
    place,
    name: freeName(settings.name),
    parts: buildControls(place, settings),
    state: usualState(settings),
    drawing: null,
    decoded: new Map(),
    largest: new Map(),
    stillness: matchMedia("(prefers-reduced-motion: reduce)"),
  };
  place.dataset.explorer = view.name;
  let saving = null;
  view.save = () => {
    clearTimeout(saving);
    if (!view.compact)
      saving = setTimeout(() => writeAddress(view.name, stateForAddress(view)), REST_MS);
  };
  view.change = (changes) => {
    Object.assign(view.state, changes);
    show(view);
    if (!view.player.running()) view.save();
  };
  view.select = (node) => view.change({ node: node === view.state.node ? null : node });
  view.player = player(view);
  listen(view);
  if (view.compact) {
    show(view);
    playOnceSeen(view);
  } else if (restore(view)) place.scrollIntoView({ block: "start" });
  else show(view);
}

/** The name, or with a number where another view of the page already has it. */
function freeName(wished) {
  const explorers = [...document.querySelectorAll("[data-explorer]")];
  const taken = new Set(explorers.map((explorer) => explorer.dataset.explorer));
  let name = wished;
  for (let i = 2; taken.has(name); i++) name = `${wished}-${i}`;
  return name;
}

function usualState({ data, start: [model, task] }) {
  const at = data.models[model].steps.length - 1;
  return { model, task, at, size: null, node: null, against: null };
}

/** Takes the state from the address; false if it says nothing of this view. What cannot be is left
 *  as usual. */
function restore(view) {
  const given = stateInAddress(view.name);
  if (!given) return false;
  const { data } = view;
  view.player.pause();
  const state = usualState(view);
  if (Object.hasOwn(data.models, given.model ?? "")) {
    state.model = given.model;
    state.at = data.models[state.model].steps.length - 1;
  }
  const model = data.models[state.model];
  if (Object.hasOwn(data.tasks, given.task ?? "")) state.task = given.task;
  const at = model.steps.indexOf(Number(given.step));
  if (at >= 0) state.at = at;
  if (/^[1-9]\d*$/.test(given.edges ?? "")) state.size = Number(given.edges);
  if (layOut(model).nodes.has(given.node)) state.node = given.node;
  view.state = state;
  state.against = againstIn(view, given.against);
  show(view);
  return true;
}

/** What the circuit is compared with, from the text of an address: a model like this one, or a step
 *  of its own. */
function againstIn(view, text = "") {
  if (modelsLike(view).includes(text)) return text;
  const at = text === "" ? -1 : modelOf(view).steps.indexOf(Number(text));
  return at < 0 ? null : at;
}

/** Another model, at the checkpoint that has seen as many tokens. The node stays selected if that
 *  model has it, and what it is compared with stays if it can. */
function changeModel(view, name) {
  const { node, at, against } = view.state;
  const [before, model] = [modelOf(view), view.data.models[name]];
  const like = modelsLike({ ...view, state: { ...view.state, model: name } });
  const moved = typeof against === "number" ? sameMoment(before, model, against) : against;
  view.change({
    model: name,
    at: sameMoment(before, model, at),
    node: layOut(model).nodes.has(node) ? node : null,
    against: typeof moved === "number" || like.includes(moved) ? moved : null,
  });
}

/** value: of the menu, "" for nothing and the model's own name for its other checkpoints. */
function changeAgainst(view, value) {
  const own = value === view.state.model;
  view.change({ against: own ? firstCircuit(view) : value || null });
}

function listen(view) {
  const { parts, place } = view;
  parts.model.addEventListener("change", () => {
    view.player.pause();
    changeModel(view, parts.model.value);
  });
  parts.task.addEventListener("change", () => view.change({ task: parts.task.value }));
  parts.training.addEventListener("input", () => {
    view.player.pause();
    view.change({ at: Number(parts.training.value) });
  });
  parts.against.addEventListener("change", () => changeAgainst(view, parts.against.value));
  parts.since.addEventListener("input", () => view.change({ against: Number(parts.since.value) }));
  parts.size.addEventListener("input", () => view.change({ size: Number(parts.size.value) }));
  parts.own.addEventListener("click", () => {
    view.change({ size: null });
    parts.size.focus();
  });
  parts.play.addEventListener("click", view.player.toggle);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) view.player.pause();
  });
  if (!view.compact) addEventListener("hashchange", () => restore(view));
  place.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || view.state.node === null) return;
    event.preventDefault();
    view.select(null);
    // the button that had the focus may be gone
    if (!place.contains(document.activeElement)) parts.list.focus({ preventScroll: true });
  });
  listenToDrawing(view);
}

function playOnceSeen(view) {
  if (view.stillness.matches || !("IntersectionObserver" in globalThis)) return;
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    if (!view.parts.training.disabled) view.player.begin();
  });
  observer.observe(view.place);
}

globalThis.CircuitExplorer = { render };
