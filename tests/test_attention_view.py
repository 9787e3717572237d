"""The attention view in a saved page: what is drawn, by pointer and keys, is what Python computes."""

import csv
import json
import re
from xml.etree import ElementTree

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, ModernBertConfig, ModernBertModel

from browser import Watched
from tinybert_nb.analysis.alignment import MEASURES, read_text
from tinybert_nb.analysis.attention_tables import (
    WAYS, add_value_norms, attention_table, join_words, merge_tables, selected_sums)
from tinybert_nb.analysis.attention_view import OfflineView, overview_of
from tinybert_nb.analysis.disagreement import ViewedText, answers_of, first_sight, layer_tables
from tinybert_nb.analysis.html import html_report
from tinybert_nb.data.catalogue import DEFAULT_TEACHER
from tinybert_nb.distillation.layer_map import uniform_map
from tinybert_nb.files.scripts import joined_script, static_text
from tinybert_nb.models.tokenizers import load_tokenizer

TEXT = "An unbelievably charming film, <b>better</b> than its title."
NAMES = {0: "<i>bad</i>", 1: "good"}
VIEW = "[data-sight='{}'][data-drawn] "
ONE, MATCHED, MEAN, LONG, LOCAL = map(VIEW.format, ("one", "matched", "mean", "long", "local"))


def bert(layers, heads=4):
    config = BertConfig(vocab_size=30522, hidden_size=32, num_hidden_layers=layers,
                        num_attention_heads=heads, intermediate_size=64, initializer_range=0.3,
                        id2label=NAMES, label2id={name: place for place, name in NAMES.items()})
    return BertForSequenceClassification(config).eval()


def modern(layers):
    special = dict(pad_token_id=0, bos_token_id=101, cls_token_id=101, eos_token_id=102, sep_token_id=102)
    return ModernBertModel(ModernBertConfig(
        vocab_size=30522, hidden_size=32, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=64, initializer_range=0.3, local_attention=4, global_attn_every_n_layers=2,
        **special)).eval()


@pytest.fixture(scope="module")
def shown():
    """What each view of the page shows, as Python has it."""
    torch.manual_seed(3)
    tokenizer, teacher, student, fewer = load_tokenizer(DEFAULT_TEACHER), bert(4), bert(2), bert(2, heads=2)
    pairs = {"one": (teacher, student, TEXT, "same"), "matched": (teacher, fewer, TEXT, "matched"),
             "mean": (teacher, fewer, "Not bad.", "mean"), "long": (teacher, student, "a long film. " * 50, "same"),
             "local": (modern(4), modern(2), "a film that is better than its title", "same")}
    found = {}
    for name, (theirs, ours, text, heads) in pairs.items():
        read = read_text(theirs, ours, tokenizer, text)
        found[name] = ViewedText(add_value_norms(read, theirs, ours), uniform_map(4, 2), heads,
                                 answers_of(read, theirs, ours))
    return found


@pytest.fixture(scope="module")
def saved(shown, tmp_path_factory):
    """A page with all of them."""
    views = [OfflineView(each.read, each.layer_map, name, each.heads, each.answers)
             for name, each in shown.items()]
    return html_report("Views", [("Attention", views)], tmp_path_factory.mktemp("views") / "page.html",
                       joined_script("alignment_report.js"), static_text("attention_view.css"))


@pytest.fixture
def page(browser, saved):
    """The page in a window; no error, no request."""
    window = browser.new_context(viewport={"width": 1400, "height": 1000})
    opened = window.new_page()
    opened.set_default_timeout(5_000)
    seen = Watched(opened)
    opened.goto(saved.as_uri())
    opened.wait_for_selector(LOCAL)
    yield opened
    assert seen.errors == [] and seen.hosts == set()
    assert opened.evaluate("typeof hurt") == "undefined"
    window.close()


def control(page, view, /, **values):
    """Set controls, and wait for the drawing."""
    for name, value in values.items():
        found = page.locator(f"{view}[data-control='{name}']")
        if found.evaluate("one => one.tagName") == "SELECT":
            found.select_option(str(value))
        else:
            found.fill(str(value)) if found.get_attribute("type") == "range" else found.set_checked(value)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def saved_file(page, view, ending) -> bytes:
    """What a button saves."""
    with page.expect_download() as download:
        page.click(f"{view}[data-save='{ending}']")
    assert download.value.suggested_filename.endswith(f".{ending}")
    return download.value.path().read_bytes()


