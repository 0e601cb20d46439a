"""Scores of items as tests need them: influences of stimuli, and how many stimuli there were."""

import itertools

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.spatial.distance import pdist, squareform

from neurosuper import Color, Units, compare
from neurosuper.comparison.item_scores import count_scored, scores_of_items
from neurosuper.inference.degrees_of_freedom import of_influence
from neurosuper.interpretability.variance_components import variances_of


@pytest.fixture
def table(responses, images):
    """Two systems on 60 and on 40 stimuli, 20 of them in common."""
    systems = {"V4": responses[:60], "IT": responses[40:80, :6]}
    return compare(systems, images, [Units()], [Color()], top=3, score_on="all")


def influence_of(responses, images, top=3):
    """Return the change of the mean index without each stimulus, by brute force."""
    d = squareform(pdist(Color(device="cpu").embed(images).double().numpy()))
    order = (-responses.values).argsort(0)

    def mean_index(kept):
        tops = [[i for i in ranked if i in kept][:top] for ranked in order.T]
        return -np.mean([np.mean([d[i, j] for i, j in itertools.combinations(best, 2)]) for best in tops])

    every = set(range(len(responses)))
    return np.array([mean_index(every - {i}) - mean_index(every) for i in sorted(every)])


def test_every_system_has_the_number_of_its_own_stimuli_and_the_degrees_of_freedom_of_these(table, responses, images):
    assert count_scored(table) == {"V4": 60, "IT": 40}
    scores = scores_of_items(table, False)[0]["none"]
    for name, own, shown in (("V4", responses[:60], images[:60]), ("IT", responses[40:80, :6], images[40:80])):
        u = influence_of(own, shown)
        assert len(u) == {"V4": 60, "IT": 40}[name]
        found = variances_of([scores[name, "Units", "color"]]).stimulus_df
        assert_allclose(found, of_influence(u), rtol=1e-4)
        assert abs(found / of_influence(np.append(u, np.zeros(20))) - 1) > 1e-3  # with more stimuli it is another


def test_the_difference_of_systems_has_at_least_the_stimuli_that_have_an_influence(table):
    scores = scores_of_items(table, False)[0]["none"]
    sets = [scores[name, "Units", "color"] for name in ("V4", "IT")]
    u = sets[0].influence - sets[1].influence
    involved = (sets[0].influence != 0) | (sets[1].influence != 0)
    expected = of_influence(np.pad(u[involved], (0, max(0, 60 - involved.sum()))))
    assert_allclose(variances_of(sets).stimulus_df, expected, rtol=1e-6)


def test_counts_survive_a_selection_of_items_and_are_those_of_the_first_seed(table):
    later = table.assign_coords(seed=("item", np.ones(14, int))).assign(n_stimuli=table.n_stimuli + 1)
    both = xr.concat([table.assign_coords(seed=("item", np.zeros(14, int))), later], "item", data_vars="minimal")
    assert count_scored(both) == {"V4": 60, "IT": 40}
    assert count_scored(table.isel(item=(table.system == "IT").values)) == {"IT": 40}
    assert count_scored(table.drop_vars("n_stimuli")) == {}


def test_groups_are_counted_in_the_place_of_stimuli(responses, images):
    grouped = responses.assign_coords(burst=("stimulus", np.arange(120) // 6))
    systems = {"V4": grouped[:90], "IT": grouped[60:]}
    table = compare(systems, images, [Units()], [Color()], top=3, score_on="all", stimulus_groups="burst")
    assert count_scored(table) == {"V4": 15, "IT": 10}
    assert count_scored(table, groups=False) == {"V4": 90, "IT": 60}
    assert scores_of_items(table, False)[0]["hub"]["IT", "Units", "color"].n_stimuli == 10
