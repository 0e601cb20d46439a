"""The scripts of `make validate`: their tables, and a small run of each."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
FEW = {  # how many worlds, populations, designs, … of a script are run
    "validate_sampling": {"BOUNDED": 2, "SUBJECTS": 1, "UNBOUNDED": 1, "BEYOND": 1},
    "validate_finders": {"COVERED": 4, "POPULATIONS": 1, "UNIT_NOISE": 1},
    "validate_nuisance": {"NUISANCES": 1, "FEATURES": 1},
    "validate_power": {"DESIGNS": 2, "NOISES": 1},
    "validate_precision": {"HEADLINES": 1, "SOURCES": 3},
    "validate_psychophysics": {"DESIGNS": 2},
    "validate_items": {"TESTS": 1, "NULLS": 1, "UNITS": 1},
    "validate_superposition": {"TESTS": 1, "INTERVALS": 1},
    "validate_names": {"NAMES": 1, "FACTORS": 1, "INTERVALS": 1},
    "validate_populations": {"TESTS": 1, "INTERVALS": 1},
}
SCRIPTS_AND_TABLES = [
    *((name, "print_tables") for name in FEW if name != "validate_finders"),
    ("validate_sampling", "print_halves"),
    ("validate_nuisance", "print_floors"),
    ("validate_finders", "print_coverage"),
    ("validate_finders", "print_baselines"),
]


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


def tables(text):
    """Return the rows of each table, without the two of its head."""
    found = re.findall(r"((?:^\|.*\n)+)", text, flags=re.M)
    return [[line.strip("|").split(" | ") for line in each.splitlines()] for each in found]


def test_a_share_has_a_binomial_error_that_is_never_zero(load):
    module = load("validation_tables")
    assert str(module.Share.of(np.arange(100) < 4)) == "4.0 ± 2.1 %"  # 4.5 of 101: √(0.0446 · 0.9554 / 100)
    assert str(module.Share.of(np.zeros(400, bool))) == "0.0 ± 0.2 %"
    assert str(module.Mean.of([1, 3, 5], 1)) == "3.0 ± 1.2"


@pytest.mark.parametrize(
    ("hits", "verdict"),
    [
        ((95, 96), "Target of “covers”: 92 to 98 %; all rows meet it."),
        ((100, 80), "Target of “covers”: 92 to 98 %; missed by rows 1 (above) and 2 (below)."),
        ((95, 91), "Target of “covers”: 92 to 98 %; no row clearly misses it; outside by less than two Monte Carlo "),
    ],
)
def test_a_caption_says_which_rows_miss_the_target(hits, verdict, load, capsys):
    module = load("validation_tables")
    rows = {f"world {i}": [module.Share(n, 100)] for i, n in enumerate(hits)}
    module.print_table("Title", "Caption.", ("world", "covers"), rows, [module.Target("covers", 0.92, 0.98)])
    printed = capsys.readouterr().out
    assert f"Caption. {verdict}" in printed
    ((head, _, *body),) = tables(printed)
    assert [len(row) for row in body] == [len(head)] * 2


def test_rows_are_listed_as_ranges(load):
    assert load("validation_tables").list_rows([1, 3, 4, 6, 7, 8, 10]) == "1, 3, 4, 6–8, 10"


def test_one_part_is_printed_anew_and_the_others_are_kept(load, capsys, monkeypatch):
    module = load("validate")

    def print_new(n_studies, run):
        sys.stdout.write(f"\n### New table\n\n{n_studies} studies\n")

    monkeypatch.setattr(module, "PARTS", {"a": None, "b": print_new, "c": None})
    old = "# Title\n\n## A\n\nold a\n\n### table of a\n\n## B\n\nold b\n\n### table of b\n\n## C\n\nold c\n"
    module.print_parts(["b"], old, 7, map)
    printed = capsys.readouterr().out
    assert printed.startswith(module.HEADER)
    _, *sections = re.split(r"^## ", printed, flags=re.M)
    assert sections[0].strip() == "A\n\nold a\n\n### table of a"
    assert re.fullmatch(r"B\n\nneurosuper \S+, \d{4}-\d\d-\d\d\.\n\n### New table\n\n7 studies", sections[1].strip())
    assert sections[2].strip() == "C\n\nold c"
    module.print_parts(["b"], printed, 7, map)
    assert capsys.readouterr().out == printed
    with pytest.raises(SystemExit, match=r"VALIDATION.md has no part 'c'; run all parts, without --part"):
        module.print_parts(["a", "b"], "", 7, map)


def test_every_part_of_the_printed_file_has_a_script(load):
    printed = (FOLDER / "VALIDATION.md").read_text()
    assert [line.lower() for line in re.findall(r"^## (.*)$", printed, flags=re.M)] == list(load("validate").PARTS)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "function"), SCRIPTS_AND_TABLES)
def test_a_small_run_of_each_script_prints_whole_tables(name, function, load, capsys, monkeypatch):
    module = load(name)
    for what, n in FEW[name].items():
        every = getattr(module, what)
        few = dict(list(every.items())[:n]) if isinstance(every, dict) else every[:n]
        monkeypatch.setattr(module, what, few)
    getattr(module, function)(2)
    for head, rule, *body in tables(capsys.readouterr().out):
        assert rule == ["---" + "|---" * (len(head) - 1)]
        assert {len(row) for row in body} == {len(head)}
        assert not re.search(r"\bnan\b", str(body))
