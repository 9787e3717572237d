// After: alignment_report.js
// The page of `tinybert-nb explore`: what is typed is sent to the program that made the page, where
// both models run; its answer is the data of one view, as a saved page holds them.

const [form, said, place] = ["explore", "said", "place"].map(id => document.getElementById(id));
const show = successive(place, "text");

async function read(event) {
  event?.preventDefault();
  said.textContent = "Both models read …";
  const body = JSON.stringify({ text: form.elements.text.value, text_pair: form.elements.pair.value });
  try {
    const answer = await fetch(`text${location.search}`, { method: "POST", body,
      headers: { "Content-Type": "application/json" } });
    const content = await answer.json();
    said.textContent = answer.ok ? content.said : content.problem;
    if (answer.ok) show(content.data);
  } catch {
    said.textContent = "No answer: the program that shows this page has ended.";
  }
}

form.addEventListener("submit", read);
read();
