"""`tinybert-nb explore`: the local page, its token, what it refuses, and a text that is typed into it."""

import json
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from browser import Watched
from conftest import command_environment, tinybert_nb
from tinybert_nb.data.catalogue import DEFAULT_TEACHER
from tinybert_nb.deployment.vocabulary_trimming import trim_vocabulary
from tinybert_nb.models.loading import save_checkpoint
from tinybert_nb.models.tokenizers import load_tokenizer

HOSTILE = "</script><script>window.hurt = 1</script> <img src=x onerror=hurt()>"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    torch.manual_seed(0)
    place, tokenizer = tmp_path_factory.mktemp("models"), load_tokenizer(DEFAULT_TEACHER)
    for name, layers in (("teacher", 4), ("student", 2)):
        config = BertConfig(vocab_size=30522, hidden_size=32, num_hidden_layers=layers, num_attention_heads=4,
                            intermediate_size=64, initializer_range=0.3, problem_type="single_label_classification",
                            id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1})
        save_checkpoint(place / name, BertForSequenceClassification(config), tokenizer)
    return ["--teacher", str(place / "teacher"), "--student", str(place / "student")]


@contextmanager
def running(folders, place, end=signal.SIGINT):
    """The address of a running command, which a signal ends with exit code 0 and nothing else said."""
    program = "from tinybert_nb.cli.commands import main; main()"
    run = subprocess.Popen([sys.executable, "-c", program, "explore", *folders, "--no-browser"],
                           env=command_environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           cwd=place)
    line = run.stdout.readline()
    assert "page: http://127.0.0.1:" in line, run.stderr.read()
    yield re.search(r"http://\S+", line)[0]
    run.send_signal(end)
    said, errors = run.communicate(timeout=20)
    assert (run.returncode, said, errors) == (0, "", "")


@pytest.fixture(scope="module")
def address(folders, tmp_path_factory):
    with running(folders, tmp_path_factory.mktemp("empty")) as place:
        yield place


def ask(address, method="GET", path="/", body=None, token=None):
    parts = urlsplit(address)
    connection = HTTPConnection(parts.hostname, parts.port, timeout=30)
    query = parts.query if token is None else token
    connection.request(method, f"{path}?{query}", body)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), dict(answer.getheaders())


def test_the_page_needs_the_token(address):
    status, page, headers = ask(address)
    assert status == 200 and "<form" in page and headers["Cache-Control"] == "no-store"
    policy = re.search('Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'") and policy.count("http") == 0
    body = json.dumps({"text": "A film."}).encode()
    for token in ("", "token=", "token=wrong", "token=%ff", "other=1"):
        assert ask(address, token=token)[0] == ask(address, "POST", "/text", body, token)[0] == 403
        assert "token" in json.loads(ask(address, token=token)[1])["problem"]


def test_a_text_is_read_by_both_models(address):
    status, found, _ = ask(address, "POST", "/text", json.dumps({"text": HOSTILE, "text_pair": "And this?"}))
    data = json.loads(found)["data"]
    assert status == 200 and data["segments"][-1] == 1 and "script" in data["tokens"]
    assert [*data["answers"]] == ["teacher", "student"] and data["chosen"]["heads"] == [1, 2, 3, 4]
    long = json.loads(ask(address, "POST", "/text", json.dumps({"text": "film " * 400}))[1])
    assert len(long["data"]["tokens"]) == 128 and "did not fit" in long["said"]


@pytest.mark.parametrize("body", ["", "{", "[]", "7", '{"text": 7}', '{"text": " "}', '{"text": "a", "text_pair": null}', b"\xff\xfe"])
def test_what_cannot_be_read_is_said_in_a_sentence(address, body):
    status, found, _ = ask(address, "POST", "/text", body)
    assert status == 400 and re.fullmatch(r"[A-Z].+\.", json.loads(found)["problem"])


def test_other_requests_are_refused(address):
    assert ask(address, path="/text")[0] == 404 and ask(address, "POST", "/", "{}")[0] == 404
    assert ask(address, path="/../setup.py")[0] == 404
    assert ask(address, "POST", "/text", b"x" * 200_001)[0] == 413
    assert ask(address, "DELETE")[0] == 501


def test_typing_a_text_changes_the_picture(address, browser):
    page = browser.new_page()
    page.set_default_timeout(10_000)
    seen = Watched(page)
    page.goto(address)
    page.wait_for_selector("#place[data-drawn] [data-place='1']")
    picture = "document.querySelectorAll('canvas')[1].toDataURL()"
    first = page.evaluate(picture)
    page.select_option("[data-control='view']", "rollout")
    page.fill("[name='text']", HOSTILE)
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-place] >> text=hurt")
    assert page.evaluate(picture) != first and page.input_value("[data-control='view']") == "rollout"
    assert page.evaluate("typeof hurt") == "undefined" and "answers" in page.inner_text(".tinybert-answers")
    page.fill("[name='text']", " ")
    page.keyboard.press("Enter")
    page.wait_for_selector("#said >> text=empty")
    assert [error for error in seen.errors if "400" not in error] == [] and seen.hosts == {"127.0.0.1"}
    page.close()


def test_what_does_not_fit_is_said_before_a_page_is_served(folders):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for words, said in ((["--layer-map", "9,9"], "9"), (["--port", port], f"port {port} of this machine")):
            result = tinybert_nb("explore", *folders, "--no-browser", *words, timeout=60)
            assert result.returncode == 1 and said in result.stderr and "Traceback" not in result.stderr


def test_a_trimmed_student_is_shown_on_texts_with_the_same_tokens(folders, tmp_path):
    """And SIGTERM ends the command as Ctrl+C does."""
    (tmp_path / "texts.txt").write_text("An unbelievably charming film, not a bad one.\n")
    trim_vocabulary(folders[-1], tmp_path / "texts.txt", tmp_path / "trimmed")
    words = [*folders[:3], str(tmp_path / "trimmed")]
    with running(words, tmp_path, signal.SIGTERM) as address, running(folders, tmp_path) as whole:
        for text in ("A bad film, not unbelievably charming.", "One film."):
            both = [json.loads(ask(place, "POST", "/text", json.dumps({"text": text}))[1])["data"]
                    for place in (address, whole)]
            assert both[0]["tokens"] == both[1]["tokens"]
            for end in ("low", "high"):
                assert both[0]["student"]["scores"][end] == pytest.approx(both[1]["student"]["scores"][end], abs=1e-4)
            logits = [each["answers"]["student"]["logits"] for each in both]
            assert logits[0] == pytest.approx(logits[1], abs=1e-4)
        status, found, _ = ask(address, "POST", "/text", json.dumps({"text": "A marvellous film."}))
        assert status == 400 and "where the other model has" in json.loads(found)["problem"]
        assert "choose words that both vocabularies have" in json.loads(found)["problem"]


def test_vocabularies_without_a_common_text_are_refused(folders, tmp_path):
    from transformers import BertTokenizer

    config = BertConfig(vocab_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    pieces = {piece: n for n, piece in enumerate(("<pad>", "<unk>", "<s>", "</s>", "<mask>", "a", "film", "."))}
    other = BertTokenizer(pieces, unk_token="<unk>", sep_token="</s>", pad_token="<pad>", cls_token="<s>", mask_token="<mask>")
    save_checkpoint(tmp_path / "other", BertForSequenceClassification(config), other)
    result = tinybert_nb("explore", *folders[:3], str(tmp_path / "other"), "--no-browser", timeout=60)
    assert result.returncode == 1 and "have different vocabularies" in result.stderr and "Traceback" not in result.stderr
