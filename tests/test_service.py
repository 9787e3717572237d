"""The service over HTTP: answers, limits, errors as JSON, many clients, a clean end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from conftest import ROOT, command_environment, exported_model, run_command
from test_predictor import checkpoint_of
from tinybert_nb.deployment.predictor import Predictor
from tinybert_nb.deployment.service import ServiceLimits, make_app, serve

SMALL = "ServiceLimits(body_bytes=4000, request_texts=8, text_characters=500, queue=4, seconds=2.0)"
SLOW = """
import time
class Slow(Predictor):
    def answer(self, examples):
        if any("slow" in each.text_a for each in examples):
            time.sleep(0.7)
        if any("never" in each.text_a for each in examples):
            time.sleep(3)
        if any("fail" in each.text_a for each in examples):
            raise RuntimeError("a secret of this machine")
        return super().answer(examples)
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("served")
    return exported_model(checkpoint_of("single", place / "model"), place / "onnx", 32)


@contextmanager
def served(folder, limits="ServiceLimits()", predictor="Predictor"):
    """A service in a process of its own: address, process."""
    program = ("from tinybert_nb.deployment.predictor import Predictor\n"
               f"from tinybert_nb.deployment.service import ServiceLimits, serve\n{SLOW}\n"
               f"serve({predictor}({str(folder)!r}), port=0, limits={limits})")
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True,
                               env=command_environment(), cwd=ROOT)
    try:
        line = process.stderr.readline()
        assert "http://127.0.0.1:" in line, line + process.stderr.read()
        yield line.split("http://")[1].strip(), process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture(scope="module")
def address(exported):
    """A service with ordinary limits."""
    with served(exported) as (place, _):
        yield place


@pytest.fixture(scope="module")
def strict(exported):
    """A service with small limits, which sleeps over some texts."""
    with served(exported, SMALL, "Slow") as (place, _):
        yield place


def ask(address, method="POST", path="/predict", body=None, headers=None):
    """Status, JSON and headers of an answer."""
    connection = HTTPConnection(address, timeout=60)
    try:
        body = json.dumps(body) if isinstance(body, (dict, list)) else body
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, json.loads(response.read()), response.headers
    finally:
        connection.close()


# Answers ----------------------------------------------------------------------------------------


def test_answers_are_those_of_the_predictor(address, exported):
    predictor = Predictor(exported)
    for texts in (["a film"], ["a film", "a cast", "日本 — naïve"], [["a film", "a cast"]], [{"sentence": "a film"}]):
        status, said, _ = ask(address, body={"texts": texts})
        assert (status, said["truncated"]) == (200, 0)
        for ours, theirs in zip(said["results"], predictor(texts), strict=True):
            assert ours["label"] == theirs["label"]
            assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-5)
    assert ask(address, body={"text": "a film"})[1] == {"result": predictor("a film")}
    assert ask(address, body={"texts": []})[:2] == (200, {"results": [], "truncated": 0})
    assert ask(address, body={"texts": ["a film " * 90]})[1]["truncated"] == 1


@pytest.mark.parametrize("problem, item", [
    ("tokens", "a film"), ("tokens", ["a", "film"]), ("spans", ["who ?", "a film of warmth"]),
    ("spans", {"question": "who ?", "context": "a film of warmth"})])
def test_words_and_questions(problem, item, tmp_path):
    folder = exported_model(checkpoint_of(problem, tmp_path / "model"), tmp_path / "onnx", 32)
    with served(folder) as (place, _):
        status, said, _ = ask(place, body={"text": item})
    assert status == 200 and said["result"].keys() == Predictor(folder)([item])[0].keys()


def test_health(address):
    status, said, _ = ask(address, "GET", "/health")
    assert status == 200 and said == {"status": "ok", "kind": "single", "labels": ["bad", "good", "so-so"],
                                      "max_length": 32, "under_way": 0}


# Bad requests -----------------------------------------------------------------------------------


