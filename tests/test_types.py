"""Annotations: mypy finds nothing, and every public parameter has one."""

from pathlib import Path
import ast
import re
import sys

import pytest

from conftest import ROOT, run_command

MODULES = sorted(path for path in (ROOT / "tinybert_nb").rglob("*.py") if path.stem[0] != "_")


def room_of(path: Path) -> str:
    """`tinybert_nb/data/labels.py` -> `data.labels`."""
    return ".".join(path.relative_to(ROOT / "tinybert_nb").with_suffix("").parts)


def unannotated(source: str) -> list[str]:
    """Parameters and results of public functions and methods that have no annotation."""
    found = []

    def visit(body: list[ast.stmt], owner: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                visit(node.body, f"{node.name}.")
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if node.name.startswith("_") and node.name not in ("__init__", "__call__"):
                continue
            plain = [*node.args.posonlyargs, *node.args.args]
            if owner and not any(ast.unparse(each) == "staticmethod"
                                 for each in node.decorator_list):
                plain = plain[1:]  # self or cls
            gathered = [each for each in (node.args.vararg, node.args.kwarg) if each]
            found.extend(f"{owner}{node.name}: {each.arg}"
                         for each in [*plain, *node.args.kwonlyargs, *gathered]
                         if each.annotation is None)
            if node.returns is None and node.name != "__init__":
                found.append(f"{owner}{node.name}: its result")

    visit(ast.parse(source).body, "")
    return found


def test_mypy_finds_nothing():
    result = run_command(Path(sys.executable).parent / "mypy", "--no-pretty")
    checked = re.search(r"(\d+) source files\)?$", result.stdout.strip())
    assert checked and int(checked.group(1)) >= len(MODULES), result.stdout + result.stderr
    assert [line for line in result.stdout.splitlines() if ": error: " in line] == []


@pytest.mark.parametrize("path", MODULES, ids=room_of)
def test_every_public_parameter_has_an_annotation(path):
    assert unannotated(path.read_text(encoding="utf-8")) == []


def test_the_rule_finds_what_has_no_annotation():
    source = """
class A:
    def __init__(self, a, b: int): pass
    def c(self, *d, **e) -> None: pass
    @staticmethod
    def f(g) -> None: pass
    def _private(self, h): pass
class _B:
    def i(self, j): pass
def k(l: int, *, m=1): pass
def n(o: "int") -> None:
    def inner(p): pass
"""
    assert unannotated(source) == [
        "A.__init__: a", "A.c: d", "A.c: e", "A.f: g", "k: m", "k: its result"]
