"""Null models for interpretability scores: codes without one property, and a test against them.

Each null model destroys one property of the codes and keeps as much else as it can. A score that the null model reaches
as well does not depend on that property.

Z (stimulus, unit) responses or codes.
"""

from __future__ import annotations

import itertools
from typing import Protocol

import numpy as np
import xarray as xr
from scipy import special, stats

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper._joins import join_images, left_out
from neurosuper._progress import progress
from neurosuper.images import check_images
from neurosuper.inference.null_draws import p_of_draws
from neurosuper.interpretability.index import index_of_top
from neurosuper.interpretability.ranking import check_codes, copies_among, top_stimuli
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.responses import coords_along, name_some, require_varying


class Null(Protocol):
    """A function that draws codes under a null hypothesis."""

    def __call__(self, codes: xr.DataArray, /, *, random_state: int) -> xr.DataArray:
        """Return codes of the same items to the same stimuli, drawn with this seed."""


def shuffle_stimuli(codes: xr.DataArray, *, random_state: Seed = 0) -> xr.DataArray:
    """Return codes with the stimuli permuted, in the same way for all units or directions.

    Keeps the responses of each unit and the correlations between units; destroys the link between responses and images.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        A dask array stays lazy.
    random_state : int, Generator, RandomState or None, optional
        Seed; that of the draw is stored in the attrs.

    Returns
    -------
    DataArray (stimulus, unit) or (stimulus, direction)
        Values are permuted; labels and coords stay. attrs: `null`, a description, and `random_state`.

    Raises
    ------
    ValueError
        Not two labelled dims with `stimulus` among them.

    See Also
    --------
    null_test : Test of an index against this null model.
    shuffle_units : Destroys the identity of units.
    phase_surrogates : Keeps slow drifts.

    Examples
    --------
    >>> import xarray as xr
    >>> codes = xr.DataArray([[1, 10], [2, 20], [3, 30]], dims=("stimulus", "unit"),
    ...                      coords={"stimulus": ["x", "y", "z"], "unit": ["a", "b"]})
    >>> null = shuffle_stimuli(codes)
    >>> null.stimulus.values.tolist(), null.sel(unit="a").values.tolist()
    (['x', 'y', 'z'], [3, 1, 2])
    """
    codes, seed = check_codes(codes), seed_or_new(random_state)
    order = np.random.default_rng(seed).permutation(codes.sizes["stimulus"])
    return _as_null(codes, codes.data[order], "stimuli shuffled", seed)


def shuffle_units(codes: xr.DataArray, *, random_state: Seed = 0) -> xr.DataArray:
    """Return codes with the values of units or directions permuted within each stimulus, independently per stimulus.

    Keeps the values of each population vector, and so its length and sparseness; destroys the identity of units.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Without NaN, which would move to other units. A dask array stays lazy; the result does not depend on its chunks.
    random_state : int, Generator, RandomState or None, optional
        Seed; that of the draw is stored in the attrs.

    Returns
    -------
    DataArray (stimulus, unit) or (stimulus, direction)
        Values are permuted; labels and coords stay. attrs: `null`, a description, and `random_state`.

    Raises
    ------
    ValueError
        Not two labelled dims with `stimulus` among them; NaN (of a dask array: when it is computed).

    See Also
    --------
    null_test : Test of an index against this null model.
    shuffle_stimuli : Destroys the link to the images.
    phase_surrogates : Keeps slow drifts.

    Examples
    --------
    >>> import xarray as xr
    >>> codes = xr.DataArray([[1, 2, 3], [10, 20, 30]], dims=("stimulus", "unit"),
    ...                      coords={"stimulus": ["x", "y"], "unit": ["a", "b", "c"]})
    >>> sorted(shuffle_units(codes).sel(stimulus="y").values.tolist())
    [10, 20, 30]
    """
    codes, seed = check_codes(codes), seed_or_new(random_state)
    if codes.chunks is None:
        shuffled = _shuffle_rows(codes.values, seed, 0)
    else:
        shuffled = codes.data.rechunk({1: -1}).map_blocks(_shuffle_block, seed=seed, dtype=codes.dtype)
    return _as_null(codes, shuffled, "units shuffled within each stimulus", seed)


