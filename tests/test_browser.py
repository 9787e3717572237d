"""What a person sees, in a real JupyterLab and a real Chromium."""

import json
import shutil
import string

import numpy as np
import pytest
from fontTools.ttLib import TTCollection, TTFont
from matplotlib.font_manager import findSystemFonts

from browser import MODELS, Watched, jupyterlab, notebook
from conftest import EVAL, ROOT, succeeded, tinybert_nb
from tinybert_nb.files.scripts import joined_script, static_text

VIEW = ".tinybert-attention[data-drawn]"
EXPLORED = f".AttentionExplorer {VIEW}"  # a page may hold other views too
REPORTED = "[data-sight='text-0'][data-drawn]"  # the first of a report
EXPLORER = """\
from tinybert_nb.analysis.explorer import AttentionExplorer

explorer = AttentionExplorer(bert(6), bert(3), tokenizer, text="a warm, funny film.")
explorer
"""

TRAINING = """\
from tinybert_nb.analysis.explorer import AttentionExplorer

students = [(name, bert(3)) for name in ("start", "<img src=x onerror='hurt = 1'>", "after 20 updates")]
explorer = AttentionExplorer(bert(6), students, tokenizer, text="a warm, funny film.")
explorer
"""

MONITOR = """\
from pathlib import Path
from tempfile import mkdtemp
from time import sleep

from tinybert_nb.analysis.monitor import AlignmentMonitor
from tinybert_nb.data.splits import TaskFiles
from tinybert_nb.models.loading import load_encoder, save_checkpoint
from tinybert_nb.recipes.finetuning import finetune
from tinybert_nb.recipes.stage_one import stage_one
from tinybert_nb.training.settings import FinetuneSettings, StageOneSettings

place = Path(mkdtemp())
lines = Path("data/train.txt").read_text(encoding="utf-8").splitlines()
for name, some in (("train", lines[:48]), ("dev", lines[48:72])):
    (place / f"{name}.txt").write_text("\\n".join(some) + "\\n", encoding="utf-8")
files = TaskFiles(place / "train.txt", place / "dev.txt")
brief = {"max_length": 32, "batch_size": 16}
save_checkpoint(place / "random", bert(4), tokenizer)
finetune(files, place / "random", place / "teacher", FinetuneSettings(epochs=1, **brief))
monitor = AlignmentMonitor(load_encoder(str(place / "teacher/best")), tokenizer, place / "one",
                           "a warm, funny film.")
monitor
"""
LIVE = """\
def watch(row):
    "Tell the monitor; once there is a picture, training waits until somebody has looked at it."
    monitor(row)
    while monitor.read and not Path("looked-at").exists():
        sleep(0.05)


stage_one(files, place / "teacher/best", "2l-24-12h", place / "one",
          StageOneSettings(epochs=4, any_teacher=True, snapshots=2, history_every=1,
                           evaluate_every=12, **brief), watch=watch)
"""


OWN_FIGURE = """\
import matplotlib.pyplot as plt
plt.imshow([[0, 1], [1, 0]])
plt.show()
"""
FIGURES = """\
import numpy as np
from tinybert_nb.analysis.attention_figures import plot_attention
from tinybert_nb.analysis.history_figures import plot_history
from tinybert_nb.analysis.style import theme
rows = [{"stage": "stage one", "split": "train", "step": step, "loss": 1 / step, "seconds": step,
         "learning_rate": 1e-3, "epoch": step / 8} for step in range(1, 9)]
plot_attention(np.eye(4) * 0.7 + 0.1, ["a", "fine", "film", "."])
plt.show()
display(plot_history(rows))
with theme("dark"):
    plot_attention(np.eye(4) * 0.7 + 0.1, ["a", "fine", "film", "."])
"""
PART_OF_PAGE = """\
from IPython.display import HTML
from tinybert_nb.analysis.html import figure_html
HTML(figure_html(plot_history(rows)))
"""


