// The measure of an answer, from logits: tasks/metrics.py.

import { softmax } from "./maths.js";

/** right, wrong: ids. One against one: their logit difference; groups: probability of the right ones
 *  less that of the wrong ones; nothing against: probability of the right ones. */
export function measure(logits, { right, wrong }) {
  if (right.length === 1 && wrong.length === 1) return logits[right[0]] - logits[wrong[0]];
  const probabilities = softmax(logits);
  const total = (ids) => ids.reduce((all, id) => all + probabilities[id], 0);
  return total(right) - total(wrong);
}
