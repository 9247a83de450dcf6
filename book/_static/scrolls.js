// A box whose content is wider than it fades at the side where there is more to see.
(() => {
  const boxes = document.querySelectorAll(
    ".bd-article :is(.pst-scrollable-table-container, .cell_output .output, div.math, pre)",
  );
  const mark = (box) => {
    const after = box.scrollWidth - box.clientWidth - box.scrollLeft;
    box.classList.toggle("more-before", box.scrollLeft > 4);
    box.classList.toggle("more-after", after > 4 && getComputedStyle(box).overflowX !== "visible");
  };
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) mark(target);
  });
  for (const box of boxes) {
    box.addEventListener("scroll", () => mark(box), { passive: true });
    sizes.observe(box);
  }
})();
