"""Data in memory give what their file gives, bit for bit; what is no data is refused in words."""

from dataclasses import replace
from hashlib import sha256
import json
import pickle

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
import pandas
import pyarrow
import pytest

from conftest import SMALL_STUDENT, history_rows, together
from tinybert_nb.data.examples import read_examples
from tinybert_nb.data.memory import as_source
from tinybert_nb.data.splits import TaskFiles
from tinybert_nb.data.task_form import DataError, TaskForm
from tinybert_nb.evaluation.labelling import label_texts, predict
from tinybert_nb.evaluation.measurement import evaluate
from tinybert_nb.recipes.augmented_files import augment_file
from tinybert_nb.recipes.finetuning import finetune
from tinybert_nb.recipes.stage_one import stage_one
from tinybert_nb.recipes.stage_two import stage_two
from tinybert_nb.recipes.task_distillation import distill
from tinybert_nb.training.rerun import rerun
from tinybert_nb.training.settings import (
    AugmentationSettings, DistillSettings, FinetuneSettings, StageOneSettings, StageTwoSettings)

SHORT = {"epochs": 1, "max_length": 32, "precision": "no"}
FINETUNE = FinetuneSettings(batch_size=16, **SHORT)
ONE = StageOneSettings(any_teacher=True, **SHORT)
WHOLE = DistillSettings(FINETUNE, ONE, StageTwoSettings(**SHORT), baselines="none")


class OnlyArrow:
    """A data frame of which no more is known than that it streams Arrow, as Polars' do."""

    def __init__(self, table: pyarrow.Table):
        self.table = table

    def __arrow_c_stream__(self, schema=None):
        return self.table.__arrow_c_stream__(schema)


def pairs_of(path) -> list[tuple[str, str]]:
    """The texts and labels of a file."""
    return [(each.text_a, each.label) for each in read_examples(path)]


def named_rows(pairs) -> list[dict]:
    """The same as dictionaries, with a column that is not read."""
    return [{"id": number, "text": text, "label": label} for number, (text, label) in enumerate(pairs)]


def with_classes(pairs) -> Dataset:
    """The same as a data set whose labels are class numbers, some of its rows taken out again."""
    names = sorted({label for _, label in pairs})
    columns = {"text": [text for text, _ in pairs], "label": [names.index(label) for _, label in pairs]}
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    twice = Dataset.from_dict({name: cells * 2 for name, cells in columns.items()}, features)
    return twice.select(range(len(pairs)))


FORMS = {
    "tuples": lambda pairs: pairs,
    "dictionaries": named_rows,
    "pandas": lambda pairs: pandas.DataFrame(named_rows(pairs)),
    "pandas, shuffled": lambda pairs: pandas.DataFrame(named_rows(pairs)).sample(frac=1, random_state=0).sort_values("id"),
    "pandas, categories": lambda pairs: pandas.DataFrame(named_rows(pairs)).astype({"label": "category"}),
    "pyarrow": lambda pairs: pyarrow.Table.from_pylist(named_rows(pairs)),
    "Arrow stream": lambda pairs: OnlyArrow(pyarrow.Table.from_pylist(named_rows(pairs))),
    "Dataset": with_classes,
    "Dataset of tensors": lambda pairs: with_classes(pairs).with_format("numpy"),
}


