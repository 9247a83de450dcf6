// The mini suite's tokenizer: mini/tokenizer.py. A token is a word with the space before it.

const PATTERN = /'t| ?[A-Za-z]+| ?\p{Nd}\p{Nd}| ?[^\p{White_Space}A-Za-z\p{Nd}]|\p{White_Space}/gu;
const UNKNOWN = 1;

/** {words, ids: word -> id, special: of the words, those that are found anywhere in a text} */
export function tokenizerOf(words, special) {
  return { words, special, ids: new Map(words.map((word, id) => [word, id])) };
}

/** [{text, id, known}] of a text; what lies between two matches is a token, too. */
export function tokensOf({ ids, special }, text) {
  return parts(special, text).flatMap((part) =>
    (special.includes(part) ? [part] : split(part)).map((word) => ({
      text: word,
      id: ids.get(word) ?? UNKNOWN,
      known: ids.has(word),
    })),
  );
}

/** The text at its special words, which are kept. */
function parts(special, text) {
  let all = [text];
  for (const word of special) {
    all = all.flatMap((part) =>
      special.includes(part)
        ? [part]
        : part.split(word).flatMap((rest, i) => (i ? [word, rest] : [rest])),
    );
  }
  return all.filter((part) => part);
}

function split(text) {
  const out = [];
  let end = 0;
  for (const { 0: word, index } of text.matchAll(PATTERN)) {
    if (index > end) out.push(text.slice(end, index));
    out.push(word);
    end = index + word.length;
  }
  if (end < text.length) out.push(text.slice(end));
  return out;
}
