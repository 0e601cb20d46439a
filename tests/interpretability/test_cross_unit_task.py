import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

from neurosuper import Color, Pixel, load_images, top_stimuli
from neurosuper.interpretability import cross_unit_task as cross_unit
from neurosuper.interpretability import separability

few = {"n_references": 4, "n_trials": 5}


def one_pair(codes, images, metric, a, b, queries, pool):
    """Oracle: the trials of one pair of units, one by one; return the numbers of correct trials and of trials."""
    top = top_stimuli(codes, top=9)
    reference = {unit: top.sel(unit=unit).values[:4] for unit in (a, b)}
    query = {unit: top.sel(unit=unit).values[4:] for unit in (a, b)}
    embedding = dict(zip(images.stimulus.values, metric.embed(images).double(), strict=True))

    def s(label, unit):
        return pool([-float((embedding[label] - embedding[r]).norm()) for r in reference[unit]])

    right = total = 0
    for x, y in zip(query[a], query[b], strict=True):
        if x == y or x in reference[b] or y in reference[a]:
            continue
        if queries == "together":
            right += s(x, a) + s(y, b) > s(x, b) + s(y, a)
        else:
            right += 0.5 * (s(x, a) > s(x, b)) + 0.5 * (s(y, b) > s(y, a))
        total += 1
    return right, total


@pytest.mark.parametrize("queries", ["alone", "together"])
@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("block", [2**24, 100], ids=["one block", "many blocks"])
def test_equals_trials_one_by_one(queries, pool, block, responses, images, monkeypatch):
    monkeypatch.setattr(cross_unit, "BLOCK_ENTRIES", block)
    ours = separability(responses, images, Pixel(), queries=queries, pool=pool, **few)
    for a in responses.unit.values[:3]:
        for b in responses.unit.values[3:]:
            right, total = one_pair(responses, images, Pixel(), a, b, queries, {"mean": np.mean, "max": max}[pool])
            assert ours.n_trials.sel(unit=a, other=b) == total
            assert_allclose(ours.separability.sel(unit=a, other=b), right / total)


def test_is_symmetric_and_distinctness_is_the_mean_over_partners(responses, images):
    ours = separability(responses, images, Color(), **few)
    assert_allclose(ours.separability, ours.separability.values.T)
    assert np.isnan(np.diag(ours.separability)).all()
    assert_allclose(ours.distinctness, np.nanmean(ours.separability, axis=1))


def test_planted_colors_are_distinguished_and_twins_are_not(make_responses, images, rng):
    red, green = ((images.category == color).values + 0.1 * rng.random(120) for color in ("red", "green"))
    twin = (images.category == "red").values + 0.1 * rng.random(120)
    ours = separability(make_responses(np.stack([red, green, twin], axis=1)), images, Color(), **few)
    assert ours.separability.sel(unit="u000", other="u001") == 1
    assert ours.separability.sel(unit="u000", other="u002") < 1


def test_by_default_each_query_goes_to_the_unit_of_its_nearest_reference(responses, images):
    paper = separability(responses, images, Pixel(), queries="alone", pool="max", **few)
    assert separability(responses, images, Pixel(), **few).identical(paper)
    assert (paper.attrs["queries"], paper.attrs["pool"]) == ("alone", "max")


def test_two_queries_sorted_together_cancel_what_they_have_in_common(rng):
    """References of A are 100, of B 140; all queries are shifted by −30: together they are distinguished, alone not."""
    grey = np.repeat([100, 140, 70, 110], [4, 4, 5, 5]).astype(np.uint8)
    images = load_images(grey[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8))
    a = np.repeat([3, 0, 2, 0], [4, 4, 5, 5]) + rng.random(18) / 2
    b = np.repeat([0, 3, 0, 2], [4, 4, 5, 5]) + rng.random(18) / 2
    codes = xr.DataArray(
        np.stack([a, b], 1), dims=("stimulus", "unit"), coords={"stimulus": images.stimulus, "unit": ["a", "b"]}
    )
    together = separability(codes, images, Color(), queries="together", **few)
    assert together.separability.sel(unit="a", other="b") == 1
    alone = separability(codes, images, Color(), queries="alone", **few)
    assert alone.separability.sel(unit="a", other="b") == 0.5


def test_the_same_top_images_leave_no_trial(make_responses, images, rng):
    same = rng.random((120, 1))
    ours = separability(make_responses(np.hstack([same, same, rng.random((120, 1))])), images, Color(), **few)
    assert ours.n_trials.sel(unit="u000", other="u001") == 0
    assert ours.separability.sel(unit="u000", other="u001").isnull()
    assert ours.distinctness.notnull().all()


def test_bad_input_is_refused_with_a_reason(responses, images):
    with pytest.raises(ValueError, match="separability compares units with one another; got 1, pass at least 2"):
        separability(responses[:, :1], images, Color())
    with pytest.raises(ValueError, match="pool must be one of 'mean', 'max'; got 'min'"):
        separability(responses, images, Color(), pool="min")
    with pytest.raises(ValueError, match="queries must be one of 'alone', 'together'; got 'each'"):
        separability(responses, images, Color(), queries="each")
    with pytest.raises(ValueError, match="top must be a whole number from 1 to 120, the number of stimuli, got 130"):
        separability(responses, images, Color(), n_references=100, n_trials=30)
