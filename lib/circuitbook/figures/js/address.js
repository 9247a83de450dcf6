// The state in the page's address, for several views of a page: #name.model=...&name.task=...

/** What the address says of the view `name`, {key: text}; null if it says nothing. */
export function stateInAddress(name) {
  const prefix = `${name}.`;
  const entries = [...new URLSearchParams(location.hash.slice(1))]
    .filter(([key]) => key.startsWith(prefix))
    .map(([key, value]) => [key.slice(prefix.length), value]);
  return entries.length ? Object.fromEntries(entries) : null;
}

/** The address with this state in place of what it says of the view `name`; what it says of others
 *  stays. hash: of another page's address, in place of this page's. */
export function addressWith(name, state, hash = location.hash) {
  const all = new URLSearchParams(hash.includes("=") ? hash.slice(1) : "");
  for (const key of [...all.keys()]) {
    if (key.startsWith(`${name}.`)) all.delete(key);
  }
  for (const [key, value] of Object.entries(state)) all.set(`${name}.${key}`, value);
  return `#${all}`;
}

/** Puts it there, without a new entry in the history. */
export function writeAddress(name, state) {
  try {
    history.replaceState(history.state, "", addressWith(name, state));
  } catch {
    // a sandbox without an address
  }
}
