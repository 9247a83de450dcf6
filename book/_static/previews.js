// What a link within the book leads to, shown while the mouse or the keyboard is on it. The words
// are in the page: the build puts them there. A finger follows the link at once.
(() => {
  const words = JSON.parse(document.getElementById("previews").textContent);
  const box = Object.assign(document.createElement("div"), { id: "preview", hidden: true });
  box.setAttribute("role", "tooltip");
  document.body.append(box);
  let shownFor = null;
  let timer = 0;

  const hide = () => {
    clearTimeout(timer);
    box.hidden = true;
    shownFor?.removeAttribute("aria-describedby");
    shownFor = null;
  };
  const show = (link) => {
    hide();
    shownFor = link;
    box.textContent = words[link.getAttribute("href")];
    box.hidden = false;
    link.setAttribute("aria-describedby", box.id);
    const at = link.getClientRects()[0];
    const left = Math.min(at.left, document.documentElement.clientWidth - box.offsetWidth - 8);
    const below = at.bottom + box.offsetHeight < innerHeight;
    box.style.left = `${Math.max(8, left) + scrollX}px`;
    box.style.top = `${(below ? at.bottom : at.top - box.offsetHeight) + scrollY}px`;
  };
  const later = (act, wait) => {
    clearTimeout(timer);
    timer = setTimeout(act, wait);
  };

  for (const link of document.querySelectorAll("a.reference.internal")) {
    if (!words[link.getAttribute("href")]) continue;
    link.removeAttribute("title");
    link.addEventListener("pointerenter", ({ pointerType }) => {
      if (pointerType !== "touch") later(() => show(link), 200);
    });
    link.addEventListener("pointerleave", () => later(hide, 200));
    link.addEventListener("focus", () => {
      if (link.matches(":focus-visible")) show(link);
    });
    link.addEventListener("blur", hide);
  }
  box.addEventListener("pointerenter", () => clearTimeout(timer)); // the mouse may read it, too
  box.addEventListener("pointerleave", () => later(hide, 200));
  addEventListener("keydown", ({ key }) => {
    if (key === "Escape") hide();
  });
})();
