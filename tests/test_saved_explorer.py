"""What an explorer saves: its pages in Chromium, their size, pictures, and the rows of the browser."""

import csv
import io
import json
import re
from xml.etree import ElementTree

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from browser import Watched
from tinybert_nb.analysis.attention_tables import WAYS
from tinybert_nb.analysis.disagreement import Shown, shown_rows
from tinybert_nb.analysis.explorer import AttentionExplorer
from tinybert_nb.data.catalogue import DEFAULT_TEACHER
from tinybert_nb.models.tokenizers import load_tokenizer

HOSTILE = "</script><script>window.hurt = 1</script> =cmd <img src=x onerror=hurt()>"
FIRST = "[data-sight='text-1'][data-drawn] "
SECOND = "[data-sight='text-2'][data-drawn] "
BLOCK = re.compile('<script type="application/json"[^>]*>(.*?)</script>')


def bert(layers, heads=12):
    config = BertConfig(vocab_size=30522, hidden_size=24, num_hidden_layers=layers, num_attention_heads=heads,
                        intermediate_size=48, initializer_range=0.4)
    return BertForSequenceClassification(config).eval()


@pytest.fixture
def explorer():
    torch.manual_seed(5)
    return AttentionExplorer(bert(6), bert(3), load_tokenizer(DEFAULT_TEACHER), text="A charming film, not a dull one.")


@pytest.fixture
def opened(browser):
    """Opens a page from disk; no error, no request, no script of a text."""
    window = browser.new_context(viewport={"width": 1400, "height": 1000})
    page = window.new_page()
    page.set_default_timeout(5_000)
    seen = Watched(page)

    def visit(path, fragment="", ready=FIRST):
        page.goto("about:blank")
        page.goto(path.as_uri() + fragment)
        page.wait_for_selector(ready)
        return page

    yield visit
    assert seen.errors == [] and seen.hosts == set()
    assert page.evaluate("typeof hurt") == "undefined"
    window.close()


def rows_of(page, view, ending="csv"):
    with page.expect_download() as download:
        page.click(f"{view}[data-save='{ending}']")
    content = download.value.path().read_bytes().decode()
    return [*csv.DictReader(io.StringIO(content, newline=""))] if ending == "csv" else json.loads(content)


def test_ten_sentences_of_thirty_tokens_are_under_three_megabytes(explorer, tmp_path):
    texts = [" ".join(["film"] * 27 + [f"{number}"]) for number in range(10)]
    path = explorer.save(tmp_path / "ten.html", texts)
    content = path.read_text(encoding="utf-8")
    blocks = [json.loads(each) for each in BLOCK.findall(content)]
    assert [len(each["tokens"]) for each in blocks] == [30] * 10
    assert all(each["chosen"] == {"layers": [1, 2, 3, 4, 5, 6], "heads": [*range(1, 13)]} for each in blocks)
    assert path.stat().st_size < 3_000_000
    assert not re.search(r"<[^>]+\son\w+=", re.sub(r"<script.*?</script>", "", content, flags=re.S))


@pytest.mark.parametrize("way", WAYS)
def test_a_page_opens_as_shown_and_its_rows_are_those_that_are_saved(explorer, opened, tmp_path, way):
    head = {"probabilities": 5, "scores": 0, "value-weighted": -1}.get(way, 7)
    layer = {"scores": -1, "value-weighted": 0, "cosine": 0}.get(way, 2)
    explorer.restore(layer=layer, head=head, view=way, token=3, selected=[4], words=True, scale="automatic")
    page = opened(explorer.save(tmp_path / "page.html"))
    assert page.input_value(f"{FIRST}[data-control='view']") == way
    assert page.input_value(f"{FIRST}[data-control='layer']") == str(layer)
    assert page.input_value(f"{FIRST}[data-control='words']") == "true"
    assert page.locator(f"{FIRST}[data-place][aria-selected='true']").count() == 2
    here = [*csv.DictReader(io.StringIO(explorer.save(tmp_path / "a.csv").read_bytes().decode(), newline=""))]
    there = rows_of(page, FIRST)
    assert [*here[0]] == [*there[0]] and len(here) == len(there)
    for ours, theirs in zip(here, there):
        assert float(ours.pop("value")) == pytest.approx(float(theirs.pop("value")), abs=5e-3, rel=5e-3)
        assert ours == theirs
    about, at = json.loads((explorer.save(tmp_path / "a.json")).read_text())["about"], rows_of(page, FIRST, "json")["about"]
    assert {name: value for name, value in about.items() if name != "answers"} == {name: at[name] for name in about if name != "answers"}


