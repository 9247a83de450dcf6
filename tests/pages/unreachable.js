// Controls in the text that the keyboard does not reach, or that have no name. In a drawing that
// has one stop for Tab, arrow keys lead to the others.
export default function unreachable() {
  const controls = "a[href], button, input, select, textarea, summary, [role=button], [onclick]";
  const noStop = (element) =>
    element.checkVisibility({ visibilityProperty: true }) &&
    element.tabIndex < 0 &&
    !element.closest("svg")?.querySelector("[tabindex='0']") &&
    !element.disabled &&
    element.getAttribute("aria-hidden") !== "true";
  const noName = (element) =>
    element.matches("select, input, textarea, button") &&
    element.checkVisibility() &&
    !element.labels?.length &&
    !element.getAttribute("aria-label") &&
    !element.title &&
    !element.placeholder &&
    !element.textContent.trim();
  return [...document.querySelectorAll(`main :is(${controls})`)]
    .filter((element) => noStop(element) || noName(element))
    .map((element) => element.outerHTML.slice(0, 120));
}
