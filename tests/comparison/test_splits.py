"""Halves of a system depend on its own stimuli, not on what the other systems saw."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from neurosuper import Units, split_stimuli
from neurosuper.comparison import fit_systems
from neurosuper.comparison.splits import halve_scored, split_systems


@pytest.fixture
def pick(make_responses):
    """Make responses of two units to some of 60 stimuli, by their numbers."""
    every = make_responses(np.random.default_rng(3).gamma(1, 5, (60, 2)))

    def some(*numbers):
        return every[list(numbers)]

    return some


def sizes(marks, value):
    return np.abs((marks == value).sum(0) - (marks != value).sum(0))


@pytest.mark.parametrize("n_shared", [0, 1, 5, 9, 10])
def test_a_system_of_twice_top_stimuli_keeps_its_halves_beside_any_other(pick, n_shared):
    small = pick(*range(10))
    other = pick(*range(10 - n_shared, 41))
    halves = halve_scored({"small": small, "other": other}, 5, None)
    assert halves["small"].of_scored is not None
    assert_array_equal(halves["small"].of_scored.sum(0), 5)
    assert sizes(halves["other"].of_scored, 1).max() <= 1
    assert_array_equal(halves["small"].of_scored[10 - n_shared :], halves["other"].of_scored[:n_shared])
    assert (halves["small"].n_stimuli, halves["other"].n_stimuli) == (10, 31 + n_shared)


def test_without_others_and_beside_others_with_its_stimuli_halves_are_the_same(pick):
    alone = halve_scored({"a": pick(*range(21))}, 5, None)["a"].of_scored
    both = halve_scored({"a": pick(*range(21)), "b": pick(*range(20, -1, -1))}, 5, None)
    assert_array_equal(both["a"].of_scored, alone)
    assert_array_equal(both["b"].of_scored[::-1], alone)


def test_few_stimuli_beside_many_are_half_to_fit_on_and_half_to_score_on(pick):
    """In every one of 40 splits; drawn over all stimuli, 6 of 10 were on one side in most."""
    for seed in range(40):
        split = split_systems({"few": pick(*range(10)), "many": pick(*range(5, 60))}, seed)
        assert (split["few"].split == "fit").sum() == 5
        assert (split["many"].split == "fit").sum() in (27, 28)
        assert_array_equal(split["few"].split[5:], split["many"].split[:5])


def test_marks_of_one_system_are_kept_and_the_other_stimuli_are_divided_equally(pick):
    marked = split_stimuli(pick(*range(12)), random_state=4)
    for seed in range(10):
        split = split_systems({"a": marked, "b": pick(*range(6, 36))}, seed)
        assert_array_equal(split["a"].split, marked.split)
        assert (split["b"].split[6:] == "fit").sum() == 12


def test_groups_of_each_system_are_divided_equally(pick):
    first, second = pick(*range(24)), pick(*range(12, 48))
    first = first.assign_coords(burst=("stimulus", np.arange(24) // 3))
    second = second.assign_coords(burst=("stimulus", np.arange(12, 48) // 3))
    halves = halve_scored({"a": first, "b": second}, 3, "burst")
    assert [halves[name].groups.n for name in "ab"] == [8, 12]
    for name, system in (("a", first), ("b", second)):
        one_each = halves[name].of_scored[np.unique(system.burst.values, return_index=True)[1]]
        assert sizes(one_each, 1).max() == 0


def test_the_names_and_the_order_of_systems_do_not_matter(pick):
    parts = {"a": pick(*range(15)), "b": pick(*range(8, 31)), "c": pick(*range(30, 50))}
    expected = halve_scored(parts, 3, None)
    for order in itertools.permutations("abc"):
        found = halve_scored({f"system {name}": parts[name] for name in order}, 3, None)
        for name in order:
            assert_array_equal(found[f"system {name}"].of_scored, expected[name].of_scored)


def test_each_fit_counts_the_stimuli_of_its_own_system(pick):
    content = [f"{i:032x}" for i in (0, 0, *range(2, 30))]  # two of 30 are copies
    systems = {"a": pick(*range(30)).assign_coords(content=("stimulus", content)), "b": pick(*range(25, 60))}
    counts = {fit.system: fit.n_stimuli for fit in fit_systems(systems, [Units()], score_on="all", top=3)}
    assert counts == {"a": 29, "b": 35}