def test_the_control_of_layers_merges_them(explorer, opened, tmp_path):
    explorer.restore(layer=0, head=5)
    expected = json.loads(explorer.save(tmp_path / "a.json").read_text())
    explorer.restore(layer=3)
    page = opened(explorer.save(tmp_path / "page.html"))
    page.select_option(f"{FIRST}[data-control='layer']", label="mean of all mapped layers")
    page.wait_for_selector("figcaption >> text=student, mean of layers 1, 2, 3")
    assert page.inner_text("figcaption >> nth=0") == "teacher, mean of layers 2, 4, 6"
    found = rows_of(page, FIRST, "json")
    assert {found["about"][side] for side in ("teacher", "student")} == {"mean"} == {row["layer"] for row in expected["rows"]}
    for ours, theirs in zip(expected["rows"], found["rows"], strict=True):
        assert ours.pop("value") == pytest.approx(theirs.pop("value"), abs=5e-3)
        assert ours == theirs
    page.click(f"{FIRST}[data-save='link']")
    assert "layer=0" in page.url
    opened(tmp_path / "page.html", "#text-1?layer=-1&head=0&view=scores")
    page.wait_for_selector("figcaption >> text=teacher, maximum of layers 2, 4, 6")
    assert page.locator(f"{FIRST}[role='gridcell'][aria-selected='true']").count() == 0
    page.focus(f"{FIRST}[role='option'][tabindex='0']")
    page.keyboard.press("PageDown")
    page.wait_for_selector("figcaption >> text=student, layer 2")


def test_layers_are_merged_where_a_page_has_them_all(explorer, opened, tmp_path):
    page = opened(explorer.save(tmp_path / "few.html", ["A film."], layers=[1, 3]))
    assert page.locator(f"{FIRST}[data-control='layer'] option").count() == 2
    opened(explorer.save(tmp_path / "all.html", ["A film."], layers=[1, 2, 3]), "#text-1?layer=0")
    assert page.locator(f"{FIRST}[data-control='layer'] option").count() == 5
    assert page.input_value(f"{FIRST}[data-control='layer']") == "0"


def test_chosen_layers_and_heads_are_all_that_can_be_reached(explorer, opened, tmp_path):
    explorer.restore(layer=1, head=0, view="probabilities")
    path = explorer.save(tmp_path / "few.html", ["A film.", HOSTILE], layers=[3, 5], heads=[2, 7, 11])
    page = opened(path, ready=SECOND)
    cells = page.eval_on_selector_all(f"{FIRST}[role='gridcell']", "all => all.map(({ dataset }) => [dataset.layer, dataset.head].map(Number))")
    assert cells == [[layer, head] for layer in (3, 5) for head in (2, 7, 11)]
    values = page.eval_on_selector_all(f"{FIRST}[data-control='layer'] option", "all => all.map(one => one.value)")
    assert values == ["3", "5"] and not page.is_visible(f"{FIRST}[data-control='merge']")
    head = page.locator(f"{FIRST}[data-control='head']")
    head.fill("8")
    page.wait_for_timeout(100)
    assert head.input_value() == "7"
    page.focus(f"{FIRST}[role='option'][tabindex='0']")
    for key, expected in (("h", "11"), ("h", "2"), ("Shift+h", "11")):
        page.keyboard.press(key)
        page.wait_for_timeout(100)
        assert head.input_value() == expected
    for key, expected in (("PageUp", "3"), ("PageUp", "3"), ("PageDown", "5"), ("PageDown", "5")):
        page.keyboard.press(key)
        page.wait_for_timeout(100)
        assert page.input_value(f"{FIRST}[data-control='layer']") == expected
    assert "heads 2, 7, 11" in page.inner_text("section:last-of-type")
    opened(path, "#text-1?layer=3&head=7&view=cosine&token=2")
    assert page.input_value(f"{FIRST}[data-control='layer']") == "3" and page.input_value(f"{FIRST}[data-control='view']") == "cosine"
    assert head.input_value() == "7"
    opened(path, "#text-1?layer=1&head=4")
    assert page.input_value(f"{FIRST}[data-control='layer']") in ("3", "5")


@pytest.mark.parametrize("way", ("probabilities", "cosine"))
def test_a_lecture_has_its_pictures_within_the_window(explorer, opened, tmp_path, way):
    """With labels of 20 pixels; on paper and after the lecture they are as wide as their place again."""
    texts = ["A charming film, and much better than its title.", " ".join(["the plot is thin but the actors save it"] * 4)]
    explorer.restore(view=way)
    page = opened(explorer.save(tmp_path / "page.html", texts))
    page.set_viewport_size({"width": 1920, "height": 1080})
    for root in (FIRST, SECOND):
        page.wait_for_timeout(200)
        width = page.eval_on_selector(f"{root}canvas", "one => one.clientWidth")
        page.click(f"{root}[data-control='lecture']")
        page.wait_for_timeout(300)
        high, window, size = page.eval_on_selector(root.strip(), """one => [one.scrollHeight, one.clientHeight,
            getComputedStyle(one.querySelector(".tinybert-rows")).fontSize]""")
        assert high <= window == 1080 and size == "20px"
        sides = page.eval_on_selector_all(f"{root}canvas", "all => all.map(one => [one.clientWidth, one.clientHeight])")
        assert len({side for pair in sides for side in pair}) <= 2 and min(sides[0]) >= 300
        beside = page.eval_on_selector(f"{root}.tinybert-plot", "one => one.children[2].getBoundingClientRect().left - one.getBoundingClientRect().left")
        assert beside < 220
        page.emulate_media(media="print")
        page.wait_for_timeout(200)
        assert page.eval_on_selector(root.strip(), "one => one.style.getPropertyValue('--tinybert-side')") == ""
        page.emulate_media(media="screen")
        page.keyboard.press("Escape")
        page.wait_for_timeout(300)
        assert page.eval_on_selector(f"{root}canvas", "one => one.clientWidth") == width


