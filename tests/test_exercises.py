"""The exercises: their form; open with the blanks, solved with the solutions that they show."""

from dataclasses import dataclass
from pathlib import Path
import ast
import json
import re

import pytest

from conftest import ROOT
import tinybert_nb.analysis.exercises as checking
from tinybert_nb.analysis.exercises import Exercises, Progress

FOLDER = ROOT / "nbs" / "exercises"
START = FOLDER / "00_start.ipynb"
NOTEBOOKS = sorted(path for path in FOLDER.glob("*.ipynb") if path != START)
ALL_NOTEBOOKS = 9
FEWEST, FEWEST_OF_ALL = 5, 40
HEAD = (
    r"# Exercises: (?P<name>[a-z ]+)\n\n> [^\n]+\n\n"
    r"\* \*\*Presumes\*\*: [^\n]*\]\(\.\./\w+/\w+\.ipynb\)[^\n]*\n"
    r"\* \*\*Takes\*\*: about \d+ minutes\n"
    r"\* \*\*How\*\*: fill in each blank, run the check under it; hint and solution are folded\."
)
FOLDED = (
    r"<details><summary>Hint</summary>\n\n(?P<hint>.+?)\n\n</details>\n{1,2}"
    r"<details><summary>Solution</summary>\n\n```python\n(?P<solution>.+?)\n```\n\n"
    r"(?P<why>.+?)\n\n</details>"
)
BLANK = r"(\w+ = None  # [^\n]+\n?)+|def \w+\(.*\n    \.\.\."


@dataclass
class Exercise:
    """The cells of one exercise: texts, and where in the notebook its code cells are."""

    number: int
    task: str
    blank: int
    check: int
    folded: str

    @property
    def solution(self) -> str:
        """The code that replaces the blank."""
        return re.fullmatch(FOLDED, self.folded, re.DOTALL)["solution"]