@pytest.fixture(scope="module")
def lab_folder(tmp_path_factory):
    """A copy of the notebooks, which JupyterLab may write into and which exports nothing."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "nbs", folder / "nbs",
                    ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for path in (folder / "nbs").rglob("*.ipynb"):
        content = json.loads(path.read_text(encoding="utf-8"))
        content["cells"] = [cell for cell in content["cells"]
                            if "nbdev.nbdev_export()" not in "".join(cell["source"])]
        path.write_text(json.dumps(content), encoding="utf-8")
    (folder / "broken.ipynb").write_text(json.dumps(notebook("1 + 1", "1 / 0", "2 + 2")))
    (folder / "data").symlink_to(ROOT / "data")
    (folder / "explorer.ipynb").write_text(json.dumps(notebook(MODELS, EXPLORER)))
    (folder / "figures.ipynb").write_text(json.dumps(notebook(OWN_FIGURE, FIGURES, PART_OF_PAGE)))
    (folder / "training.ipynb").write_text(json.dumps(notebook(MODELS, TRAINING)))
    (folder / "monitor.ipynb").write_text(json.dumps(notebook(MODELS, MONITOR, LIVE)))
    return folder


@pytest.fixture(scope="module")
def lab(lab_folder):
    """JupyterLab over the copy."""
    with jupyterlab(lab_folder) as started:
        yield started


@pytest.fixture(scope="module")
def window(browser):
    """What the pages share: JupyterLab's scripts are fetched and compiled once."""
    opened = browser.new_context(viewport={"width": 1300, "height": 1100})
    yield opened
    opened.close()


@pytest.fixture
def watched(window):
    """A page that must end without an error and without a request to any other machine."""
    page = window.new_page()
    seen = Watched(page)
    yield seen
    page.close()
    assert seen.hosts <= {"127.0.0.1"} and seen.errors == []


class View:
    """The attention view of a page: what it shows, and waiting until it shows something else."""

    def __init__(self, page, root: str = VIEW, seconds: float = 60):
        self.page, self.root = page, root
        page.wait_for_selector(root, timeout=seconds * 1000)
        page.locator(root).first.scroll_into_view_if_needed()

    def pictures(self) -> list[str]:
        script = "all => all.map(canvas => canvas.toDataURL())"
        return self.page.eval_on_selector_all(f"{self.root} canvas", script)

    def tokens(self) -> list[str]:
        script = "all => all.map(token => token.textContent)"
        return self.page.eval_on_selector_all(f"{self.root} [data-place] > span:first-child", script)

    def chosen(self) -> int:
        return int(self.page.get_attribute(f"{self.root} [data-place][aria-selected='true']", "data-place"))

    def changes(self, act) -> list[str]:
        """Do it, and wait until one picture is another."""
        before = self.pictures()
        act()
        self.page.wait_for_function(
            """([selector, before]) => [...document.querySelectorAll(selector)]
                .some((canvas, number) => canvas.toDataURL() !== before[number])""",
            arg=[f"{self.root} canvas", before], timeout=30_000)
        return self.pictures()


def test_a_cell_that_fails_is_seen(lab, watched):
    watched.open_notebook(lab, "broken.ipynb")
    with pytest.raises(AssertionError, match="ZeroDivisionError: division by zero"):
        watched.run_all(60)


def other_end(view: View) -> str:
    """The key that moves the slider of heads to another head."""
    return "End" if view.page.inner_text(f"{view.root} output").startswith("1 of") else "Home"


def try_everything(watched: Watched, name: str) -> None:
    """Point at a token, move the slider, choose layer and view, use the keys, write a text."""
    page, view = watched.page, View(watched.page, EXPLORED)
    place = 2 if view.chosen() == 3 else 3
    pointed = f"{view.root} [data-place='{place}']"
    view.changes(lambda: page.hover(pointed))
    assert view.chosen() == place
    assert page.inner_text(f"{view.root} [role='status']").startswith(
        f"From “\u2068{view.tokens()[place]}\u2069”")
    page.click(pointed)  # keeps it
    page.hover(f"{view.root} [data-place='1']")
    assert view.chosen() == place
    view.changes(lambda: page.press(pointed, "ArrowRight"))
    assert view.chosen() == place + 1
    page.focus(f"{view.root} [data-control='head']")
    view.changes(lambda: page.keyboard.press(other_end(view)))
    head, heads = page.inner_text(f"{view.root} output").split(" of ")
    assert head in ("1", heads)
    view.changes(lambda: page.select_option(f"{view.root} [data-control='layer']", "2"))
    view.changes(lambda: page.select_option(f"{view.root} [data-control='view']", "scores"))
    watched.screenshot(name)
    text = page.get_by_placeholder("a sentence, then Enter").first
    text.fill("<script>hurt = 1</script> 好 🙂 \"><img src=x onerror='hurt = 2'> works")
    view.changes(lambda: text.press("Enter"))
    shown = "".join(token.removeprefix("##") for token in view.tokens())
    assert shown.startswith("[CLS]<script>") and shown.endswith("[SEP]")
    assert page.evaluate("typeof hurt") == "undefined"
    assert page.query_selector("img[src='x']") is None
    watched.screenshot(f"{name}-markup")


