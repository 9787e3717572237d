"""Tasks of every kind go the whole road as commands: files in, a student and a table out."""

import csv
import json
import random
import zipfile

import pytest

from conftest import history_rows, succeeded, tinybert_nb

BRIEF = ["--finetune.epochs", "1", "--stage-one.epochs", "1", "--stage-two.epochs", "1"]
BRIEF += [f"--{stage}.max-length=48" for stage in ("finetune", "stage-one", "stage-two")]
SMALL = ["--student", "2l-48-12h", "--stage-one.any-teacher", *BRIEF]
PEOPLE, TOWNS = ["Ada", "Grace", "Alan", "Emmy"], ["Paris", "Rome", "New York"]


def films(chance: random.Random, count: int) -> list[tuple[str, str]]:
    """Texts and classes that a word gives away."""
    words = {"good": ["warm", "funny", "lovely"], "bad": ["dull", "cold", "noisy"]}
    labels = [chance.choice(list(words)) for _ in range(count)]
    return [(f"a {chance.choice(words[label])} film, number {n}", label) for n, label in enumerate(labels)]


def write_csv(path, chance, count):
    """Columns in an order of their own; a text with a comma and quotation marks."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "opinion", "words"])
        writer.writerows((n, label, f'"{text}"') for n, (text, label) in enumerate(films(chance, count)))


def write_scores(path, chance, count):
    """JSON lines with a number to predict."""
    rows = [{"text": text, "score": len(text) / 10} for text, _ in films(chance, count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_moods(path, chance, count):
    """Tab-separated with a header and several classes a text, some with none."""
    rows = [(text, "|".join(chance.sample(["calm", "loud", "odd"], chance.randint(0, 2)))) for text, _ in films(chance, count)]
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{moods}\n" for text, moods in rows), encoding="utf-8")


def write_names(path, chance, count):
    """CoNLL: a word a line."""
    texts = []
    for _ in range(count):
        town = chance.choice(TOWNS).split()
        words = [(chance.choice(PEOPLE), "B-PER"), ("visits", "O")]
        words += [(word, "I-LOC" if n else "B-LOC") for n, word in enumerate(town)]
        texts.append("".join(f"{word} _ {tag}\n" for word, tag in words))
    path.write_text("\n".join(texts), encoding="utf-8")


def write_questions(path, chance, count):
    """SQuAD 2.0: every third question has no answer."""
    paragraphs = []
    for n in range(count):
        who, where = chance.choice(PEOPLE), chance.choice(TOWNS)
        context = f"In spring {who} went to {where}. It rained."
        answer = [] if n % 3 == 0 else [{"text": where, "answer_start": context.index(where)}]
        asked = {"id": f"q{n}", "question": "Where?" if answer else "Why?", "answers": answer, "is_impossible": not answer}
        paragraphs.append({"context": context, "qas": [asked]})
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), encoding="utf-8")


KINDS = {
    "csv": (write_csv, "films.csv", ["--text", "words", "--label", "opinion"], "accuracy"),
    "numbers": (write_scores, "scores.jsonl", ["--problem", "regression"], "correlation"),
    "several": (write_moods, "moods.tsv", ["--problem", "multi", "--separator", "|"], "micro_f1"),
    "words": (write_names, "names.conll", ["--problem", "tokens"], "entity_f1"),
    "questions": (write_questions, "asked.json", ["--problem", "spans"], "answer_f1"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task_goes_the_whole_road(kind, small_teacher, tmp_path):
    write, name, options, metric = KINDS[kind]
    write(tmp_path / name, random.Random(0), 60)
    write(tmp_path / f"test-{name}", random.Random(1), 30)
    out, table = tmp_path / "run", tmp_path / "rows.json"
    told = succeeded(tinybert_nb(
        "distill", "--train", tmp_path / name, "--test", tmp_path / f"test-{name}", *options, *SMALL,
        "--teacher", small_teacher, "--out", out, "--json", table))
    rows = json.loads(table.read_text(encoding="utf-8"))
    simple = {"words": ["frozen teacher"], "questions": []}.get(kind, ["bag of words", "frozen teacher"])
    systems = ["majority", *simple, "teacher", "2l-48-12h baseline", "2l-48-12h distilled"]
    assert [row["system"] for row in rows] == systems
    assert all(row["metric"] == metric and -1 <= row[metric] <= 1 for row in rows)
    assert metric.replace("_", " ").replace("f1", "F1") in told.stdout
    for stage in ("teacher", "stage-two", "baseline"):  # the metric has chosen the checkpoint
        assert any(metric in row for row in history_rows(out / stage))
    card = (out / "stage-two/best/README.md").read_text(encoding="utf-8")
    classes = {"words": "AutoModelForTokenClassification", "questions": "AutoModelForQuestionAnswering"}
    assert classes.get(kind, "AutoModelForSequenceClassification") in card
    page = tmp_path / "page"
    succeeded(tinybert_nb("compare", out, "--eval", tmp_path / f"test-{name}", *options, "--out", page))
    rows = json.loads((page / "scoreboard.json").read_text(encoding="utf-8"))["rows"]
    assert len(rows) == 3 and all(row["low"] <= row[metric] + 1e-9 and row[metric] <= row["high"] + 1e-9 for row in rows)
    assert ("agreement" in rows[1]) == (kind != "numbers")


@pytest.fixture(scope="module")
def two_runs(small_teacher, tmp_path_factory):
    """The same task with two seeds."""
    folder = tmp_path_factory.mktemp("compared")
    write_csv(folder / "films.csv", random.Random(0), 60)
    for seed in (0, 1):
        succeeded(tinybert_nb("distill", "--train", folder / "films.csv", "--text", "words", "--label", "opinion", *SMALL,
                              "--teacher", small_teacher, "--out", folder / f"runs/seed-{seed}", "--seed", seed))
    return folder


def test_runs_are_compared_on_one_page(two_runs):
    runs = sorted((two_runs / "runs").iterdir())
    told = succeeded(tinybert_nb("compare", *runs, "--out", two_runs / "page", "--style", "markdown"))
    head, _, *lines = told.stdout.splitlines()
    assert head.startswith("| system | accuracy | 95 % interval | answers like its teacher |")
    assert [line.split(" | ")[0] for line in lines] == ["| baseline", "| stage-two", "| teacher"]
    assert all(line.endswith("| 2 |") for line in lines) and "left out: " in told.stderr  # stage one
    page = two_runs / "page"
    assert {path.name for path in page.iterdir()} == {
        "own-errors.md", "scoreboard.csv", "scoreboard.json", "scoreboard.md", "scoreboard.png", "scoreboard.svg"}
    assert (page / "scoreboard.md").read_text(encoding="utf-8") == told.stdout


def test_nothing_to_compare_is_said(tmp_path):
    told = tinybert_nb("compare", tmp_path)
    assert told.returncode == 1 and f"nothing to compare; {tmp_path} holds no checkpoint" in told.stderr


def write_glue(folder, count):
    """RTE as GLUE has it, with as many test rows as published."""
    folder.mkdir()
    head = "index\tsentence1\tsentence2"
    rows = [f"{n}\tA man sings.\tA man is {'loud' if n % 2 else 'silent'}.\t{'entailment' if n % 2 else 'not_entailment'}" for n in range(count)]
    for name, part in (("train", rows), ("dev", rows[:20])):
        (folder / f"{name}.tsv").write_text("\n".join([f"{head}\tlabel", *part]) + "\n", encoding="utf-8")
    (folder / "test.tsv").write_text("\n".join([head, *(row.rsplit("\t", 1)[0] for row in rows[:1] * 3000)]) + "\n", encoding="utf-8")


def test_glue_from_recipe_to_submission(small_teacher, tmp_path):
    write_glue(tmp_path / "RTE", 40)
    told = tinybert_nb("glue", "RTE", "--place", tmp_path)
    assert "40 rows, where 2,490 were published for RTE's train" in told.stderr
    assert "epochs: 20" in succeeded(told).stdout and "section 4.2" in told.stdout
    (tmp_path / "rte.yaml").write_text(told.stdout, encoding="utf-8")
    succeeded(tinybert_nb(
        "distill", "--settings-file", tmp_path / "rte.yaml", "--teacher", small_teacher, "--out", tmp_path / "run", *SMALL,
        "--no-baseline", "--no-augment"))
    out = tmp_path / "answers.zip"
    told = succeeded(tinybert_nb("submit", f"RTE={tmp_path}/run/stage-two/best", "--place", tmp_path, "--out", out))
    assert told.stdout == f"{out}: RTE\n"
    lines = zipfile.ZipFile(out).read("RTE.tsv").decode().splitlines()
    assert lines[0] == "index\tprediction" and len(lines) == 3001
    assert {line.split("\t")[1] for line in lines[1:]} <= {"entailment", "not_entailment"}


@pytest.mark.parametrize(
    "words, said",
    [
        (["glue", "SST2"], "GLUE has no task 'SST2': choose one of CoLA, SST-2"),
        (["glue", "RTE", "--place", "."], "none of RTE's files is there (train.tsv, dev.tsv, test.tsv)"),
        (["submit", "RTE"], "RTE: say which folder answers which task"),
        (["ablate", "--train", "x.txt", "--variants", "luck"], "variants has 'luck': choose from full"),
        (["distill", "--train", "x.csv", "--problem", "guess"], "guess"),
    ],
)
def test_what_is_asked_wrongly_is_said(words, said, tmp_path):
    told = tinybert_nb(*words)
    assert told.returncode in (1, 2) and said in told.stderr + told.stdout
    assert "Traceback" not in told.stderr


def test_ablations_as_a_command(small_teacher, tmp_path):
    write_csv(tmp_path / "films.csv", random.Random(0), 60)
    words = ["ablate", "--train", tmp_path / "films.csv", "--text", "words", "--label", "opinion", "--teacher", small_teacher, *SMALL,
             "--variants", "full", "without stage one", "--seeds", "0", "--out", tmp_path / "run"]
    told = succeeded(tinybert_nb(*words))
    assert "| without stage one |" in told.stdout and (tmp_path / "run/ablations.png").stat().st_size > 5000
    again = succeeded(tinybert_nb(*words))
    assert again.stdout == told.stdout and "finished before" in again.stderr
