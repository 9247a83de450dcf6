// A checkpoint's weights, from the text of its file: lab_weights.py writes it.

/** float16, as bits, to a number. */
function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * 2 ** -24 * fraction;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * 2 ** (exponent - 25) * (1024 + fraction);
}

const HALVES = Float32Array.from({ length: 65536 }, (_, bits) => fromHalf(bits));

/** Base64 of float16, little-endian, to Float32Array. */
function numbersOf(text) {
  const bytes = Uint8Array.fromBase64?.(text) ?? bytesOf(atob(text));
  const out = new Float32Array(bytes.length / 2);
  for (let i = 0; i < out.length; i++) out[i] = HALVES[bytes[2 * i] | (bytes[2 * i + 1] << 8)];
  return out;
}

function bytesOf(letters) {
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

/** A model that can be run. shape: {layers, heads, width, hidden, vocab, rotary, base, eps, context};
 *  the order of the weights is that of `lab_weights.NAMES`. */
export function modelOf(shape, text) {
  const all = numbersOf(text);
  let at = 0;
  const take = (...sizes) => {
    const size = sizes.reduce((a, b) => a * b);
    at += size;
    return all.subarray(at - size, at);
  };
  const { width, hidden, vocab, eps } = shape;
  const norm = () => ({ weight: take(width), bias: take(width), eps });
  const map = (outputs, inputs) => ({ weight: take(outputs, inputs), bias: take(outputs) });
  const embed = take(vocab, width);
  const layers = Array.from({ length: shape.layers }, () => ({
    normAttention: norm(),
    normMlp: norm(),
    qkv: map(3 * width, width), // rows: each head's q, k and v in turn
    output: map(width, width), // columns: head after head
    into: map(hidden, width),
    out: map(width, hidden),
  }));
  const model = { shape, embed, layers, normFinal: norm(), unembed: take(vocab, width) };
  if (at !== all.length) {
    throw new Error(`the weights are ${all.length} numbers, but the model has ${at}`);
  }
  return model;
}
