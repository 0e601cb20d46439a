import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import signal

from neurosuper import Color, Label, Pixel, Random, interpretability_index, load_images
from neurosuper.interpretability import chance_level, null_test, phase_surrogates, shuffle_stimuli, shuffle_units

NULLS = [shuffle_stimuli, shuffle_units, phase_surrogates]
each_null = pytest.mark.parametrize("null", NULLS, ids=lambda null: null.__name__)
lazy_nulls = pytest.mark.parametrize("null", NULLS[:2], ids=lambda null: null.__name__)


@each_null
def test_labels_coords_and_kind_stay_and_values_move(null, responses, images):
    codes = responses.assign_coords(category=images.category, area=("unit", ["V1", "V4"] * 4)).astype(np.float32)
    moved = null(codes.T, random_state=3)
    assert moved.dims == ("stimulus", "unit")
    assert moved.dtype == np.float32
    for name, coord in codes.coords.items():
        assert moved[name].identical(coord)
    assert moved.attrs["units"] == "spikes/s"
    assert moved.attrs["random_state"] == 3
    assert "shuffled" in moved.attrs["null"] or "surrogate" in moved.attrs["null"]
    assert (moved != codes).mean() > 0.8


@each_null
def test_a_seed_gives_the_same_and_none_a_new_one_in_attrs(null, responses):
    assert null(responses).identical(null(responses, random_state=0))
    fresh = null(responses, random_state=None)
    assert not (fresh == null(responses)).all()
    assert (fresh == null(responses, random_state=fresh.attrs["random_state"])).all()


@each_null
def test_codes_of_directions_are_allowed(null, responses):
    assert null(responses.rename(unit="direction")).dims == ("stimulus", "direction")


def test_shuffled_stimuli_are_the_same_responses_in_another_order(responses):
    moved = shuffle_stimuli(responses)
    assert_array_equal(np.unique(moved, axis=0), np.unique(responses, axis=0))
    assert_allclose(np.corrcoef(moved.T), np.corrcoef(responses.T))


def test_shuffled_stimuli_bring_a_selective_unit_down_to_the_chance_level(responses, images):
    """A unit that sees red alone scores 1 by label; over 40 shuffles it scores the same as random images."""
    red = responses.copy(data=responses.values + 1000 * (images.category == "red").values[:, None])
    assert_allclose(interpretability_index(red, images, Label()), 1)
    shuffled = [
        interpretability_index(shuffle_stimuli(red[:, :1], random_state=seed), images, Label()).item()
        for seed in range(40)
    ]
    chance = chance_level(images, Label(), n_resamples=200)
    assert abs(np.mean(shuffled) - chance.interpretability) < 4 * chance.sampled_sd / 40**0.5


def test_shuffled_units_keep_each_population_vector_and_lose_the_units(rng, make_responses):
    codes = make_responses(rng.random((4000, 6)) + np.arange(6) * 10.0)
    moved = shuffle_units(codes)
    assert_array_equal(np.sort(moved, axis=1), np.sort(codes, axis=1))
    assert_allclose(moved.mean("stimulus"), codes.mean(), atol=4 * np.arange(6).std() * 10 / 4000**0.5)


def test_shuffles_of_stimuli_are_independent_and_reach_every_order(make_responses):
    codes = make_responses(np.tile(np.arange(3), (6000, 1)))
    _, counts = np.unique(shuffle_units(codes), axis=0, return_counts=True)
    assert len(counts) == 6
    assert_allclose(counts, 1000, atol=4 * 1000**0.5)


@lazy_nulls
@pytest.mark.parametrize("chunks", [(37, 3), (120, 8), (1, -1)], ids=str)
def test_dask_arrays_stay_lazy_and_give_the_same_in_any_chunks(null, chunks, responses):
    def refuse(block):
        raise AssertionError("computed too early")

    values = da.from_array(responses.values, chunks=chunks)
    null(responses.copy(data=values.map_blocks(refuse, dtype=float, meta=np.empty((0, 0)))))
    lazy = null(responses.copy(data=values))
    assert lazy.chunks is not None
    assert lazy.compute().identical(null(responses))


