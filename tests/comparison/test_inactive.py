"""Directions that few or no stimuli activate: left out, counted, and named."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

from neurosuper import Color, SparseAutoencoder, Units, compare, contrast_finders, contrast_systems
from neurosuper.comparison import fit_systems
from neurosuper.interpretability.ranking import count_active


class Silenced(Units):
    """Units, the first of which answer to few of the stimuli they are scored on: unit i to i of them."""

    n_silenced = 0

    def transform(self, responses):
        codes = super().transform(responses)
        few = codes.copy(data=np.where(np.arange(len(codes))[:, None] < np.arange(codes.shape[1]), codes + 1, 0))
        return xr.where(np.arange(codes.shape[1]) < self.n_silenced, few, codes, keep_attrs=True)


class Silent(Silenced):
    n_silenced = 4


class Dead(Silenced):
    n_silenced = 1

    def transform(self, responses):
        return 0 * super().transform(responses)


@pytest.fixture
def table(responses, images):
    """Eight units; the codes of Silent are constant for the first, and have 1, 2 and 3 active stimuli for the next."""
    with pytest.warns(UserWarning, match="were left out: 1 of 8 by 'Silent' in 'brain'; attrs"):
        return compare({"brain": responses}, images, [Units(), Silent()], [Color()])


def test_constant_directions_are_left_out_and_counted(table, responses):
    assert table.n_constant == [0, 1]
    assert table.direction.values.tolist() == [*responses.unit.values, *responses.unit.values[1:]]


def test_items_have_their_number_of_active_stimuli(table):
    assert table.n_active.values.tolist() == [60] * 8 + [1, 2, 3] + [60] * 4


def test_contrasts_leave_out_items_with_fewer_active_stimuli_than_top(table):
    test = contrast_finders(table, n_resamples=200).sel(test=0)
    assert [int(test[name]) for name in ("n_a", "n_b", "n_inactive_a", "n_inactive_b")] == [4, 8, 3, 0]
    assert test.sentence.item().endswith("were left out: 3 of Silent, 0 of Units.")
    kept = table.interpretability[(table.finder == "Silent") & (table.n_active >= 5), 0]
    assert float(test.estimate_a) == pytest.approx(float(kept.mean()))
    every = contrast_finders(table, n_resamples=200, include_inactive=True).sel(test=0)
    assert [int(every[name]) for name in ("n_a", "n_inactive_a")] == [7, 0]
    assert "left out" not in every.sentence.item()


def test_contrasts_of_systems_count_items_of_each(table):
    both = xr.concat([table, table.assign_coords(system=("item", ["net"] * 15))], "item", data_vars="minimal")
    both = both.isel(item=np.r_[0:15, 15:23, 24:30])  # one of the three inactive items of the net is missing
    tests = contrast_systems(both, n_resamples=200)
    tests = tests.isel(test=(tests.correction == "none").values).set_index(test="finder")
    assert tests.n_inactive_a.sel(test="Silent") == 2
    assert tests.n_inactive_b.sel(test="Silent") == 3


def test_a_finder_whose_directions_are_all_constant_is_refused(responses):
    with pytest.raises(
        ValueError, match="^no direction of 'brain' by 'Dead' varies over the 60 stimuli to score on, so"
    ):
        list(fit_systems({"brain": responses}, [Dead()]))


def test_a_sparse_autoencoder_with_dead_directions_is_compared(make_responses, images):
    rng = np.random.default_rng(0)
    values = rng.gamma(0.3, 3, (120, 6)) @ np.abs(rng.normal(size=(6, 16))) + 0.1 * rng.random((120, 16))
    finder = SparseAutoencoder("8x", n_active=4)
    with pytest.warns(UserWarning, match="of 128 by 'SparseAutoencoder' in 'V4'"):
        table = compare({"V4": make_responses(values)}, images, [finder], [Color()], baselines=False)
    assert table.sizes["item"] == 128 - table.n_constant[0] < 128
    assert np.isfinite(table.interpretability).all()


def test_nearly_dead_directions_score_as_random_sets_do(make_responses, images, rng):
    """Two active stimuli of 60, in 400 items: the mean is within 3 standard errors of that of all pairs."""
    codes = np.zeros((60, 400))
    for column in codes.T:
        column[rng.choice(60, 2, replace=False)] = rng.exponential(size=2)
    held = make_responses(codes).assign_coords(stimulus=images.stimulus.values[:60])
    table = compare({"V4": held}, images[:60], [Units()], [Color()], score_on="all")
    index = table.interpretability.values[:, 0]
    every_pair = compare({"V4": held[:, :1]}, images[:60], [Units()], [Color()], top=60, score_on="all")
    assert (table.n_active == 2).all()
    assert abs(index.mean() - every_pair.interpretability.item()) < 3 * index.std() / 400**0.5


@pytest.mark.parametrize(
    ("column", "at_top", "at_bottom"),
    [
        ([0, 0, 0, 0, 2, 1], 2, 0),
        ([0, 0, 0, 0, 2, -1], 1, 1),  # a signed code
        ([-3.5, -3.5, -3.5, -3.5, 2, 1], 2, 0),  # after standardisation
        ([1, 2, 3, 4, 5, 6], 6, 6),
        ([0, 0, 0, 1, 2, 3], 6, 6),  # half, not more
        ([np.nan, np.nan, 0, 0, 0, 4], 1, 0),
    ],
)
def test_active_stimuli_are_beyond_the_code_that_most_share(column, at_top, at_bottom, rng):
    codes = rng.permutation(np.array(column, float))[:, None].repeat(2, axis=1)
    assert_array_equal(count_active(codes), [at_top] * 2)
    assert_array_equal(count_active(codes, "bottom"), [at_bottom] * 2)