def answers(page, root: str, act) -> None:
    """Do it, and wait until the HTML that a widget shows is another."""
    shown = f"{root} .widget-html-content"
    script = "all => all.map(one => one.innerHTML).join()"
    before = page.eval_on_selector_all(shown, script)
    act()
    page.wait_for_function(
        f"([selector, before]) => ({script})([...document.querySelectorAll(selector)]) !== before",
        arg=[shown, before], timeout=60_000)


def move(page, slider: str, key: str) -> None:
    """Press a key on a slider."""
    page.press(f"{slider} >> [role='slider']", key)  # focuses it first


def try_monitor(watched: Watched, name: str) -> None:
    """Go back to the start, and see that the grids of all heads and of all layers are others."""
    page, root = watched.page, ".AlignmentMonitor"
    for tab, said in (("Layers", "Every student layer"), ("Heads", "Every student head")):
        page.click(f"{root} .lm-TabBar-tabLabel:text-is('{tab}')")
        page.wait_for_selector(f"{root} img[alt^='{said}'] >> visible=true").scroll_into_view_if_needed()
        watched.screenshot(f"{name}-{tab.lower()}")
    answers(page, root, lambda: page.locator(f"{root} [data-control='checkpoint'] >> nth=0").press("Home"))
    watched.screenshot(name)


def try_workbenches(watched: Watched, name: str) -> None:
    """Another map, another temperature, another text, another size: each is answered."""
    page = watched.page
    answers(page, ".MapWorkbench", lambda: page.select_option(
        ".MapWorkbench select >> nth=0", label="teacher 1"))
    soft = ".TemperatureWorkbench"
    answers(page, soft, lambda: move(page, soft, "ArrowRight"))
    text = page.locator(f"{soft} input[type='text']")
    text.fill("<script>hurt = 1</script> dull.")
    answers(page, soft, lambda: text.press("Enter"))
    watched.screenshot(f"{name}-workbenches")
    answers(page, ".SizeWorkbench", lambda: move(
        page, ".SizeWorkbench .widget-hslider >> nth=0", "ArrowLeft"))
    assert page.evaluate("typeof hurt") == "undefined"
    watched.screenshot(f"{name}-size")


def try_playground(watched: Watched, name: str) -> None:
    """Fewer samples, other chances, another text: other variants."""
    page, root = watched.page, ".AugmentationPlayground"
    for slider, key in (("Samples", "ArrowLeft"), ("Probability", "End")):
        answers(page, root, lambda: move(
            page, f"{root} .widget-hslider:has-text('{slider}')", key))
    text = page.locator(f"{root} input[type='text']")
    text.fill("a <b>dull</b> film <img src=x onerror='hurt = 2'> about a slow train.")
    answers(page, root, lambda: text.press("Enter"))
    assert page.evaluate("typeof hurt") == "undefined"
    assert "train" in page.inner_text(f"{root} .widget-html-content >> nth=0")
    watched.screenshot(name)


def test_the_explorer_answers_to_pointer_keys_and_text(lab, watched):
    watched.open_notebook(lab, "explorer.ipynb")
    watched.run_all(120)
    try_everything(watched, "explorer")


def test_the_explorer_opens_heads_follows_the_kernel_and_lectures(lab, watched):
    """The overview opens a head; the kernel computes rollout, merged heads and another measure."""
    page = watched.page
    watched.open_notebook(lab, "explorer.ipynb")
    watched.run_all(120)
    view = View(page, EXPLORED)
    assert "where the two differ most" in page.inner_text(f"{EXPLORED} .tinybert-opened")
    cell = f"{EXPLORED} [data-layer='3'][data-head='5']"
    view.changes(lambda: page.click(cell))
    page.wait_for_selector(f"{cell}[aria-selected='true']")
    assert page.inner_text(f"{EXPLORED} output >> nth=0") == "5 of 12"
    for name, value in (("view", "rollout"), ("view", "value-weighted"), ("merge", "maximum")):
        view.changes(lambda: page.select_option(f"{EXPLORED} [data-control='{name}']", value))
    assert page.inner_text(f"{EXPLORED} output >> nth=0") == "maximum of 12"
    page.select_option(f"{EXPLORED} [data-control='measure']", "rank_agreement")
    page.wait_for_function("selector => document.querySelector(selector).title.includes('rank agreement')", arg=cell)
    page.click(f"{EXPLORED} [data-save='link']")
    told = page.inner_text(f"{EXPLORED} .tinybert-state")
    assert told.startswith('explorer.restore(layer=3, head=-1, view="value-weighted"')
    page.get_by_placeholder("another text, such as its negation").fill("a dull, silly film.")
    page.keyboard.press("Enter")
    second = f"{EXPLORED} >> nth=1 >> "
    page.wait_for_selector(f"{second}[data-place] >> text='dull'", timeout=60_000)
    assert page.input_value(f"{second}[data-control='view']") == "value-weighted"
    page.focus(f"{EXPLORED} >> nth=0 >> [role='option'][tabindex='0']")
    page.keyboard.press("l")
    page.wait_for_selector(".tinybert-lecture")
    assert page.locator(".tinybert-lecture").bounding_box() == {"x": 0, "y": 0, "width": 1300, "height": 1100}
    watched.screenshot("lecture")
    page.keyboard.press("Escape")
    page.wait_for_selector(".tinybert-lecture", state="detached")