def ar_series(rng, n=4096):
    """Three Gaussian series with slow drifts; the second follows the first five stimuli later."""
    drift = signal.lfilter([1], [1, -0.9], rng.normal(size=(n, 3)), axis=0)
    return np.column_stack([drift[:, 0], np.roll(drift[:, 0], 5) + 0.5 * drift[:, 1], drift[:, 2]])


def test_surrogates_keep_values_exactly_and_spectra_and_correlations_nearly(rng, make_responses):
    """Far closer than another draw of the same process, which has a different power at every frequency."""
    codes, other = (make_responses(ar_series(rng)) for _ in range(2))
    made = phase_surrogates(codes)
    assert_array_equal(np.sort(made, axis=0), np.sort(codes, axis=0))
    assert_allclose(np.corrcoef(made.T), np.corrcoef(codes.T), atol=0.02)

    planted, ours, theirs = (np.fft.rfft(each.values, axis=0)[1:] for each in (codes, made, other))
    for column in range(3):
        log_power = [np.log(np.abs(spectra[:, column])) for spectra in (planted, ours, theirs)]
        _, kept, fresh = np.corrcoef(log_power)[0]
        assert kept > 0.95 > 0.7 > fresh
    cross = [spectra[:, 0] * spectra[:, 1].conj() for spectra in (planted, ours, theirs)]
    _, kept, fresh = (np.vdot(cross[0], c).real / np.linalg.norm(cross[0]) / np.linalg.norm(c) for c in cross)
    assert kept > 0.98 > 0.7 > fresh
    assert abs(np.corrcoef(made[:, 0], codes[:, 0])[0, 1]) < 0.2, "but not when things happen"


def test_surrogates_of_skewed_responses_keep_their_autocorrelation_where_a_shuffle_does_not(rng, make_responses):
    codes = make_responses(np.exp(ar_series(rng) / 2))

    def autocorrelation(values):
        return [np.corrcoef(column[1:], column[:-1])[0, 1] for column in values.T.values]

    assert_allclose(autocorrelation(phase_surrogates(codes)), autocorrelation(codes), atol=0.1)
    assert_allclose(autocorrelation(shuffle_stimuli(codes)), 0, atol=4 / 4096**0.5)


def test_the_order_of_surrogates_depends_on_ranks_alone(rng, make_responses):
    values = rng.normal(size=(65, 3))
    bent = np.exp(values)
    orders = [phase_surrogates(make_responses(v)).values.argsort(axis=0) for v in (values, bent)]
    assert_array_equal(*orders)


def test_equal_columns_have_equal_surrogates(rng, make_responses):
    """Phases are the same in all columns: a copy stays a copy, and a negative stays a negative."""
    column = rng.normal(size=64)
    made = phase_surrogates(make_responses(np.stack([column, column, -column], axis=1))).values
    assert_array_equal(made[:, 0], made[:, 1])
    assert_array_equal(made[:, 0], -made[:, 2])


@pytest.mark.parametrize("n", [3, 4, 5, 64])
def test_surrogates_of_few_stimuli_odd_or_even(n, rng, make_responses):
    codes = make_responses(rng.normal(size=(n, 2)))
    assert_array_equal(np.sort(phase_surrogates(codes), axis=0), np.sort(codes, axis=0))


def test_bad_input_is_refused_with_a_reason(responses, images):
    lazy = responses.copy(data=da.from_array(responses.values, chunks=(40, -1)))
    gappy = responses.where(responses.unit != "u003")
    with pytest.raises(ValueError, match=r"surrogates need all stimuli .*; call codes\.compute\(\) first"):
        phase_surrogates(lazy)
    with pytest.raises(ValueError, match="at least 3 stimuli, got 2: no phase is free"):
        phase_surrogates(responses[:2])
    with pytest.raises(ValueError, match="NaN or infinite values, in unit 'u003'; drop"):
        phase_surrogates(gappy)
    with pytest.raises(ValueError, match="codes contain 120 NaN values, which would move to other units; drop"):
        shuffle_units(gappy)
    with pytest.raises(ValueError, match="codes contain 40 NaN values, which would move to other units; drop"):
        shuffle_units(lazy.where(responses.unit != "u003")).compute()
    assert shuffle_stimuli(gappy).sel(unit="u003").isnull().all(), "whole stimuli may move"
    with pytest.raises(ValueError, match="random_state must be an int from 0 to"):
        shuffle_stimuli(responses, random_state=-1)
    with pytest.raises(ValueError, match="dims stimulus and unit or direction"):
        shuffle_units(responses.expand_dims(repetition=2))


