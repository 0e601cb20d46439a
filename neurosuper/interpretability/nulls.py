"""What interpretability scores would be by chance: responses that lost one property, and random sets of images.

Each null keeps as much as it can and destroys one thing, so that a score which it reaches is not owed to that thing.

Z (stimulus, unit) responses or codes.
"""

from __future__ import annotations

import itertools
from typing import Protocol

import numpy as np
import xarray as xr
from scipy import special, stats
from tqdm import tqdm

from neurosuper._checks import check_count, check_seed
from neurosuper._joins import join_images, left_out
from neurosuper.images import check_images
from neurosuper.interpretability.index import index_label, index_of_top
from neurosuper.interpretability.random_splits import index_of_parts
from neurosuper.interpretability.ranking import check_codes, copies_among, top_stimuli
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.metrics.distances import open_distances
from neurosuper.responses import coords_along, name_some, require_varying

LEVEL = 0.95
LOW, HIGH = (1 - LEVEL) / 2, (1 + LEVEL) / 2


class Null(Protocol):
    """Draws codes under a null hypothesis."""

    def __call__(self, codes: xr.DataArray, /, *, random_state: int) -> xr.DataArray:
        """Return codes of the same items to the same stimuli, drawn with this seed."""


def shuffle_stimuli(codes: xr.DataArray, *, random_state: int | None = 0) -> xr.DataArray:
    """Permute the stimuli, in the same way for all units or directions.

    Keeps what each unit does and how units go together; destroys which image a response belongs to.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        A dask array stays lazy.
    random_state : int, optional
        Seed; None draws a new one, which `attrs["seed"]` tells.

    Returns
    -------
    DataArray (stimulus, unit) or (stimulus, direction)
        Values move, labels and coords stay. `attrs` tell `null` and `seed`.

    Raises
    ------
    ValueError
        Not two labelled dims with `stimulus` among them.

    Examples
    --------
    >>> codes = xr.DataArray([[1, 10], [2, 20], [3, 30]], dims=("stimulus", "unit"),
    ...                      coords={"stimulus": ["x", "y", "z"], "unit": ["a", "b"]})
    >>> null = shuffle_stimuli(codes)
    >>> null.stimulus.values.tolist(), null.sel(unit="a").values.tolist()
    (['x', 'y', 'z'], [3, 1, 2])
    """
    codes, seed = check_codes(codes), _seed(random_state)
    order = np.random.default_rng(seed).permutation(codes.sizes["stimulus"])
    return _as_null(codes, codes.data[order], "stimuli shuffled", seed)


def shuffle_units(codes: xr.DataArray, *, random_state: int | None = 0) -> xr.DataArray:
    """Permute the values of the units or directions within each stimulus, independently of the other stimuli.

    Keeps the values of each population vector, and so its length and sparseness; destroys which unit is which.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Without NaN, which would move to other units. A dask array stays lazy; the null is the same in any chunks.
    random_state : int, optional
        Seed; None draws a new one, which `attrs["seed"]` tells.

    Returns
    -------
    DataArray (stimulus, unit) or (stimulus, direction)
        Values move, labels and coords stay. `attrs` tell `null` and `seed`.

    Raises
    ------
    ValueError
        Not two labelled dims with `stimulus` among them; NaN (of a dask array: when it is computed).

    Examples
    --------
    >>> codes = xr.DataArray([[1, 2, 3], [10, 20, 30]], dims=("stimulus", "unit"),
    ...                      coords={"stimulus": ["x", "y"], "unit": ["a", "b", "c"]})
    >>> sorted(shuffle_units(codes).sel(stimulus="y").values.tolist())
    [10, 20, 30]
    """
    codes, seed = check_codes(codes), _seed(random_state)
    if codes.chunks is None:
        shuffled = _shuffle_rows(codes.values, seed, 0)
    else:
        shuffled = codes.data.rechunk({1: -1}).map_blocks(_shuffle_block, seed=seed, dtype=codes.dtype)
    return _as_null(codes, shuffled, "units shuffled within each stimulus", seed)


