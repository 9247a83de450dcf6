// Text whose contrast with what lies behind it is below WCAG's AA: 4.5, or 3 if large.
export default function hardToRead() {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const pen = canvas.getContext("2d", { willReadFrequently: true });

  // [red, green, blue (0..255), alpha (0..1)] of any CSS colour
  const numbers = (colour) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    const pixel = pen.getImageData(0, 0, 1, 1).data;
    return [pixel[0], pixel[1], pixel[2], pixel[3] / 255];
  };
  const over = (top, below) => {
    return top.slice(0, 3).map((value, i) => value * top[3] + below[i] * (1 - top[3]));
  };
  const luminance = (colour) => {
    const [red, green, blue] = colour
      .map((value) => value / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (element) => {
    if (!element) return [255, 255, 255];
    const colour = numbers(getComputedStyle(element).backgroundColor);
    return colour[3] === 1 ? colour.slice(0, 3) : over(colour, behind(element.parentElement));
  };

  const skipped = "script, style, noscript, svg, mjx-assistive-mml, option, dialog:not([open])";
  const seen = { opacityProperty: true, visibilityProperty: true };
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || element.closest(skipped) || !element.checkVisibility(seen)) continue;
    const box = element.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;
    const style = getComputedStyle(element);
    const size = Number.parseFloat(style.fontSize);
    const ground = behind(element);
    const lights = [luminance(over(numbers(style.color), ground)), luminance(ground)];
    const ratio = (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5) - 0.01) {
      const tag = `<${element.tagName.toLowerCase()} class="${element.className}">`;
      found.add(`${ratio.toFixed(2)} ${tag} ${text.slice(0, 30)}`);
    }
  }
  return [...found].slice(0, 8);
}
