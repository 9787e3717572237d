// The explorer of the site: one view, whose sentence the reader chooses. It comes after
// alignment_report.js (successive) in the same script.

const sentences = JSON.parse(document.getElementById("sentences").textContent);
const sentence = document.getElementById("sentence");
const show = successive(document.getElementById("explore"), "explore");

sentence.addEventListener("change", () => show(sentences[sentence.value]));
show(sentences[sentence.value]);
