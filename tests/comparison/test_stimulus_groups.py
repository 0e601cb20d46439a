"""Groups of stimuli are never divided, neither between fits and scores nor between halves."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from neurosuper import Color, KMeans, Random, Units, compare, contrast_finders
from neurosuper.comparison import fit_systems, score_fits
from neurosuper.comparison.splits import number_units, split_systems
from neurosuper.inference import test_sentence as sentence_of
from neurosuper.interpretability import index_difference


@pytest.fixture
def grouped(responses):
    """The 120 stimuli in 30 bursts of 2 to 6 frames, in an order that is not that of their labels."""
    rng = np.random.default_rng(1)
    sizes = np.tile([2, 3, 4, 5, 6], 6)
    bursts = rng.permutation(np.repeat([f"burst {i}" for i in range(30)], sizes))
    return responses.assign_coords(burst=("stimulus", bursts))


def burst_of(grouped):
    return dict(zip(grouped.stimulus.values.tolist(), grouped.burst.values.tolist(), strict=True))


def test_directions_are_fitted_and_scored_on_whole_groups_half_of_them_each(grouped):
    of_stimulus = burst_of(grouped)
    (fit,) = fit_systems({"V4": grouped}, [Units()], stimulus_groups="burst")
    scored = {of_stimulus[label] for label in fit.scored.tolist()}
    assert len(scored) == 15
    assert set(fit.scored.tolist()) == {label for label, burst in of_stimulus.items() if burst in scored}
    other = next(fit_systems({"V4": grouped}, [Units()], stimulus_groups="burst", random_state=1))
    assert {of_stimulus[label] for label in other.scored.tolist()} != scored


def test_halves_are_of_whole_groups_half_of_them_each(grouped):
    of_stimulus = burst_of(grouped)
    (fit,) = fit_systems({"V4": grouped}, [Units()], stimulus_groups="burst", score_on="all")
    bursts = np.array([of_stimulus[label] for label in fit.scored.tolist()])
    for burst in np.unique(bursts):
        own = fit.halves[bursts == burst]
        assert (own == own[0]).all()
    one_each = fit.halves[np.unique(bursts, return_index=True)[1]]
    assert_array_equal(one_each.sum(0), 15)
    assert len(np.unique(one_each, axis=1).T) > 490  # of 500 draws
    assert_array_equal(np.unique(bursts, return_inverse=True)[1].max() + 1, fit.stimulus_groups.n)


def test_the_split_does_not_depend_on_the_order_of_stimuli_and_is_shared_by_systems(grouped):
    order = np.random.default_rng(0).permutation(120)
    split = split_systems({"a": grouped, "b": grouped[order[:100]]}, 0, "burst")
    again = split_systems({"b": grouped[np.sort(order[:100])], "a": grouped[order]}, 0, "burst")["a"].split
    shared = split["b"].stimulus.values
    assert_array_equal(split["a"].split, again.sel(stimulus=split["a"].stimulus.values))
    assert_array_equal(split["b"].split, split["a"].split.sel(stimulus=shared))


def test_copies_of_a_photograph_join_the_groups_that_they_are_in(grouped):
    """Stimuli 0 and 1 show one photograph, in two bursts: these are one group from now on."""
    content = np.array([f"{i:032x}" for i in range(120)])
    bursts = grouped.burst.values
    other = np.flatnonzero(bursts != bursts[0])[0]
    content[other] = content[0]
    stimuli = grouped.assign_coords(content=("stimulus", content))
    units = number_units(stimuli, burst_of(grouped))
    expected = np.where(bursts == bursts[other], bursts[0], bursts)
    assert units.max() + 1 == 29
    assert len(set(zip(units.tolist(), expected.tolist(), strict=True))) == 29
    assert number_units(stimuli, None).max() + 1 == 119


def test_a_contrast_with_groups_is_the_index_difference_with_groups(grouped, images):
    table = compare(
        {"V4": grouped}, images, [Units(), Random(6)], [Color()], top=4, score_on="all", stimulus_groups="burst"
    )
    assert table.stimulus_groups == "burst"
    assert (table.n_stimulus_groups == 30).all()
    tests = contrast_finders(table, n_resamples=200)
    codes = Random(6).fit_transform(grouped)
    ungrouped = index_difference(codes, grouped, images, Color(), top=4)
    for correction, setting in (("none", None), ("hub", "hub")):
        alone = index_difference(codes, grouped, images, Color(), top=4, stimulus_groups="burst", correction=setting)
        test = tests.isel(test=(tests.correction == correction).values).squeeze()
        for name in ("difference", "difference_low", "difference_high", "p_value", "n_a", "n_b"):
            assert_allclose(test[name], alone[name], rtol=1e-4, atol=1e-6)
        assert abs(float(alone.p_value / ungrouped.p_value) - 1) > 0.001  # groups do make a difference
        for sentence in (test.sentence.item(), sentence_of(alone, "Random", "Units", "index")):
            assert "over groups of stimuli and items, " in sentence
    assert "over stimuli and items, " in sentence_of(ungrouped, "Random", "Units", "index")


def test_top_groups_are_the_groups_of_the_top_stimuli(grouped, images):
    fits = list(fit_systems({"V4": grouped}, [Units(), KMeans(4)], top=4, stimulus_groups="burst", baselines=False))
    table, of_stimulus = score_fits(fits, images, [Color()]), burst_of(grouped)
    bursts = [[of_stimulus[label] for label in labels] for labels in table.top_stimuli.values.tolist()]
    pairs = set(zip(np.ravel(bursts).tolist(), table.top_groups.values.ravel().tolist(), strict=True))
    assert len(pairs) == len(np.unique(bursts)) == len(np.unique(table.top_groups))
    assert (table.n_stimulus_groups == 15).all()
    assert table.top_groups.values.max() < 15


def test_groups_may_be_named_by_the_images_alone(grouped, images):
    finders, settings = [Units()], {"top": 3, "stimulus_groups": "burst"}
    theirs = images.assign_coords(burst=grouped.burst)
    table = compare({"V4": grouped.drop_vars("burst")}, theirs, finders, [Color()], **settings)
    xr.testing.assert_identical(table, compare({"V4": grouped}, images, finders, [Color()], **settings))


def test_groups_of_one_stimulus_each_give_the_halves_of_no_groups(responses):
    single = responses.assign_coords(own=("stimulus", responses.stimulus.values))
    (with_groups,) = fit_systems({"V4": single}, [Units()], score_on="all", stimulus_groups="own")
    (without,) = fit_systems({"V4": responses}, [Units()], score_on="all")
    assert_array_equal(with_groups.halves, without.halves)


def test_groups_that_cannot_be_used_are_refused(grouped, images):
    def attempt(systems, **settings):
        list(fit_systems(systems, [Units()], **{"stimulus_groups": "burst"} | settings))

    with pytest.raises(ValueError, match="system 'net' has no stimulus coord 'burst'; add it with .assign_coords"):
        attempt({"V4": grouped, "net": grouped.drop_vars("burst")})
    four = grouped.assign_coords(burst=("stimulus", np.arange(120) % 4))
    with pytest.raises(ValueError, match="'V4' has 2 stimulus groups to score on, too few to halve; use at least 4"):
        attempt({"V4": four})
    attempt({"V4": four}, score_on="all")
    missing = grouped.assign_coords(burst=("stimulus", np.where(np.arange(120) == 7, "", grouped.burst.values)))
    with pytest.raises(ValueError, match="no stimulus group for stimulus 's0007' of 'V4'; give each stimulus a group"):
        attempt({"V4": missing})
    moved = grouped.assign_coords(burst=("stimulus", np.roll(grouped.burst.values, 1)))
    with pytest.raises(ValueError, match="'net' has stimulus 's0000' in the group .*, another system in .*; give both"):
        attempt({"V4": grouped, "net": moved})
    marked = grouped.assign_coords(split=("stimulus", ["fit", "score"] * 60))
    with pytest.raises(ValueError, match="the coord `split` divides .* of the groups 'burst', such as 'burst"):
        attempt({"V4": marked})
    with pytest.raises(ValueError, match="4 stimuli are in one of the random halves of the groups of 'V4', and an ind"):
        attempt({"V4": four[:8]}, score_on="all", top=5)


def test_fits_with_and_without_groups_are_not_scored_together(grouped, images):
    fits = [next(fit_systems({"V4": grouped}, [Units()], stimulus_groups=name)) for name in ("burst", None)]
    with pytest.raises(ValueError, match="fits have different stimulus groups; fit all systems with the same"):
        score_fits(fits, images, [Color()])


def test_marks_of_whole_groups_are_kept_and_given_to_the_rest_of_a_group(grouped):
    """One stimulus of each burst is marked: the others follow it."""
    first = np.unique(grouped.burst.values, return_index=True)[1]
    marked = grouped[first].assign_coords(split=("stimulus", ["fit"] * 10 + ["score"] * 20))
    split = split_systems({"V4": grouped, "net": marked}, 0, "burst")["V4"]
    by_burst = dict(zip(marked.burst.values.tolist(), marked.split.values.tolist(), strict=True))
    assert split.split.values.tolist() == [by_burst[burst] for burst in grouped.burst.values.tolist()]
