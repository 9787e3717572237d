"""The page in which a student reads what is typed, in a real Chromium, against PyTorch and tokenizers."""

import json
import random
import re

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import (
    BertConfig, BertForQuestionAnswering, BertTokenizer, DistilBertConfig,
    DistilBertForSequenceClassification, PreTrainedTokenizerFast)

from browser import Watched
from conftest import EVAL, ROOT, TEACHER, TRAIN, small_tokenizer, succeeded, tinybert_nb
from tinybert_nb.analysis.alignment import attention_pair
from tinybert_nb.analysis.browser_page import browser_page, with_quantised_rows
from tinybert_nb.files.scripts import script_names, static_text
from tinybert_nb.deployment.vocabulary_trimming import trim_vocabulary
from tinybert_nb.distillation.layer_map import explicit_map
from tinybert_nb.models.heads import new_student
from tinybert_nb.models.initialization import save_random_model
from tinybert_nb.models.loading import load_encoder, save_checkpoint
from tinybert_nb.models.sizes import student_config
from tinybert_nb.models.tokenizers import load_tokenizer
from tinybert_nb.training.runs import load_trained

VIEW = "#attention[data-drawn]"
LENGTH = 48
ODD = ("", " ", "\t\n", "[MASK] [CLS][SEP] [mask] [UNK]", "a\u0000b\u200bc\ufffdd\u00ade", "x" * 101, "y" * 100,
       "İstanbul ΣΑΣ ς ß ﬁ Å", "n\u0303 a\u0300\u0301 \u0301 \u0344", "1\u2009000,5 €/m²", "好a好 𠀀𪜀 ｶﾀｶﾅ 한국어",
       "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪", "שָׁלוֹם مَرْحَبًا", "हिन्दी ไทย", "“quoted” — …‽ ¡olé!", "a_b-c.d@e #f $1 ^2 `3` ~4 |5",
       "\u2028line\u2029paragraph\u0085next\u00a0space\u3000wide", "\ud7fb\ue000\U000f0000\U0001fae8", "ǅ Ǆ ǆ ŉ ﬃ")
LETTERS = ("abcdefghijklmnopqrstuvwxyz ABCDEFGHIJ .,!?'-", "éèüñçåøÉÜŐřžłİıßẞσς ", "房中國文好电影，。！？ ", "аяжЖЯ ёЁй ",
           "😀😂👍🏽❤️🎬👩‍💻🇫🇷 ", "אבג שלום ", "かなカナ漢字ー ", "한국어 영화 ", "\u0000\u0007\u200b\u200d\ufeff\u00ad\u0300\u0301 ab",
           "()[]{}<>@#$%^&*_+=~`|\\/\"«»—…€£ ")


def thousand_texts() -> list[str]:
    """Reviews, odd texts, and random letters of ten kinds and their mixtures; always the same."""
    chance = random.Random(3)
    lines = [line.rsplit("\t", 1)[0] for path in (TRAIN, EVAL)
             for line in path.read_text(encoding="utf-8").splitlines()]
    texts = [*ODD, *lines]
    while len(texts) < 1000:
        letters = chance.choice(LETTERS) + (chance.choice(LETTERS) if chance.random() < 0.6 else "")
        made = "".join(chance.choices(letters, k=chance.randint(1, 150)))
        texts.append(f"{chance.choice(lines)} {made}" if chance.random() < 0.3 else made)
    return texts


def wide_tokenizer(**options) -> BertTokenizer:
    """The samples' tokens, and pieces of the other scripts, some with capitals and accents."""
    known = small_tokenizer().get_vocab()
    pieces = sorted(known, key=known.get)  # the library gives them in an order that differs from run to run
    letters = dict.fromkeys("".join(LETTERS[:8]) + "".join(LETTERS[:8]).lower())
    pieces += [mark + letter for letter in letters if letter.strip() for mark in ("", "##")]
    pieces += ["Film", "The", "##É", "cafe", "café", "电影", "##文"]
    cased = options.get("do_lower_case") is False
    kept = dict.fromkeys(piece for piece in pieces if cased or piece == piece.lower() or piece.startswith("["))
    vocabulary = {piece: number for number, piece in enumerate(kept)}
    return BertTokenizer(vocab=vocabulary, model_max_length=256, **options)


def save_model(folder, tokenizer, size="2l-24-2h", seed=0, **options):
    """A classifier with random weights that are large enough to tell texts apart."""
    config = student_config(size, BertConfig(vocab_size=len(tokenizer), max_position_embeddings=256,
                                             initializer_range=0.2, **options))
    save_checkpoint(folder, new_student(config, seed), tokenizer)
    return folder


