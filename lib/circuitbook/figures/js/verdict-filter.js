// Buttons above the report's claims that show those with one verdict. Without this script all are
// there. verdicts.py makes the tables.

import { html } from "./dom.js";

const ALL = "all";
const FEW = 10; // claims that are seen at a glance

function addFilter(place) {
  if (place.querySelector(".filter")) return;
  const rows = [...place.querySelectorAll("tr[data-verdict]")];
  if (rows.length < FEW) return;
  const count = (verdict) => rows.filter((row) => row.dataset.verdict === verdict).length;
  const verdicts = place.dataset.verdicts.split("|").filter(count);
  const buttons = [ALL, ...verdicts].map((verdict) => {
    const number = verdict === ALL ? rows.length : count(verdict);
    const button = html("button", { type: "button" }, `${verdict} (${number})`);
    button.addEventListener("click", () => show(verdict));
    return button;
  });

  function show(chosen) {
    for (const row of rows) row.hidden = chosen !== ALL && row.dataset.verdict !== chosen;
    for (const table of place.querySelectorAll("table"))
      table.hidden = !table.querySelector("tr[data-verdict]:not([hidden])");
    [ALL, ...verdicts].forEach((verdict, i) => {
      buttons[i].setAttribute("aria-pressed", String(verdict === chosen));
    });
  }

  const group = { class: "filter", role: "group", "aria-label": "Show claims by verdict" };
  place.prepend(html("div", group, ...buttons));
  show(ALL);
}

for (const place of document.querySelectorAll(".verdicts")) addFilter(place);
