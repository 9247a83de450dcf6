// Script files of the book, in _static.

/** A script element that asks for the file. */
export function request(file) {
  const script = document.createElement("script");
  const top = document.documentElement.dataset.content_root || "../"; // as Sphinx writes it
  script.dataset.file = file;
  script.async = false; // in the order in which they were asked for: some need those before
  script.src = `${top}_static/${file}`;
  document.head.append(script);
  return script;
}

/** Resolves when the file has put its name into the page's globals; asks for it if nobody has. */
export function loaded(file, name) {
  return new Promise((resolve, reject) => {
    if (globalThis[name]) {
      resolve();
      return;
    }
    const script = document.querySelector(`script[data-file="${file}"]`) ?? request(file);
    script.addEventListener("load", resolve);
    script.addEventListener("error", () => reject(new Error(`${script.src} cannot be loaded`)));
  });
}
