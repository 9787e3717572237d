"""A real JupyterLab and a real Chromium, to test and to time what a person sees."""

from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time

from playwright.sync_api import TimeoutError as PageTimeout

from run_notebooks import RUNS
from sources import ROOT

SCREENSHOTS = ROOT / "build" / "screenshots"
SETTINGS = {
    "notebook-extension/tracker": {  # outputs stay in the page, and no question is asked
        "windowingMode": "none", "autoStartDefaultKernel": True},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "docmanager-extension/plugin": {"autosave": False},
}
MODELS = """\
import torch
from transformers import BertConfig, BertModel

from tinybert_nb.data.catalogue import DEFAULT_TEACHER
from tinybert_nb.models.tokenizers import load_tokenizer

torch.manual_seed(0)
tokenizer = load_tokenizer(DEFAULT_TEACHER)


def bert(layers):
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=96, num_hidden_layers=layers,
                        num_attention_heads=12, intermediate_size=96, initializer_range=0.3)
    return BertModel(config).eval()
"""


def notebook(*sources: str) -> dict:
    """A notebook of these code cells."""
    cells = [{"cell_type": "code", "id": f"cell-{number}", "metadata": {}, "execution_count": None,
              "outputs": [], "source": source} for number, source in enumerate(sources)]
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _settings(folder: Path) -> None:
    for name, values in SETTINGS.items():
        path = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")


def lab_command(folder: Path, flags: str = "") -> str:
    """What `make lab` runs in a folder, with this environment's programs and these flags."""
    words = ["make", "-n", "--no-print-directory", "-C", folder, "-f", ROOT / "Makefile",
             "-o", ".venv/.installed", "lab", f"BIN={Path(sys.executable).parent}",
             f"LAB_FLAGS={flags}"]
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    return subprocess.run(words, env=environment, check=True, capture_output=True,
                          text=True).stdout


def _copy_runs(folder: Path) -> None:
    """What was trained when notebooks were tested is there, so that it is not trained again.

    A copy: a notebook that is tested again at the same time removes its runs. Weights are never
    written in place and need no second room on the disk."""
    def link(source: str, goal: str) -> None:
        try:
            os.link(source, goal) if source.endswith(".safetensors") else shutil.copy2(source, goal)
        except OSError:
            shutil.copy2(source, goal)

    try:
        if RUNS.is_dir():
            shutil.copytree(RUNS, folder, copy_function=link)
    except OSError:  # shutil.Error too: something has gone while it was copied
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def jupyterlab(folder: Path):
    """JupyterLab over a folder, as `make lab` starts it; gives its address and token."""
    port, token = _free_port(), secrets.token_hex(8)
    _settings(folder / ".settings")
    _copy_runs(folder / ".runs")
    environment = os.environ | {
        "JUPYTERLAB_SETTINGS_DIR": str(folder / ".settings"),
        "JUPYTER_RUNTIME_DIR": str(folder / ".runtime"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / ".workspaces"),
        "HF_HUB_OFFLINE": "1",
        "TINYBERT_NB_RUNS": str(folder / ".runs"),
        "TINYBERT_NB_DATA": os.environ.get("TINYBERT_NB_DATA", str(ROOT / "data")),
    }
    environment.pop("IN_TEST", None)
    flags = f"--no-browser --port={port} --ServerApp.ip=127.0.0.1 --IdentityProvider.token={token}"
    log = open(folder / "lab.log", "w", encoding="utf-8")
    server = subprocess.Popen(["bash", "-c", f"exec {lab_command(folder, flags)}"], cwd=folder,
                              env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api?token={token}", server, folder / "lab.log")
        yield f"http://127.0.0.1:{port}", token
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
        log.close()


def _wait_for(address: str, server, log: Path) -> None:
    for _ in range(1200):
        if server.poll() is not None:
            raise RuntimeError(f"JupyterLab ended: {log.read_text(encoding='utf-8')[-2000:]}")
        try:
            urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("JupyterLab did not answer in two minutes")


class Watched:
    """A page, with what went wrong on it and whom it asked for anything."""

    def __init__(self, page):
        self.page, self.errors, self.hosts = page, [], set()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.hosts.add(request.url.split("/")[2].split(":")[0])
                if request.url.startswith(("http", "ws")) else None)
        page.on("websocket", self._websocket)
        self.widgets_known = False  # whether JupyterLab has heard which widgets the kernel has

    def _console(self, said) -> None:
        # JupyterLab asks from time to time which kernels there are, and its server answers
        # with an error while one of them is starting; the next answer is right
        if said.type == "error" and "/api/kernels?" not in said.location["url"]:
            self.errors.append(said.text)

    def _websocket(self, opened) -> None:
        self.hosts.add(opened.url.split("/")[2].split(":")[0])
        opened.on("framereceived", self._frame)

    def _frame(self, content: str | bytes) -> None:
        text = content if isinstance(content, str) else content.decode("utf-8", errors="replace")
        if not self.widgets_known:
            self.widgets_known = "comm_info_reply" in text or "update_states" in text

    def screenshot(self, name: str) -> Path:
        """A picture of what can be seen, kept in build/screenshots."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        self.page.screenshot(path=path)
        return path

    def open_notebook(self, lab: tuple[str, str], path: str) -> None:
        """Open a notebook of JupyterLab and wait until its kernel is there.

        The kernel is started first: a JupyterLab that starts it while it is opening may start a
        second, and send the cells to the one that it has ended."""
        address, token = lab
        session = {"path": path, "name": path, "type": "notebook", "kernel": {"name": "python3"}}
        started = self.page.request.post(f"{address}/api/sessions?token={token}", data=session)
        assert started.ok, started.text()
        self.widgets_known = False
        self.page.goto(f"{address}/lab/tree/{path}?token={token}&reset")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=120_000)
        self.page.wait_for_selector("[data-status='idle']", timeout=120_000)
        for _ in range(400):  # else its question waits, and each widget with it, till all cells ran
            if self.widgets_known:
                break
            self.page.wait_for_timeout(50)

    def run_all(self, seconds: float) -> None:
        """Run all cells to the end; an error in one of them is raised here."""
        self.start_all()
        self.wait_for_all(seconds)

    def start_all(self) -> None:
        """Have all cells run; a busy JupyterLab may not hear it the first time."""
        prompts = self.page.locator(".jp-Notebook .jp-InputPrompt", has_text=re.compile(r"\[[*\d]"))
        for attempt in range(5):
            self.page.click("text=Run >> visible=true")
            self.page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
            try:
                return prompts.first.wait_for(timeout=20_000)
            except PageTimeout:
                self.screenshot(f"not-heard-{attempt}")
        raise RuntimeError("JupyterLab did not run the cells")

    def wait_for_all(self, seconds: float) -> None:
        """Wait until all cells have run, or one has failed."""
        self.page.wait_for_function(
            """() => {
                const cells = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')];
                const told = cells.map(cell => cell.querySelector('.jp-InputPrompt').textContent);
                const lines = [...document.querySelectorAll('.jp-Notebook .jp-RenderedText')];
                return told.every(text => /\\[\\d+\\]/.test(text)) ||
                    lines.some(line => line.textContent.includes('Traceback (most recent call'));
            }""", timeout=seconds * 1000)
        failed = self.page.locator(".jp-Notebook .jp-RenderedText", has_text="Traceback (most recent")
        assert failed.count() == 0, failed.first.inner_text()[-2000:]
