"""The ceilings over repetitions are what a second measurement and the noiseless system turn out to reach."""

import numpy as np
import pytest
import xarray as xr

from neurosuper import average_repetitions
from neurosuper.comparison import dissimilarities, rsa

FAST = {"n_permutations": 0, "n_resamples": 0}


def system(values) -> xr.DataArray:
    coords = {
        "stimulus": [f"s{i:03d}" for i in range(len(values))],
        "unit": [f"u{i}" for i in range(values.shape[-1])],
    }
    dims = ("stimulus", "unit") if values.ndim == 2 else ("stimulus", "repetition", "unit")
    return xr.DataArray(values, coords, dims)


def recorded(signal, seed, n_repetitions=4) -> xr.DataArray:
    noise = np.random.default_rng(seed).normal(size=(len(signal), n_repetitions, signal.shape[1]))
    return system(signal[:, None] + 1.5 * noise)


@pytest.mark.parametrize(
    ("distance", "similarity"),
    [("correlation", "rho-a"), ("sqeuclidean", "pearson"), ("correlation", "tau-a"), ("crossnobis", "whitened-cosine")],
)
def test_ceilings_are_what_a_second_measurement_and_the_noiseless_system_reach(distance, similarity):
    signal = np.random.default_rng(0).normal(size=(40, 12))
    settings = {"distance": distance} | ({"noise": "none"} if distance == "crossnobis" else {})
    exact = "sqeuclidean" if distance == "crossnobis" else distance
    truth, found, reached = dissimilarities(system(signal), distance=exact), [], []
    n_studies = 6 if similarity == "tau-a" else 12
    for seed in range(n_studies):
        pair = [recorded(signal, 2 * seed + k) for k in range(2)]
        averages = pair if distance == "crossnobis" else [average_repetitions(each) for each in pair]
        a, again = (dissimilarities(each, **settings) for each in averages)
        row = rsa(a, {"again": again, "truth": truth}, similarity=similarity, repeated=pair[0], **FAST)
        found.append((row.ceiling_low[0], row.ceiling_high[1]))
        reached.append(row.estimate)
    np.testing.assert_allclose(np.mean(found, axis=0), np.mean(reached, axis=0), atol=0.04)


def test_order_of_stimuli_and_units_is_irrelevant():
    responses = recorded(np.random.default_rng(0).normal(size=(20, 6)), 1)
    averages = average_repetitions(responses)
    a, b = (dissimilarities(averages[:, part], distance="correlation") for part in (slice(4), slice(2, 6)))
    found = rsa(a, b, repeated=responses[..., :4], **FAST)
    order = np.random.default_rng(2).permutation(20)
    other = rsa(a, b, repeated=responses[order][..., [3, 1, 0, 2]], **FAST)
    xr.testing.assert_allclose(other, found)
    xr.testing.assert_allclose(rsa(a[order][:, order], b, repeated=responses[..., :4], **FAST), found)


def test_bad_input_is_named():
    responses = recorded(np.random.default_rng(0).normal(size=(20, 6)), 1)
    a = dissimilarities(average_repetitions(responses), distance="correlation")

    def refuse(message, a=a, repeated=responses, **settings):
        with pytest.raises(ValueError, match=message):
            rsa(a, a, repeated=repeated, **FAST, **settings)

    refuse("a has several subjects, and so a ceiling over subjects; leave out repeated", xr.concat([a, a], "subject"))
    refuse(r"a has no attrs\['distance'\], so repeated has no ceiling", a.drop_attrs())
    refuse("noise makes 'correlation' larger, and 'cosine' of halves with it", similarity="cosine")
    refuse("repeated has 5 units, and a is of 6", repeated=responses[..., :5])
    refuse("repeated lacks stimulus 's019'", repeated=responses[:19])
    refuse("repeated needs the dim 'repetition'", repeated=responses.mean("repetition"))
    refuse("repeated needs at least 2 repetitions", repeated=responses[:, :1])
    refuse("repeated needs at least 4 repetitions", dissimilarities(responses), repeated=responses[:, :3])
