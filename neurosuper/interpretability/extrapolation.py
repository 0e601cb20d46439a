"""The interpretability index of units without response noise, extrapolated from repetitions.

I_r interpretability index of averages over r of R repetitions, I_r ≈ a + b/r; a is the index of infinitely many.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr
from tqdm import tqdm

from neurosuper._checks import check_count
from neurosuper._joins import join_images, left_out
from neurosuper.images import check_images
from neurosuper.interpretability.index import index_of_top, top_or_bottom
from neurosuper.interpretability.ranking import copies_among
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.repetitions import rank_labels, require_repetitions
from neurosuper.responses import average_repetitions, check_responses, require_varying

End = Literal["top", "bottom", "both"]
MIN_REPETITIONS = 3  # two averages always fit a + b/r exactly


def extrapolate_index(
    responses: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    top: int = 5,
    end: End = "top",
    n_resamples: int = 10,
    random_state: int | None = 0,
) -> xr.Dataset:
    """Return the interpretability index of every unit, extrapolated to infinitely many repetitions.

    Response noise puts wrong images among the top stimuli. To correct for it, each unit is scored from averages over
    r = 1, 2, … repetitions, drawn at random without replacement, and a + b/r is fitted to its index by least squares,
    weighted by r. Each image is embedded once.

    Parameters
    ----------
    responses : DataArray (stimulus, repetition, unit)
        NaN where a repetition is missing. Stimuli without an image are left out.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed
        `LPIPS`, `Features`, `Color`, … or `Precomputed` distances.
    top : int, optional
        Number of top stimuli.
    end : {"top", "bottom", "both"}, optional
        As in `interpretability_index`.
    n_resamples : int, optional
        Number of random orders of the repetitions, at least 2; in each, the first r are averaged. Units that have the
        same repetitions share their orders.
    random_state : int, optional
        Seed; the same labels and seed give the same orders.

    Returns
    -------
    Dataset (unit,)
        In the unit of the index: `interpretability`, of averages over all repetitions, as from
        `interpretability_index`; `extrapolated`, a; `standard_error` of a (see Notes); `curve` (unit, repetitions), the
        mean index over random orders, up to the smallest number of repetitions of any stimulus. For the curve, ties are
        broken at random, because averages over few spikes often tie. `end="both"` adds a dim `end`.

    Raises
    ------
    ValueError
        No dim `repetition`, fewer than three repetitions of a stimulus, responses not in memory, units of zero
        variance, `n_resamples` below 2; also the errors of `interpretability_index`.

    See Also
    --------
    interpretability_index : The index without extrapolation.
    average_repetitions : Averages over all repetitions.

    Notes
    -----
    I_r ≈ a + b/r is an approximation. If noise is independent between repetitions, its variance in an average is
    proportional to 1/r. The expected index is a smooth function of that variance, and a + b/r is the start of its
    Taylor series, which is accurate if noise is small relative to the differences between responses. If averages over
    few repetitions are hardly better than chance, the curve bends, and most of the bias remains. If noise changes the
    top stimuli of the smallest averages only, a may be slightly too high, even above the possible values of an index.
    Weights of r give most weight to the averages for which the approximation is best.

    The extrapolation corrects the bias, and therefore the mean over units and comparisons of populations with different
    noise. The index of a single unit remains about as uncertain as before.

    The standard error is √(V_a + V_h h/(R − h)), with variances over random orders: V_a of a, and V_h of I_h, h = R/2
    rounded down. V_a alone is too small: over random orders, averages over r and over s of the same R repetitions have
    the covariance σ² (1/max(r, s) − 1/R); over new repetitions the term − 1/R is absent. The second term, the delete-h
    jackknife (Shao and Wu 1989), adds the missing part. In simulations the standard error was 0.6 to 0.9 of the true
    s.d. with 3 repetitions, 0.85 to 1.1 with 5, and 1.1 to 1.4 with 10. It does not include the remaining bias.

    References
    ----------
    Quenouille 1956, "Notes on bias in estimation", Biometrika 43, 353–360 (bias as a series in 1/n).
    Shao, Wu 1989, "A general theory for jackknife variance estimation", Ann. Stat. 17, 1176–1197.
    Strong, Koberle, de Ruyter van Steveninck, Bialek 1998, "Entropy and information in neural spike trains",
    Phys. Rev. Lett. 80, 197–200 (extrapolation in powers of 1/size to infinitely many data).

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import Color, load_images
    >>> white = np.arange(20) < 10
    >>> images = load_images(255 * white.astype(np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8))
    >>> noise = np.random.default_rng(0).normal(size=(20, 5, 1))
    >>> r = xr.DataArray(2.0 * white[:, None, None] + noise, dims=("stimulus", "repetition", "unit"),
    ...                  coords={"stimulus": images.stimulus, "unit": ["a"]})
    >>> scores = extrapolate_index(r, images, Color(device="cpu"))
    >>> [name for name in scores], scores.sizes["repetitions"]
    (['interpretability', 'extrapolated', 'standard_error', 'curve'], 5)
    """
    n_resamples = check_count("n_resamples", n_resamples, least=2)
    images = check_images(images)
    responses = join_images(check_responses(responses), images)
    present = require_repetitions(responses, MIN_REPETITIONS, "extrapolate_index")
    average = average_repetitions(responses)
    require_varying(average)
    most, rng = int(present.sum(axis=1).min()), np.random.default_rng(random_state)
    chosen = [top_or_bottom(average, top, end)]
    for _ in tqdm(range(n_resamples), desc="repetitions", unit="draw", leave=False, delay=2):
        chosen += _draw_tops(responses, present, most, top, end, rng)
    sets = xr.concat(
        [each.drop_vars(["code", "is_copy"], errors="ignore") for each in chosen], "set", combine_attrs="override"
    )
    scores = index_of_top(sets, images, metric)
    curves = scores[1:].values.reshape(n_resamples, most, *scores.shape[1:])
    attrs = (
        scores.attrs
        | left_out(responses)
        | copies_among(chosen[0])
        | {"end": end, "n_resamples": int(n_resamples), "random_state": str(random_state)}
    )
    return _as_dataset(scores[0], curves).assign_attrs(attrs)


def _draw_tops(
    responses: xr.DataArray, present: np.ndarray, most: int, top: int, end: End, rng: np.random.Generator
) -> list[xr.DataArray]:
    """Return the top stimuli of averages over the first 1, 2, …, `most` repetitions in random order."""
    rank, labels = rank_labels(responses), responses.stimulus.values
    keys = rng.random(present.shape[:2])[rank, :, None]
    order = np.where(present, keys, np.inf).argsort(axis=1)
    # Stimuli are renamed to random numbers: equal sums are ranked by label, and so in random order.
    drawn = rng.permutation(len(labels))[rank]
    numbered = responses[:, 0].assign_coords(stimulus=np.char.zfill(drawn.astype(str), 12))
    total, tops = np.zeros(numbered.shape), []
    for r in range(most):
        # The top stimuli of a sum over the first r + 1 repetitions are those of their average.
        total += np.take_along_axis(responses.values, order[:, r : r + 1], axis=1)[:, 0]
        best = top_or_bottom(numbered.copy(data=total), top, end)
        tops.append(best.copy(data=labels[drawn.argsort()[best.values.astype(int)]]))
    return tops


def _as_dataset(index: xr.DataArray, curves: np.ndarray) -> xr.Dataset:
    """Return the index, and the fits to `curves (draw, repetitions, …, unit)`, each fitted separately."""
    r = np.arange(1, curves.shape[1] + 1)
    # a of each draw = Σ_r w_r I_r
    fits = np.tensordot(_intercept_weights(r), curves, axes=(0, 1))
    # V_h h/(R − h): the part of the variance that orders of the same R repetitions do not show
    half = len(r) // 2
    missing = curves[:, half - 1].var(axis=0, ddof=1) * half / (len(r) - half)
    curve = xr.DataArray(curves.mean(axis=0), {"repetitions": r}, dims=("repetitions", *index.dims))
    return xr.Dataset(
        {
            "interpretability": (index.dims, index.values),
            "extrapolated": (index.dims, fits.mean(axis=0)),
            "standard_error": (index.dims, np.sqrt(fits.var(axis=0, ddof=1) + missing)),
            "curve": curve.transpose(..., "repetitions"),
        },
        coords=index.coords,
    )


def _intercept_weights(r: np.ndarray) -> np.ndarray:
    """Return w for which w·y is the intercept a of a + b/r, fitted to y by least squares with weights r."""
    # a is the first row of (Xᵀ diag(r) X)⁻¹ Xᵀ diag(r) y = pinv(√r X) √r y, X = [1, 1/r]
    design = np.stack([np.ones(len(r)), 1 / r], axis=1)
    return (np.linalg.pinv(np.sqrt(r)[:, None] * design) * np.sqrt(r))[0]
