"""The slider over a student's checkpoints, in a saved page and a local one: keys, playing, curves, link, files."""

import csv
import io
import json
import re

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from browser import Watched
from tinybert_nb.analysis.alignment import MEASURES
from tinybert_nb.analysis.attention_tables import WAYS
from tinybert_nb.analysis.disagreement import layer_tables
from tinybert_nb.analysis.explorer import AttentionExplorer
from tinybert_nb.analysis.explorer_page import ExplorerServer
from tinybert_nb.analysis.through_training import training_rows
from tinybert_nb.data.catalogue import DEFAULT_TEACHER
from tinybert_nb.distillation.layer_map import uniform_map
from tinybert_nb.models.tokenizers import load_tokenizer
from tinybert_nb.recipes.student_checkpoints import as_checkpoints

VIEW = "[data-sight='text-1'][data-drawn] "
HOSTILE = "</script><script>window.hurt = 1</script><img src=x onerror=hurt()>"
NAMES = ["start", "stage one, after 30 updates", HOSTILE, "stage two"]
SLIDER = f"{VIEW}[data-control='checkpoint']"
MOMENT = f"{VIEW}.tinybert-moment"


def bert(layers, heads=4, kind=BertForSequenceClassification):
    return kind(BertConfig(vocab_size=30522, hidden_size=32, num_hidden_layers=layers, num_attention_heads=heads,
                           intermediate_size=64, initializer_range=0.4, id2label={0: "<i>bad</i>", 1: "good"},
                           label2id={"<i>bad</i>": 0, "good": 1})).eval()


@pytest.fixture(scope="module")
def explorer():
    torch.manual_seed(4)
    students = [(name, bert(2)) for name in NAMES]
    return AttentionExplorer(bert(4), students, load_tokenizer(DEFAULT_TEACHER), text="An unbelievably charming film.")


@pytest.fixture(scope="module")
def saved(explorer, tmp_path_factory):
    return explorer.save(tmp_path_factory.mktemp("training") / "page.html")


@pytest.fixture
def opened(browser):
    """Opens a page from disk; no error, no request, no script of a name."""
    window = browser.new_context(viewport={"width": 1400, "height": 1000})
    page = window.new_page()
    page.set_default_timeout(5_000)
    seen = Watched(page)

    def visit(path, fragment="", ready=VIEW):
        page.goto("about:blank")
        page.goto(path.as_uri() + fragment)
        page.wait_for_selector(ready)
        return page

    yield visit
    assert seen.errors == [] and seen.hosts == set()
    assert page.evaluate("typeof hurt") == "undefined"
    window.close()


def drawn(page):
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def at(page) -> int:
    """The number of the checkpoint that slider and name show alike."""
    drawn(page)
    number = int(page.input_value(SLIDER))
    assert page.inner_text(MOMENT).startswith(f"{number} of ")
    return number


def turn(page, number):
    page.locator(SLIDER).fill(str(number))
    assert at(page) == number


def shown(page, ending="json"):
    with page.expect_download() as download:
        page.click(f"{VIEW}[data-save='{ending}']")
    return download.value.suggested_filename, download.value.path().read_bytes().decode()


def values(page, curve) -> list[float]:
    return page.eval_on_selector_all(f"{VIEW}[data-curve='{curve}'] circle", "all => all.map(one => Number(one.dataset.value))")


def test_slider_buttons_and_keys_show_each_checkpoint(opened, saved):
    page = opened(saved)
    assert at(page) == 4 and page.is_disabled(f"{VIEW}[data-control='later']")
    picture = f"document.querySelector(\"{VIEW}canvas[data-panel='student']\").toDataURL()"
    of_teacher = picture.replace("student", "teacher")
    last, teacher = page.evaluate(picture), page.evaluate(of_teacher)
    turn(page, 1)
    assert page.evaluate(picture) != last and page.evaluate(of_teacher) == teacher
    assert page.get_attribute(SLIDER, "aria-valuetext") == "1 of 4: start"
    assert "student (\u2068start\u2069), layer" in page.inner_text(f"{VIEW}figcaption:text('student (')")
    page.click(f"{VIEW}[data-control='later']")
    assert at(page) == 2
    page.focus(f"{VIEW}[role='option'][tabindex='0']")
    for key, number in (("n", 3), ("Shift+n", 2), ("Shift+N", 1), ("Shift+n", 1), ("n", 2), ("n", 3), ("n", 4), ("n", 4)):
        page.keyboard.press(key)
        assert at(page) == number
    page.focus(SLIDER)
    page.keyboard.press("ArrowLeft")
    assert at(page) == 3 and HOSTILE in page.inner_text(MOMENT)
    page.keyboard.press("Home")
    assert at(page) == 1
    page.click(f"{VIEW}[data-control='earlier']", force=True)  # disabled
    assert at(page) == 1