@pytest.fixture
def watched(browser):
    """A page that must end without an error and without any request."""
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    seen = Watched(page)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    yield seen
    page.close()
    assert seen.errors == [] and seen.hosts == set()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert all(url.endswith("/page.html") for url in asked if url.startswith("file:"))


def opened(watched, path):
    """The page, when its student has answered."""
    watched.page.goto(path.as_uri())
    watched.page.wait_for_selector(VIEW)
    return watched.page


def until(page, condition, seconds=30):
    """Wait until the expression is true; Playwright's own waiting evaluates text, which the page forbids."""
    for _ in range(int(seconds / 0.05)):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {condition}")


def test_texts_are_what_the_name_says():
    texts = thousand_texts()
    assert len(texts) == 1000 and texts == thousand_texts() and len({*texts}) > 950


TOKENIZERS = {
    "the packaged teacher's": lambda: load_tokenizer(TEACHER),
    "uncased": wide_tokenizer,
    "cased": lambda: wide_tokenizer(do_lower_case=False),
    "cased without accents": lambda: wide_tokenizer(do_lower_case=False, strip_accents=True),
    "uncased with accents": lambda: wide_tokenizer(strip_accents=False, tokenize_chinese_chars=False),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_token_ids_are_those_of_the_library(name, watched, tmp_path):
    """Single texts and pairs, cut to the maximum length or not, with an added token or two."""
    tokenizer = TOKENIZERS[name]()
    tokenizer.add_tokens(["the Film", "New"])
    model = save_model(tmp_path / "model", tokenizer)
    browser_page(model, tmp_path / "page.html", max_length=LENGTH)
    page, texts = opened(watched, tmp_path / "page.html"), thousand_texts()
    texts[500] += " the Film New the film NEW"
    found = page.evaluate("texts => texts.map(text => tinybert.student.encode(text).ids)", texts)
    cut = dict(truncation=True, max_length=LENGTH)
    assert found == tokenizer(texts, **cut)["input_ids"]
    others = texts[1:] + texts[:1]
    found = page.evaluate("""([texts, others]) => texts.map((text, i) => {
        const {ids, types} = tinybert.student.encode(text, others[i]);
        return [ids, types];
    })""", [texts, others])
    pairs = tokenizer(texts, others, return_token_type_ids=True, **cut)
    assert found == [*map(list, zip(pairs["input_ids"], pairs["token_type_ids"]))]


def test_every_character_is_treated_as_the_library_does(watched, tmp_path):
    """Normalized and split, each between two letters; of the planes in which characters are."""
    browser_page(save_model(tmp_path / "model", small_tokenizer()), tmp_path / "page.html")
    page = opened(watched, tmp_path / "page.html")
    codes = [code for code in range(0x32000) if not 0xD800 <= code < 0xE000]
    codes += range(0xE0000, 0xE0200)
    lines = ["".join(f"a{chr(code)}b" for code in codes[begin:begin + 16]) for begin in range(0, len(codes), 16)]
    found = page.evaluate("""lines => lines.map(line => {
        const {tokenizer} = tinybert.student;
        return tokenizer.splitWords(tokenizer.normalize(line)).join("|");
    })""", lines)
    normalize, split = BertNormalizer().normalize_str, BertPreTokenizer().pre_tokenize_str
    expected = ["|".join(word for word, _ in split(normalize(line))) for line in lines]
    different = [line for line, one, other in zip(lines, found, expected) if one != other]
    # scripts that Unicode has had since version 13: only the browser can decompose their letters
    assert all(min(map(ord, line[1::3])) > 0x10000 for line in different) and len(different) < 12


KINDS = {
    "single": dict(num_labels=3),
    "single, other activations": dict(num_labels=2, hidden_act="gelu_new", classifier_activation="relu"),
    "multi": dict(num_labels=4, problem_type="multi_label_classification", hidden_act="silu"),
    "regression": dict(num_labels=1, problem_type="regression", hidden_act="relu"),
    "tokens": dict(num_labels=5, architectures=["BertForTokenClassification"]),
}


def logits_of(model, encoded) -> list[np.ndarray]:
    """The logits of each text in PyTorch, 50 texts of similar length at a time."""
    order, found = sorted(range(len(encoded)), key=lambda row: len(encoded[row])), {}
    for begin in range(0, len(order), 50):
        rows = order[begin:begin + 50]
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(encoded[row]) for row in rows], batch_first=True)
        lengths = torch.tensor([len(encoded[row]) for row in rows])
        with torch.inference_mode():
            logits = model(ids, attention_mask=(torch.arange(ids.shape[1]) < lengths[:, None]).long()).logits
        for row, length, line in zip(rows, lengths, logits):
            found[row] = (line if line.dim() == 1 else line[:length]).flatten().numpy()
    return [found[row] for row in range(len(encoded))]


