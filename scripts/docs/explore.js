// The explorer of the site: one view, whose sentence and checkpoint the reader chooses. It comes
// after attention_view.js (draw) and alignment_report.js (modelOf, exchangeable) in the same script.

const sentences = JSON.parse(document.getElementById("sentences").textContent);
const [sentence, checkpoint] = ["sentence", "checkpoint"].map(name => document.getElementById(name));

function chosen() {
  const data = sentences[sentence.value];
  const last = checkpoint.selectedIndex === checkpoint.length - 1; // of which `opened` is
  return modelOf({ ...data, ...data.checkpoints[checkpoint.value], opened: last ? data.opened : "",
    student: data.students[checkpoint.value] }, "explore");
}

let current = chosen();
const shown = exchangeable(() => current);

// Another checkpoint is shown at the same layer, head and token; another sentence at its own.
function choose(kept) {
  const before = current;
  current = chosen();
  for (const name of kept) current.set(name, before.get(name));
  shown.save_changes();
}

const kept = ["view", "words", "scale", "lines", "measure"];
sentence.addEventListener("change", () => choose(kept));
checkpoint.addEventListener("change", () => choose([...kept, "layer", "head", "token", "selected"]));
draw(shown, document.getElementById("explore"));