@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_looking_at_each_checkpoint_is_what_python_computes(opened, saved, explorer, way):
    page = opened(saved)
    page.select_option(f"{VIEW}[data-control='view']", way)
    for number, viewed in enumerate(explorer.view._views, 1):
        turn(page, number)
        for layer in range(1 + number % 2, len(viewed.pairs) + 1, 2):  # Chromium drops an eleventh file within a second
            page.select_option(f"{VIEW}[data-control='layer']", str(layer))
            drawn(page)
            content = json.loads(shown(page)[1])
            assert content["about"]["checkpoint"] == NAMES[number - 1]
            assert {row["checkpoint"] for row in content["rows"]} == {NAMES[number - 1]}
            size, head = len(content["about"]["tokens"]), content["about"]["head"]
            for side, table in zip(("teacher", "student"), layer_tables(viewed, layer, way)):
                found = torch.tensor([row["value"] for row in content["rows"] if row["model"] == side]).reshape(size, size)
                assert torch.allclose(found, table[head - 1] if WAYS[way].heads else table, rtol=4e-3, atol=4e-3)
    words = page.inner_text(f"{VIEW}.tinybert-strip")
    page.select_option(f"{VIEW}[data-control='words']", "true")
    drawn(page)
    assert page.inner_text(f"{VIEW}.tinybert-strip") != words


@pytest.mark.parametrize("measure", MEASURES)
def test_curves_are_the_rows_of_python(opened, saved, explorer, measure):
    page, layer_map = opened(saved), explorer.layer_map
    page.select_option(f"{VIEW}[data-control='measure']", measure)
    for layer, head in ((1, 3), (2, 1), (2, None)):
        if head is None:
            page.select_option(f"{VIEW}[data-control='merge']", "mean")
        else:
            page.click(f"{VIEW}[data-layer='{layer}'][data-head='{head}']")
        drawn(page)
        rows = training_rows(explorer.reads, layer_map, layer, head, measure)
        assert values(page, "attention") == pytest.approx([row[measure] for row in rows], rel=1e-3, abs=1e-6)
        assert values(page, "probability") == pytest.approx([row["probability"] for row in rows])
        told = page.inner_text(f"{VIEW}.tinybert-curves figure:nth-child(2)")
        assert f"student layer {layer}" in told and ("the mean of 4 heads" if head is None else f"head {head} of 4") in told
    assert f"“\u2068{rows[0]['label']}\u2069”" in page.inner_text(f"{VIEW}.tinybert-curves figure:nth-child(1)")
    goal = page.eval_on_selector(f"{VIEW}.tinybert-goal", "one => Number(one.getAttribute('y1'))")
    low, high = (page.eval_on_selector(f"{VIEW}[data-curve='probability'] .tinybert-axis >> nth={place}",
                                       "one => Number(one.getAttribute('y1'))") for place in (0, 2))
    assert (goal - low) / (high - low) == pytest.approx(rows[0]["teacher_probability"], abs=1e-3)


def test_the_shown_checkpoint_is_marked_and_a_click_goes_to_another(opened, saved):
    page = opened(saved)
    for curve in ("probability", "attention"):
        for place in (0, 2, 1, 3):
            point = page.locator(f"{VIEW}[data-curve='{curve}'] circle >> nth={place}").bounding_box()
            page.mouse.click(point["x"] + point["width"] / 2, point["y"] + 12)
            assert at(page) == place + 1
            marked = page.eval_on_selector_all(f"{VIEW}[data-curve='{curve}'] circle", "all => all.map(one => one.classList.contains('tinybert-now'))")
            assert marked == [number == place for number in range(4)]
            line = page.locator(f"{VIEW}[data-curve='{curve}'] .tinybert-present").bounding_box()
            now = page.locator(f"{VIEW}[data-curve='{curve}'] .tinybert-now").bounding_box()
            assert line["x"] + line["width"] / 2 == pytest.approx(now["x"] + now["width"] / 2, abs=1.5)
    assert page.locator(f"{VIEW}[data-curve='attention'] title >> nth=2").text_content().startswith(HOSTILE)


