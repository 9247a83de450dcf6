// What the lab asks: a message in, an answer out. It runs in a worker, or in the page itself.

import { directEffect } from "./direct-effect.js";
import { lastOfCircuit } from "./edges.js";
import { forward, logits } from "./forward.js";
import { softmax } from "./maths.js";
import { measure } from "./measures.js";
import { meansOf, switching } from "./switches.js";
import { modelOf } from "./weights.js";

const models = new Map();
const meansOfModels = new Map();

const ANSWERS = { weights, look, curve, circuit, writes };

/** Answers {what, key, ...}; key: of the checkpoint, whose weights came before. */
function answer(message) {
  return ANSWERS[message.what](message);
}

/** {key, shape, text}: see `modelOf`. */
function weights({ key, shape, text }) {
  models.set(key, modelOf(shape, text));
}

/** Runs a sentence, and again with some heads and MLPs switched.
 *
 *  {key, tokens, other: tokens or null, switches, reference: [tokens]}; `other` is as long as
 *  tokens wherever a switch needs it; the mean is taken over `reference`. */
function runs({ key, tokens, other, switches, reference }) {
  const model = models.get(key);
  const own = forward(model, tokens);
  const second = other ? forward(model, other) : null;
  const hows = Object.values(switches);
  if (!hows.length) return { model, own, second, switched: null };
  const means = hows.includes("mean") ? meansFor(key, model, reference) : null;
  const edit = switching(switches, model.shape, { own, other: second, means });
  return { model, own, second, switched: forward(model, tokens, edit) };
}

function meansFor(key, model, reference) {
  const [known, ofReference] = meansOfModels.get(key) ?? [null, null];
  if (known && ofReference === JSON.stringify(reference)) return known;
  const means = meansOf(
    reference.map((tokens) => forward(model, tokens)),
    model.shape.width,
  );
  meansOfModels.set(key, [means, JSON.stringify(reference)]);
  return means;
}

/** As `runs`: {own, second, switched}, null for what did not run, else {logits, probabilities,
 *  patterns, sizes}: of the next word; [layer][head]; what each MLP writes, its length by
 *  position. */
function look(message) {
  const { model, ...done } = runs(message);
  return Object.fromEntries(
    Object.entries(done).map(([name, run]) => [name, run && described(model, run)]),
  );
}

function described(model, run) {
  const next = logits(model, run.last);
  return {
    logits: next,
    probabilities: softmax(next),
    patterns: run.layers.map((layer) => layer.patterns),
    sizes: run.layers.map((layer) => lengths(layer.mlp, model.shape.width)),
  };
}

function lengths(rows, width) {
  const out = new Float64Array(rows.length / width);
  rows.forEach((value, a) => {
    out[Math.floor(a / width)] += value ** 2;
  });
  return out.map(Math.sqrt);
}

/** As `runs`, and `answers` as `measure` takes them: {own, second, switched}, the measure of each. */
function curve(message) {
  const { model, ...done } = runs(message);
  return Object.fromEntries(
    Object.entries(done).map(([name, run]) => [
      name,
      run && measure(logits(model, run.last), message.answers),
    ]),
  );
}

/** {key, tokens, other, edges}: the next word's logits; see `lastOfCircuit`. */
function circuit({ key, tokens, other, edges }) {
  const model = models.get(key);
  return logits(model, lastOfCircuit(model, tokens, other, edges));
}

/** As `runs`, and nodes: the sum of their direct effects, as switched, on each word: see
 *  `directEffect`. */
function writes(message) {
  const { model, own, switched } = runs(message);
  const effects = message.nodes.map((node) => directEffect(model, switched ?? own, node));
  return effects.reduce((a, b) => a.map((value, i) => value + b[i]));
}

globalThis.labEngine = { answer };

if (globalThis.document === undefined) {
  globalThis.addEventListener("message", ({ data: { id, message } }) => {
    try {
      globalThis.postMessage({ id, result: answer(message) });
    } catch (error) {
      globalThis.postMessage({ id, error: error.message });
    }
  });
}