@pytest.mark.parametrize("name", KINDS)
def test_logits_are_those_of_pytorch(name, watched, tmp_path):
    """A thousand texts, 200 of the less usual kinds: within 1e-4 of the rounded weights in PyTorch."""
    tokenizer, texts = wide_tokenizer(), thousand_texts()[:None if name == "single" else 200]
    folder = save_model(tmp_path / "model", tokenizer, **KINDS[name])
    record = browser_page(folder, tmp_path / "page.html", max_length=LENGTH)
    assert len(record["labels"]) == KINDS[name]["num_labels"]
    read = opened(watched, tmp_path / "page.html").evaluate("""texts => texts.map(text => {
        const {student} = tinybert, encoded = student.encode(text);
        return [[...student.model.forward(encoded).logits], encoded.words];
    })""", texts)
    found, words = zip(*read)
    given = [*words] if name == "tokens" else texts  # tags are of the words between white space
    encoded = tokenizer(given, truncation=True, max_length=LENGTH, is_split_into_words=name == "tokens")["input_ids"]
    model = load_trained(folder)[0]
    expected = logits_of(with_quantised_rows(model), encoded)
    assert [len(line) for line in found] == [len(line) for line in expected]
    assert max(np.abs(one - other).max() for one, other in zip(found, expected)) < 1e-4
    assert np.std(np.concatenate(expected)) > 0.02, "the texts have different logits"
    if name == "single":
        before = logits_of(model, encoded)
        alike = np.corrcoef(np.concatenate(found), np.concatenate(before))[0, 1]
        assert alike > 0.998, f"correlation {alike:.4f} with the logits of the weights before rounding"


def test_attention_is_that_of_pytorch(watched, tmp_path):
    """Every layer and head of both models, and the mean over the heads, as drawn."""
    tokenizer, text = small_tokenizer(), "a warm, funny film."
    student = save_model(tmp_path / "student", tokenizer, "2l-24-2h")
    teacher = save_model(tmp_path / "teacher", tokenizer, "4l-48-2h")
    browser_page(student, tmp_path / "page.html", teacher, text=text, layer_map="1,4")
    page = opened(watched, tmp_path / "page.html")
    page.wait_for_selector("[data-side='teacher'] .chosen")
    models = [with_quantised_rows(load_encoder(folder)) for folder in (teacher, student)]
    pair = attention_pair(*models, tokenizer, text, layer_map=explicit_map(4, [1, 4]))
    shown = "all => all.map(one => Number(one.textContent.replace('−', '-')))"
    page.focus(f"{VIEW} [data-place='0']")
    for layer in (1, 2):
        page.select_option(f"{VIEW} [data-control='layer']", str(layer))
        for head in (0, 1, 2):
            if head:
                page.locator(f"{VIEW} [data-control='head']").fill(str(head))
            else:
                page.select_option(f"{VIEW} [data-control='merge']", "mean")
            words = f"{head} of 2" if head else "mean of 2"
            until(page, f"document.querySelector('{VIEW} output').textContent === '{words}'")
            for place, tables in enumerate(pair.layer(layer), 2):
                row = tables.mean(0)[0] if head == 0 else tables[head - 1][0]
                page.wait_for_timeout(50)
                cells = page.eval_on_selector_all(f"{VIEW} [data-place] > span:nth-child({place})", shown)
                assert cells == pytest.approx(row.tolist(), abs=0.0051)
    page.select_option(f"{VIEW} [data-control='view']", "scores")
    until(page, f"document.querySelector('{VIEW} canvas').ariaLabel.includes('scores')")