def test_playing_goes_from_the_first_to_the_last_and_stops(opened, saved):
    page = opened(saved)
    page.clock.install()
    play = page.locator(f"{VIEW}[data-control='play']")
    page.focus(f"{VIEW}[role='option'][tabindex='0']")
    page.keyboard.press("p")
    page.clock.run_for(50)
    assert page.input_value(SLIDER) == "1" and play.inner_text() == "Pause (P)"
    assert play.get_attribute("aria-pressed") == "true"
    page.clock.run_for(1000)
    assert page.input_value(SLIDER) == "2"
    play.click()
    page.clock.run_for(5000)
    assert page.input_value(SLIDER) == "2" and play.inner_text() == "Play (P)"
    page.keyboard.press("p")
    for number in ("3", "4"):
        page.clock.run_for(50)
        assert page.input_value(SLIDER) == number
        page.clock.run_for(950)
    page.clock.run_for(3000)
    assert play.get_attribute("aria-pressed") == "false" and page.input_value(SLIDER) == "4"
    page.keyboard.press("p")
    page.clock.run_for(50)
    page.click(f"{VIEW}[data-control='later']")  # whoever chooses a checkpoint ends the playing
    page.clock.run_for(3000)
    assert page.input_value(SLIDER) == "2" and play.inner_text() == "Play (P)"


def test_where_less_motion_is_asked_for_nothing_moves_by_itself(opened, saved):
    page = opened(saved)
    page.emulate_media(reduced_motion="reduce")
    turn(page, 1)
    page.clock.install()
    play = page.locator(f"{VIEW}[data-control='play']")
    assert play.inner_text() == "Step (P)"
    for number in ("2", "3"):
        play.click()
        page.clock.run_for(4000)
        assert page.input_value(SLIDER) == number


def test_a_link_restores_the_checkpoint(opened, saved):
    page = opened(saved)
    turn(page, 2)
    page.select_option(f"{VIEW}[data-control='view']", "rollout")
    page.click(f"{VIEW}[data-save='link']")
    assert "checkpoint=2" in page.url
    fragment = page.url.partition("#")[2]
    page = opened(saved, f"#{fragment}")
    assert at(page) == 2 and page.input_value(f"{VIEW}[data-control='view']") == "rollout"
    for wrong in ("0", "9", "-1", "x", "<img>"):
        page = opened(saved, f"#text-1?checkpoint={wrong}&layer=1")
        assert at(page) == 4 and page.input_value(f"{VIEW}[data-control='layer']") == "1"


def test_files_say_of_which_checkpoint_they_are(opened, saved):
    page = opened(saved)
    turn(page, 3)
    name, text = shown(page, "csv")
    rows = [*csv.DictReader(io.StringIO(text, newline=""))]
    assert name.endswith("_checkpoint-3.csv") and [*rows[0]][:3] == ["checkpoint", "step", "model"]
    assert {row["checkpoint"] for row in rows} == {HOSTILE}
    drawn_text = shown(page, "svg")[1]
    assert "&lt;script&gt;" in drawn_text and "<script" not in drawn_text


def test_python_shows_and_saves_the_same_state(explorer, opened, tmp_path):
    explorer.restore(layer=2, head=3, checkpoint=2)
    try:
        assert "checkpoint=2" in explorer.state
        page = opened(explorer.save(tmp_path / "two.html", checkpoints=[2, 4]))
        assert at(page) == 1 and page.inner_text(MOMENT) == "1 of 2: \u2068stage one, after 30 updates\u2069"
        here = [*csv.DictReader(io.StringIO(explorer.save(tmp_path / "a.csv").read_bytes().decode(), newline=""))]
        there = [*csv.DictReader(io.StringIO(shown(page, "csv")[1], newline=""))]
        for ours, theirs in zip(here, there, strict=True):
            assert float(ours.pop("value")) == pytest.approx(float(theirs.pop("value")), abs=5e-3, rel=5e-3)
            assert ours == theirs
        assert re.search(r"a.csv: [\d.]+ kB", explorer.message.value)
        page = opened(explorer.save(tmp_path / "one.html", checkpoints=[3]))
        assert not page.is_visible(f"{VIEW}.tinybert-training")
        assert HOSTILE in page.inner_text("section:last-of-type")
    finally:
        explorer.restore(checkpoint=4)


def test_the_teacher_is_in_the_page_once(explorer, tmp_path):
    """A teacher of four layers and four students of two: at most 2.2 times what one student needs, 0.4 MB a text."""
    def block(checkpoints):
        page = explorer.save(tmp_path / "page.html", ["film " * 28], checkpoints=checkpoints)
        return re.search('<script type="application/json"[^>]*>(.*?)</script>', page.read_text())[1]

    one, four = block([4]), block(None)
    assert [[*part["teacher"]] for part in json.loads(four)["parts"]] == [["places"]] * 4
    assert len(json.loads(four)["tokens"]) == 30 and len(four) < 2.2 * len(one)