def phase_surrogates(codes: xr.DataArray, *, random_state: int | None = 0) -> xr.DataArray:
    """Return surrogates with random phases along the order of the stimuli, which must therefore mean something.

    Each column is made Gaussian by rank (normal scores), random phases are added to its Fourier transform, the same
    ones in all columns, and its own sorted values are put in the order of the result. Keeps the values of each column
    exactly, and its power spectrum and the cross-spectra of columns nearly: slow drifts, and correlations of units at
    any lag. Destroys when things happen, and so the link to the images.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        In memory, without NaN, in the order of presentation.
    random_state : int, optional
        Seed; None draws a new one, which `attrs["seed"]` tells.

    Returns
    -------
    DataArray (stimulus, unit) or (stimulus, direction)
        Values move, labels and coords stay. `attrs` tell `null` and `seed`.

    Raises
    ------
    ValueError
        Not two labelled dims with `stimulus` among them; a dask array; NaN or infinite values; fewer than 3 stimuli.

    References
    ----------
    Theiler, Eubank, Longtin, Galdrikian, Farmer 1992, "Testing for nonlinearity in time series: the method of surrogate
    data", section 2.4.3 (amplitude adjusted Fourier transform).
    Prichard, Theiler 1994, "Generating surrogate data for time series with several simultaneously measured variables",
    arXiv comp-gas/9405002 (the same phases in all columns).

    Examples
    --------
    >>> codes = xr.DataArray([[1.], [5.], [2.], [9.]], dims=("stimulus", "unit"),
    ...                      coords={"stimulus": list("wxyz"), "unit": ["a"]})
    >>> sorted(phase_surrogates(codes).values.ravel().tolist())
    [1.0, 2.0, 5.0, 9.0]
    """
    codes, seed = check_codes(codes), _seed(random_state)
    if codes.chunks is not None:
        raise ValueError("surrogates need all stimuli of a unit at once, got a dask array; call codes.compute() first")
    if codes.sizes["stimulus"] < 3:
        raise ValueError(f"surrogates need at least 3 stimuli, got {codes.sizes['stimulus']}: no phase is free")
    if (bad := ~np.isfinite(codes.values).all(0)).any():
        names = name_some(codes[codes.dims[1]].values[bad])
        raise ValueError(f"codes hold NaN or infinite values, in {codes.dims[1]} {names}; drop those, or their stimuli")
    return _as_null(codes, _random_phases(codes.values, seed), "phase-randomised surrogate", seed)


