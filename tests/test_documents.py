"""Documents name only tests, constants, files and functions that exist; retired words are found."""

import ast
import importlib.util
import operator
import re
from pathlib import Path

import pytest

import neurosuper as ns

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "changes").glob("*.md")]
documents = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_test_that_security_md_names_exists():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promises = [line for line in text.splitlines() if line.startswith("| **")]
    assert len(promises) > 10
    for promise in promises:
        file, named = None, re.findall(r"`(tests/[\w/]+\.py)?(?:::(test_\w+))?`", promise)
        assert any(file for file, _ in named), promise
        for path, test in named:
            file = path or file
            assert (ROOT / file).is_file(), file
            assert not test or test in functions_of(ROOT / file), f"{file}::{test}"


def test_every_constant_that_security_md_names_exists():
    limits = (ROOT / "SECURITY.md").read_text(encoding="utf-8").partition("## Limits")[2].partition("##")[0]
    for constant in re.findall(r"\b[A-Z]+_[A-Z_]+\b", limits):
        assert any(re.search(rf"^{constant} = ", file.read_text(), re.M) for file in ROOT.glob("neurosuper/**/*.py"))


@documents
def test_links_lead_to_files(path):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def anchors_of(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@documents
def test_links_lead_to_headings(path):
    for file, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text(encoding="utf-8")):
        assert anchor in anchors_of((path.parent / file).resolve() if file else path), anchor


def test_every_how_to_page_answers_a_question():
    text = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    questions = re.findall(r"^\d+\. (.*)\? (.*)$", text.partition("## Questions")[2], re.MULTILINE)
    assert len(questions) >= 20
    assert all("](" in answer for _, answer in questions)
    for page in (ROOT / "docs" / "how-to").glob("*.md"):
        assert any(f"how-to/{page.name}" in answer for _, answer in questions), page.name


def test_every_name_in_the_readme_exists():
    """In the table of names and wherever `ns.` is written."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("## What there is")[2].partition("[tutorials/methods]")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")]
    names = re.findall(r"`([A-Za-z_.]+)`", re.sub(r"`dask\.distributed`", "", "".join(rows)))
    room = ""
    assert len(names) > 60
    for name in [*names, *re.findall(r"\bns\.([A-Za-z_.]+)\(", text)]:
        room = name.rpartition(".")[0] or room
        found = [each for each in (name, f"{room}.{name}") if _exists(each)]
        assert found, name


def _exists(name: str) -> bool:
    try:
        return operator.attrgetter(name)(ns) is not None
    except AttributeError:
        return False


@pytest.fixture
def check_prose():
    spec = importlib.util.spec_from_file_location("check_prose", ROOT / ".ci" / "check_prose.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x = 1\n# Kernels are reckoned here.", 2),  # prose: ok
        ("# as many\n# so\n# many as there are", 2),
        ("value = looked_up(rows)", 1),  # prose: ok
        ("one file a session", 1),  # prose: ok
    ],
)
def test_retired_words_are_found_also_across_lines(check_prose, text, line):
    entries = check_prose.read_list(ROOT / ".ci" / "retired_words.txt")
    assert [found[0] for found in check_prose.find(text, entries)] == [line]


@pytest.mark.parametrize(
    "text",
    [
        "position = file.tell()",
        "def tell(self): ...",
        "This holds true.",
        "lies = 1  # prose: ok",
        "def as_matrix(): ...",
        "besides",
    ],
)
def test_other_words_are_not(check_prose, text):
    assert not check_prose.find(text, check_prose.read_list(ROOT / ".ci" / "retired_words.txt"))