def test_the_explorer_goes_through_training_with_the_kernel(lab, watched):
    """Slider, keys and playing show another student; the teacher, layer, head and way stay."""
    page, root = watched.page, f"{EXPLORED} >> nth=0 >> "
    watched.open_notebook(lab, "training.ipynb")
    watched.run_all(120)
    view, moment = View(page, EXPLORED), f"{EXPLORED} .tinybert-moment >> nth=0"
    slider = page.locator(f"{root}[data-control='checkpoint']")
    page.select_option(f"{EXPLORED} [data-control='view'] >> nth=0", "rollout")
    page.wait_for_selector(f"{EXPLORED} canvas[data-panel='student'][aria-label*='rollout']")
    before = view.pictures()[:3]
    view.changes(lambda: slider.press("Home"))
    teacher, student, _ = view.pictures()[:3]
    assert teacher == before[0] and student != before[1] and page.inner_text(moment) == "1 of 3: \u2068start\u2069"
    page.focus(f"{root}[role='option'][tabindex='0']")
    view.changes(lambda: page.keyboard.press("n"))
    assert "<img src=x" in page.inner_text(moment) and page.evaluate("typeof hurt") == "undefined"
    points = f"{EXPLORED} [data-curve='attention'] circle"
    values = "all => all.slice(0, 3).map(one => one.dataset.value).join()"
    old = page.eval_on_selector_all(points, values)
    page.select_option(f"{EXPLORED} [data-control='measure'] >> nth=0", "cosine")
    page.wait_for_function(f"([selector, old]) => ({values})([...document.querySelectorAll(selector)]) !== old",
                           arg=[points, old])
    page.keyboard.press("Shift+n")
    page.focus(f"{root}[role='option'][tabindex='0']")
    page.keyboard.press("p")
    page.wait_for_function("selector => document.querySelector(selector).textContent.startsWith('3 of 3')",
                           arg=f"{EXPLORED} .tinybert-moment", timeout=20_000)
    page.wait_for_selector(f"{root}[data-control='play'][aria-pressed='false']")
    page.wait_for_function("([selector, picture]) => document.querySelector(selector).toDataURL() === picture",
                           arg=[f"{EXPLORED} canvas[data-panel='student']", before[1]], timeout=10_000)
    page.click(f"{root}[data-save='link']")
    assert "checkpoint=3" in page.inner_text(f"{root}.tinybert-state")
    watched.screenshot("training")