@pytest.fixture
def data_folder(small_teacher, tmp_path, monkeypatch):
    """An empty data folder; the small teacher has been made from the usual one."""
    monkeypatch.setenv("TINYBERT_NB_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def trained(run) -> tuple[list[dict], str]:
    """The history of a run, and a hash of its last weights."""
    return history_rows(run), sha256((run / "last/model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_trains_what_the_file_trains(form, small_data, small_teacher, data_folder, tmp_path):
    files = TaskFiles(small_data["train"], small_data["eval"])
    train, dev = (FORMS[form](pairs_of(path)) for path in small_data.values())
    from_files = finetune(files, small_teacher, tmp_path / "files", FINETUNE)
    from_memory = finetune(TaskFiles(train, dev), small_teacher, tmp_path / "memory", FINETUNE)
    assert from_memory == from_files and trained(tmp_path / "memory") == trained(tmp_path / "files")


def test_the_whole_recipe_takes_a_dataset_dict(small_data, small_teacher, data_folder, tmp_path):
    train, dev = (with_classes(pairs_of(path)) for path in small_data.values())
    both = DatasetDict(train=train, validation=dev, test=dev.select(range(12)))
    test = tmp_path / "test.txt"
    test.write_text("".join(small_data["eval"].read_text(encoding="utf-8").splitlines(keepends=True)[:12]), encoding="utf-8")
    files = TaskFiles(*small_data.values())
    rows = [distill(data, small_teacher, SMALL_STUDENT, tmp_path / name, WHOLE, held_out)
            for name, data, held_out in (("files", files, test), ("memory", both, both["test"]))]
    quality = [[{name: row.get(name) for name in ("system", "accuracy", "macro_f1", "updates", "rows_seen")}
                for row in each] for each in rows]
    assert quality[0] == quality[1] and len(rows[1]) == 4
    for run in ("teacher", "stage-one", "stage-two", "baseline"):
        assert trained(tmp_path / "files" / run) == trained(tmp_path / "memory" / run)
    assert str(rows[1]) == rows[1].table() == rows[1]._repr_markdown_() and "distilled" in str(rows[1])
    assert [line.split()[0] for line in rows[1].compare().splitlines()] == ["system", "baseline", "stage-two", "teacher"]
    student, tokenizer = rows[1].student()
    assert student.config.num_hidden_layers == 2 and tokenizer("a film")["input_ids"]


def test_one_list_is_split_as_its_file_is(small_data, small_teacher, data_folder, tmp_path):
    for name, data in (("file", small_data["train"]), ("memory", pairs_of(small_data["train"]))):
        finetune(data, small_teacher, tmp_path / name, FINETUNE)
    assert trained(tmp_path / "file") == trained(tmp_path / "memory")


def test_texts_without_labels_may_be_a_list_or_a_column(small_data, small_teacher, data_folder, tmp_path):
    taught = finetune(TaskFiles(*small_data.values()), small_teacher, tmp_path / "taught", FINETUNE).checkpoint
    texts = [f"a film about number {number}" for number in range(20)]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    frame = pandas.DataFrame({"text": texts})
    given = {"file": tmp_path / "texts.txt", "list": texts, "column": frame["text"], "frame": frame,
             "several": (tmp_path / "texts.txt",)}
    found = {}
    for name, unlabelled in given.items():
        files = TaskFiles(*small_data.values(), unlabelled=unlabelled)
        stage_two(files, taught, taught, tmp_path / name, StageTwoSettings(**SHORT))
        found[name] = trained(tmp_path / name)
        labelled = label_texts(unlabelled, taught)
        assert [each.text_a for each in read_examples(labelled.train)] == texts
    assert all(each == found["file"] for each in found.values())


def test_missing_labels_are_rows_without_a_label(small_data, data_folder, tmp_path):
    pairs = pairs_of(small_data["train"])
    number = {"negative": 0, "positive": 1}
    frame = pandas.DataFrame([(text, number[label]) for text, label in pairs], columns=["text", "label"])
    frame.loc[3, "label"] = None  # the others become 0.0 and 1.0
    rows = [(text, pandas.NA if row == 3 else number[label]) for row, (text, label) in enumerate(pairs)]
    for data in (frame, frame.astype({"label": "Int64"}), rows):
        with pytest.raises(DataError, match=r"48-rows-\w+.jsonl:4: the label is empty(?s:.*)Rows without a label: 1"):
            read_examples(as_source(data))
        with pytest.warns(UserWarning, match="1 of 48 rows have no label and are dropped"):
            kept = read_examples(as_source(data), form=TaskForm(unlabelled_rows="drop"))
        assert [each.label for each in kept] == [str(number[label]) for _, label in pairs[:3] + pairs[4:]]


def test_equal_content_is_computed_once(small_data, small_teacher, data_folder, tmp_path):
    pairs = pairs_of(small_data["train"])
    run = tmp_path / "run"
    first = finetune(pairs, small_teacher, run, FINETUNE)
    stamps = {path: path.stat().st_mtime_ns for path in [*data_folder.rglob("*.*"), *run.rglob("*")]
              if path.is_file() and ".lock" not in path.name and path.name != "progress.json"}
    again = finetune(FORMS["Dataset"](pairs), small_teacher, run, FINETUNE)
    assert again == first and {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert len([*(data_folder / "memory").glob("*.jsonl")]) == 1
    with pytest.raises(ValueError, match="holds a run that was made otherwise .data: "):
        finetune([("another film", "positive"), *pairs[1:]], small_teacher, run, FINETUNE)


def test_processes_write_one_file(data_folder):
    rows = [(f"film {number}", "good") for number in range(2000)]
    together(as_source, rows, count=2)
    path = as_source(rows)
    assert [each.name for each in path.parent.glob("[!.]*")] == [path.name]
    assert len(read_examples(path)) == 2000


def test_a_run_on_data_in_memory_is_repeated(small_data, small_teacher, data_folder, tmp_path):
    finetune(pairs_of(small_data["train"]), small_teacher, tmp_path / "run", FINETUNE)
    assert rerun(tmp_path / "run", tmp_path / "again", {"finetune": finetune}) == []
    [path] = (data_folder / "memory").glob("*.jsonl")
    path.write_text(path.read_text().replace("film", "book"))
    with pytest.raises(ValueError, match=r"48-rows-\w+.jsonl has changed"):
        rerun(tmp_path / "run", tmp_path / "third", {"finetune": finetune})


def test_rows_are_augmented_and_measured_as_their_file_is(small_data, small_teacher, data_folder, tmp_path):
    pairs = pairs_of(small_data["train"])
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in named_rows(pairs)), encoding="utf-8")

    def candidates(gaps):
        return [[gap.word, f"{gap.word}x"] for gap in gaps]

    for name, data in (("file", path), ("memory", FORMS["pandas"](pairs))):
        augment_file(data, tmp_path / f"{name}.jsonl", AugmentationSettings(samples=3), candidates=candidates)
    assert (tmp_path / "file.jsonl").read_text() == (tmp_path / "memory.jsonl").read_text()
    taught = finetune(path, small_teacher, tmp_path / "run", FINETUNE).checkpoint
    systems = {"teacher": taught}
    measured = [evaluate(systems, data, data)[1] for data in (path, *(form(pairs) for form in FORMS.values()))]
    assert len({(row["accuracy"], row["macro_f1"]) for row in measured}) == 1
    assert evaluate(taught, path)[1]["accuracy"] == measured[0]["accuracy"]


def test_a_model_answers_for_texts_in_memory_as_for_their_file(small_data, small_teacher, data_folder, tmp_path):
    pairs = pairs_of(small_data["train"])
    taught = finetune(pairs, small_teacher, tmp_path / "run", FINETUNE).checkpoint
    texts = [text for text, _ in pairs]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    of_file = predict(taught, tmp_path / "texts.txt")
    assert [row["text"] for row in of_file] == texts
    for data in (texts, pandas.DataFrame({"text": texts}), Dataset.from_dict({"text": texts}), (texts[:9], texts[9:])):
        assert [row["label"] for row in predict(taught, data)] == [row["label"] for row in of_file]
    assert predict(taught, texts) == of_file
    with pytest.raises(DataError, match="a generator can be read only once: give a list"):
        predict(taught, (text for text in texts))
    with pytest.raises(DataError, match="none has a usual name of the text"):
        predict(taught, pandas.DataFrame({"body": texts, "stars": texts}))


def test_tags_and_answers_may_be_in_memory(data_folder):
    words = [(["Ada", "sings"], ["B-PER", "O"]), (["Rome"], ["B-LOC"])]
    form = TaskForm(problem="tokens")
    frame = pandas.DataFrame(words, columns=["tokens", "tags"])
    assert read_examples(as_source(words), form=form) == read_examples(as_source(frame), form=form)
    assert read_examples(as_source(words), form=form)[0].label == ("B-PER", "O")
    answers = [{"text": "Ada", "answer_start": 0}]
    [asked] = read_examples(as_source([{"question": "Who?", "context": "Ada sings.", "answers": answers}]),
                            form=TaskForm(problem="spans"))
    assert asked.text_b == "Ada sings."


@pytest.mark.parametrize("data, message", [
    (pandas.DataFrame({"body": ["Fine."], "label": ["good"]}), r"1-rows-\w+.jsonl: of the columns body, label none has a usual name of the text"),
    ([], "the list is empty: it has no rows"),
    (["Fine.", ("Dull.", "bad")], "row 2 of the list is a tuple of 2, and row 1 is a text"),
    ((row for row in [("Fine.", "good")]), "a generator can be read only once: give a list of its rows"),
    ({"validation": [("Fine.", "good")]}, "files holds validation: one of them must be called train"),
    ({"text": ["Fine."], "label": ["good"]}, "files holds text, label: one of them must be called train"),
    (TaskForm(), "a TaskForm is no data: give a path, the name of a data set, a data frame"),
], ids=["no text column", "empty", "mixed", "generator", "no train split", "columns", "no data"])
def test_what_is_no_data_is_refused_before_anything_is_made(data, message, small_teacher, data_folder, tmp_path):
    for recipe in (lambda out: finetune(data, small_teacher, out, FINETUNE),
                   lambda out: distill(data, small_teacher, SMALL_STUDENT, out, WHOLE)):
        with pytest.raises(DataError, match=message):
            recipe(tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_results_are_dictionaries_that_show_themselves(small_data, small_teacher, data_folder, tmp_path):
    files = TaskFiles(*small_data.values())
    result = finetune(files, small_teacher, tmp_path / "run", FINETUNE)
    assert result == json.loads((tmp_path / "run/result.json").read_text())
    assert result.checkpoint == tmp_path / "run/best" and result["best"] == pytest.approx(result["last"], abs=1)
    said = str(result).splitlines()
    assert said[0].split() == ["run", str(tmp_path / "run")] and said[1].startswith("best accuracy")
    assert result._repr_markdown_().splitlines()[1] == "| --- | --- |"
    again = pickle.loads(pickle.dumps(result))
    assert again == result and again.folder == result.folder and type(result | {}) is dict
    model, _ = result.student()
    assert model.config.id2label == {0: "negative", 1: "positive"} and not model.training
    one = stage_one(files, result.checkpoint, SMALL_STUDENT, tmp_path / "one", replace(ONE, epochs=2))
    assert one.checkpoint == tmp_path / "one/last" and "last loss" in str(one)
    assert one.student()[0].config.num_hidden_layers == 2
