// Elements with their attributes and what is inside. Text enters a page here alone, and as text: a
// name is never markup.

function make(element, attributes, inside) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) element.setAttribute(name, value);
  }
  element.append(...inside);
  return element;
}

/** html("p", {class: "x"}, "text", other) -> <p class="x">text...</p>; an attribute that is null is
 *  left out. */
export function html(tag, attributes = {}, ...inside) {
  return make(document.createElement(tag), attributes, inside);
}

export function svg(tag, attributes = {}, ...inside) {
  return make(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, inside);
}

/** kind: its class. */
export function button(kind, name, text) {
  return html("button", { type: "button", class: kind, name }, text);
}

/** A menu; values: {value: text}. */
export function menu(name, values) {
  const options = Object.entries(values).map(([value, text]) => html("option", { value }, text));
  return html("select", { autocomplete: "off", name }, ...options);
}
