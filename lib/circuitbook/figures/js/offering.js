// Words of the language, offered below a field while somebody types in it: a combobox with a list,
// as ARIA has it.

import { html } from "./dom.js";

const OFFERED = 8;

/** The part of a word just before the caret: {start, letters}; null if there is none. */
function begun(input) {
  if (input.selectionStart !== input.selectionEnd) return null;
  const before = input.value.slice(0, input.selectionStart);
  const letters = /[A-Za-z]+$/.exec(before)?.[0];
  return letters ? { start: before.length - letters.length, letters } : null;
}

/** Lets `list` offer words for the field. words: those that may stand first in a sentence, and those
 *  that may follow. changed: called when a word was taken. */
export function offerWords(input, list, { first, later }, changed) {
  const offer = { input, list, first, later, changed, at: -1 };
  input.addEventListener("input", () => open(offer));
  input.addEventListener("blur", () => close(offer));
  input.addEventListener("keydown", (event) => pressed(offer, event));
  list.addEventListener("pointerdown", (event) => {
    event.preventDefault(); // the field keeps the focus
    const option = event.target.closest("[role=option]");
    if (option) take(offer, option.dataset.word);
  });
}

function open(offer) {
  const part = begun(offer.input);
  const words = part && (part.start === 0 ? offer.first : offer.later);
  const fitting = (words ?? [])
    .filter((word) => word.startsWith(part.letters) && word !== part.letters)
    .slice(0, OFFERED);
  offer.list.replaceChildren(
    ...fitting.map((word, i) =>
      html(
        "li",
        {
          role: "option",
          id: `${offer.list.id}-${i}`,
          "data-word": word,
          "aria-selected": "false",
        },
        word,
      ),
    ),
  );
  offer.list.hidden = !fitting.length;
  offer.input.setAttribute("aria-expanded", String(fitting.length > 0));
  select(offer, -1);
}

function close(offer) {
  offer.list.hidden = true;
  offer.input.setAttribute("aria-expanded", "false");
  select(offer, -1);
}

function select(offer, at) {
  offer.at = at;
  const options = [...offer.list.children];
  options.forEach((option, i) => {
    option.setAttribute("aria-selected", String(i === at));
  });
  if (at < 0) offer.input.removeAttribute("aria-activedescendant");
  else offer.input.setAttribute("aria-activedescendant", options[at].id);
}

function pressed(offer, event) {
  const { list, at } = offer;
  if (list.hidden) return;
  const n = list.children.length;
  if (event.key === "ArrowDown") select(offer, (at + 1) % n);
  else if (event.key === "ArrowUp") select(offer, at <= 0 ? n - 1 : at - 1);
  else if (event.key === "Enter" && at >= 0) take(offer, list.children[at].dataset.word);
  else if (event.key === "Escape") close(offer);
  else return;
  event.preventDefault();
}

function take(offer, word) {
  const { input } = offer;
  const { start } = begun(input);
  input.setRangeText(word, start, input.selectionStart, "end");
  close(offer);
  offer.changed();
}