@pytest.mark.parametrize("heads, count", [("matched", 2), ("mean", 2)])
def test_unequal_heads_at_each_checkpoint(opened, tmp_path, heads, count):
    torch.manual_seed(6)
    students = {name: bert(2, heads=count) for name in NAMES}
    explorer = AttentionExplorer(bert(4), students, load_tokenizer(DEFAULT_TEACHER), text="Not bad.", heads=heads)
    page = opened(explorer.save(tmp_path / "page.html"))
    for number, viewed in enumerate(explorer.view._views, 1):
        turn(page, number)
        for layer in (1, 3):
            page.select_option(f"{VIEW}[data-control='layer']", str(layer))
            drawn(page)
            content = json.loads(shown(page)[1])
            size, head = len(content["about"]["tokens"]), content["about"]["head"]
            for side, table in zip(("teacher", "student"), layer_tables(viewed, layer, "probabilities")):
                found = torch.tensor([row["value"] for row in content["rows"] if row["model"] == side]).reshape(size, size)
                expected = table[head - 1] if head > 0 else table.mean(0)
                assert torch.allclose(found, expected, rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize("width, lecture", [(400, False), (400, True), (1920, True)])
def test_labels_are_legible_and_nothing_is_cut(opened, saved, width, lecture):
    page = opened(saved)
    page.set_viewport_size({"width": width, "height": 1080})
    if lecture:
        page.click(f"{VIEW}[data-control='lecture']")
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.eval_on_selector_all(f"{VIEW}.tinybert-curves text", """all => all.map(one => {
        const { left, right, top, bottom } = one.getBoundingClientRect();
        return { left, right, top, bottom, high: bottom - top };
    })""")
    assert all(0 <= box["left"] and box["right"] <= width for box in boxes)
    assert min(box["high"] for box in boxes) >= (19 if width > 400 else 11)
    for svg in range(2):
        own = page.eval_on_selector_all(f"{VIEW}.tinybert-curves svg >> nth={svg} >> text", """all => all.map(one => {
            const { left, right, top, bottom } = one.getBoundingClientRect();
            return [left, right, top, bottom];
        })""")
        for i, a in enumerate(own):
            for b in own[:i]:
                assert a[0] >= b[1] - 1 or b[0] >= a[1] - 1 or a[2] >= b[3] - 3 or b[2] >= a[3] - 3


def test_paper_names_the_checkpoint_without_a_slider(opened, saved):
    page = opened(saved)
    page.emulate_media(media="print")
    page.wait_for_timeout(200)
    assert page.inner_text(MOMENT) == "4 of 4: \u2068stage two\u2069"
    assert not page.is_visible(SLIDER) and page.is_visible(f"{VIEW}[data-curve='attention']")
    colour = page.eval_on_selector(f"{VIEW}.tinybert-course", "one => getComputedStyle(one).stroke")
    assert colour == "rgb(26, 26, 26)"


def test_forced_colours_keep_the_curves(opened, saved):
    page = opened(saved)
    page.emulate_media(forced_colors="active", color_scheme="dark")
    page.wait_for_timeout(200)
    ink = page.eval_on_selector(f"{VIEW}.tinybert-course", "one => getComputedStyle(one).stroke")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    mark = page.eval_on_selector(f"{VIEW}.tinybert-now", "one => getComputedStyle(one).fill")
    assert len({ink, ground, mark}) == 3


def test_models_without_a_head_have_one_curve(opened, tmp_path):
    from transformers import BertModel
    torch.manual_seed(7)
    students = {name: bert(2, kind=BertModel) for name in NAMES[:2]}
    explorer = AttentionExplorer(bert(4, kind=BertModel), students, load_tokenizer(DEFAULT_TEACHER), text="Not bad.")
    page = opened(explorer.save(tmp_path / "page.html"))
    assert page.locator(f"{VIEW}.tinybert-curves svg").count() == 1 and len(values(page, "attention")) == 2


def test_the_local_page_has_the_slider_for_each_text(browser):
    torch.manual_seed(8)
    import threading
    models = bert(4), as_checkpoints([(name, bert(2)) for name in NAMES]), load_tokenizer(DEFAULT_TEACHER)
    with ExplorerServer(models, uniform_map(4, 2)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.set_default_timeout(10_000)
        seen = Watched(page)
        page.goto(server.address)
        page.wait_for_selector("#place[data-drawn] [data-control='checkpoint']")
        page.locator("[data-control='checkpoint']").fill("2")
        page.wait_for_selector(".tinybert-moment >> text=30 updates")
        page.fill("[name='text']", "Another <b>film</b>.")
        page.keyboard.press("Enter")
        page.wait_for_selector("[data-place] >> text=another")
        assert page.input_value("[data-control='checkpoint']") == "2" and page.locator("[data-curve] circle").count() == 8
        assert seen.errors == [] and seen.hosts == {"127.0.0.1"} and page.evaluate("typeof hurt") == "undefined"
        page.close()
        server.shutdown()