def test_the_monitor_grows_while_a_student_is_trained(lab, lab_folder, watched):
    page = watched.page
    watched.open_notebook(lab, "monitor.ipynb")
    watched.start_all()
    view = View(page, seconds=300)
    told = page.inner_text(".jp-Notebook .jp-CodeCell >> nth=2 >> .jp-InputPrompt")
    assert "*" in told, "the picture came only after training"
    early = view.pictures()
    (lab_folder / "looked-at").touch()
    watched.wait_for_all(300)
    moment = ".AlignmentMonitor .tinybert-moment >> nth=0"
    page.wait_for_selector(f"{moment} >> text='3 of 3: \u2068after 12 updates\u2069'")
    late = view.pictures()
    assert late != early
    watched.screenshot("monitor-course")
    try_monitor(watched, "monitor")
    assert page.inner_text(moment) == "1 of 3: \u2068start\u2069"
    assert view.pictures() != late


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page that was written from two models with random weights."""
    from tinybert_nb.models.loading import save_checkpoint

    folder, made = tmp_path_factory.mktemp("report"), {}
    exec(MODELS, made)
    for name, layers in (("teacher", 6), ("student", 3)):
        save_checkpoint(folder / name, made["bert"](layers), made["tokenizer"])
    succeeded(tinybert_nb(
        "align", "--teacher", folder / "teacher", "--student", folder / "student", "--text",
        "a warm, funny film.", "<script>hurt = 1</script> \"><img src=x onerror='hurt = 2'>",
        "--data", EVAL, "--rows", "20", "--out", folder / "out"))
    return folder / "out/report.html"


def test_the_report_answers_without_a_server(report, watched):
    page = watched.page
    page.goto(report.as_uri())
    view = View(page, REPORTED)
    view.changes(lambda: page.hover(f"{view.root} [data-place='{2 if view.chosen() == 3 else 3}']"))
    page.focus(f"{view.root} [data-control='head']")
    view.changes(lambda: page.keyboard.press(other_end(view)))
    view.changes(lambda: page.select_option(f"{view.root} [data-control='layer']", "2"))
    view.changes(lambda: page.select_option(f"{view.root} [data-control='view']", "scores"))
    assert page.evaluate("typeof hurt") == "undefined" and page.query_selector("img[src='x']") is None
    assert "film" in view.tokens() and watched.hosts == set()
    watched.screenshot("report")


def test_the_report_shows_what_the_models_attend_to(report, watched):
    """The numbers beside a word are those of the rows in the page."""
    page = watched.page
    page.goto(report.as_uri())
    view = View(page, REPORTED)
    chosen, head = view.chosen(), int(page.inner_text(f"{view.root} output").split()[0])
    cells = page.eval_on_selector_all(
        f"{view.root} [data-place] > span:nth-child(2)", "all => all.map(cell => cell.textContent)")
    block = json.loads(page.inner_html("#text-0"))
    size, scores = len(block["tokens"]), block["teacher"]["scores"]
    place = block["teacher"]["places"][block["layer"] - 1][head - 1]
    low, high = scores["low"][place], scores["high"][place]
    letters = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"  # two a number
    steps = np.array([letters.index(letter) for letter in scores["text"]]).reshape(-1, 2) @ (64, 1)
    row = np.exp(low + (high - low) * steps.reshape(-1, size, size)[place, chosen] / 4094)
    assert [float(cell) for cell in cells] == pytest.approx(row / row.sum(), abs=0.006)


def draw_tokens(page, tokens, teacher=None, student=None):
    """The view of one head over these tokens, on an empty page; gives what is written there.

    Both are tables of scores; without one all are 0."""
    page.set_content(f"<style>{static_text('analysis/attention_view.css')}</style>"
                     "<div id='place' class='tinybert-attention'></div>")
    script = joined_script("analysis/attention_view.js") + f"""
        const tokens = {json.dumps(tokens)};
        const table = rows => Float32Array.from(rows?.flat() ?? tokens.flatMap(() => tokens.map(() => 0)));
        const sight = {{tokens, segments: tokens.map(() => 0), layers: [1], heads: 1,
                       windows: [[null, null]], layer: 1, head: 1, largest: 8,
                       teacher: table({json.dumps(teacher)}), student: table({json.dumps(student)})}};
        const values = {{view: "probabilities", token: 0, sight}};
        draw({{get: name => values[name], set() {{}}, save_changes() {{}}, on() {{}}}},
             document.getElementById("place"));"""
    page.add_script_tag(content=script, type="module")
    return page.inner_text("#place")


def has_font(letter):
    """Whether a font of this machine has this letter."""
    for path in findSystemFonts():
        for font in TTCollection(path) if path.endswith(".ttc") else [TTFont(path, lazy=True)]:
            if ord(letter) in (font.getBestCmap() or ()):
                return True
    return False


@pytest.mark.parametrize("letter", ["\U00010A00", "\U0001F600", "房", "é"])
def test_a_letter_is_drawn_or_its_font_is_asked_for(watched, letter):
    told = draw_tokens(watched.page, [letter, "a", "."])
    shown = watched.page.eval_on_selector_all(
        "#place [data-place] > span:first-child", "all => all.map(cell => cell.textContent)")
    assert shown == [letter, "a", "."]
    assert (f"No font here can draw {letter}" in told) is not has_font(letter)
    watched.screenshot(f"letter-{ord(letter):x}")


def test_a_token_read_from_the_right_leaves_the_sentence_as_it_is(watched):
    draw_tokens(watched.page, ["א", "a", "."])
    signs, places = watched.page.evaluate("""() => {
        const text = document.querySelector("#place [role='status']").firstChild;
        const boxOf = place => {
            const range = document.createRange();
            range.setStart(text, place);
            range.setEnd(text, place + 1);
            return range.getBoundingClientRect();
        };
        const shown = [...text.data].map((sign, place) => [sign, boxOf(place)]);
        const lines = shown.filter(([sign, box]) => /[“”\\d]/.test(sign) && box.top === shown[0][1].top);
        return [lines.map(([sign]) => sign).join(""), lines.map(([, box]) => box.left)];
    }""")
    assert signs.startswith("“”“”033“”033") and places == sorted(places)
    watched.screenshot("right-to-left")


def is_open(page, name: str, heading: str) -> None:
    """Wait until this notebook is in front and one can read this heading."""
    page.wait_for_selector(f".lm-TabBar-tab.lm-mod-current:has-text('{name}')", timeout=60_000)
    found = page.locator(f".jp-RenderedMarkdown :is(h1, h2):has-text('{heading}') >> visible=true")
    found.first.wait_for(timeout=60_000)
    page.wait_for_function("heading => heading.getBoundingClientRect().top < innerHeight",
                           arg=found.first.element_handle(), timeout=20_000)


def follow(page, link: str) -> None:
    """Click on a link of the notebook in front; JupyterLab has put an address around it."""
    found = f".jp-RenderedMarkdown a:not(.jp-InternalAnchorLink)[href*='{link}']"
    page.locator(f".jp-NotebookPanel:not(.lm-mod-hidden) {found}").first.click()


def test_lab_opens_on_the_start_page_and_its_links_lead_on(lab, watched):
    page, (address, token) = watched.page, lab
    page.goto(f"{address}/?token={token}")  # what a browser is given, or a person copies
    is_open(page, "00_start.ipynb", "Start here")
    watched.screenshot("start")
    follow(page, "01_first_distillation.ipynb")
    is_open(page, "01_first_distillation", "Distil your first BERT")
    follow(page, "02_models/00_sizes.ipynb")
    is_open(page, "00_sizes.ipynb", "Sizes")
    watched.screenshot("start-module")


def test_a_link_to_a_section_lands_on_it(lab, watched):
    page, (address, token) = watched.page, lab
    page.goto(f"{address}/lab/tree/nbs/03_distillation/00_losses.ipynb?token={token}&reset")
    is_open(page, "00_losses.ipynb", "Losses")
    section = page.locator(".jp-RenderedMarkdown h2:has-text('Micro-batches')")
    assert section.bounding_box()["y"] > 1100  # below the window
    follow(page, "#Micro-batches")
    is_open(page, "00_losses.ipynb", "Micro-batches")
    watched.screenshot("section")


# Where the label of each row and column is, how far that is from the middle of its row or column
# in the picture, in pixels, and whether its letters fit.
MISPLACED = """panel => {
    const plot = document.querySelectorAll("#place .tinybert-plot, [data-sight='text-0'] .tinybert-plot")[panel];
    const box = plot.querySelector("canvas").getBoundingClientRect();
    const found = {};
    for (const [side, upright] of [["rows", true], ["columns", false]]) {
        const labels = [...plot.querySelectorAll(`.tinybert-${side} > span`)].map(label => {
            const own = label.getBoundingClientRect(), place = parseInt(label.style[upright ? "gridRow" : "gridColumn"]);
            const middle = upright ? (own.top + own.bottom) / 2 - box.top : (own.left + own.right) / 2 - box.left;
            return [label.textContent, place - 1, middle, upright ? own.height : own.width];
        });
        found[side] = {labels, side: upright ? box.height : box.width};
    }
    return found;
}"""


def check_labels(page, tokens, fewest: int) -> None:
    """In every panel each label is of the token of its row or column, and none lies on another."""
    for panel in range(3):
        for found in page.evaluate(MISPLACED, panel).values():
            cell = found["side"] / len(tokens)
            assert len(found["labels"]) >= fewest
            middles = [middle for _, _, middle, _ in found["labels"]]
            for text, place, middle, _ in found["labels"]:
                assert text == tokens[place] and abs(middle - (place + 0.5) * cell) < 2
            thickness = max(size for *_, size in found["labels"])
            assert all(later - one > thickness - 1.5 for one, later in zip(middles, middles[1:]))


@pytest.mark.parametrize("count, fewest", [(3, 3), (41, 18), (400, 16)])
def test_labels_name_their_rows_and_columns_on_screen_and_on_paper(watched, count, fewest):
    tokens, page = [f"word{number}" for number in range(count)], watched.page
    draw_tokens(page, tokens)
    shown = tokens[:min(count, 64)]
    check_labels(page, shown, fewest)
    page.emulate_media(media="print", color_scheme="dark")
    check_labels(page, shown, min(fewest, 16))
    page.emulate_media(media="screen", color_scheme="dark")
    page.set_viewport_size({"width": 700, "height": 900})
    page.wait_for_timeout(300)
    check_labels(page, shown, min(fewest, 16))


def test_a_change_of_theme_keeps_the_labels(watched):
    """JupyterLab takes its style sheets away for a moment; the view has no size then."""
    draw_tokens(watched.page, ["a", "film", "."])
    watched.page.evaluate("""async () => {
        const place = document.getElementById("place"), frame = () =>
            new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
        place.style.display = "none";
        document.body.dataset.jpThemeLight = "false";
        await frame();
        place.style.display = "";
        await frame();
    }""")
    check_labels(watched.page, ["a", "film", "."], 3)


def test_the_focused_control_keeps_its_keys(watched):
    """Notebook 7 matches a shortcut with the focused element, before the view hears of the key."""
    draw_tokens(watched.page, ["a", "film", "."])
    for control in watched.page.locator("#place [data-control] >> visible=true").all():
        control.focus()
        assert control.get_attribute("data-lm-suppress-shortcuts") == "true"


def switch_theme(page, name: str) -> None:
    """As a person does, in JupyterLab's menu."""
    page.click("text=Settings >> visible=true")
    page.hover(".lm-Menu-itemLabel:text-is('Theme')")
    page.click(f".lm-Menu-itemLabel:text-is('{name}')")
    page.wait_for_function("light => document.body.dataset.jpThemeLight === light",
                           arg=str("Light" in name).lower())


