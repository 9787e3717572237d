"""The field's words, and none of this package's own: in modules, help, notebooks and pages."""

import re
import sys

import pytest

from conftest import ROOT, cells_of, run_command, succeeded
from sources import all_modules, all_notebooks

# What is not written -> what is written in its place.
DIALECT = {
    r"\bkept answers\b|\bteacher's answers\b": "cached logits, teacher logits",
    r"\basked once\b": "computed once",
    r"\bwhoever\b": "the user, the caller, a name",
    r"\bha(?:s|ve) no say\b": "never contributes",
    r"\ball the same\b": "still, anyway",
    r"\bword pieces?\b": "tokens",
    r"\blooks? at the dev\b|\blook is due\b|\bhonest looks?\b": "evaluate, evaluation",
    r"\b(?:its|teacher's|the) inside\b(?! out)": "intermediate layers",
    r"\bgo(?:es)? on where\b|\btaken? up again\b": "resume",
    r"\bso many times\b": "ratio, factor",
    r"\bfor want of\b": "for lack of",
    r"\bguess(?:es)? at random\b": "random predictions",
}
# Where such a word stands for what it usually means.
ALLOWED = {
    ("01_first_distillation.ipynb", "word pieces"),  # the tokenizer's own term, explained
    ("data.packaged_texts", "the inside"), ("02_packaged_texts.ipynb", "the inside"),
}


def dialect_in(text: str, name: str = "") -> list[str]:
    """Each word of the dialect that a text holds, with its surroundings and the usual word."""
    return [
        f"{name}: ...{text[max(0, match.start() - 40):match.end() + 20]}...: write {usual}"
        for pattern, usual in DIALECT.items()
        for match in re.finditer(pattern, text, re.IGNORECASE)
        if (name, match.group().lower()) not in ALLOWED
    ]


@pytest.mark.parametrize("notebook", all_notebooks(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_notebooks_are_written_in_the_fields_words(notebook):
    text = "\n\n".join(cell["source"] for cell in cells_of(notebook, "markdown"))
    assert dialect_in(text, notebook.name) == []


def test_modules_are_written_in_the_fields_words():
    found = []
    for name, path in all_modules().items():
        found += dialect_in(path.read_text(encoding="utf-8"), name)
    assert found == []


def test_help_is_written_in_the_fields_words():
    program = """
import sys
from tinybert_nb.cli.commands import COMMANDS, parse_arguments
for words in (["--help"], *([name, "--help-all"] for name in COMMANDS)):
    try:
        parse_arguments(words)
    except SystemExit as leave:
        assert leave.code == 0
"""
    printed = succeeded(run_command(sys.executable, "-c", program)).stdout
    assert printed.count("--out") > 5
    assert dialect_in(printed, "help") == []


@pytest.mark.parametrize("page", [
    "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "data/README.md", "nbs/glossary.md",
    "nbs/guide.md", "nbs/results.md"])
def test_pages_are_written_in_the_fields_words(page):
    assert dialect_in((ROOT / page).read_text(encoding="utf-8"), page) == []


def test_the_rule_finds_a_word_and_lets_others_pass():
    assert len(dialect_in("Padding has no say, whoever asks.")) == 2
    assert dialect_in("Brackets are removed from the inside out; nobody goes on.") == []