def phase_surrogates(codes: xr.DataArray, *, random_state: Seed = 0) -> xr.DataArray:
    """Return phase-randomised surrogates of codes, for stimuli in the order of presentation.

    Each unit or direction is made Gaussian by rank (normal scores); random phases, the same for all, are added to its
    Fourier transform; and its own sorted values are put in the order of the result. Keeps the values of each unit
    exactly, and its power spectrum and the cross-spectra between units approximately: slow drifts, and correlations at
    any lag. Destroys the times of events, and so the link to the images.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        In memory, without NaN, in the order of presentation.
    random_state : int, Generator, RandomState or None, optional
        Seed; that of the draw is stored in the attrs.

    Returns
    -------
    DataArray (stimulus, unit) or (stimulus, direction)
        Values are permuted; labels and coords stay. attrs: `null`, a description, and `random_state`.

    Raises
    ------
    ValueError
        Not two labelled dims with `stimulus` among them; a dask array; NaN or infinite values; fewer than 3 stimuli.

    See Also
    --------
    null_test : Test of an index against this null model.
    shuffle_stimuli : Destroys the link to the images.
    shuffle_units : Destroys the identity of units.

    References
    ----------
    Theiler, Eubank, Longtin, Galdrikian, Farmer 1992, "Testing for nonlinearity in time series: the method of surrogate
    data", section 2.4.3 (amplitude adjusted Fourier transform).
    Prichard, Theiler 1994, "Generating surrogate data for time series with several simultaneously measured variables",
    arXiv comp-gas/9405002 (the same phases in all series).

    Examples
    --------
    >>> import xarray as xr
    >>> codes = xr.DataArray([[1.], [5.], [2.], [9.]], dims=("stimulus", "unit"),
    ...                      coords={"stimulus": list("wxyz"), "unit": ["a"]})
    >>> sorted(phase_surrogates(codes).values.ravel().tolist())
    [1.0, 2.0, 5.0, 9.0]
    """
    codes, seed = check_codes(codes), seed_or_new(random_state)
    if codes.chunks is not None:
        raise ValueError("surrogates need all stimuli of a unit at once, got a dask array; call codes.compute() first")
    if codes.sizes["stimulus"] < 3:
        raise ValueError(f"surrogates need at least 3 stimuli, got {codes.sizes['stimulus']}: no phase is free")
    if (bad := ~np.isfinite(codes.values).all(0)).any():
        names = name_some(codes[codes.dims[1]].values[bad])
        raise ValueError(
            f"codes contain NaN or infinite values, in {codes.dims[1]} {names}; drop those, or their stimuli"
        )
    return _as_null(codes, _random_phases(codes.values, seed), "phase-randomised surrogate", seed)