def cells_in(notebook: Path) -> list[tuple[str, str]]:
    """All cells in order: kind and source."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]


def exercises_in(cells: list[tuple[str, str]]) -> list[Exercise]:
    """The exercises between the first two cells and the last, in order."""
    found, place = [], 2
    while place < len(cells) - 1:
        kind, task = cells[place]
        number = re.match(r"## (\d+)\. \S", task)
        assert kind == "markdown" and number, f"a task should begin here: {task[:60]!r}"
        end = place + 1
        while end < len(cells) and cells[end][0] == "code":
            end += 1
        assert end - place - 1 in (2, 3), f"not (inputs,) blank and check: {task[:60]!r}"
        assert cells[end][0] == "markdown" and re.fullmatch(FOLDED, cells[end][1], re.DOTALL), (
            f"hint and solution should follow: {task[:60]!r}")
        found.append(Exercise(int(number[1]), task, end - 2, end - 1, cells[end][1]))
        place = end + 1
    return found


def check_block(source: str) -> tuple[int, list[ast.Assert]]:
    """The number that a check cell checks, and its assertions."""
    blocks = [node for node in ast.parse(source).body if isinstance(node, ast.With)]
    assert len(blocks) == 1, source
    call = blocks[0].items[0].context_expr
    assert isinstance(call, ast.Call) and ast.unparse(call.func) == "exercises.check", source
    asserts = [node for node in ast.walk(blocks[0]) if isinstance(node, ast.Assert)]
    return ast.literal_eval(call.args[0]), sorted(asserts, key=lambda node: node.lineno)


def words_of(task: str) -> int:
    """The number of words of a task, without its title, formulas, code blocks and tables."""
    text = re.sub(r"^```.*?^```|\$\$.+?\$\$", "", task, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(## |\|).*$", "", text, flags=re.MULTILINE)
    return len(re.findall(r"\w[\w'-]*", re.sub(r"\$[^$]+\$|`[^`]+`", "x", text)))


def run(cells, name: str, folder: Path, monkeypatch) -> tuple[Exercises, dict]:
    """Run the code cells in one namespace: the exercises, and by number what each check raised."""
    monkeypatch.setenv("TINYBERT_NB_RUNS", str(folder))
    results: dict[int, Exception | None] = {}
    errors: list[Exception] = []

    def explain(error, plain=checking.explain_failure):
        errors.append(error)
        return plain(error)

    def record(exercises, number, solved, plain=checking._record):
        results[number] = None if solved else errors[-1]
        plain(exercises, number, solved)

    monkeypatch.setattr(checking, "explain_failure", explain)
    monkeypatch.setattr(checking, "_record", record)
    namespace: dict = {"__name__": "__main__"}
    for place, (kind, source) in enumerate(cells):
        if kind == "code":
            exec(compile(source, f"{name}, cell {place}", "exec"), namespace)
    return namespace["exercises"], results


def line_in(file: str, error: Exception) -> int:
    """The line of a cell that led to an error; 0 if none did."""
    line, step = 0, error.__traceback__
    while step is not None:
        line = step.tb_lineno if step.tb_frame.f_code.co_filename == file else line
        step = step.tb_next
    return line


notebooks = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


@notebooks
def test_with_the_blanks_every_check_says_what_to_fill_in(notebook, tmp_path, monkeypatch, capsys):
    cells = cells_in(notebook)
    exercises, results = run(cells, notebook.stem, tmp_path, monkeypatch)
    printed = capsys.readouterr().out
    assert exercises.solved == [] and [*results] == [*range(1, exercises.count + 1)]
    for exercise in exercises_in(cells):
        error = results[exercise.number]
        assert isinstance(error, AssertionError), f"exercise {exercise.number}: {error!r}"
        first = check_block(cells[exercise.check][1])[1][0]  # the one about the blank
        line = line_in(f"{notebook.stem}, cell {exercise.check}", error)
        assert first.lineno <= line <= first.end_lineno, f"exercise {exercise.number}: {error}"
        assert f"Exercise {exercise.number} is not solved yet: {error}" in printed


@notebooks
def test_with_the_solutions_every_exercise_is_solved(notebook, tmp_path, monkeypatch):
    cells = cells_in(notebook)
    for exercise in exercises_in(cells):
        cells[exercise.blank] = "code", exercise.solution
    exercises, results = run(cells, notebook.stem, tmp_path, monkeypatch)
    assert {number: error for number, error in results.items() if error is not None} == {}
    assert exercises.solved == [*results] == [*range(1, exercises.count + 1)]


@notebooks
def test_an_exercise_notebook_is_in_form(notebook):
    cells = cells_in(notebook)
    assert (head := re.fullmatch(HEAD, cells[0][1])), cells[0][1]
    assert head["name"].replace(" ", "_") == notebook.stem[3:]
    exercises = exercises_in(cells)
    made = f'exercises = Exercises("{head["name"]}", {len(exercises)})\nexercises'
    assert cells[1][0] == "code" and cells[1][1].endswith(made)
    assert [exercise.number for exercise in exercises] == [*range(1, len(exercises) + 1)]
    assert len(exercises) >= FEWEST
    assert cells[-1][0] == "markdown" and cells[-1][1].startswith("## What to try next\n")
    assert re.search(r"\]\([^)]+\.ipynb\)", cells[-1][1]), "the last cell links to more"


@notebooks
def test_each_exercise_is_in_form(notebook):
    cells = cells_in(notebook)
    for exercise in exercises_in(cells):
        assert 40 <= words_of(exercise.task) <= 120, exercise.task
        number, asserts = check_block(cells[exercise.check][1])
        assert number == exercise.number and 2 <= len(asserts) <= 6
        assert all(node.msg is not None for node in asserts), "an assertion without a message"
        blank = cells[exercise.blank][1]
        assert re.fullmatch(BLANK, blank, re.DOTALL), blank
        assert len(blank.splitlines()) <= 8 and exercise.solution not in "\n".join(
            source for _, source in cells[:exercise.check + 1])
        code = [source for kind, source in cells if kind == "code"] + [exercise.solution]
        assert [line for source in code for line in source.splitlines() if len(line) > 100] == []


@notebooks
def test_one_exercise_asks_for_an_explanation(notebook):
    cells = cells_in(notebook)
    choices = [exercise for exercise in exercises_in(cells) if cells[exercise.blank][1].startswith(
        'answer = None  # "a", "b" or "c"')]
    assert choices
    for exercise in choices:
        assert re.findall(r"^\* \*\*([a-c])\*\*: \S", exercise.task, re.M) == ["a", "b", "c"]


def test_there_are_many_exercises_and_the_start_page_lists_their_notebooks():
    progress = Progress(FOLDER)
    assert [each.name.replace(" ", "_") for each in progress.notebooks] == [
        path.stem[3:] for path in NOTEBOOKS]
    if len(NOTEBOOKS) >= ALL_NOTEBOOKS:
        assert progress.count >= FEWEST_OF_ALL
    page = "\n".join(source for kind, source in cells_in(START) if kind == "markdown")
    rows = re.findall(r"^\| \[\d\. [^]]+\]\((\w+)\.ipynb\) \|.+\| (\d+) \|$", page, re.M)
    assert len(rows) == ALL_NOTEBOOKS and rows == sorted(rows)
    minutes = dict(rows)
    for notebook in NOTEBOOKS:
        assert f"about {minutes[notebook.stem]} minutes" in cells_in(notebook)[0][1]


GOOD = [
    ("markdown", "# Exercises: sums"),
    ("code", "from tinybert_nb.analysis.exercises import Exercises\n\n"
             'exercises = Exercises("sums", 1)\nexercises'),
    ("markdown", "## 1. A sum"),
    ("code", "answer = None  # your number"),
    ("code", "with exercises.check(1):\n"
             '    assert answer is not None, "replace None"\n    assert answer + 1 == 4, "add"'),
    ("markdown", "<details><summary>Hint</summary>\n\nAdd.\n\n</details>\n\n<details><summary>Solution"
                 "</summary>\n\n```python\nanswer = 3\n```\n\nA sum.\n\n</details>"),
    ("markdown", "## What to try next"),
]


def test_the_rules_tell_a_blank_from_an_error_and_from_a_solution(tmp_path, monkeypatch):
    [exercise] = exercises_in(GOOD)
    assert (exercise.number, exercise.blank, exercise.solution) == (1, 3, "answer = 3")
    for code, expected in (("answer = None", AssertionError), ("answer = 'x'", TypeError),
                           (exercise.solution, type(None))):
        cells = [*GOOD[:3], ("code", code), *GOOD[4:]]
        exercises, results = run(cells, "sums", tmp_path, monkeypatch)
        assert type(results[1]) is expected and exercises.solved == [1] * (results[1] is None)


@pytest.mark.parametrize("left_out", [2, 3, 5])
def test_the_rules_miss_no_cell(left_out):
    with pytest.raises(AssertionError):
        exercises_in(GOOD[:left_out] + GOOD[left_out + 1:])
