"""The attention explorer of the site, a page without a kernel: its data, and the page of them.

    make demo
    .venv/bin/python scripts/attention_page.py    # writes nbs/attention/sentences.json

The data are those of a page that an explorer saves: teacher and student on prepared sentences, all
heads of all layers, at each checkpoint of the student (initial weights, after stage one, after stage
two). `make docs` makes the page: one HTML file that may run one script, which it contains, and asks
for nothing else.
"""

from html import escape
from pathlib import Path
import argparse
import json

from sources import ROOT
from tinybert_nb.analysis.alignment import default_map
from tinybert_nb.analysis.attention_view import OfflineView
from tinybert_nb.analysis.html import html_report
from tinybert_nb.analysis.through_training import read_checkpoints
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
.choice { margin: 1rem 0; }
.choice select { font: inherit; max-width: 100%; }
"""


class Explorer:
    """The choice of a sentence, the place where the script draws, and the data; an item of `html_report`."""

    def __init__(self, sentences: list[dict]):
        self.sentences = sentences

    def report_html(self) -> str:
        """HTML and the JSON that the script reads."""
        data = json.dumps(self.sentences).replace("<", "\\u003c")
        texts = "".join(f'<option value="{number}">{escape(sentence["text"])}</option>'
                        for number, sentence in enumerate(self.sentences))
        return (f'<p class="choice"><label>Sentence <select id="sentence">{texts}</select></label></p>'
                '<div id="explore" role="group" aria-label="attention, interactive"></div>'
                f'<script type="application/json" id="sentences">{data}</script>')


def read_sentences(teacher_folder: str, student_folder: str) -> list[dict]:
    """The sentences, read by the teacher and by each checkpoint of the student."""
    teacher, tokenizer = load_with_head(teacher_folder), load_tokenizer(teacher_folder)
    checkpoints = student_checkpoints(student_folder)
    layer_map = default_map(teacher, checkpoints[-1].load())
    return [{"text": text, **OfflineView([*read_checkpoints(teacher, checkpoints, tokenizer, text)],
                                         layer_map, "").content} for text in SENTENCES]


def write_page(path: Path) -> None:
    """Make the page of the committed data."""
    scripts = [joined_script("analysis/alignment_report.js"),
               (ROOT / "scripts" / "docs" / "explore.js").read_text(encoding="utf-8")]
    explorer = Explorer(json.loads(DATA.read_text(encoding="utf-8")))
    html_report("Teacher and student: how they attend", [
        ("Point at a token", [
            "Each token shows, from top to bottom, how much of the teacher's attention it gets, of "
            "the student's, and the difference.", explorer]),
        ("What is compared", [
            "The fine-tuned teacher of the demo and its student TinyBERT-3L-312: at its initial "
            "weights (start), after stage one and after stage two. Until stage two its "
            "classification head has its random initial weights: what the student answers before "
            "says nothing about what it has learnt."])],
        path, "".join(scripts), static_text("analysis/attention_view.css") + STYLE)


def main() -> None:
    """Write the data and say how large they are."""
    parser = argparse.ArgumentParser(description="the data of the site's attention explorer")
    parser.add_argument("--teacher", default=str(ROOT / "runs/demo/seed-0/teacher/best"))
    parser.add_argument("--student", default=str(ROOT / "runs/demo/seed-0/tinybert-3l-312"),
                        help="a folder that holds stage-one/ and stage-two/")
    given = parser.parse_args()
    lines = [json.dumps(sentence, separators=(",", ":")) for sentence in read_sentences(given.teacher, given.student)]
    DATA.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    print(f"{DATA}: {DATA.stat().st_size:,} bytes, {len(lines)} sentences")


if __name__ == "__main__":
    main()