def null_test(
    codes: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    null: Null = shuffle_stimuli,
    top: int = 5,
    n_resamples: int = 199,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return a test of whether the interpretability index is higher than under a null model.

    The null model is drawn many times from the same codes, and scored on the same images. p is the share of draws with
    an index at least as high as that of the codes, counting the codes themselves as one draw (Phipson and Smyth 2010,
    eq. 2). It is exact if codes and draws have the same distribution under the null hypothesis, for any dependence
    between items.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Stimuli without an image are left out.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed
        `LPIPS`, `Features`, `Color`, … or `Precomputed` distances.
    null : callable, optional
        Called as `null(codes, random_state=seed)`: `shuffle_stimuli`, `shuffle_units`, `phase_surrogates`, or any other
        function that returns codes of the same stimuli, such as random directions: `lambda codes, random_state:
        Random(random_state=random_state).fit_transform(codes)`.
    top : int, optional
        Number of top stimuli.
    n_resamples : int, optional
        Number of draws of the null model, at least 19; p is at least 1/(n_resamples + 1).
    random_state : int, Generator, RandomState or None, optional
        Seed; draw i of the null model has the seed `random_state` + i, from 1. It is stored in the attrs.

    Returns
    -------
    Dataset
        `interpretability`, the mean index over items; `null (draw,)`, the mean index of each draw; and the one-sided
        `p_value`. If the null model has the same items as the codes, also `item_interpretability` and `item_p_value`
        (not adjusted for the number of items) of each. attrs: `n_items`, `n_stimuli`, `n_resamples`, `top`, `metric`,
        `quantity`, `random_state`.

    Raises
    ------
    ValueError
        Codes and images share no stimulus; constant codes; `top` below 2 or above the number of stimuli; too few draws;
        a null model with other stimuli; any error of the null model.

    See Also
    --------
    shuffle_stimuli, shuffle_units, phase_surrogates : Null models.
    chance_level : The index of random sets of images.
    index_difference : Test of two sets of items against each other.

    References
    ----------
    Phipson, Smyth 2010, "Permutation p-values should never be zero", Stat. Appl. Genet. Mol. Biol. 9, 39.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurosuper import Color, load_images
    >>> images = load_images(np.repeat(np.arange(60, dtype=np.uint8), 3).reshape(60, 1, 1, 3))
    >>> codes = xr.DataArray(np.arange(60.)[:, None], dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": ["bright"]})
    >>> test = null_test(codes, images, Color(device="cpu"), n_resamples=99)
    >>> float(test.p_value), test.item_p_value.values.tolist()
    (0.01, [0.01])
    """
    images, seed = check_images(images), seed_or_new(random_state)
    codes = join_images(check_codes(codes), images)
    require_varying(codes)
    n_resamples = check_count("n_resamples", n_resamples, least=19, why=", which allow p = 0.05")
    seeds = ((seed + 1 + i) % 2**64 for i in progress(range(n_resamples), desc="nulls", unit="draw"))
    draws = (_draw(null, codes, each) for each in seeds)
    tops = [top_stimuli(drawn, top=top, random_state=seed) for drawn in itertools.chain([codes], draws)]
    edges = np.cumsum([0, *(chosen.shape[1] for chosen in tops)])
    every = xr.DataArray(np.concatenate([chosen.values for chosen in tops], axis=1), dims=("rank", "item"))
    scores = index_of_top(every, images, metric)
    observed, *drawn = (scores.values[start:stop] for start, stop in itertools.pairwise(edges))
    means = np.array([values.mean() for values in drawn])
    result = xr.Dataset(
        {"interpretability": observed.mean(), "null": ("draw", means), "p_value": p_of_draws(observed.mean(), means)},
        attrs=scores.attrs
        | {"n_items": len(observed), "n_stimuli": codes.sizes["stimulus"]}
        | {"n_resamples": n_resamples, "random_state": seed}
        | left_out(codes)
        | copies_among(tops[0]),
    )
    item = str(codes.dims[1])
    if not all(item in chosen.dims and chosen[item].equals(tops[0][item]) for chosen in tops[1:]):
        return result
    columns = {
        "item_interpretability": (item, observed),
        "item_p_value": (item, p_of_draws(observed, np.stack(drawn))),
    }
    return result.assign(columns).assign_coords(coords_along(codes, item))


def _draw(null: Null, codes: xr.DataArray, seed: int) -> xr.DataArray:
    drawn = check_codes(null(codes, random_state=seed))
    if not np.isin(drawn.stimulus.values, codes.stimulus.values).all():
        raise ValueError(
            "`null` returns stimuli that are not in the codes; change it to return codes of the same stimuli"
        )
    return drawn


def _as_null(codes: xr.DataArray, values: object, null: str, seed: int) -> xr.DataArray:
    return codes.copy(data=values).assign_attrs(null=null, random_state=seed)


def _shuffle_rows(values: np.ndarray, seed: int, start: int) -> np.ndarray:
    """Return rows `start`, `start` + 1, … of an array, each permuted independently."""
    if n_missing := int(np.isnan(values).sum()):
        raise ValueError(
            f"codes contain {n_missing} NaN values, which would move to other units; drop them with .dropna"
        )
    # The generator takes one step per key, so each row has the same keys whichever block it is in.
    keys = np.random.Generator(np.random.PCG64(seed).advance(start * values.shape[1]))
    return np.take_along_axis(values, keys.random(values.shape).argsort(axis=1), axis=1)


def _shuffle_block(values: np.ndarray, seed: int, block_info: dict | None = None) -> np.ndarray:
    """Return a block of a dask array, shuffled as it would be in a single array."""
    if not block_info:  # dask calls this once without data to infer the dtype
        return values
    return _shuffle_rows(values, seed, block_info[0]["array-location"][0][0])


def _random_phases(values: np.ndarray, seed: int) -> np.ndarray:
    """Return the values of each column in the order of its phase-randomised normal scores."""
    n = len(values)
    # normal scores g = Φ⁻¹((rank − ½)/n), and their Fourier transform
    spectra = np.fft.rfft(special.ndtri((stats.rankdata(values, axis=0) - 0.5) / n), axis=0)
    # the same phase φ(f) is added to all columns, so that cross-spectra are kept
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(spectra))
    phases[0] = 0  # the mean is real
    if n % 2 == 0:
        phases[-1] = 0  # so is the highest frequency of an even number of stimuli
    surrogates = np.fft.irfft(spectra * np.exp(1j * phases)[:, None], n, axis=0)
    # rank k of the surrogate receives the k-th smallest of the column's own values
    ranks = surrogates.argsort(axis=0).argsort(axis=0)
    return np.take_along_axis(np.sort(values, axis=0), ranks, axis=0)
