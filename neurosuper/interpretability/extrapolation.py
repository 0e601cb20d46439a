"""The interpretability index that units would have without response noise, from repetitions.

I_r interpretability index of averages over r of R repetitions, I_r ≈ a + b/r; a is that of infinitely many.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr
from tqdm import tqdm

from neurosuper._checks import check_count
from neurosuper._joins import join_images, left_out
from neurosuper.images import check_images
from neurosuper.interpretability.index import ends_of, index_of_top
from neurosuper.interpretability.ranking import copies_among
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.repetitions import rank_labels, require_repetitions
from neurosuper.responses import average_repetitions, check_responses, require_varying

Ends = Literal["top", "bottom", "both"]
FEWEST = 3  # repetitions: two would leave nothing of the law to see


def extrapolate_index(
    responses: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    top: int = 5,
    end: Ends = "top",
    n_resamples: int = 10,
    random_state: int | None = 0,
) -> xr.Dataset:
    """Score every unit by its top stimuli, as if responses had been averaged over infinitely many repetitions.

    Noise puts wrong images among the top stimuli. So each unit is scored from averages over r = 1, 2, … repetitions,
    drawn at random without replacement, and the line a + b/r is fitted to its index by least squares, weighted by r.
    Embeddings are made once for all.

    Parameters
    ----------
    responses : DataArray (stimulus, repetition, unit)
        NaN where a repetition is missing. Stimuli without an image are left out.
    images : DataArray (stimulus, row, column, channel)
    metric : ImageMetric or Precomputed
    top : int, optional
        Number of top stimuli.
    end : {"top", "bottom", "both"}, optional
        As in `interpretability_index`.
    n_resamples : int, optional
        How many times repetitions are drawn, in random order, of which the first r are averaged. Units that have the
        same repetitions are drawn alike.
    random_state : int, optional
        The same labels and `random_state` give the same draws.

    Returns
    -------
    Dataset (unit,)
        `interpretability`, of averages over all repetitions, as `interpretability_index` gives it; `extrapolated`, a;
        `standard_error`, that of a (see Notes); `curve` (unit, repetitions), the mean index over draws, up to the
        fewest repetitions that a stimulus has. In it, ties are broken at random, for averages over few spikes often
        tie. All in the unit of the index; with both ends there is a dim `end` too.

    Raises
    ------
    ValueError
        No dim `repetition`, fewer than three repetitions of a stimulus, responses not in memory, units of zero
        variance, `n_resamples` below 2; whatever `interpretability_index` refuses.

    Notes
    -----
    The law is an approximation. Where noise is independent between repetitions, its variance in an average is
    proportional to 1/r, and the expected index is a smooth function of that variance, of which a + b/r is the beginning
    of the Taylor series. So it holds where noise is small beside the differences among responses. Where averages over
    few repetitions are hardly better than chance, the curve bends, and most of the bias remains. Where noise no longer
    changes the top stimuli of any average but the smallest, a may be a little too high, even above what an index can
    be. Weights by r make the fit heed the averages that come nearest to the law.

    What is corrected is the bias, and so the mean over units, and a comparison of populations that are not equally
    noisy. The index of a single unit remains about as uncertain as it was.

    The standard error is √(V_a + V_h h/(R − h)), of variances over draws: V_a of a, and V_h of I_h, h = R/2 rounded
    down. V_a alone is too small: averages over r and over s of the same R repetitions have, over random orders, the
    covariance σ² (1/max(r, s) − 1/R), that over new repetitions without − 1/R. The second term, the delete-h jackknife
    (Shao and Wu 1989), puts back what is missing. In simulations the whole was 0.6 to 0.9 of the true s.d. with 3
    repetitions, 0.85 to 1.1 with 5, and 1.1 to 1.4 with 10; it leaves out the bias that remains.

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
    present = require_repetitions(responses, FEWEST, "extrapolate_index")
    average = average_repetitions(responses)
    require_varying(average)
    most, rng = int(present.sum(axis=1).min()), np.random.default_rng(random_state)
    chosen = [ends_of(average, top, end)]
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
    responses: xr.DataArray, present: np.ndarray, most: int, top: int, end: Ends, rng: np.random.Generator
) -> list[xr.DataArray]:
    """Return the top stimuli of averages over the first 1, 2, …, `most` repetitions in random order."""
    rank, labels = rank_labels(responses), responses.stimulus.values
    keys = rng.random(present.shape[:2])[rank, :, None]
    order = np.where(present, keys, np.inf).argsort(axis=1)
    drawn = rng.permutation(len(labels))[rank]  # sums that tie go in this order
    numbered = responses[:, 0].assign_coords(stimulus=np.char.zfill(drawn.astype(str), 12))
    total, tops = np.zeros(numbered.shape), []
    for r in range(most):
        total += np.take_along_axis(responses.values, order[:, r : r + 1], axis=1)[:, 0]
        best = ends_of(numbered.copy(data=total), top, end)
        tops.append(best.copy(data=labels[drawn.argsort()[best.values.astype(int)]]))
    return tops


def _as_dataset(index: xr.DataArray, curves: np.ndarray) -> xr.Dataset:
    """Return the index, and what `curves (draw, repetitions, …, unit)` tell, of which each is fitted by itself."""
    r = np.arange(1, curves.shape[1] + 1)
    fits = np.tensordot(_intercept_weights(r), curves, axes=(0, 1))
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
    """Return w such that w·y is the a of a + b/r, fitted to y by least squares with weights r."""
    design = np.stack([np.ones(len(r)), 1 / r], axis=1)
    return (np.linalg.pinv(np.sqrt(r)[:, None] * design) * np.sqrt(r))[0]