def null_test(
    codes: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    null: Null = shuffle_stimuli,
    top: int = 5,
    n_resamples: int = 199,
    random_state: int | None = 0,
) -> xr.Dataset:
    """Test whether the interpretability index is higher than a null allows.

    The null is drawn many times from the same codes, and scored on the same images. p is the share of draws that reach
    the index of the codes themselves, these included (Phipson and Smyth 2010, eq. 2). It is exact where the null
    hypothesis makes codes and their nulls alike in distribution, and items may depend on one another as they like.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Stimuli without an image are left out.
    images : DataArray (stimulus, row, column, channel)
    metric : ImageMetric or Precomputed
    null : callable, optional
        Called as `null(codes, random_state=seed)`: `shuffle_stimuli`, `shuffle_units`, `phase_surrogates`, or any other
        that returns codes of the same stimuli, such as random directions: `lambda codes, seed:
        Random(random_state=seed).fit_transform(codes)`.
    top : int, optional
        Number of top stimuli.
    n_resamples : int, optional
        Draws, at least 19; p is at least 1/(n_resamples + 1).
    random_state : int, optional
        The draws have the seeds that follow.

    Returns
    -------
    Dataset
        `interpretability`, the mean index; `null (draw,)`, the same of each draw; `p_value`, one-sided; and, where the
        null has the same items as the codes, `interpretability` and `item_p_value` of each, which are not adjusted for
        their number. attrs: `n` items, `n_stimuli`, `n_resamples`, `top`, `metric`, `quantity`, `seed`.

    Raises
    ------
    ValueError
        What the null or the index refuse; too few draws; a null on other stimuli.

    Examples
    --------
    >>> from neurosuper import Color, load_images
    >>> images = load_images(np.repeat(np.arange(60, dtype=np.uint8), 3).reshape(60, 1, 1, 3))
    >>> codes = xr.DataArray(np.arange(60.)[:, None], dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": ["bright"]})
    >>> test = null_test(codes, images, Color(device="cpu"), n_resamples=99)
    >>> float(test.p_value), test.item_p_value.values.tolist()
    (0.01, [0.01])
    """
    images, seed = check_images(images), _seed(random_state)
    codes = join_images(check_codes(codes), images)
    require_varying(codes)
    n_resamples = check_count("n_resamples", n_resamples, least=19, why=", which allow p = 0.05")
    draws = (_draw(null, codes, seed + 1 + i) for i in tqdm(range(n_resamples), desc="nulls", unit="draw", delay=2))
    tops = [top_stimuli(drawn, top=top) for drawn in itertools.chain([codes], draws)]
    edges = np.cumsum([0, *(chosen.shape[1] for chosen in tops)])
    every = xr.DataArray(np.concatenate([chosen.values for chosen in tops], axis=1), dims=("rank", "item"))
    scores = index_of_top(every, images, metric)
    own, *others = (scores.values[start:stop] for start, stop in itertools.pairwise(edges))
    means = np.array([values.mean() for values in others])
    result = xr.Dataset(
        {"interpretability": own.mean(), "null": ("draw", means), "p_value": _p_of_draws(own.mean(), means)},
        attrs=scores.attrs
        | {"n": len(own), "n_stimuli": codes.sizes["stimulus"], "n_resamples": n_resamples, "seed": seed}
        | left_out(codes)
        | copies_among(tops[0]),
    )
    item = str(codes.dims[1])
    if not all(item in chosen.dims and chosen[item].equals(tops[0][item]) for chosen in tops[1:]):
        return result
    columns = {"interpretability": (item, own), "item_p_value": (item, _p_of_draws(own, np.stack(others)))}
    return result.assign(columns).assign_coords(coords_along(codes, item))


def _draw(null: Null, codes: xr.DataArray, seed: int) -> xr.DataArray:
    drawn = check_codes(null(codes, random_state=seed))
    if not np.isin(drawn.stimulus.values, codes.stimulus.values).all():
        raise ValueError("the null has stimuli that the codes have not; let it return codes of the same stimuli")
    return drawn