def tables(page, view) -> dict[str, torch.Tensor]:
    """The numbers that are shown, by model."""
    content = json.loads(saved_file(page, view, "json"))
    size = len(content["about"]["tokens"])
    values = {name: [float("nan") if row["value"] is None else row["value"]
                     for row in content["rows"] if row["model"] == name] for name in ("teacher", "student")}
    return {name: torch.tensor(each).reshape(size, size) for name, each in values.items()}


def assert_shows(page, view, expected) -> None:
    for found, table in zip(tables(page, view).values(), expected):
        assert torch.allclose(found, table, rtol=4e-3, atol=4e-3, equal_nan=True)


@pytest.mark.parametrize("way", WAYS)
def test_each_way_shows_what_python_computes(page, shown, way):
    viewed = shown["one"]
    control(page, ONE, view=way)
    assert WAYS[way].meaning in page.inner_text(f"{ONE}.tinybert-says")
    for layer in (1, 2, len(viewed.pairs)):
        control(page, ONE, layer=layer)
        expected = layer_tables(viewed, layer, way)
        if not WAYS[way].heads:
            assert page.is_disabled(f"{ONE}[data-control='head']")
            assert_shows(page, ONE, expected)
            continue
        control(page, ONE, head=3)
        assert_shows(page, ONE, [table[2] for table in expected])
        for how in ("mean", "maximum"):
            control(page, ONE, merge=how)
            assert_shows(page, ONE, [merge_tables(table, how) for table in expected])


@pytest.mark.parametrize("way", ["probabilities", "scores", "value-weighted", "rollout", "cosine"])
def test_local_attention_and_whole_words(page, shown, way):
    viewed = shown["local"]
    control(page, LOCAL, layer=2, view=way)
    expected = layer_tables(viewed, 2, way)
    if WAYS[way].heads:
        control(page, LOCAL, head=1)
        expected = [table[0] for table in expected]
    assert_shows(page, LOCAL, expected)
    if way == "scores":
        assert expected[0].isnan().any() and "–" in page.inner_text(f"{LOCAL}.tinybert-strip")
    control(page, ONE, view=way, layer=1, words="true")
    one = [table if table.dim() == 2 else table[int(page.input_value(f"{ONE}[data-control='head']")) - 1]
           for table in layer_tables(shown["one"], 1, way)]
    assert_shows(page, ONE, [join_words(table, shown["one"].read.words, way) for table in one])


def strip(page, view, line) -> list[float]:
    """The numbers of a line of the strip: 2 the teacher, 3 the student."""
    return page.eval_on_selector_all(f"{view}[data-place] > span:nth-child({line})",
                                     "all => all.map(one => Number(one.textContent.replace('−', '-')))")


@pytest.mark.parametrize("way", ["probabilities", "cosine"])
def test_selected_tokens_are_summed(page, shown, way):
    control(page, ONE, view=way, layer=2)
    page.click(f"{ONE}[data-place='2']")
    page.click(f"{ONE}[data-place='5']", modifiers=["Shift"])
    page.keyboard.press("Shift+ArrowRight")
    page.wait_for_selector(f"{ONE}[data-place='6'][aria-selected='true']")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.wait_for_selector(f"{ONE}[data-place='8'][aria-selected='true']")
    chosen = [2, 5, 6, 7, 8]
    assert page.eval_on_selector_all(f"{ONE}[aria-selected='true'][data-place]",
                                     "all => all.map(one => Number(one.dataset.place))") == chosen
    number = int(page.input_value(f"{ONE}[data-control='head']")) - 1
    for line, table in enumerate(layer_tables(shown["one"], 2, way), 2):
        expected = selected_sums(table if table.dim() == 2 else table[number], chosen, way)[0]
        assert strip(page, ONE, line) == pytest.approx(expected.tolist(), abs=0.012)
    told = page.inner_text(f"{ONE}[role='status']")
    assert f"({WAYS[way].joins} of 5)" in told
    page.keyboard.press("Escape")
    page.wait_for_selector(f"{ONE}[data-place='2'][aria-selected='false']")
    assert page.locator(f"{ONE}[data-place][aria-selected='true']").count() == 1