@pytest.mark.parametrize("body, status, reason", [
    (b"", 400, "no JSON"), (b"{", 400, "no JSON"), (b"\xff\xfe", 400, "no JSON"), (b"[" * 3000, 400, "no JSON"),
    ([], 422, "must be an object"), (b"null", 422, "an object"),
    ({}, 422, "either"), ({"text": "a", "texts": []}, 422, "either"), ({"file": "/etc/passwd"}, 422, "either"),
    ({"texts": "a film"}, 422, "must be a list"), ({"texts": {"a": 1}}, 422, "must be a list"),
    ({"texts": ["a"] * 9}, 422, "9 texts; 8 are allowed"), ({"text": "x" * 501}, 422, "501 characters; 500"),
    ({"text": ["x" * 300, "y" * 300]}, 422, "600 characters"), ({"text": ""}, 422, "text 1: a text is empty"),
    ({"texts": ["a film", " "]}, 422, "text 2: a text is empty"), ({"text": None}, 422, "is expected"),
    ({"text": 7}, 422, "is expected"), ({"text": ["a"]}, 422, "is expected"), ({"text": {}}, 422, "column"),
    ({"text": "\ud800"}, 422, "half a character"), ({"texts": ["a", ["b", "c"]]}, 422, "are mixed"),
    ({"text": "x" * 5000}, 413, "larger than 4,000 bytes")])
def test_bad_requests_are_refused_with_a_sentence(strict, body, status, reason):
    found, said, headers = ask(strict, body=body)
    assert (found, [*said]) == (status, ["error"]) and reason in said["error"]
    assert headers["content-type"] == "application/json"
    assert ask(strict, body={"text": "a film"})[0] == 200


def test_unknown_paths_and_methods(strict):
    for method, path, status in (("GET", "/predict", 405), ("PUT", "/predict", 405), ("POST", "/health", 405),
                                 ("GET", "/", 404), ("GET", "/../../etc/passwd", 404), ("POST", "/predict/x", 404),
                                 ("GET", "/static/a", 404)):
        found, said, headers = ask(strict, method, path)
        assert found == status and f"there is no {method} " in said["error"]
        assert status == 404 or headers["allow"]


