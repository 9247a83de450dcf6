// Figures that are not there to be seen: [id, width, height, whether all images came].
export default function invisible() {
  return [...document.querySelectorAll("figure.numbered")]
    .map((figure) => {
      // a view may wait to be started, or to be near, and then shows what starts it
      const waiting = ".light-card:has(button, select)";
      const shown = [...figure.querySelectorAll(`img, svg, canvas, ${waiting}`)];
      const boxes = shown.map((element) => element.getBoundingClientRect());
      const images = [...figure.querySelectorAll("img")];
      const whole = images.every((image) => image.complete && image.naturalWidth > 0);
      const width = Math.max(0, ...boxes.map((box) => box.width));
      const height = Math.max(0, ...boxes.map((box) => box.height));
      return [figure.id, width, height, whole];
    })
    .filter(([, width, height, whole]) => width < 60 || height < 40 || !whole);
}