def test_opens_where_the_two_differ_most(page, shown):
    for name, view in (("one", ONE), ("matched", MATCHED), ("mean", MEAN)):
        viewed = shown[name]
        first = first_sight(viewed.read, viewed.layer_map, viewed.heads)
        told = page.inner_text(f"{view}.tinybert-opened")
        assert f"student layer {first.layer}," in told and viewed.read.words[first.word].text in told
        assert page.get_attribute(f"{view}[data-place][aria-selected='true']", "data-place") == str(first.query)
        assert page.get_attribute(f"{view}.tinybert-grid [aria-selected='true']", "data-head") == str(first.head or 0)
        assert page.input_value(f"{view}[data-control='layer']") == str(first.layer)
    assert f"(beside the teacher's head {first_sight(shown['matched'].read, shown['matched'].layer_map, 'matched').teacher_head})" in (
        page.inner_text(f"{MATCHED}.tinybert-opened")) or "beside" not in page.inner_text(f"{MATCHED}.tinybert-opened")
    assert not page.is_visible(f"{MEAN}[data-control='head']")


def test_answers_stand_above_with_bars_and_numbers(page, shown):
    for name in ("teacher", "student"):
        answer, side = shown["one"].answers[name], f"{ONE}[data-side='{name}'] "
        assert page.inner_text(f"{side}caption") == f"The {name} answers {answer['label']}"
        lines = page.eval_on_selector_all(f"{side}tbody tr", "all => all.map(one => [...one.cells].map(cell => cell.textContent))")
        assert [line[0] for line in lines] == [*NAMES.values()]
        for line, share, logit in zip(lines, answer["probabilities"].values(), answer["logits"].values()):
            assert line[2] == f"{100 * share:.1f}%"
            assert float(line[3].replace("−", "-")) == pytest.approx(logit, abs=0.0051)
        widths = page.eval_on_selector_all(f"{side}.tinybert-fill", "all => all.map(one => one.style.width)")
        assert [float(width.rstrip("%")) / 100 for width in widths] == pytest.approx(
            [*answer["probabilities"].values()], abs=1e-4)
    assert not page.is_visible(f"{LOCAL}.tinybert-answers")


@pytest.mark.parametrize("measure", MEASURES)
def test_the_overview_has_each_head_of_each_pair_of_layers(page, shown, measure):
    viewed = shown["one"]
    rows = overview_of(viewed, measure)["rows"]
    control(page, ONE, measure=measure)
    cells = page.eval_on_selector_all(f"{ONE}[role='gridcell']", """all => all.map(({ dataset, title }) =>
        [Number(dataset.layer), Number(dataset.head), title])""")
    assert len(cells) == len(rows) == 4 * len(viewed.pairs)
    for (layer, head, title), row in zip(cells, rows):
        assert viewed.pairs[layer - 1] == (row["student_layer"], row["teacher_layer"]) and head == row["head"]
        assert float(title.rpartition(" ")[2].replace("−", "-")) == pytest.approx(row[measure], abs=0.0051)
    dotted = page.locator(f"{ONE}.tinybert-unmapped")
    assert dotted.count() == 2 and "unmapped: teacher 1" in dotted.first.inner_text()
    scale = page.inner_text(f"{ONE}.tinybert-overview-scale")
    assert ("1: the same" if measure in ("cosine", "rank_agreement") else "0: the same") in scale


