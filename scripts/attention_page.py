"""The attention explorer of the site, a page without a kernel: its data, and the page of them.

    make demo
    .venv/bin/python scripts/attention_page.py    # writes nbs/attention/sentences.json

The data are teacher and student on prepared sentences: all heads of all mapped layers, at each
checkpoint of the student (initial weights, after stage one, after stage two), with the teacher's
prediction and that of the last checkpoint, whose head is trained, and how far each head of the
student is from its teacher's.
`make docs` makes the page: one HTML file that may run one script, which it contains, and asks for
nothing else.
"""

from html import escape
from pathlib import Path
import argparse
import json

from sources import ROOT
from tinybert_nb.analysis.alignment import default_map, read_text
from tinybert_nb.analysis.attention_view import OfflineView
from tinybert_nb.analysis.disagreement import answers_of
from tinybert_nb.analysis.html import html_report
from tinybert_nb.files.scripts import joined_script, static_text
from tinybert_nb.models.tokenizers import load_tokenizer
from tinybert_nb.recipes.student_checkpoints import load_with_head, student_checkpoints

DATA = ROOT / "nbs" / "attention" / "sentences.json"
SENTENCES = (
    "a warm, funny film that is better than its title.",
    "the plot is thin, but the actors save it.",
    "not bad at all, and never boring.",
    "i laughed once, and then i looked at my watch.",
    "nobody in this film says what she means.",
    "too long, too loud, and far too sure of itself.",
)
STYLE = """
h1 { font-size: 1.3rem; margin: 0; }
h2 { font-size: 1.1rem; margin-top: 1rem; }
.choices { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; margin: 1rem 0; }
.choices label { max-width: 100%; }
.choices select { font: inherit; max-width: 100%; }
"""


class Explorer:
    """The controls, the place where the script draws, and the data; an item of `html_report`."""

    def __init__(self, sentences: list[dict]):
        self.sentences, self.checkpoints = sentences, [*sentences[0]["students"]]

    def report_html(self) -> str:
        """HTML and the JSON that the script reads."""
        data = json.dumps(self.sentences).replace("<", "\\u003c")
        texts = "".join(f'<option value="{number}">{escape(sentence["text"])}</option>'
                        for number, sentence in enumerate(self.sentences))
        names = "".join(f"<option{' selected' * (name == self.checkpoints[-1])}>{escape(name)}</option>"
                        for name in self.checkpoints)
        return (f'<div class="choices"><label>Sentence <select id="sentence">{texts}</select></label>'
                f'<label>Student <select id="checkpoint">{names}</select></label></div>'
                '<div id="explore" role="group" aria-label="attention, interactive"></div>'
                f'<script type="application/json" id="sentences">{data}</script>')


MEASURE = "jensen_shannon"


def shown_content(read, layer_map, answers) -> tuple[dict, dict]:
    """What the site shows of a view, scores of the mapped layers for all heads; what a checkpoint changes."""
    pairs = range(1, layer_map.student_layers + 1)
    content = OfflineView(read, layer_map, "", answers=answers, layers=pairs).content
    measures = [one for one in content["overview"]["measures"] if one["name"] == MEASURE]
    kept = ("student_layer", "teacher_layer", "head", "mapped", "pair", MEASURE)
    rows = [{name: row[name] for name in kept} for row in content["overview"]["rows"]]
    of_checkpoint = {"answers": content["answers"], "overview": {"measures": measures, "rows": rows}}
    content["ways"] = [way for way in content["ways"] if way["name"] in ("probabilities", "scores")]
    kept = ("tokens", "segments", "words", "layers", "heads", "merges", "layer_merges", "windows", "largest", "layer",
            "head", "token", "opened", "ways", "chosen", "teacher", "student")
    for side in ("teacher", "student"):
        content[side]["tables"] = {}
    return {name: content[name] for name in kept}, of_checkpoint


def read_sentences(teacher_folder: str, student_folder: str) -> list[dict]:
    """The sentences, read by the teacher and by each checkpoint of the student."""
    checkpoints = {each.name: str(each.source) for each in student_checkpoints(student_folder)}
    teacher, tokenizer = load_with_head(teacher_folder), load_tokenizer(teacher_folder)
    sentences = [{"text": text, "students": {}, "checkpoints": {}, "largest": 0} for text in SENTENCES]
    for name, folder in checkpoints.items():
        student = load_with_head(folder)
        layer_map = default_map(teacher, student).one_to_one()
        for sentence in sentences:
            read = read_text(teacher, student, tokenizer, sentence["text"])
            answers = answers_of(read, teacher, student)
            if name != [*checkpoints][-1]:
                answers.pop("student", None)  # its head is not trained before the last stage
            content, sentence["checkpoints"][name] = shown_content(read, layer_map, answers)
            sentence["students"][name] = content.pop("student")
            largest = max(sentence["largest"], content["largest"])
            sentence |= {**content, "largest": largest}  # one scale of scores for all checkpoints
    return sentences


def write_page(path: Path) -> None:
    """Make the page of the committed data."""
    scripts = [joined_script("alignment_report.js"),
               (ROOT / "scripts" / "docs" / "explore.js").read_text(encoding="utf-8")]
    explorer = Explorer(json.loads(DATA.read_text(encoding="utf-8")))
    html_report("Teacher and student: how they attend", [
        ("Point at a token", [
            "Each token shows, from top to bottom, how much of the teacher's attention it gets, of "
            "the student's, and the difference.", explorer]),
        ("What is compared", [
            "The fine-tuned teacher of the demo and its student TinyBERT-3L-312: at its initial "
            "weights (start), after stage one and after stage two."])],
        path, "".join(scripts), static_text("attention_view.css") + STYLE)


def main() -> None:
    """Write the data and say how large they are."""
    parser = argparse.ArgumentParser(description="the data of the site's attention explorer")
    parser.add_argument("--teacher", default=str(ROOT / "runs/demo/seed-0/teacher/best"))
    parser.add_argument("--student", default=str(ROOT / "runs/demo/seed-0/tinybert-3l-312"),
                        help="a folder that holds stage-one/ and stage-two/")
    given = parser.parse_args()
    lines = [json.dumps(sentence) for sentence in read_sentences(given.teacher, given.student)]
    DATA.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    print(f"{DATA}: {DATA.stat().st_size:,} bytes, {len(lines)} sentences")


if __name__ == "__main__":
    main()
