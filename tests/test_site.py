"""The site of the book: whole, without broken links, and readable in a real Chromium.

It is made once for these tests (`make docs`); TINYBERT_NB_SITE names one that is made already.
"""

from collections import defaultdict
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urldefrag, urljoin
import ast
import json
import os
import re
import sys

import pytest
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from browser import Watched
from conftest import ROOT, cells_of, run_command, succeeded
from make_docs import code_host, drawn, how_to_run, moved, pages
from sources import UNSEEN, all_modules, all_notebooks, directives
import attention_page
import make_docs

NOTEBOOKS = all_notebooks()
ROOMS = [path for path in NOTEBOOKS if re.match(r"\d\d_", path.parent.name)]


def address_of(path: Path) -> str:
    """The address of a notebook's page, from the front page."""
    return str(Path(pages()[path]).with_suffix(".html").as_posix())


# A page of each kind, for the tests in a browser.
SAMPLE = {
    "front": "index.html", "walkthrough": "walkthroughs/01_first_distillation.html",
    "module": "03_distillation/00_losses.html", "wing": "03_distillation/index.html",
    "reference": "api/index.html", "symbols": "api/distillation.losses.html",
    "settings": "api/training.settings.html", "architecture": "ARCHITECTURE.html",
    "attention": "attention.html",
}
SAMPLE |= {folder: address_of(paths[-1]) for folder in ("exercises",)
           if (paths := [path for path in NOTEBOOKS if path.parent.name == folder])}
SAMPLE |= {path.stem: address_of(path) for path in sorted((ROOT / "nbs").glob("*.md"))}


class Parsed(HTMLParser):
    """Of a page: its anchors, its links, what it loads, its pictures, its folded cells."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors, self.links, self.loads, self.pictures = set(), [], [], []
        self.cells, self.folded = 0, 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = {name: value or "" for name, value in attributes}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        classes = found.get("class", "").split()
        self.cells += tag == "div" and "cell" in classes
        self.folded += tag == "details" and "above-input" in classes
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag in ("img", "script", "iframe", "link") and (found.get("src") or found.get("href")):
            if found.get("rel") not in ("prev", "next", "search", "index", "canonical"):
                self.loads.append(found.get("src") or found["href"])
        if tag == "img":
            self.pictures.append(found)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder of the site."""
    if made := os.environ.get("TINYBERT_NB_SITE"):
        return Path(made).resolve()
    folder = tmp_path_factory.mktemp("site") / "_docs"
    succeeded(run_command(sys.executable, "scripts/make_docs.py", "--out", folder, timeout=1200))
    return folder


@pytest.fixture(scope="module")
def parsed(site) -> dict[str, Parsed]:
    """Each page, by its address."""
    return {path.relative_to(site).as_posix(): Parsed(path.read_text(encoding="utf-8"))
            for path in sorted(site.rglob("*.html")) if path.parent.name != "_static"}


# What stands in the pages ---------------------------------------------------------------------


def test_every_notebook_has_a_page_that_the_front_page_leads_to(parsed):
    expected = {address_of(path) for path in pages() if path.name != "README.md" or
                path.parent.name == "data"}
    reached, new = set(), {"index.html"}
    while new:
        reached |= new
        new = {urldefrag(urljoin(page, unquote(link)))[0] for page in new
               for link in parsed[page].links if not re.match(r"[a-z]+:", link)}
        new = {page for page in new if page in parsed} - reached
    assert len(expected) > len(ROOMS) and expected <= reached
    assert {*parsed} - reached <= {"genindex.html", "py-modindex.html", "search.html"}


def test_links_lead_to_pages_and_sections(parsed, site):
    broken = defaultdict(list)
    for page, found in parsed.items():
        for link in {*found.links, *found.loads}:
            if re.match(r"[a-z]+:|//", link):
                continue
            name, anchor = urldefrag(urljoin(page, unquote(link.partition("?")[0])))
            if name in parsed and anchor and anchor not in parsed[name].anchors:
                broken[page].append(link)
            if not (site / name).is_file():
                broken[page].append(link)
    assert broken == {}


def test_no_page_loads_anything_from_another_host(parsed):
    outside = {page: found for page, content in parsed.items()
               if (found := [name for name in content.loads if re.match(r"https?:|//", name)])}
    assert outside == {}


