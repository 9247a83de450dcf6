// Draws the views of a page that are not drawn yet, each once its scripts are there. It stands in
// the page after every view. In the book the scripts lie in _static and are shared; anywhere else a
// view has brought its own, just before.
//
// A view is an empty element and, right after it, its data as JSON: <script type="application/json"
// data-view="HeadBrowser" data-scripts="lab-engine.js lab.js" data-globals="LabEngine Lab">

import { loaded } from "./static-files.js";

function drawViews() {
  const blocks = document.querySelectorAll('script[type="application/json"][data-view]');
  for (const block of blocks) {
    if (block.dataset.drawn) continue;
    block.dataset.drawn = "yes";
    draw(block);
  }
}

async function draw(block) {
  const place = block.previousElementSibling;
  const names = block.dataset.globals.split(" ");
  await Promise.all(block.dataset.scripts.split(" ").map((file, i) => loaded(file, names[i])));
  const before = [...place.children]; // what is there for a page without scripts
  place.replaceChildren();
  globalThis[block.dataset.view].render(place, JSON.parse(block.textContent), before);
}

drawViews();