def test_typing_redraws_label_bars_and_attention(watched, tmp_path):
    """Key by key, within the time of a blink; markup stays text; the student answers at once."""
    student = save_model(tmp_path / "student", small_tokenizer(), "3l-192-12h", num_labels=3,
                         id2label={0: "bad", 1: "<b>so</b>", 2: "good"})
    browser_page(student, tmp_path / "page.html", title="A <i>page</i>")
    page = opened(watched, tmp_path / "page.html")
    assert page.title() == page.inner_text("h1") == "A <i>page</i>"
    assert page.locator("#attention canvas:visible").count() == 1
    before, picture = page.inner_text(".bars"), page.eval_on_selector("#attention canvas >> nth=1", "one => one.toDataURL()")
    page.fill("#text", "")
    drawn = int(page.get_attribute(VIEW, "data-drawn"))
    page.type("#text", "the plot <img src=x onerror='hurt = 1'> of a film", delay=20)
    until(page, f"Number(document.querySelector('{VIEW}').dataset.drawn) > {drawn + 10}")
    page.wait_for_selector(f"{VIEW} [data-place] >> text='film'")
    assert page.inner_text(".bars") != before and {"bad", "<b>so</b>", "good"} <= {*page.inner_text(".bars").split()}
    assert page.eval_on_selector("#attention canvas >> nth=1", "one => one.toDataURL()") != picture
    assert page.evaluate("typeof hurt") == "undefined" and page.query_selector("img") is None
    shares = [float(text.rstrip("%")) for text in page.locator(".percent").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    assert page.inner_text(".label") == page.inner_text(".chosen .class")


def test_keys_reach_everything(watched, tmp_path):
    browser_page(save_model(tmp_path / "model", small_tokenizer()), tmp_path / "page.html", pairs=True)
    page = opened(watched, tmp_path / "page.html")
    reached = []
    for _ in range(17):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("(({id, dataset, role, textContent}) => id || "
                                     "dataset.control || role || textContent)(document.activeElement)"))
    assert reached == ["text", "second", "lecture", "fold", "?", "layer", "head", "merge", "view", "scale",
                       "lines", "SVG", "PNG", "CSV", "JSON", "Link", "option"]
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f"{VIEW} [data-place='1'][aria-selected='true']")
    page.type("#second", "film")
    page.wait_for_selector(f"{VIEW} [data-segment='1'] >> text='film'")


def test_the_last_text_is_the_teachers_answer(watched, tmp_path):
    """A teacher with another vocabulary: both answer; attention is compared where tokens are equal."""
    tokenizer = small_tokenizer()
    teacher = save_model(tmp_path / "teacher", tokenizer, "4l-96-2h", seed=1)
    (tmp_path / "texts.txt").write_text("a film\nthe film\n", encoding="utf-8")
    trim_vocabulary(save_model(tmp_path / "whole", tokenizer), tmp_path / "texts.txt", tmp_path / "small")
    browser_page(tmp_path / "small", tmp_path / "page.html", teacher, text="the film")
    page, said = opened(watched, tmp_path / "page.html"), "[data-side='{}'] .percent >> nth=0"
    page.wait_for_selector(said.format("teacher"))
    canvases = page.locator("#attention canvas:visible")
    assert canvases.count() == 3 and page.is_hidden("#other-tokens")
    last = "the film is about a funny story"
    page.type("#text", "!")
    page.fill("#text", last[:9])
    page.fill("#text", last)
    until(page, "!document.querySelector('.waiting')")
    assert canvases.count() == 1 and page.is_visible("#other-tokens")
    for side, folder in (("teacher", teacher), ("student", tmp_path / "small")):
        model, own = load_trained(folder)
        with torch.inference_mode():
            share = with_quantised_rows(model)(**own(last, return_tensors="pt")).logits.softmax(-1)[0, 0]
        assert float(page.inner_text(said.format(side)).rstrip("%")) == pytest.approx(100 * share.item(), abs=0.11)


def test_other_kinds_say_what_they_mean(watched, tmp_path):
    """A number, several classes, tags of words; many classes become the most probable ones."""
    tokenizer, answers = small_tokenizer(), {}
    for name, options in KINDS.items():
        browser_page(save_model(tmp_path / "model", tokenizer, **options), tmp_path / "page.html",
                     text="Un-believable film, really")
        page = opened(watched, tmp_path / "page.html")
        answers[name] = page.inner_text(".label") if page.query_selector(".label:not(:empty)") else ""
        if name == "tokens":
            tags = page.locator(".bars li").all_inner_texts()
            assert [tag.split()[0] for tag in tags] == ["Un-believable", "film,", "really"]
            assert all(re.fullmatch(r"\S+ LABEL_\d \d+%", tag) for tag in tags)
    assert re.fullmatch(r"LABEL_0 -?\d+\.\d{3}", answers["regression"]) and answers["tokens"] == ""
    assert re.fullmatch(r"no class|LABEL_\d(, LABEL_\d)*", answers["multi"])
    browser_page(save_model(tmp_path / "model", tokenizer, num_labels=20), tmp_path / "page.html")
    assert "and 12 more classes" in opened(watched, tmp_path / "page.html").inner_text(".bars")