def test_figures_follow_the_theme_of_jupyterlab_without_being_drawn_again(lab, watched):
    """The user's own, and one that was drawn dark, stay as they are; nothing else is displayed."""
    watched.open_notebook(lab, "figures.ipynb")
    watched.run_all(180)
    page = watched.page
    filters = """() => [...document.querySelectorAll(".jp-Notebook .jp-OutputArea-output img")]
        .map(image => getComputedStyle(image).filter)"""
    page.wait_for_function(f"({filters})().length === 5")
    dark = "invert(0.93) hue-rotate(180deg)"
    try:
        for name, wanted in (("JupyterLab Light", "none"), ("JupyterLab Dark", dark), ("JupyterLab Light", "none")):
            switch_theme(page, name)
            assert page.evaluate(filters) == ["none", wanted, wanted, "none", wanted]
            page.locator(".jp-Notebook .jp-OutputArea-output img").nth(2).scroll_into_view_if_needed()
            page.wait_for_timeout(500)  # the style sheets of the theme come
            watched.screenshot(f"figures-{name.split()[1].lower()}")
    finally:
        switch_theme(page, "JupyterLab Light")
    rules = page.locator(".jp-OutputArea-child:has(> .jp-OutputArea-output > .tinybert-theme)")
    assert rules.count() == 2 and not any(rule.is_visible() for rule in rules.all())