def random_directions(codes, *, random_state):
    return Random(random_state=random_state).fit_transform(codes)


@each_null
def test_p_counts_the_draws_that_reach_the_index_of_the_codes(null, responses, images):
    test = null_test(responses, images, Color(), null=null, n_resamples=19, random_state=3)
    own = interpretability_index(responses, images, Color())
    draws = np.stack(
        [interpretability_index(null(responses, random_state=seed), images, Color()) for seed in range(4, 23)]
    )
    assert_allclose(test.item_interpretability, own)
    assert_allclose(test.interpretability, own.mean())
    assert_allclose(test.null, draws.mean(1))
    assert_allclose(test.p_value, (1 + (draws.mean(1) >= own.values.mean()).sum()) / 20)
    assert_allclose(test.item_p_value, (1 + (draws >= own.values).sum(0)) / 20)
    assert (test.n_items, test.n_resamples, test.n_stimuli) == (8, 19, responses.sizes["stimulus"])


def test_a_null_may_have_items_of_its_own(responses, images):
    test = null_test(responses, images, Color(), null=random_directions, n_resamples=19)
    assert set(test) == {"interpretability", "null", "p_value"}


@each_null
def test_p_is_uniform_where_there_is_nothing_to_destroy(null, make_responses):
    """Gaussian noise: of 30 studies 1.5 are expected at 5 %; 6 or more would be rare (3 in 1,000)."""
    p = []
    for study in range(30):
        rng = np.random.default_rng(study)
        images = load_images(rng.integers(0, 256, (60, 1, 1, 3), dtype=np.uint8))
        codes = make_responses(rng.normal(size=(60, 6))).assign_coords(stimulus=images.stimulus.values)
        p.append(
            null_test(
                codes, images, Color(device="cpu"), null=null, n_resamples=19, random_state=100 * study
            ).p_value.item()
        )
    assert np.mean(np.array(p) <= 0.05) < 6 / 30
    assert 0.3 < np.mean(p) < 0.7


def test_units_tuned_to_what_is_seen_are_above_every_null(rng, make_responses):
    images = load_images(rng.integers(0, 256, (200, 1, 1, 3), dtype=np.uint8))
    tuned = images.values.reshape(200, 3) @ rng.normal(size=(3, 10)) + rng.normal(0, 20, (200, 10))
    codes = make_responses(tuned).assign_coords(stimulus=images.stimulus.values)
    for null in (shuffle_stimuli, phase_surrogates):
        assert null_test(codes, images, Color(device="cpu"), null=null, n_resamples=39).p_value == 1 / 40


def test_a_test_against_a_null_refuses_what_makes_no_sense(responses, images):
    with pytest.raises(ValueError, match="n_resamples must be .* at least 19, which allow p = 0.05, got 5"):
        null_test(responses, images, Color(), n_resamples=5)
    with pytest.raises(ValueError, match="`null` returns stimuli that are not in the codes"):
        null_test(
            responses,
            images,
            Color(),
            null=lambda codes, random_state: codes.assign_coords(stimulus=codes.stimulus.values + "x"),
        )


@pytest.mark.parametrize("seed", range(6))
def test_surrogates_keep_what_alternates_from_stimulus_to_stimulus(seed, rng, make_responses):
    """The highest frequency of an even number of stimuli has no free phase: a sum that is real keeps its sign."""
    signs = (-1.0) ** np.arange(64)
    made = phase_surrogates(make_responses((5 * signs + 0.1 * rng.normal(size=64))[:, None]), random_state=seed).values[
        :, 0
    ]
    assert np.corrcoef(np.sign(made), signs)[0, 1] > 0.7


def test_draws_that_equal_the_index_count_against_it(responses, images):
    """If all images are the same, every set has the same score, and nothing is significant."""
    same = images.copy(data=np.broadcast_to(images.values[:1], images.shape).copy())
    test = null_test(responses, same, Pixel(device="cpu"), n_resamples=19)
    assert test.p_value == 1
    assert (test.item_p_value == 1).all()
