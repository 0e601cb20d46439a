"""Pages on methods: every finder and every statistic has one with the same parts, and their code runs."""

import re
import warnings
from pathlib import Path

import pytest

import neurosuper as ns
from neurosuper.directions import DirectionFinder

PAGES = sorted((Path(__file__).parents[1] / "tutorials" / "methods").glob("*.md"))
STATISTICS = (
    "interpretability_index",
    "intervals_and_tests",
    "reliability",
    "psychophysics",
    "hypotheses",
    "superposition",
    "disentanglement",
    "selectivity",
    "across_animals",
)
pages = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
FINDERS = [
    name
    for name in ns.__all__
    if isinstance(getattr(ns, name), type) and issubclass(getattr(ns, name), DirectionFinder)
]


@pages
def test_the_code_of_a_page_runs(path, responses, images):
    blocks = re.findall(r"```python\n(.*?)```", path.read_text(), re.S)
    assert blocks
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(many directions are single stimuli|stopped after).*")
        for block in blocks:
            exec(compile(block, str(path), "exec"), {"ns": ns, "responses": responses, "images": images})


@pages
def test_links_lead_to_files_and_headings(path):
    for target, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", path.read_text()):
        file = path.parent / target if target else path
        assert file.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.M)
            assert heading in [re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings], heading


@pytest.mark.parametrize("finder", FINDERS)
def test_every_finder_has_a_page_that_says_what_it_assumes_costs_claims_and_when_it_fails(finder):
    found = [path.read_text() for path in PAGES if path.stem != "README" and f"ns.{finder}(" in path.read_text()]
    assert found, f"write tutorials/methods/{finder.lower()}.md"
    parts = ("assume", "**Cost", "fail", "**What may be claimed.**", "aseline")
    assert any(all(part in page for part in parts) for page in found)
    assert f"`{finder}`" in (PAGES[0].parent / "README.md").read_text()


@pytest.mark.parametrize("stem", STATISTICS)
def test_every_page_on_statistics_says_what_may_be_claimed_and_where_it_fails(stem):
    page = (PAGES[0].parent / f"{stem}.md").read_text()
    assert all(part in page for part in ("**What may be claimed.**", "fail", "**Baseline", " 20", "```python"))
    assert f"({stem}.md)" in (PAGES[0].parent / "README.md").read_text()


@pytest.mark.parametrize(
    "name",
    sorted(
        {
            *ns.interpretability.__all__,
            *ns.inference.__all__,
            *ns.superposition.__all__,
            "contrast_finders",
            "contrast_systems",
        }
    ),
)
def test_every_statistic_is_on_a_page(name):
    assert any(re.search(rf"\b{name}\b", (PAGES[0].parent / f"{stem}.md").read_text()) for stem in STATISTICS), name
