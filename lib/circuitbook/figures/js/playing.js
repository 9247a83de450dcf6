// Playing: through the checkpoints, one after the other.

import { modelOf } from "./circuit-data.js";

const STEP_MS = 1100;

/** {begin, pause, toggle, running} for a view that has change(state) and save(). */
export function player(view) {
  const { play, status } = view.parts;
  let timer = null;

  function pause() {
    if (timer === null) return;
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
    status.removeAttribute("aria-live");
    view.save();
  }

  function step() {
    const last = modelOf(view).steps.length - 1;
    if (view.state.at < last) view.change({ at: view.state.at + 1 });
    if (view.state.at >= last) pause();
  }

  function begin() {
    status.setAttribute("aria-live", "off"); // a screen reader would never come to an end
    timer = setInterval(step, view.stillness.matches ? 2 * STEP_MS : STEP_MS);
    play.textContent = "Pause";
    view.change({ at: startOf(view) });
  }

  return {
    begin,
    pause,
    toggle: () => (timer === null ? begin() : pause()),
    running: () => timer !== null,
  };
}

/** Where playing starts: here, or from the end just before the first circuit. */
function startOf({ data, state }) {
  const entries = data.circuits[state.model][state.task];
  if (state.at < entries.length - 1) return state.at;
  const first = entries.findIndex((entry) => entry && !entry.why);
  return Math.max(0, first - 1);
}