def colours_of(page, panel: int) -> list[list[int]]:
    """Red, green and blue of every cell of a picture of three tokens."""
    return page.evaluate("""panel => {
        const canvas = document.querySelectorAll("#place canvas")[panel], pen = canvas.getContext("2d");
        const at = place => Math.round((place + 0.5) * canvas.width / 3);
        return [0, 1, 2].flatMap(row => [0, 1, 2].map(column =>
            [...pen.getImageData(at(column), at(row), 1, 1).data].slice(0, 3)));
    }""", panel)


def test_colours_are_of_one_scale_with_numbers(watched):
    """The same probability has the same colour in any head; a difference of 0.015 stays pale."""
    page, logs = watched.page, np.log([[0.985, 0.01, 0.005], [0.3, 0.3, 0.4], [0.1, 0.1, 0.8]])
    near = np.log([[0.97, 0.02, 0.01], [0.3, 0.3, 0.4], [0.1, 0.1, 0.8]])
    draw_tokens(page, ["a", "b", "c"], logs.tolist(), near.tolist())
    sharp, pale = colours_of(page, 0), colours_of(page, 2)
    assert all(min(colour) > 215 for colour in pale)
    scales = page.eval_on_selector_all("#place .tinybert-plot .tinybert-scale", "all => all.map(one => one.innerText)")
    assert ["one scale for all heads" in text for text in scales] == [True, True, False]
    assert all({"0", "1"} <= {*text.split()} for text in scales) and "−1" in scales[2]
    draw_tokens(page, ["a", "b", "c"], logs[[1, 1, 1]].tolist(), logs[[1, 1, 1]].tolist())
    assert colours_of(page, 0)[0:3] == sharp[3:6]  # though nothing is larger than 0.4 here


