"""Pages on methods: every finder has one with the same parts, and their code runs."""

import re
import warnings
from pathlib import Path

import pytest

import neurosuper as ns
from neurosuper.directions import DirectionFinder

PAGES = sorted((Path(__file__).parents[1] / "tutorials" / "methods").glob("*.md"))
pages = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
FINDERS = [
    name
    for name in ns.__all__
    if isinstance(getattr(ns, name), type) and issubclass(getattr(ns, name), DirectionFinder)
]


@pages
def test_the_code_of_a_page_runs(path, responses):
    blocks = re.findall(r"```python\n(.*?)```", path.read_text(), re.S)
    assert blocks
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(many directions are single stimuli|stopped after).*")
        for block in blocks:
            exec(compile(block, str(path), "exec"), {"ns": ns, "responses": responses})


@pages
def test_links_lead_to_files(path):
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("finder", FINDERS)
def test_every_finder_has_a_page_that_says_what_it_assumes_costs_and_when_it_fails(finder):
    found = [path.read_text() for path in PAGES if path.stem != "README" and f"ns.{finder}(" in path.read_text()]
    assert found, f"write tutorials/methods/{finder.lower()}.md"
    assert any(all(part in page for part in ("assume", "**Cost", "fail")) for page in found)
    assert f"`{finder}`" in (PAGES[0].parent / "README.md").read_text()
