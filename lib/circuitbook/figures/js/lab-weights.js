// Checkpoints, loaded when they are asked for, each once: lab_weights.py writes their files.

import { request } from "./static-files.js";

/** {load(model, step) -> promise, has(model, step)}; models: {name: {shape}} */
export function loaderOf(models, ask) {
  const promises = new Map();
  const there = new Set();
  const load = async (model, step) => {
    const key = keyOf(model, step);
    const text = await textOf(key);
    await ask({ what: "weights", key, shape: models[model].shape, text });
    there.add(key);
  };
  return {
    has: (model, step) => there.has(keyOf(model, step)),
    load: (model, step) => {
      const key = keyOf(model, step);
      if (!promises.has(key)) {
        const promise = load(model, step);
        promise.catch(() => promises.delete(key)); // so that it can be tried again
        promises.set(key, promise);
      }
      return promises.get(key);
    },
  };
}

export function keyOf(model, step) {
  return `${model}-${step}`;
}

/** What the file put under its key; in a notebook the page has brought it. */
async function textOf(key) {
  if (!globalThis.labWeights?.[key]) {
    const script = request(`lab/${key}.js`);
    await new Promise((resolve, reject) => {
      script.addEventListener("load", resolve);
      script.addEventListener("error", () => {
        script.remove();
        reject(new Error(`${script.src} cannot be loaded`));
      });
    });
  }
  const text = globalThis.labWeights[key];
  delete globalThis.labWeights[key];
  return text;
}