def test_a_view_uses_the_width_that_it_has(report, watched):
    watched.page.set_viewport_size({"width": 1920, "height": 1080})
    watched.page.goto(report.as_uri())
    view = View(watched.page, REPORTED)
    widths = watched.page.eval_on_selector_all(f"{view.root} canvas", "all => all.map(one => one.clientWidth)")
    assert len(widths) == 3 and min(widths) > 450


def test_a_report_is_printed_light_and_whole(report, watched):
    """Dark on the screen, white on paper; nothing is wider than the page."""
    page = watched.page
    page.emulate_media(color_scheme="dark")
    page.goto(report.as_uri())
    view = View(page, REPORTED)
    brightness = """canvas => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return data.filter((_, at) => at % 4 === 0).reduce((sum, one) => sum + one, 0) / (data.length / 4);
    }"""
    picture = f"{view.root} canvas >> nth=0"
    ground = "getComputedStyle(document.querySelector('[data-sight]')).getPropertyValue('--tinybert-ground').trim()"
    assert page.evaluate(ground) == "24 24 24" and page.eval_on_selector(picture, brightness) < 100
    page.set_viewport_size({"width": 680, "height": 1000})  # A4 and Letter within their margins
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(ground) == "255 255 255"
    for _ in range(100):  # a page hears of its new medium with its next frame
        if page.eval_on_selector(picture, brightness) > 155:
            break
        page.wait_for_timeout(50)
    assert page.eval_on_selector(picture, brightness) > 155
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"
    too_wide = page.evaluate("""() => [...document.querySelectorAll("img, table, canvas, p")]
        .filter(one => one.getBoundingClientRect().right > 682).map(one => one.outerHTML.slice(0, 90))""")
    assert too_wide == []
    check_labels(page, view.tokens(), len(view.tokens()) // 2)


def test_a_still_picture_stays_when_the_kernel_has_ended(lab, watched):
    page = watched.page
    watched.open_notebook(lab, "explorer.ipynb")
    watched.run_all(120)
    View(page, EXPLORED)
    assert not page.locator(".tinybert-still img").is_visible()
    with page.expect_response(lambda answer: answer.request.method == "PUT"
                              and "/api/contents/explorer.ipynb" in answer.url):
        page.keyboard.press("Control+s")
    address, token = lab
    for session in page.request.get(f"{address}/api/sessions?token={token}").json():
        page.request.delete(f"{address}/api/sessions/{session['id']}?token={token}")
    watched.open_notebook(lab, "explorer.ipynb")
    page.wait_for_selector(".tinybert-still img", timeout=60_000)
    page.wait_for_function("document.body.textContent.includes('model not found')", timeout=60_000)
    assert not page.get_by_text("model not found").is_visible()
    watched.screenshot("still")
    watched.errors = [text for text in watched.errors if "widget model not found" not in text]


@pytest.mark.parametrize("name", ["16_workbench", "17_playground"])
def test_a_module_notebook_leaves_its_widgets_as_they_were_shown(name, lab, watched):
    watched.open_notebook(lab, f"nbs/09_analysis/{name}.ipynb")
    watched.run_all(300)
    shown = watched.page.locator(".jp-OutputArea .jupyter-widgets >> visible=true")
    assert shown.count() and watched.page.locator("[role='alert'] >> visible=true").count() == 0
    watched.screenshot(name)


TRIED = {
    "01_first_distillation": [try_everything],
    "05_more_texts": [try_playground],
    "07_what_did_the_student_learn": [try_everything, try_monitor, try_workbenches],
}


@pytest.mark.parametrize("name", TRIED)
def test_what_a_walkthrough_shows_answers(name, lab, watched):
    watched.open_notebook(lab, f"nbs/walkthroughs/{name}.ipynb")
    watched.run_all(1800)
    for attempt in TRIED[name]:
        attempt(watched, name)