def test_every_picture_has_an_alternative_text(parsed):
    silent = {page: found for page, content in parsed.items()
              if (found := [picture for picture in content.pictures
                            if not picture.get("alt", "").strip()
                            or picture["alt"].endswith((".png", ".svg"))])}
    assert silent == {}


def test_every_table_is_drawn_as_one(parsed, site):
    raw = [page for page in parsed if "<p>| " in (site / page).read_text(encoding="utf-8")]
    assert raw == []


@pytest.mark.parametrize("notebook", ROOMS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_exported_code_is_folded_and_hidden_cells_are_left_out(notebook, parsed):
    cells = [directives(cell["source"])[0] for cell in cells_of(notebook) if cell["source"].strip()]
    shown = [words for words in cells if not words & UNSEEN]
    found = parsed[address_of(notebook)]
    assert found.cells == len(shown)
    assert found.folded == len([words for words in shown if "export" in words]) > 0


def test_code_is_shown_without_directives(site):
    page = (site / "03_distillation/00_losses.html").read_text(encoding="utf-8")
    assert "hidden_mse" in page and "#| " not in page and "nbdev_export" not in page


def test_the_reference_has_every_public_name(parsed):
    missing, count = [], 0
    for module, path in all_modules().items():
        if "." not in module:
            continue  # of a package; its names are those of its modules
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [name for node in tree.body if isinstance(node, ast.Assign)
                 and ast.unparse(node.targets[0]) == "__all__" for name in ast.literal_eval(node.value)]
        count += len(names)
        missing += [f"tinybert_nb.{module}.{name}" for name in names
                    if f"tinybert_nb.{module}.{name}" not in parsed[f"api/{module}.html"].anchors]
    assert missing == [] and count > 500


def test_the_reference_tells_what_parameters_and_fields_are(site):
    text = re.sub(r"<[^>]+>", "", (site / SAMPLE["symbols"]).read_text(encoding="utf-8"))
    assert "(batch, length, size), projected to the teacher’s size" in text
    assert "as the authors’ program: padding counts like everything else" in text
    settings = re.sub(r"<[^>]+>", "", (site / SAMPLE["settings"]).read_text(encoding="utf-8"))
    assert "fraction of updates with a rising rate" in settings


def test_prose_links_to_the_reference_and_the_reference_to_the_cell(parsed):
    to_explorer = "api/analysis.explorer.html#tinybert_nb.analysis.explorer.AttentionExplorer"
    assert to_explorer in parsed["attention.html"].links
    back = [link for link in parsed[SAMPLE["symbols"]].links if "00_losses.html#cell-" in link]
    assert len(back) > 10


# How pages are made ---------------------------------------------------------------------------


def test_links_to_files_outside_of_the_site_need_a_code_host(monkeypatch):
    path, page = ROOT / "nbs/01_data/06_task_kinds.ipynb", "01_data/06_task_kinds.ipynb"
    assert moved("../../tests/conftest.py", path, page) is None and code_host() is None
    assert "Colab" not in how_to_run(path) and "make lab" in how_to_run(path)
    assert moved("../../README.md", path, page) == "../index.ipynb"
    assert moved("../03_distillation/00_losses.ipynb#Micro-batches", path, page) == \
        "../03_distillation/00_losses.ipynb#micro-batches"
    hosted = make_docs.settings() | {"git_url": "https://github.com/someone/tinybert_nb"}
    monkeypatch.setattr(make_docs, "settings", lambda: hosted)
    assert moved("../../tests/conftest.py", path, page) == \
        "https://github.com/someone/tinybert_nb/blob/main/tests/conftest.py"
    assert "colab.research.google.com/github/someone/tinybert_nb/blob/main/nbs/01_data/" in \
        how_to_run(path)


def test_outputs_are_shown_without_widgets_and_with_alternative_texts():
    widget = {"output_type": "display_data", "metadata": {}, "data": {
        "application/vnd.jupyter.widget-view+json": {}, "text/plain": "Explorer()"}}
    picture = {"output_type": "display_data", "metadata": {}, "data": {
        "text/html": "<img src='data:,'>", "text/plain": "<Figure>"}}
    cell = {"source": '#| slow\nplot(title="Two heads")', "outputs": [widget, picture], "metadata": {}}
    made = make_docs.code_cell(cell, "Some text.")
    assert made["source"] == 'plot(title="Two heads")'
    [output] = made["outputs"]
    assert output["data"] == {"text/html": '<img alt="Two heads" src=\'data:,\'>'}
    assert make_docs.description("plot()", "# T\n\nTwo *lines*\nwith [a link](x).").endswith(
        "Two lines with a link.")
    assert make_docs.code_cell({**cell, "source": "#| hide\nx = 1"}, "") is None


def test_a_chart_of_wings_becomes_a_picture():
    made = drawn("```mermaid\nflowchart BT\n    files[files]\n    data[data]\n    data --> files\n```")
    assert made.count("<rect") == 2 and 'aria-label="data imports from files"' in made
    assert drawn("```sh\nls\n```") == "```sh\nls\n```"


# In a browser ---------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def served(site):
    """The address of a server of the site."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture
def watched(browser):
    """A page that must end without an error and without a request to any other machine."""
    window = browser.new_context(viewport={"width": 1300, "height": 900}, color_scheme="null")
    seen = Watched(window.new_page())
    yield seen
    window.close()
    assert seen.hosts <= {"127.0.0.1"} and seen.errors == []


def set_theme(page, theme: str) -> None:
    """Light or dark, as its button sets it."""
    page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)


# Texts whose contrast with what is behind them is below 4.5, or 3 where they are large.
PALE = """() => {
    const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const parts = colour => {
        pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
        const [red, green, blue, alpha] = pen.getImageData(0, 0, 1, 1).data;
        return [red, green, blue, alpha / 255];
    };
    const over = (above, below) => [0, 1, 2].map(i => above[i] * above[3] + below[i] * (1 - above[3]));
    const behind = element => {
        const layers = [];
        for (let one = element; one; one = one.parentElement) layers.push(parts(getComputedStyle(one).backgroundColor));
        return layers.reverse().reduce((below, above) => over(above, below), [255, 255, 255]);
    };
    const luminance = colour => colour.map(part => part / 255)
        .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
    const found = [];
    const elements = [...document.querySelectorAll("body *")].filter(element =>
        !element.closest("svg, mjx-container, .visually-hidden, [hidden], dialog") && element.checkVisibility()
        && [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
    const step = Math.max(1, Math.floor(elements.length / 400));
    for (const element of elements.filter((_, place) => place % step === 0)) {
        const style = getComputedStyle(element), ground = behind(element);
        const [low, high] = [luminance(over(parts(style.color), ground)), luminance(ground)].sort((a, b) => a - b);
        const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700;
        const needed = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
        const contrast = (high + 0.05) / (low + 0.05);
        if (contrast < needed) found.push([element.textContent.trim().slice(0, 40), element.className, contrast]);
    }
    return [elements.length, found];
}"""


@pytest.mark.parametrize("name", SAMPLE)
def test_a_page_reads_well_on_a_phone_in_light_and_in_dark(name, served, watched):
    page = watched.page
    page.goto(served + SAMPLE[name], wait_until="networkidle")
    page.add_style_tag(content="* { transition: none !important; }")  # colours change at once
    for theme in ("light", "dark"):
        set_theme(page, theme)
        count, pale = page.evaluate(PALE)
        assert count > 20 and pale == [], theme
    page.set_viewport_size({"width": 400, "height": 850})
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator("mjx-container:visible mjx-merror, mjx-container:visible [data-mjx-error]").count() == 0
    watched.screenshot(f"site-{name}")


def test_mathematics_is_drawn(served, watched):
    watched.page.goto(served + SAMPLE["module"], wait_until="networkidle")
    assert watched.page.locator("mjx-container svg").count() > 10


def test_search_finds_a_symbol(served, watched):
    watched.page.goto(f"{served}search.html?q=hidden_normalised_mse")
    found = watched.page.locator("#search-results a[href*='api/distillation.losses.html']")
    found.first.wait_for(timeout=30_000)


def test_the_theme_button_switches_to_dark(served, watched):
    page = watched.page
    page.goto(served + SAMPLE["module"], wait_until="networkidle")
    ground = "getComputedStyle(document.body).backgroundColor"
    seen = {}
    for mode in ("light", "dark"):
        page.click("button.theme-switch-button >> visible=true")
        page.click(f"button.theme-change-button[data-mode='{mode}'] >> visible=true")
        page.wait_for_timeout(500)
        seen[page.get_attribute("html", "data-theme")] = page.evaluate(ground)
    assert [*seen] == ["light", "dark"] and seen["light"] != seen["dark"]


def test_folded_code_opens(served, watched):
    page = watched.page
    page.goto(served + SAMPLE["module"])
    folded = page.locator("details.above-input", has_text="Show the code: hidden_mse")
    assert not folded.locator("pre").is_visible()
    folded.locator("summary").click()
    assert folded.locator("pre").is_visible() and "def hidden_mse(" in folded.inner_text()


def test_the_attention_page_answers(served, watched):
    page = watched.page
    page.goto(served + SAMPLE["attention"], wait_until="networkidle")
    frame = page.frame(url=re.compile("explore.html"))
    frame.wait_for_selector("#explore[data-drawn]")
    policy = frame.get_attribute("meta[http-equiv='Content-Security-Policy']", "content")
    assert "default-src 'none'" in policy and re.findall(r"script-src (.*?)(?:;|$)", policy)[0].startswith("'sha256-")
    status, places = "[role='status']", "#explore [data-place]"
    before = frame.inner_text(status)
    other = 2 if frame.get_attribute("#explore [role='option'][aria-selected='true']", "data-place") == "3" else 3
    frame.click(f"#explore [data-place='{other}']")
    frame.wait_for_function("before => document.querySelector(\"[role='status']\").innerText !== before",
                            arg=before)
    assert frame.get_attribute("#explore [role='option'][aria-selected='true']", "data-place") == str(other)
    pictures = "() => [...document.querySelectorAll('canvas')].map(one => one.toDataURL())"
    trained = frame.evaluate(pictures)
    slider = frame.locator("[data-control='checkpoint']")
    slider.press("Home")
    frame.wait_for_function(f"before => ({pictures})()[1] !== before", arg=trained[1])
    untrained = frame.evaluate(pictures)
    assert untrained[0] == trained[0] and untrained[2] != trained[2]  # the teacher is the same
    assert frame.inner_text(".tinybert-moment") == "1 of 3: \u2068start\u2069"
    tokens = frame.locator(places).count()
    assert frame.locator(".tinybert-answer").count() == 2
    assert frame.locator("[role='gridcell']").count() == (3 + 3) * 12  # mapped and unmapped layers
    frame.select_option("[data-control='layer']", label="mean of all mapped layers")
    frame.wait_for_selector("figcaption >> text=student (\u2068start\u2069), mean of layers 1, 2, 3")
    frame.select_option("#sentence", "2")
    frame.wait_for_function(f"count => document.querySelectorAll('{places}').length !== count", arg=tokens)
    assert frame.inner_text(".tinybert-moment").startswith("1 of 3")  # kept for the next sentence
    ground = "getComputedStyle(document.body).backgroundColor"
    light = frame.evaluate(ground)
    set_theme(page, "dark")
    frame.wait_for_function(f"light => {ground} !== light", arg=light)


def test_the_prepared_explorer_is_small_and_holds_what_it_says():
    assert attention_page.DATA.stat().st_size <= 900 * 1024
    sentences = json.loads(attention_page.DATA.read_text(encoding="utf-8"))
    assert len(sentences) >= 5
    for sentence in sentences:
        names = [one["name"] for one in sentence["training"]["checkpoints"]]
        assert names == ["start", "stage one", "stage two"] and len(sentence["parts"]) == 3
        scores = 2 * sentence["heads"] * len(sentence["tokens"]) ** 2  # of a layer, two characters for a number
        assert len(sentence["teacher"]["scores"]["text"]) == 6 * scores
        assert all(len(part["student"]["scores"]["text"]) == 3 * scores for part in sentence["parts"])
        assert all({*part["answers"]} == {"teacher", "student"} for part in sentence["parts"])
        word = sentence["tokens"][sentence["token"]]
        assert word.isalpha() and word not in ENGLISH_STOP_WORDS and f"“{word}" in sentence["opened"]
