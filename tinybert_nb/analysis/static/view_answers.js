// After: view_elements.js
// What both models answer to the text: label, probabilities as bars with numbers, logits.
//
// `sight.answers` holds for each model that has a head {label, rows}; a row is {name, probability,
// logit, chosen}, with probability null for a number, and with `token` where each token has a tag.

const MOST_ANSWERS = 8;

function answerRow({ name, token, probability, logit, chosen }) {
  const bar = element("span", { class: "tinybert-fill" });
  bar.style.width = `${100 * (probability ?? 0)}%`;
  const written = value => value == null ? "" : value.toFixed(2).replace("-", "−");
  const named = token === undefined ? name : `${isolated(token)} ${name}`;
  return element("tr", { class: chosen && "tinybert-chosen" }, element("th", { scope: "row", text: named }),
    element("td", { class: "tinybert-track", "aria-hidden": "true" },
      probability == null ? "" : element("div", {}, bar)),
    element("td", { text: probability == null ? "" : `${(100 * probability).toFixed(1)}%` }),
    element("td", { text: written(logit) }));
}

function answerTable(name, { label, rows }) {
  const shown = rows.some(({ token }) => token !== undefined) ? rows :
    rows.toSorted((a, b) => b.logit - a.logit).slice(0, MOST_ANSWERS)
      .sort((a, b) => rows.indexOf(a) - rows.indexOf(b));
  const left = rows.length - shown.length;
  const heads = ["", "", "probability", "logit"].map(text => element("th", { scope: "col", text }));
  return element("div", { class: "tinybert-answer", "data-side": name },
    element("table", {}, element("caption", {}, `The ${name} answers `,
      element("b", { text: label })), element("thead", {}, element("tr", {}, ...heads)),
      element("tbody", {}, ...shown.map(answerRow))),
    left ? element("p", { text: `and ${left} more` }) : "");
}

class Answers {
  constructor() {
    this.box = element("div", { class: "tinybert-answers", role: "group", "aria-label": "answers" });
  }

  show(answers) {
    if (this.shown === answers) return;
    this.shown = answers;
    const sides = ["teacher", "student"].filter(side => answers?.[side]);
    this.box.hidden = !sides.length;
    this.box.replaceChildren(...sides.map(side => answerTable(side, answers[side])));
  }
}
