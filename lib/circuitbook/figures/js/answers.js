// The answers that the reader asks about, as text and as tokens: "Mary", "is was", "33-99".

/** {ids, unknown: words that are none of the language's} */
export function answersIn({ ids }, text) {
  const words = text.split(/[\s,]+/).filter(Boolean);
  const found = words.flatMap(spread).map((word) => ({ word, id: idOf(ids, word) }));
  return {
    ids: [...new Set(found.filter(({ id }) => id !== null).map(({ id }) => id))],
    unknown: found.filter(({ id }) => id === null).map(({ word }) => word),
  };
}

/** spread("08-10") -> ["08", "09", "10"] */
function spread(word) {
  const range = /^(\d\d)[-\u2013](\d\d)$/.exec(word);
  if (!range) return [word];
  const [first, last] = [Number(range[1]), Number(range[2])];
  const size = Math.max(0, last - first + 1);
  return Array.from({ length: size }, (_, i) => String(first + i).padStart(2, "0"));
}

/** An answer stands behind other words: with the space before it, unless it is part of a number. */
function idOf(ids, word) {
  const spaced = /^\d/.test(word) ? undefined : ids.get(` ${word}`);
  return spaced ?? ids.get(word) ?? null;
}

/** What `measure` gives for these, in words. */
export function measureName({ right, wrong }, named) {
  if (!wrong.length) return `probability of ${named.right}`;
  if (right.length === 1 && wrong.length === 1) {
    return `logit difference, ${named.right} less ${named.wrong}`;
  }
  return `probability of ${named.right} less that of ${named.wrong}`;
}

/** shortened("is was has likes") -> "is, was ..." */
export function shortened(text) {
  const words = text.split(/[\s,]+/).filter(Boolean);
  return words.length > 3 ? `${words.slice(0, 2).join(", ")} ...` : words.join(", ");
}
