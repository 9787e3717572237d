// After: view_elements.js
// What both models answer to the text: label, probabilities as bars with numbers, logits.
//
// `sight.answers` holds for each model that has a head what `answers_of` gives in Python: a label, a
// list of labels or a number, with the probability and logit of each class; tags of tokens with
// their probabilities; or a span of text with its score.

const MOST_ANSWERS = 8;

function answerRows({ label, probabilities, logits, tokens, tags }) {
  if (tokens) return tokens.map((token, i) => ({ token, name: tags[i], probability: probabilities[i] }));
  const chosen = [label].flat().map(String);
  return Object.entries(probabilities ?? {}).map(([name, probability]) =>
    ({ name, probability, logit: logits?.[name], chosen: chosen.includes(name) }));
}

function answerText({ label, tokens, answer, score }) {
  if (tokens) return "a tag for each token";
  if (answer !== undefined)
    return `${answer ? `“${isolated(answer)}”` : "that there is no answer"} (score ${score?.toFixed(2)})`;
  return typeof label === "number" ? label.toFixed(3) : [label].flat().join(", ") || "no class";
}

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

function answerTable(name, answer) {
  const rows = answerRows(answer);
  const shown = rows.some(({ token }) => token !== undefined) ? rows :
    rows.toSorted((a, b) => b.logit - a.logit).slice(0, MOST_ANSWERS)
      .sort((a, b) => rows.indexOf(a) - rows.indexOf(b));
  const left = rows.length - shown.length;
  const heads = ["", "", "probability", "logit"].map(text => element("th", { scope: "col", text }));
  return element("div", { class: "tinybert-answer", "data-side": name },
    element("table", {}, element("caption", {}, `The ${name} answers `,
      element("b", { text: answerText(answer) })), element("thead", { hidden: !rows.length }, element("tr", {}, ...heads)),
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
