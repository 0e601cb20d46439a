"""Halves of repetitions have the same signal and noise of their own."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

from neurosuper import average_repetitions, split_repetitions
from neurosuper.repetitions import first_half


def label(values: np.ndarray) -> xr.DataArray:
    """Label (stimulus, repetition, unit)."""
    labels = {"stimulus": [f"s{i:04d}" for i in range(len(values))], "unit": [f"u{i}" for i in range(values.shape[2])]}
    return xr.DataArray(values, labels, dims=("stimulus", "repetition", "unit"), attrs={"units": "spikes/s"})


@pytest.fixture
def patchy(rng) -> xr.DataArray:
    """30 stimuli × 7 repetitions × 4 units; each lacks other repetitions, but has at least two."""
    values = rng.normal(size=(30, 7, 4))
    values[:, 2:][rng.random((30, 5, 4)) < 0.4] = np.nan
    return label(values)


def test_halves_are_means_over_disjoint_repetitions_that_differ_by_one_at_most(patchy):
    """Oracle: a loop over stimuli and units, of the half that the shared draw gives."""
    first = first_half(patchy.notnull().values, np.arange(30), np.random.default_rng(3))
    a, b = split_repetitions(patchy, random_state=3)
    for s in range(30):
        for u in range(4):
            row, mine = patchy.values[s, :, u], first[s, :, u]
            one, other = row[mine], row[~mine & ~np.isnan(row)]
            assert abs(len(one) - len(other)) <= 1
            assert_allclose([a[s, u], b[s, u]], [one.mean(), other.mean()])


def test_weighted_by_their_numbers_the_halves_make_the_average(rng):
    responses = label(rng.normal(size=(20, 5, 3)))
    a, b = split_repetitions(responses)
    assert set(a.n_repetitions.values) == {2, 3}
    assert_allclose((a * a.n_repetitions + b * b.n_repetitions) / 5, average_repetitions(responses))


def test_the_signal_is_shared_and_the_noise_is_not(rng):
    signal = rng.normal(size=(3000, 1, 4))
    a, b = split_repetitions(label(signal + 2 * rng.normal(size=(3000, 4, 4))))
    residuals = [(half.values - signal[:, 0]).ravel() for half in (a, b)]
    assert abs(np.corrcoef(residuals)[0, 1]) < 4 / 12000**0.5
    assert_allclose(np.var(residuals, axis=1), 2, rtol=0.1)  # 2² over two repetitions
    assert_allclose(np.cov(a.values.ravel(), b.values.ravel())[0, 1], 1, atol=0.1)


def test_the_halves_depend_on_the_seed_and_the_labels_alone(patchy):
    halves = split_repetitions(patchy)
    for half, other in zip(halves, split_repetitions(patchy.isel(stimulus=slice(None, None, -1))), strict=True):
        xr.testing.assert_identical(half, other.isel(stimulus=slice(None, None, -1)))
    assert (halves[0] != split_repetitions(patchy, random_state=1)[0]).any()
    assert halves[0].attrs == {"units": "spikes/s"}


def test_counts_can_be_halved(rng):
    counts = label(rng.poisson(5.0, (4, 2, 2)))
    a, b = split_repetitions(counts)
    assert_allclose(a + b, counts.sum("repetition"))


def test_stimuli_with_too_few_repetitions_are_named_and_the_remedy_works(patchy):
    patchy[3, 1:, 2] = np.nan
    patchy[5, 1:] = np.nan
    with pytest.raises(ValueError, match=r"a unit has fewer of stimulus 's0003', 's0005'; drop those with") as caught:
        split_repetitions(patchy)
    remedy = str(caught.value).split("drop those with ")[1]
    repeated = eval(remedy, {"responses": patchy})
    assert repeated.sizes["stimulus"] == 28
    split_repetitions(repeated)


def test_bad_input_is_an_error_of_one_line(responses, patchy):
    with pytest.raises(
        ValueError, match=r"^split_repetitions needs the dim 'repetition', got .*; use responses before"
    ):
        split_repetitions(responses)
    with pytest.raises(ValueError, match=r"^split_repetitions does not stream; .* responses\.compute\(\) first$"):
        split_repetitions(patchy.copy(data=da.from_array(patchy.values)))
