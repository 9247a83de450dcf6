// Asks the engine: a worker made of its own text, or, where a page may have none, the page itself.

/** {ask(message) -> promise of the answer, inWorker() -> whether a worker answers}; start: the function
 *  that makes an engine. */
export function engineOf(start) {
  const waiting = new Map();
  let asked = 0;
  let worker = workerOf(start);
  if (worker) {
    worker.addEventListener("message", ({ data }) => settle(waiting, data));
    worker.addEventListener("error", () => {
      // the page may not have one after all; it says so only now
      worker = null;
      start();
      for (const [id, { message }] of [...waiting]) settle(waiting, answerHere(id, message));
    });
  } else start();
  const ask = (message) =>
    new Promise((resolve, reject) => {
      asked += 1;
      waiting.set(asked, { resolve, reject, message });
      if (worker) worker.postMessage({ id: asked, message });
      else settle(waiting, answerHere(asked, message));
    });
  return { ask, inWorker: () => worker !== null };
}

/** null where the page may have none. */
function workerOf(start) {
  try {
    const script = new Blob([`(${start})();`], { type: "text/javascript" });
    return new Worker(URL.createObjectURL(script));
  } catch {
    return null;
  }
}

function answerHere(id, message) {
  try {
    return { id, result: globalThis.labEngine.answer(message) };
  } catch (error) {
    return { id, error: error.message };
  }
}

function settle(waiting, { id, result, error }) {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (error === undefined) resolve(result);
  else reject(new Error(error));
}
