"""A size relative to the units, such as "2x", is capped by what the stimuli allow; a number is not."""

import re
import warnings
from collections import Counter

import numpy as np
import pytest
import xarray as xr

from neurosuper import (
    ICA,
    NMF,
    PCA,
    Archetypal,
    Color,
    DictionaryLearning,
    Exemplars,
    KMeans,
    Random,
    SparseAutoencoder,
    Units,
    compare,
    split_stimuli,
)

CAPPED = [  # of 30 stimuli × 20 units: the finder, the size asked for, and what is found
    (KMeans, "2x", 40, 15),
    (KMeans, "0.8x", 16, 15),
    (KMeans, None, 20, 15),
    (Exemplars, "2x", 40, 30),
    (DictionaryLearning, "2x", 40, 30),
    (Archetypal, "2x", 40, 30),
    (PCA, "2x", 40, 20),
    (ICA, "2x", 40, 20),
]


@pytest.fixture
def few(rng, make_responses):
    """Fewer stimuli than twice the units."""
    return make_responses(rng.gamma(1, 5, (30, 20)).astype(np.float32))


def quick(finder, n_directions):
    return finder(n_directions, **({"max_iter": 3, "tol": None} if hasattr(finder(), "max_iter") else {}))


@pytest.mark.parametrize(("finder", "asked", "n", "most"), CAPPED)
@pytest.mark.parametrize("chunks", [None, {"stimulus": 11}], ids=["in memory", "streamed"])
def test_a_relative_size_is_capped_with_one_warning_that_names_both_numbers(finder, asked, n, most, chunks, few):
    responses = few if chunks is None else few.chunk(chunks)
    relative = "as many directions as units" if asked is None else f"n_directions='{asked}'"
    message = re.escape(f"{finder.__name__} finds {most} directions, not {n} ({relative}): ")
    with pytest.warns(UserWarning, match=message) as caught:
        capped = quick(finder, asked).fit(responses)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert capped.directions_.sizes["direction"] == most
    named = quick(finder, most).fit(responses)
    xr.testing.assert_allclose(capped.directions_.drop_attrs(), named.directions_.drop_attrs(), rtol=1e-4)


@pytest.mark.parametrize(("finder", "n", "most"), [(each, n, most) for each, asked, n, most in CAPPED if asked == "2x"])
def test_a_number_that_is_too_large_is_refused(finder, n, most, few):
    with pytest.raises(ValueError, match=rf"{finder.__name__} cannot give {n} directions: .*; ask for fewer"):
        quick(finder, n).fit(few)


@pytest.mark.parametrize("finder", [Random, NMF, SparseAutoencoder])
def test_finders_that_can_give_more_directions_than_stimuli_are_not_capped(finder, few):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".* finds ")
        assert quick(finder, "2x").fit(few).directions_.sizes["direction"] == 40


def test_stimuli_without_a_response_make_no_cluster(few):
    silent = few.where(few.stimulus.isin(few.stimulus.values[:20]), 0)
    with pytest.warns(
        UserWarning, match=r"KMeans finds 10 directions, not 40 .*: 20 stimuli are enough for 10 clusters"
    ):
        assert KMeans("2x").fit(silent).directions_.sizes["direction"] == 10
    with pytest.raises(ValueError, match="KMeans cannot give 21 directions: only 20 stimuli have a response"):
        KMeans(21).fit(silent)


@pytest.mark.parametrize("chunks", [None, {"stimulus": 11}], ids=["in memory", "streamed"])
def test_copies_of_a_stimulus_count_once(chunks, rng, make_responses):
    responses = make_responses(np.tile(rng.gamma(1, 5, (8, 14)).astype(np.float32), (10, 1)))
    responses = responses if chunks is None else responses.chunk(chunks)
    text = r"KMeans finds 4 directions, not 28 .*: 80 stimuli with 8 different responses are enough for 4 clusters"
    with pytest.warns(UserWarning, match=text):
        found = KMeans("2x").fit(responses).directions_.values
    assert len(np.unique(found, axis=0)) == len(found) == 4
    assert len(KMeans(8).fit(responses).directions_) == 8
    lone = KMeans(None).fit(responses.isel(unit=[0]))  # normalised, all responses to it are equal
    assert lone.directions_.values.tolist() == [[1]]


def test_a_comparison_says_which_system_and_finder_were_capped(few, rng):
    """And the baseline has as many directions as there are units, as with any number of directions."""
    labels = [f"s{i}" for i in range(60)]
    pixels = rng.integers(0, 256, (60, 4, 4, 3), np.uint8)
    images = xr.DataArray(pixels, dims=("stimulus", "row", "column", "channel"), coords={"stimulus": labels})
    dims, coords = ("stimulus", "unit"), {"stimulus": labels}
    brain = xr.DataArray(rng.gamma(1, 5, (60, 4)), dims=dims, coords=coords | {"unit": list("abcd")})
    net = xr.DataArray(rng.gamma(1, 5, (60, 20)), dims=dims, coords=coords | {"unit": [f"u{i}" for i in range(20)]})
    finders = {"Units": Units(), "twice": KMeans("2x"), "Random": Random("2x")}
    with pytest.warns(UserWarning, match="^'twice' in 'net': KMeans finds 15 directions, not 40") as caught:
        table = compare({"V4": split_stimuli(brain), "net": net}, images, finders, [Color()])
    assert len(caught) == 1
    counts = Counter(zip(table.system.values.tolist(), table.finder.values.tolist(), strict=True))
    of_net = {finder: n for (system, finder), n in counts.items() if system == "net"}
    assert of_net == {"Units": 20, "twice": 15, "Random": 40, "CovarianceMatched": 20}
    assert counts["V4", "twice"] == 8
