"""The glossary: in alphabetical order, linked from the walkthroughs, and of terms that are used."""

from collections import Counter
import re

import pytest

from conftest import ROOT, cells_of
from sources import all_notebooks
from test_notebooks import WALKTHROUGHS, anchors_of, name_of, without_code

GLOSSARY = ROOT / "nbs" / "glossary.md"
TEXT = GLOSSARY.read_text(encoding="utf-8")
ENTRIES = dict(re.findall(r"^### (.+)\n\n(.+)$", TEXT, re.MULTILINE))  # term -> its explanation


def prose_of(notebook) -> str:
    """The Markdown cells of a notebook."""
    return "\n\n".join(cell["source"] for cell in cells_of(notebook, "markdown"))


def anchor_of(term: str) -> str:
    """The anchor of a heading: small letters, hyphens for spaces, no punctuation."""
    return re.sub(r"[^\w\- ]", "", term.lower()).replace(" ", "-")


def links_of(prose: str) -> list[str]:
    """The anchors of the glossary that a text links to."""
    return re.findall(r"\]\([^)\s]*glossary\.md#([^)\s]+)\)", prose)


def out_of_order(terms: list[str]) -> list[str]:
    """Terms that come before the one they stand behind; punctuation does not count."""
    keys = [anchor_of(term) for term in terms]
    return [term for term, before, key in zip(terms[1:], keys, keys[1:]) if key <= before]


def unused(terms, prose: str) -> list[str]:
    """Terms that no text links to or uses, in the singular or in the plural."""
    linked, words = {*links_of(prose)}, prose.lower().replace("-", " ")
    stems = {term: term.lower().replace("-", " ").removesuffix("y") for term in terms}
    return [term for term in terms if anchor_of(term) not in linked and stems[term] not in words]


def test_every_heading_has_an_entry_below_it_and_entries_are_in_order():
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)[1:]
    assert len(headings) > 50 and headings == [*ENTRIES]
    assert out_of_order(headings) == []


@pytest.mark.parametrize("term", ENTRIES)
def test_an_entry_is_short_and_leads_to_a_notebook(term):
    entry = ENTRIES[term]
    assert re.search(r"\]\([^)#]+\.ipynb\)", entry)
    assert len(re.findall(r"\.(?=\s|$)", without_code(entry))) <= 4  # sentences, the link's too


def test_every_link_into_the_glossary_hits_an_entry():
    anchors = {anchor_of(term) for term in ENTRIES}
    assert anchors <= anchors_of(GLOSSARY)
    found = {name_of(path): {*links_of(prose_of(path))} - anchors for path in all_notebooks()}
    assert {name: missing for name, missing in found.items() if missing} == {}
    assert {*re.findall(r"\]\(#([^)]+)\)", TEXT)} <= anchors


def test_every_entry_is_linked_or_used():
    assert unused(ENTRIES, "\n\n".join(map(prose_of, all_notebooks()))) == []


@pytest.mark.parametrize("notebook", WALKTHROUGHS[1:], ids=name_of)
def test_a_walkthrough_links_its_terms_once(notebook):
    linked = Counter(links_of(prose_of(notebook)))
    assert len(linked) > 10
    assert [anchor for anchor, times in linked.items() if times > 1] == []


def test_the_rules_find_each_kind_of_fault():
    assert out_of_order(["[CLS]", "cross-entropy", "CKA", "cka"]) == ["CKA", "cka"]
    prose = "See [the map](../glossary.md#layer-map) and masked-LM models."
    terms = ["layer map", "masked LM", "noisy copy", "head map"]
    assert unused(terms, prose + " Noisy copies too.") == ["head map"]