def test_a_body_of_unknown_length_has_the_limit_too(strict):
    def pieces():
        for _ in range(100):
            yield b"x" * 1000

    connection = HTTPConnection(strict, timeout=60)
    connection.request("POST", "/predict", pieces(), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    response = connection.getresponse()
    assert response.status == 413 and "larger" in json.loads(response.read())["error"]
    connection.close()


def test_a_fault_of_the_program_tells_no_secret(strict):
    status, said, _ = ask(strict, body={"text": "fail"})
    assert status == 500 and "secret" not in said["error"] and ask(strict, body={"text": "a film"})[0] == 200


def test_raw_bytes_and_half_requests_end_nothing(strict):
    host, port = strict.split(":")
    for sent in (b"", b"\x16\x03\x01\x02", b"GET\r\n\r\n", b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\n\r\n{"):
        with socket.create_connection((host, int(port))) as client:
            client.sendall(sent)
    assert ask(strict, body={"text": "a film"})[0] == 200
    wait_until_idle(strict)


def wait_until_idle(address, seconds=20):
    end = time.monotonic() + seconds
    while ask(address, "GET", "/health")[1]["under_way"]:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_who_sends_nothing_is_told_so(strict):
    host, port = strict.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\n\r\n{")
        said = "".join(iter(lambda: client.recv(10_000).decode(), ""))
    assert said.startswith("HTTP/1.1 408") and "did not come" in said
    wait_until_idle(strict)


# Load -------------------------------------------------------------------------------------------


def test_no_more_than_the_queue_waits_and_health_answers_meanwhile(strict):
    wait_until_idle(strict)
    with ThreadPoolExecutor(12) as clients:
        asked = [clients.submit(ask, strict, body={"text": "slow"}) for _ in range(12)]
        time.sleep(0.4)
        begin = time.monotonic()
        status, said, _ = ask(strict, "GET", "/health")
        assert status == 200 and said["under_way"] <= 4 and time.monotonic() - begin < 2
        found = [each.result() for each in asked]
    statuses = [status for status, *_ in found]
    assert {*statuses} <= {200, 503, 504} and statuses.count(503) >= 1 and statuses.count(200) >= 1
    for status, said, headers in found:
        assert status != 503 or (headers["retry-after"] == "1" and "try again" in said["error"])
    wait_until_idle(strict)
    assert ask(strict, body={"text": "a film"})[0] == 200


def test_a_request_that_takes_too_long_is_told_so_and_blocks_no_place(strict):
    wait_until_idle(strict)
    with ThreadPoolExecutor(2) as clients:
        late = clients.submit(ask, strict, body={"text": "never"})
        time.sleep(0.2)
        behind = clients.submit(ask, strict, body={"text": "a film"})
        assert late.result()[0] == 504 and "within 2 seconds" in late.result()[1]["error"]
        assert behind.result()[0] in (200, 504)
    wait_until_idle(strict)
    assert ask(strict, body={"text": "a film"})[0] == 200


def test_many_clients_get_their_own_answers_in_bounded_memory(exported):
    texts = [f"a film of {number} silences and a cast" for number in range(40)]
    expected = {text: each["probabilities"] for text, each in zip(texts, Predictor(exported)(texts))}
    lost, sizes = [], []
    with served(exported) as (place, process):
        def client(first):
            connection = HTTPConnection(place, timeout=60)
            for number in range(40):
                text = texts[(first + number) % 40]
                connection.request("POST", "/predict", json.dumps({"texts": [text]}))
                response = connection.getresponse()
                result, = json.loads(response.read())["results"]
                if response.status != 200 or result["probabilities"] != pytest.approx(expected[text], abs=1e-5):
                    lost.append(text)
            connection.close()

        for _ in range(2):
            with ThreadPoolExecutor(8) as clients:
                [*clients.map(client, range(8))]
            sizes.append(resident(process.pid))
    assert lost == [] and sizes[1] < sizes[0] + 20


def resident(pid) -> float:
    """Megabytes in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


# Beginning and end ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_when_all_under_way_is_answered(exported, number):
    with served(exported, predictor="Slow") as (place, process), ThreadPoolExecutor(3) as clients:
        asked = [clients.submit(ask, place, body={"text": "slow"}) for _ in range(3)]
        time.sleep(0.4)
        process.send_signal(number)
        assert [each.result()[0] for each in asked] == [200] * 3
        assert process.wait(30) == 0 and "stopped; all requests" in process.stderr.read()
        with pytest.raises(OSError):
            ask(place, body={"text": "a film"})


def test_the_command_serves_and_ends(exported):
    program = "from tinybert_nb.cli.commands import main; main()"
    words = [sys.executable, "-c", program, "serve", str(exported), "--port", "0", "--request-texts", "1"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=command_environment(), cwd=ROOT)
    place = process.stderr.readline().split("http://")[1].strip()
    assert place.startswith("127.0.0.1:")
    assert ask(place, body={"text": "a film"})[0] == 200 and ask(place, body={"texts": ["a", "b"]})[0] == 422
    process.terminate()
    assert process.wait(30) == 0 and "stopped" in process.stderr.read()
    process.stderr.close()


def test_an_address_in_use_and_bad_limits(exported):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"127.0.0.1:{port} cannot be used: Address already in use"):
            serve(exported, port=port)
    for port in (-1, 70_000):
        with pytest.raises(ValueError, match="cannot be used"):
            serve(exported, port=port)
    with pytest.raises(ValueError, match="seconds is -1: it must be positive"):
        ServiceLimits(seconds=-1)


def test_it_serves_in_a_thread_too(exported):
    """Where signals cannot be caught."""
    app = make_app(Predictor(exported))
    assert [route.path for route in app.routes] == ["/predict", "/health"]


def test_without_starlette_or_uvicorn_the_message_says_what_to_install(exported):
    for name in ("starlette", "uvicorn"):
        program = (f"import sys; sys.modules[{name!r}] = None\nfrom tinybert_nb.deployment.service import serve\n"
                   f"serve({str(exported)!r}, port=0)")
        said = run_command(sys.executable, "-c", program).stderr.splitlines()[-1]
        assert said == f"ImportError: {name} is not installed: pip install 'tinybert_nb[service]'"