def _p_of_draws(own: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Return the share of draws `(draw, …)` that reach what they are compared to, itself one; up to rounding."""
    rounding = 1e-12 * np.abs(draws).max()
    return (1 + (draws >= own - rounding).sum(0)) / (1 + len(draws))


def chance_level(
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    top: int = 5,
    n_resamples: int = 1000,
    random_state: int | None = 0,
) -> xr.Dataset:
    """Return the interpretability index of random sets of images: what a unit scores that sees nothing in them.

    The mean over all sets is that over all pairs, and exact: in closed form where the metric is a squared distance,
    else from a table of all distances (400 MB for 10,000 images). How single sets scatter about it is sampled.

    Parameters
    ----------
    images : DataArray (stimulus, row, column, channel)
    metric : ImageMetric or Precomputed
    top : int, optional
        Images in a set: the number M of top stimuli of the scores that are compared with the floor.
    n_resamples : int, optional
        Number of sets drawn, each without replacement.
    random_state : int, optional
        Seed; None draws a new one, which `attrs["seed"]` tells.

    Returns
    -------
    Dataset
        `interpretability`, the mean over all sets, exact; `interpretability_low` and `interpretability_high`, between
        which 95 % of the sets drawn are; `sampled_mean` and `sampled_sd` (ddof=1) of the sets drawn. In the unit of the
        index; `attrs` contain `metric`, `quantity`, `top`, `n_images`, `n_resamples`,
        `null` and `seed`.

    Raises
    ------
    ValueError
        `top` below 2 or above the number of images; fewer than 2 sets.

    Examples
    --------
    >>> from neurosuper import Color, load_images
    >>> grey = np.array([0, 0, 255, 255], np.uint8)[:, None, None, None]
    >>> images = load_images(grey * np.ones((1, 4, 4, 3), np.uint8))
    >>> chance = chance_level(images, Color(device="cpu"), top=2)
    >>> round(float(chance.interpretability), 4)  # −√3 in 4 of 6 pairs
    -1.1547
    """
    images, seed = check_images(images), _seed(random_state)
    n_images = images.sizes["stimulus"]
    top = check_count("top", top, least=2, most=n_images, why=", the number of images")
    n_resamples = check_count("n_resamples", n_resamples, least=2)
    rng = np.random.default_rng(seed)
    sets = np.stack([rng.choice(n_images, top, replace=False) for _ in range(n_resamples)])
    with open_distances(images, np.arange(n_images), metric) as distances:
        mean = metric.self_similarity - distances.mean_of_all()
        index = index_of_parts(distances, sets[None, None], metric.self_similarity)[0, 0]
    sampled = xr.DataArray(index, dims="set")
    about = {"metric": metric.name, "quantity": index_label(metric), "top": int(top), "n_images": n_images}
    return xr.Dataset(
        {
            "interpretability": mean,
            "interpretability_low": sampled.quantile(LOW, "set", keep_attrs=False).drop_vars("quantile"),
            "interpretability_high": sampled.quantile(HIGH, "set", keep_attrs=False).drop_vars("quantile"),
            "sampled_mean": sampled.mean("set"),
            "sampled_sd": sampled.std("set", ddof=1),
        },
        attrs=about
        | {"n_resamples": int(n_resamples), "confidence_level": LEVEL, "null": "random sets of images", "seed": seed},
    )


def _seed(random_state: int | None) -> int:
    """Return the seed, or a new one for None."""
    seed = check_seed(random_state)
    return int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed


def _as_null(codes: xr.DataArray, values: object, null: str, seed: int) -> xr.DataArray:
    return codes.copy(data=values).assign_attrs(null=null, seed=seed)


def _shuffle_rows(values: np.ndarray, seed: int, start: int) -> np.ndarray:
    """Return rows, of which the first is the `start`-th of the whole, each permuted by keys that are its own."""
    if n_missing := int(np.isnan(values).sum()):
        raise ValueError(f"codes hold {n_missing} NaN values, which would move to other units; drop them with .dropna")
    keys = np.random.Generator(np.random.PCG64(seed).advance(start * values.shape[1]))  # one step a key
    return np.take_along_axis(values, keys.random(values.shape).argsort(axis=1), axis=1)


def _shuffle_block(values: np.ndarray, seed: int, block_info: dict | None = None) -> np.ndarray:
    """Return a block of a dask array, shuffled as it would be in one array."""
    if not block_info:  # dask asks for the kind of array only
        return values
    return _shuffle_rows(values, seed, block_info[0]["array-location"][0][0])


def _random_phases(values: np.ndarray, seed: int) -> np.ndarray:
    """Return the values of each column in the order that random phases give its normal scores."""
    n = len(values)
    spectra = np.fft.rfft(special.ndtri((stats.rankdata(values, axis=0) - 0.5) / n), axis=0)
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(spectra))
    phases[0] = 0
    if n % 2 == 0:
        phases[-1] = 0
    surrogates = np.fft.irfft(spectra * np.exp(1j * phases)[:, None], n, axis=0)
    ranks = surrogates.argsort(axis=0).argsort(axis=0)
    return np.take_along_axis(np.sort(values, axis=0), ranks, axis=0)
