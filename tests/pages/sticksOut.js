// Elements that stick out to the right of the page, or that a box cuts off which does not scroll.
export default function sticksOut() {
  const isCutOff = (element) => {
    const right = element.getBoundingClientRect().right;
    if (right <= innerWidth + 1) return false;
    for (let box = element.parentElement; box; box = box.parentElement) {
      const style = getComputedStyle(box);
      const scrolls = ["auto", "scroll"].includes(style.overflowX);
      if (scrolls && box.matches("main article *")) return false;
      if (style.position === "fixed") return false;
    }
    return true;
  };
  const notText = "svg, mjx-assistive-mml, .visually-hidden";
  return [...document.querySelectorAll("main article *")]
    .filter((element) => element.checkVisibility() && !element.closest(notText))
    .filter(isCutOff)
    .map((element) => {
      const tag = element.tagName.toLowerCase();
      return `<${tag} class="${element.className}"> ${element.textContent.slice(0, 40)}`;
    })
    .slice(0, 5);
}