@pytest.mark.parametrize("scheme, width", [("light", 1200), ("dark", 1200), ("light", 360), ("dark", 360)])
def test_nothing_is_wider_than_the_window_and_everything_is_legible(browser, scheme, width, tmp_path):
    tokenizer = small_tokenizer()
    models = [save_model(tmp_path / name, tokenizer, size, num_labels=3, id2label={
        0: "bad", 1: "averyveryveryverylongnamewithoutaspace", 2: "good"})
        for name, size in (("student", "2l-24-2h"), ("teacher", "4l-48-2h"))]
    browser_page(models[0], tmp_path / "page.html", models[1], text="unbelievable " * 30)
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    watched = Watched(context.new_page())
    page = opened(watched, tmp_path / "page.html")
    page.wait_for_selector("[data-side='teacher'] .chosen")
    watched.screenshot(f"page-{scheme}-{width}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    contrast = page.evaluate("""() => {
        const light = colour => {
            const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(one => one / 255)
                .map(one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
            return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2] + 0.05;
        };
        const ground = light(getComputedStyle(document.body).backgroundColor);
        return Math.min(...[...document.querySelectorAll("h1, h2, p, label, li, footer")].map(one => {
            const ink = light(getComputedStyle(one).color);
            return Math.max(ink, ground) / Math.min(ink, ground);
        }));
    }""")
    assert contrast >= 4.5 and watched.errors == []
    context.close()


# Bad input --------------------------------------------------------------------------------------


def test_what_the_page_cannot_show_is_refused(tmp_path):
    tokenizer, out = small_tokenizer(), tmp_path / "page.html"
    sizes = dict(vocab_size=len(tokenizer), max_position_embeddings=256)
    config = student_config("1l-24-2h", BertConfig(**sizes))
    save_checkpoint(tmp_path / "spans", BertForQuestionAnswering(config), tokenizer)
    save_random_model(tmp_path / "encoder", "1l-24-2h", tokenizer)
    distil = DistilBertConfig(**sizes, dim=24, n_layers=1, n_heads=2, hidden_dim=32)
    save_checkpoint(tmp_path / "distilbert", DistilBertForSequenceClassification(distil), tokenizer)
    for name, message in (("spans", "its task is of the kind 'spans'"), ("encoder", "has no classifier"),
                          ("distilbert", "it is a distilbert model")):
        with pytest.raises(ValueError, match=message) as error:
            browser_page(tmp_path / name, out)
        assert str(tmp_path / name) in str(error.value)
    good = save_model(tmp_path / "good", tokenizer)
    for teacher, message in (
            (save_model(tmp_path / "heads", tokenizer, "2l-24-3h"), "has 3 heads and the student 2"),
            (save_model(tmp_path / "labels", tokenizer, num_labels=3), "models of different tasks")):
        with pytest.raises(ValueError, match=message):
            browser_page(good, out, teacher)
    for length in (3, 257):
        with pytest.raises(ValueError, match="it may be 4 to 256"):
            browser_page(good, out, max_length=length)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="is a folder: name a file"):
        browser_page(good, tmp_path / "folder")
    assert not out.exists()


@pytest.mark.parametrize("change, message", [
    ({"normalizer": {"type": "Lowercase"}}, "the normalizer of its tokenizer is Lowercase"),
    ({"pre_tokenizer": {"type": "Whitespace"}}, "the pre_tokenizer of its tokenizer is Whitespace"),
    ({"post_processor": None}, r"other tokens around a text than \[CLS\] and \[SEP\]"),
])
def test_a_tokenizer_that_is_not_berts_is_refused(change, message, tmp_path):
    save_model(tmp_path / "model", small_tokenizer())
    state = json.loads(small_tokenizer().backend_tokenizer.to_str()) | change
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)),
                                    unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
                                    sep_token="[SEP]", mask_token="[MASK]")
    other.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=message):
        browser_page(tmp_path / "model", tmp_path / "page.html")


# The command ------------------------------------------------------------------------------------


def test_page_reads_a_run_and_says_what_it_wrote(teacher_run, tmp_path):
    result = succeeded(tinybert_nb("page", teacher_run / "best", "--out", "page.html", "--json",
                                   "rows.json", folder=tmp_path))
    record, = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert record["max_length"] == 32, "as in training"
    assert "page.html" in result.stdout and "MB" in result.stdout
    failed = tinybert_nb("page", "nowhere", "--out", "new.html", folder=tmp_path)
    assert failed.returncode != 0 and "nowhere" in failed.stderr and "Traceback" not in failed.stderr


def test_the_files_of_the_page_are_in_the_package():
    assert '"tinybert_nb.analysis": ["static/*"]' in (ROOT / "setup.py").read_text(encoding="utf-8")
    more = ("alignment_report.js", "browser_page.html", "browser_page.css")
    for name in (*script_names("analysis/browser_page.js"), *(f"analysis/{each}" for each in more)):
        assert static_text(name)
