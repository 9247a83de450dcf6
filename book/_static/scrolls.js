// A box whose content is wider than it fades at the side where there is more to see, and the
// keyboard can scroll it.
(() => {
  const boxes = document.querySelectorAll(
    ".bd-article :is(.pst-scrollable-table-container, .output, div.math, pre)",
  );
  const mark = (box) => {
    const more = box.scrollWidth - box.clientWidth;
    const scrolls = more > 4 && getComputedStyle(box).overflowX !== "visible";
    box.classList.toggle("more-before", scrolls && box.scrollLeft > 4);
    box.classList.toggle("more-after", scrolls && more - box.scrollLeft > 4);
    if (!scrolls || box.tabIndex === 0) return;
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", "scrolls sideways");
  };
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) mark(target);
  });
  for (const box of boxes) {
    box.addEventListener("scroll", () => mark(box), { passive: true });
    sizes.observe(box);
  }
})();