def test_paper_says_what_is_shown_in_place_of_the_controls(explorer, opened, tmp_path):
    explorer.restore(layer=0, head=4, view="scores", scale="automatic")
    page = opened(explorer.save(tmp_path / "page.html"))
    assert not page.is_visible(f"{FIRST}.tinybert-headline") and page.is_visible(f"{FIRST}[data-control='layer']")
    page.emulate_media(media="print")
    page.wait_for_timeout(200)
    assert page.inner_text(f"{FIRST}.tinybert-headline") == (
        "scores: student mean of layers 1, 2, 3, teacher mean of layers 2, 4, 6, head 4 of 12, automatic scale")
    for control in ("layer", "head", "merge", "view", "measure", "lecture"):
        assert not page.is_visible(f"{FIRST}[data-control='{control}']")
    rows = page.eval_on_selector_all(f"{FIRST}.tinybert-rows >> nth=0 >> span", """all => all.map(one => {
        const box = one.getBoundingClientRect(), picture = one.parentElement.nextElementSibling.getBoundingClientRect();
        return [box.top >= picture.top - 4, box.bottom <= picture.bottom + 4, box.right <= picture.left + 1];
    })""")
    assert len(rows) >= 10 and all(map(all, rows))
    assert len(page.pdf(format="A4")) > 10_000


def test_two_compared_texts_and_a_hostile_one_stand_below_each_other(explorer, opened, tmp_path):
    explorer.controls["text"].value, explorer.controls["compare"].value = HOSTILE, "It is not."
    page = opened(explorer.save(tmp_path / "two.html"), ready=SECOND)
    assert page.inner_text("h2 >> nth=0").startswith("</script><script>")
    assert "hurt" in page.inner_text(f"{FIRST}.tinybert-strip")
    keys = {row["key"] for row in rows_of(page, FIRST)}
    saved = {row["key"] for row in csv.DictReader(io.StringIO(explorer.save(tmp_path / "a.csv").read_bytes().decode(), newline=""))}
    assert keys == saved and " =" in keys


@pytest.mark.parametrize("way", WAYS)
def test_pictures_show_what_is_shown(explorer, tmp_path, way):
    explorer.restore(layer=4, head=3, view=way, words=True)
    drawn = ElementTree.parse(explorer.save(tmp_path / "a.svg")).getroot()
    texts = " ".join(text for each in drawn.iter("{http://www.w3.org/2000/svg}text") for text in each.itertext())
    ours, theirs = explorer.view._viewed.pairs[3]
    for part in ("charming", f"teacher, layer {theirs}", f"student, layer {ours}", "student minus teacher"):
        assert part in texts
    assert ("head 3" in texts) == WAYS[way].heads
    first = (tmp_path / "a.svg").read_bytes()
    assert explorer.save(tmp_path / "a.svg").read_bytes() == first
    assert explorer.save(tmp_path / "a.PNG").read_bytes().startswith(b"\x89PNG")


def test_rows_of_unequal_heads_and_of_the_mean(tmp_path):
    torch.manual_seed(6)
    for heads, head in (("matched", 2), ("mean", "mean")):
        explorer = AttentionExplorer(bert(4), bert(2, heads=4), load_tokenizer(DEFAULT_TEACHER), heads=heads)
        explorer.restore(layer=1, head=2 if heads == "matched" else 0)
        rows = json.loads(explorer.save(tmp_path / "a.json").read_text())["rows"]
        assert rows == [*shown_rows(Shown(explorer.view._viewed, 1, explorer.view.head))] == [*shown_rows(explorer.shown)] and rows[0]["head"] == head
        assert "text-1" in explorer.save(tmp_path / "a.html").read_text()


def test_what_cannot_be_saved_is_said(explorer, tmp_path):
    for path, choice, said in (("a.pdf", {}, "ends with .pdf: choose .html, .svg, .png, .csv, .json"),
                               ("a", {}, "ends with nothing"), ("a.svg", {"texts": ["x"]}, "texts: only a page"),
                               ("a.html", {"layers": [7]}, "layers 7: choose from 1 to 6"),
                               ("a.html", {"heads": []}, "heads is empty"), ("a.html", {"texts": [" "]}, "text is empty")):
        with pytest.raises(ValueError, match=re.escape(said)):
            explorer.save(tmp_path / path, **choice)
    assert not [*tmp_path.iterdir()]
