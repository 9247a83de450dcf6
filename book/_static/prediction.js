// A reader's guesses: a field or a choice in each prediction, and beside each answer what was
// guessed. They are kept in this tab while it is open, and nowhere else.
(() => {
  const guesses = new Map();
  const keyOf = (prediction) => `guess ${location.pathname} ${predictions.indexOf(prediction)}`;
  const recall = (prediction) => {
    try {
      return sessionStorage.getItem(keyOf(prediction)) ?? "";
    } catch {
      return guesses.get(prediction) ?? ""; // storage may be forbidden, as in a page from disk
    }
  };
  const remember = (prediction, guess) => {
    guesses.set(prediction, guess);
    try {
      sessionStorage.setItem(keyOf(prediction), guess);
    } catch {}
    for (const [shown, of] of beside) if (of === prediction) showGuess(shown, of);
  };

  const made = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  const addChoice = (prediction, list, name) => {
    list.classList.add("choices");
    for (const item of list.children) {
      const value = item.textContent.trim();
      const button = made("input", { type: "radio", name, value });
      button.checked = value === recall(prediction);
      button.addEventListener("change", () => remember(prediction, value));
      item.replaceChildren(made("label", {}, button, ...item.childNodes));
    }
    list.role = "radiogroup";
    list.ariaLabel = "Your guess";
    for (const item of list.children) item.role = "none";
  };

  const addField = (prediction) => {
    const field = made("input", { type: "text", value: recall(prediction), autocomplete: "off" });
    field.addEventListener("input", () => remember(prediction, field.value.trim()));
    prediction.append(made("label", { className: "guess-field" }, "Your guess ", field));
  };

  const showGuess = (shown, prediction) => {
    const guess = recall(prediction);
    if (guess) {
      shown.replaceChildren("Your guess: ", made("q", { textContent: guess }));
      return;
    }
    prediction.id ||= `prediction-${predictions.indexOf(prediction) + 1}`;
    const back = made("a", { href: `#${prediction.id}`, textContent: "made a guess" });
    shown.replaceChildren("You have not ", back, " yet.");
  };

  const predictions = [...document.querySelectorAll(".admonition.prediction")];
  const beside = [];
  predictions.forEach((prediction, i) => {
    const last = prediction.lastElementChild;
    if (last.matches("ul")) addChoice(prediction, last, `guess-${i}`);
    else addField(prediction);
  });
  for (const answer of document.querySelectorAll("details.answer")) {
    const before = predictions.filter(
      (one) => one.compareDocumentPosition(answer) & Node.DOCUMENT_POSITION_FOLLOWING,
    );
    const of = document.getElementById(answer.dataset.of) ?? before.at(-1);
    if (!of) continue;
    const shown = made("p", { className: "your-guess" });
    answer.querySelector("summary").after(shown);
    beside.push([shown, of]);
    showGuess(shown, of);
  }

  // a link to a figure in a folded answer, or in another fold, opens it
  const openTarget = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    let opened = false;
    for (let node = target; node; node = node.parentElement) {
      if (!node.matches("details:not([open])")) continue;
      node.open = opened = true;
    }
    if (opened) target.scrollIntoView();
  };
  addEventListener("hashchange", openTarget);
  openTarget();
})();