def test_a_head_is_opened_by_click_and_by_keys(page):
    page.click(f"{ONE}[data-layer='3'][data-head='2']")
    open_cell = f"{ONE}.tinybert-grid [data-layer='{{}}'][data-head='{{}}'][aria-selected='true']"
    page.wait_for_selector(open_cell.format(3, 2))
    assert page.input_value(f"{ONE}[data-control='layer']") == "3" and page.input_value(f"{ONE}[data-control='head']") == "2"
    for key in ("ArrowRight", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector(open_cell.format(2, 3))
    assert page.evaluate("document.activeElement.dataset.head") == "3"
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    page.wait_for_selector(open_cell.format(2, 1))


def scale(page, view, panel) -> list[float]:
    text = page.locator(f"{view}.tinybert-plot .tinybert-scale >> nth={panel}").locator("div >> nth=1").inner_text()
    return [float(number.replace("−", "-")) for number in text.split()]


def test_the_automatic_scale_ends_at_the_largest_value(page, shown):
    assert max(scale(page, ONE, 0)) == max(scale(page, ONE, 1)) == max(scale(page, ONE, 2)) == 1
    control(page, ONE, scale="automatic", layer=1, head=2)
    theirs, ours = (table[1] for table in layer_tables(shown["one"], 1, "probabilities"))
    most, apart = max(float(theirs.max()), float(ours.max())), float((ours - theirs).abs().max())
    for panel in (0, 1):
        assert max(scale(page, ONE, panel)) == pytest.approx(most, rel=0.06)
    assert max(scale(page, ONE, 2)) == -min(scale(page, ONE, 2)) == pytest.approx(apart, rel=0.06)
    assert 0 in scale(page, ONE, 2) and "scale of its own" in page.inner_text(f"{ONE}figure:nth-child(3)")


def test_lines_are_drawn_by_value_and_at_most_200(page, shown):
    assert page.locator(f"{ONE}.tinybert-lines svg").count() == 0
    control(page, ONE, lines=True)
    assert page.locator(f"{ONE}.tinybert-lines svg").count() == 2
    words = page.eval_on_selector_all(f"{ONE}.tinybert-lines svg >> nth=0 >> text", "all => all.map(one => one.textContent.slice(1, -1))")
    assert words == [*shown["one"].read.tokens] * 2
    lines = page.eval_on_selector_all(f"{ONE}.tinybert-lines svg >> nth=1 >> line", """all => all.map(one =>
        [Number(one.getAttribute("stroke-opacity")), Number(one.getAttribute("stroke-width"))])""")
    shares = sorted((value for value in strip(page, ONE, 3) if value > 0.005), reverse=True)
    assert [opacity ** 2 for opacity, _ in lines][:3] == pytest.approx(shares[:3], abs=0.011)
    assert sorted(width for _, width in lines)[::-1] == [width for _, width in lines]
    control(page, LONG, lines=True)
    page.click(f"{LONG}[data-place='3']")
    for _ in range(12):
        page.keyboard.press("Shift+ArrowRight")
    page.wait_for_timeout(300)
    assert 100 < page.locator(f"{LONG}.tinybert-lines svg >> nth=0 >> line").count() <= 200


def test_a_lecture_has_large_labels_the_whole_window_and_all_keys(page):
    page.set_viewport_size({"width": 2560, "height": 1440})
    page.focus(f"{ONE}[role='option'][tabindex='0']")
    page.keyboard.press("l")
    page.wait_for_selector(f"{ONE}[data-control='lecture'][aria-pressed='true']")
    root = page.locator("[data-sight='one']")
    assert root.bounding_box() == {"x": 0, "y": 0, "width": 2560, "height": 1440}
    sizes = page.evaluate("""selector => [...document.querySelectorAll(selector)].map(one =>
        parseFloat(getComputedStyle(one).fontSize))""", f"{ONE}:is(.tinybert-rows, .tinybert-columns, .tinybert-token) > span")
    assert min(sizes) >= 20
    assert not page.is_visible(f"{ONE}[data-control='layer']")
    before = page.inner_text(f"{ONE}figcaption >> nth=1")
    page.keyboard.press("PageDown")
    for _ in range(100):
        if page.inner_text(f"{ONE}figcaption >> nth=1") != before:
            break
        page.wait_for_timeout(50)
    assert page.inner_text(f"{ONE}figcaption >> nth=1") != before
    for key, name, value in (("h", "head", None), ("s", "scale", "automatic"), ("w", "words", "true"), ("v", "view", "scores")):
        old = page.input_value(f"{ONE}[data-control='{name}']")
        page.keyboard.press(key)
        page.wait_for_timeout(120)
        new = page.input_value(f"{ONE}[data-control='{name}']")
        assert new == value if value else new != old
    page.keyboard.press("i")
    page.wait_for_selector(f"{ONE}.tinybert-lines svg")
    page.keyboard.press("?")
    assert "lecture mode" in page.inner_text(f"{ONE}.tinybert-keys")
    page.keyboard.press("c")
    assert page.is_visible(f"{ONE}[data-control='layer']")
    page.keyboard.press("Escape")
    page.wait_for_selector(".tinybert-lecture", state="detached")
    assert root.bounding_box()["y"] > 0


@pytest.mark.parametrize("lecture", [False, True])
def test_a_phone_has_one_column_and_nothing_beside_it(page, lecture):
    page.set_viewport_size({"width": 400, "height": 800})
    control(page, ONE, lines=True)
    if lecture:
        page.click(f"{ONE}[data-control='lecture']")
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.evaluate(f"document.querySelector(\"{ONE}\").scrollWidth") <= 400
    cut = page.evaluate("""selector => [...document.querySelectorAll(selector + " *")].filter(one => {
        const box = one.getBoundingClientRect();
        return box.width && (box.right > 401 || box.left < -1) && !one.closest("svg, .tinybert-scale");
    }).map(one => one.outerHTML.slice(0, 90))""", ONE.strip())
    assert cut == []
    lefts = page.eval_on_selector_all(f"{ONE}.tinybert-pictures figure", "all => all.map(one => one.getBoundingClientRect().left)")
    assert max(lefts) - min(lefts) < 1


def test_files_say_what_is_shown(page, shown, tmp_path):
    control(page, ONE, view="value-weighted", layer=2, head=4, lines=True)
    rows = [*csv.DictReader(saved_file(page, ONE, "csv").decode().splitlines())]
    size = len(shown["one"].read.tokens)
    assert len(rows) == 3 * size ** 2 and [*rows[0]] == [
        "model", "layer", "head", "way", "query", "query_position", "key", "key_position", "value"]
    assert {(row["model"], row["layer"], row["head"], row["way"]) for row in rows} == {
        ("teacher", "4", "4", "value-weighted"), ("student", "2", "4", "value-weighted"),
        ("difference", "2", "4", "value-weighted")}
    of_teacher = torch.tensor([float(row["value"]) for row in rows[:size ** 2]]).reshape(size, size)
    assert torch.allclose(of_teacher, layer_tables(shown["one"], 2, "value-weighted")[0][3], rtol=4e-3, atol=4e-3)
    drawn = ElementTree.fromstring(saved_file(page, ONE, "svg"))
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    texts = [each.text.strip("\u2068\u2069") for each in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert "student minus teacher" in texts and texts.count("film") == 3 * 2 + 2 * 2
    assert saved_file(page, ONE, "png").startswith(b"\x89PNG")
    with page.expect_download() as download:
        page.click(f"{ONE}[data-save='csv']")
    assert download.value.suggested_filename == (
        "attention_student-2_teacher-4_head-4-of-4_value-weighted.csv")


def test_a_link_restores_the_state(page, saved):
    control(page, ONE, view="value-weighted", layer=3, head=2, words="true", scale="automatic", measure="cosine")
    page.click(f"{ONE}[data-place='4']")
    page.click(f"{ONE}[data-place='6']", modifiers=["Shift"])
    page.click(f"{ONE}[data-save='link']")
    address, before = page.url, page.inner_text(f"{ONE}[role='status']")
    assert "#one?" in address
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector(LOCAL)
    assert page.inner_text(f"{ONE}[role='status']") == before
    for name, value in dict(view="value-weighted", layer="3", head="2", words="true", scale="automatic", measure="cosine").items():
        assert page.input_value(f"{ONE}[data-control='{name}']") == value
    wrong = "#one?layer=99&head=-7&view=constructor&token=1e9&selected=x,5&words=<img>&measure=__proto__&scale=3"
    page.goto("about:blank")
    page.goto(saved.as_uri() + wrong)
    page.wait_for_selector(LOCAL)
    assert page.input_value(f"{ONE}[data-control='view']") == "probabilities"


def test_colours_stay_where_the_system_forces_its_own(page):
    page.emulate_media(forced_colors="active")
    page.wait_for_timeout(200)
    ground = "one => getComputedStyle(one).backgroundColor"
    cells = page.eval_on_selector_all(f"{ONE}[role='gridcell']", f"all => new Set(all.map({ground})).size")
    assert cells > 3
    outline = page.eval_on_selector(f"{ONE}[role='gridcell'][aria-selected='true']", "one => getComputedStyle(one).outlineStyle")
    assert outline == "solid"


def test_paper_has_no_buttons_and_the_right_labels(page, shown):
    page.set_viewport_size({"width": 680, "height": 1000})
    page.emulate_media(media="print", color_scheme="dark")
    page.wait_for_timeout(200)
    assert page.locator(f"{ONE}button >> visible=true").count() == 0
    assert page.evaluate(f"""document.querySelector("{ONE}").getBoundingClientRect().right""") <= 690
    rows = page.eval_on_selector_all(f"{ONE}.tinybert-rows >> nth=0 >> span", "all => all.map(one => one.textContent)")
    assert {*rows} <= {*shown["one"].read.tokens} and len(rows) >= 6


def test_controls_have_names_and_a_place_in_the_order_of_tab(page):
    found = page.evaluate("""selector => [...document.querySelectorAll(`${selector} :is(select, input, button)`)]
        .filter(one => one.checkVisibility()).map(one => one.labels?.[0]?.textContent || one.getAttribute("aria-label")
        || one.textContent)""", ONE.strip())
    assert all(name.strip() for name in found) and len(found) > 12
    assert page.locator(f"{ONE}[role='gridcell'][tabindex='0']").count() == 1
    assert page.locator(f"{ONE}[role='option'][tabindex='0']").count() == 1


def test_the_page_allows_one_script_and_has_no_handlers(saved):
    html = saved.read_text(encoding="utf-8")
    assert re.search("script-src 'sha256-[^;]+'\"", html) and "<b>better" not in html and "<i>bad" not in html
    assert not re.search(r"<[^>]+\son\w+=", re.sub(r"<script.*?</script>", "", html, flags=re.S))


def test_each_file_of_the_view_can_be_read_in_one_sitting():
    from tinybert_nb.files.scripts import script_names

    for name in script_names("alignment_report.js"):
        lines = static_text(name).splitlines()
        assert len(lines) <= 330 and max(map(len, lines[1:])) <= 130, name
        assert any(line.startswith("// ") for line in lines[:3]), name


def test_attention_table_is_what_the_view_takes(shown):
    viewed = shown["matched"]
    for layer, (_, theirs) in enumerate(viewed.pairs, 1):
        choice = list(viewed.head_map(layer).teacher_choice)
        found = layer_tables(viewed, layer, "probabilities")[0]
        assert torch.equal(found, attention_table(viewed.read.teacher, theirs)[choice])


ANSWERS = {  # as `answers_of` gives them for each kind of task: what the view says
    "The student answers a, b": dict(kind="multi", label=["a", "b"], probabilities={"a": 0.9, "b": 0.6, "c": 0.1},
                                     logits={"a": 2.2, "b": 0.4, "c": -2.2}),
    "The student answers no class": dict(kind="multi", label=[], probabilities={"a": 0.1}, logits={"a": -2.2}),
    "The student answers 3.142": dict(kind="regression", label=3.14159),
    "The student answers a tag for each token": dict(
        kind="tokens", tokens=["<img src=x onerror='hurt = 1'>", "b"], tags=["B", "O"], probabilities=[0.7, 0.8]),
    "The student answers “\u2068<b>a span</b>\u2069” (score 1.25)": dict(kind="spans", answer="<b>a span</b>", score=1.25),
    "The student answers that there is no answer (score -2.00)": dict(kind="spans", answer="", score=-2.0),
}


def test_answers_of_every_kind_are_said(page):
    page.goto("about:blank")
    page.set_content("<div id='place'></div>")
    page.add_script_tag(type="module", content=joined_script("attention_view.js") + f"""
        document.getElementById("place").append(...{json.dumps([*ANSWERS.values()])}.map(answer => answerTable("student", answer)));""")
    captions = page.locator("caption")
    captions.first.wait_for(state="attached")
    assert captions.evaluate_all("all => all.map(one => one.textContent)") == [*ANSWERS]
    lines = page.locator(".tinybert-answer >> nth=3").locator("tbody tr").all_text_contents()
    assert [line.replace("\u2068", "").replace("\u2069", "") for line in lines] == [
        "<img src=x onerror='hurt = 1'> B70.0%", "b O80.0%"]
    chosen = page.locator(".tinybert-answer >> nth=0").locator(".tinybert-chosen th").all_text_contents()
    assert chosen == ["a", "b"] and page.query_selector("img") is None
