// Numbers and texts as they are written.

const MINUS = "\u2212";

/** shortNumber(4194304) -> "4.19M", as wording.short_number */
export function shortNumber(value) {
  const units = [
    ["B", 1e9],
    ["M", 1e6],
    ["k", 1e3],
  ];
  for (const [unit, size] of units) {
    if (value >= size) return `${+(value / size).toPrecision(3)}${unit}`;
  }
  return `${+value.toPrecision(3)}`;
}

/** signed(-0.01234) -> "−0.0123" */
export function signed(value) {
  return (value < 0 ? MINUS : "+") + Math.abs(value).toPrecision(3);
}

/** twoDigits(-0.126) -> "−0.13" */
export function twoDigits(value) {
  return value.toFixed(2).replace("-", MINUS);
}

/** percent(0.8) -> "80%" */
export function percent(share) {
  return `${(100 * share).toFixed(1).replace(/\.0$/, "").replace("-", MINUS)}%`;
}

/** count(1, "edge") -> "1 edge" */
export function count(n, noun) {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

export function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

export function capitalised(text) {
  return text[0].toUpperCase() + text.slice(1);
}

/** wrapped("a bc d", 4) -> ["a bc", "d"] */
export function wrapped(text, width) {
  const lines = [];
  for (const word of text.split(" ")) {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && longer.length <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}
