"""The number of features: directions that are found again in other stimuli, beyond those that are without features.

D (direction, unit) unit rows; cosine matrices D Dᵀ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy.optimize import linear_sum_assignment
from sklearn.base import clone

from neurosuper._checks import Seed, check_count, check_share, seed_or_new
from neurosuper._progress import progress
from neurosuper.comparison.splits import split_systems
from neurosuper.directions import DirectionFinder
from neurosuper.directions.settings import count_directions
from neurosuper.interpretability import shuffle_units
from neurosuper.responses import check_averaged, part_of, require_varying

INTERVAL = (0.025, 0.975)


def count_features(
    finder: DirectionFinder,
    responses: xr.DataArray,
    *,
    n_directions: int | str | Sequence[int | str | None] | None,
    stable: float = 0.8,
    stimulus_groups: str | None = None,
    n_resamples: int = 10,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return how many directions are found again in other stimuli, beyond those found in responses without features.

    For each number of directions, the finder is fitted on two random halves of the stimuli, which have none in common,
    and directions are matched one to one.

    Parameters
    ----------
    finder : DirectionFinder
        Not changed; its `n_directions` is replaced in copies.
    responses : DataArray (stimulus, unit)
        Averaged over repetitions.
    n_directions : int, str, None, or sequence of these
        As in every finder: numbers, multiples of the units such as "2x", or None for as many as units.
    stable : float, optional
        Smallest |cosine| of a direction with its match, strictly between 0 and 1.
    stimulus_groups : str, optional
        A stimulus coord, such as bursts of frames: no split divides a group.
    n_resamples : int, optional
        Number of random splits of the stimuli in halves, at least 2. Each takes four fits.
    random_state : int, Generator, RandomState or None, optional
        Seed of the splits and of the shuffled units. The finder has its own.

    Returns
    -------
    Dataset (n_directions,)
        - `n_stable`, the number of features: `n_matched`, the matches with a |cosine| of at least `stable`, minus
          `n_matched_null`, that of responses with units shuffled within each stimulus, not below 0; averaged over
          splits, with `n_stable_low` and `n_stable_high`, between which are 95 % of the splits;
        - `n_duplicates`, the directions left out of a fit, as another of the same fit has a |cosine| of at least
          `stable`: what counts as the same feature in two fits is one feature in a fit;
        - `held_out_variance`, the share of the variance of one half that directions of the other explain;
        - `overcompleteness`, `n_stable` over the participation ratio of the responses.

        attrs: `participation_ratio`, `n_stimuli`, `stable`, `finder`, `n_resamples`, `random_state`.

    Raises
    ------
    TypeError
        Not a DataArray, or not a finder.
    ValueError
        Responses that break the contract or do not vary; settings out of range; a number that the finder refuses.

    See Also
    --------
    neurosuper.directions.direction_stability : Stability of each direction.
    neurosuper.sweep : Measures of fits with several numbers of directions.

    Notes
    -----
    Choose the number of directions by `held_out_variance`, not by `n_stable`. With too few directions, features share
    one; with too many, a feature is divided, or noise is added. Splits share stimuli, so that the range over splits is
    that of the count, and no confidence interval. A finder finds directions of its own again, such as the mean response
    by `KMeans` without `center`: shuffling units within a stimulus keeps the sum of its responses, and so the largest
    such axis, and removes what distinguishes units.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import KMeans
    >>> from neurosuper.superposition import count_features
    >>> rng = np.random.default_rng(0)
    >>> r = np.eye(4)[rng.integers(0, 4, 200)] + 0.1 * rng.normal(size=(200, 4))
    >>> r = xr.DataArray(r, dims=("stimulus", "unit"),
    ...                  coords={"stimulus": np.arange(200).astype(str), "unit": list("abcd")})
    >>> float(count_features(KMeans(), r, n_directions=4, n_resamples=2).n_matched[0])
    4.0
    """
    check_share("stable", stable, 0.8)
    check_count("n_resamples", n_resamples, least=2)
    # In order of labels, so that the order of stimuli and units does not matter for what is drawn at random.
    responses, seed = check_averaged(responses).compute().sortby(["stimulus", "unit"]), seed_or_new(random_state)
    require_varying(responses)
    is_one = n_directions is None or isinstance(n_directions, int | str)
    asked: list = [n_directions] if is_one else list(n_directions)  # type: ignore[arg-type]
    counts = [count_directions(each, responses.sizes["unit"]) for each in asked]
    if not counts or len(set(counts)) < len(counts):
        raise ValueError(f"n_directions must be at least one number and no duplicates, got {n_directions!r}")
    rng, rows = np.random.default_rng(seed), []
    with progress(total=len(counts) * n_resamples, desc="features", unit="split", leave=False) as bar:
        seeds = rng.integers(2**31, size=(n_resamples, 2)).tolist()
        for n in counts:
            fresh = clone(finder).set_params(n_directions=n)
            rows.append([_count(fresh, responses, stable, stimulus_groups, *each) for each in seeds])
            bar.update(n_resamples)
    matched, null, n_duplicates, variance = np.moveaxis(np.array(rows, float), 2, 0)
    n_stable = np.maximum(matched - null, 0)
    low, high = np.quantile(n_stable, INTERVAL, axis=1)
    ratio = _participation_ratio(responses.values)
    columns = {"n_stable": n_stable.mean(1), "n_stable_low": low, "n_stable_high": high}
    columns |= {"n_matched": matched.mean(1), "n_matched_null": null.mean(1), "n_duplicates": n_duplicates.mean(1)}
    columns |= {"held_out_variance": variance.mean(1), "overcompleteness": n_stable.mean(1) / ratio}
    attrs = {"method": "directions found again in disjoint halves", "participation_ratio": ratio}
    attrs |= {"n_stimuli": len(responses), "stable": float(stable), "finder": repr(finder)}
    attrs |= {"confidence_level": 0.95, "n_resamples": int(n_resamples), "random_state": seed}
    attrs |= {} if stimulus_groups is None else {"stimulus_groups": stimulus_groups}
    variables = {name: ("n_directions", values) for name, values in columns.items()}
    return xr.Dataset(variables, {"n_directions": counts}, attrs)


def _count(
    finder: DirectionFinder,
    responses: xr.DataArray,
    stable: float,
    stimulus_groups: str | None,
    split_seed: int,
    null_seed: int,
) -> tuple[int, int, float, float]:
    """Return matches, matches without features, duplicates of one fit, and variance explained, of one split."""
    halves, fits = _fit_halves(finder, responses, split_seed, stimulus_groups)
    shuffled = shuffle_units(responses, random_state=null_seed)
    _, of_null = _fit_halves(finder, shuffled, split_seed, stimulus_groups)
    distinct = [
        [_drop_duplicates(fit.directions_.values.astype(float), stable) for fit in both] for both in (fits, of_null)
    ]
    matched, null = (_count_matches(both[0], both[1], stable) for both in distinct)
    n_left_out = [len(fit.directions_) - len(kept) for fit, kept in zip(fits, distinct[0], strict=True)]
    explained = [fit.explained_variance(other) for fit, other in zip(fits, halves[::-1], strict=True)]
    return matched, null, float(np.mean(n_left_out)), float(np.mean(explained))


def _fit_halves(
    finder: DirectionFinder, responses: xr.DataArray, seed: int, stimulus_groups: str | None = None
) -> tuple[list[xr.DataArray], list[DirectionFinder]]:
    """Return random halves of the stimuli, and the finder fitted on each."""
    marked = split_systems({"responses": responses.drop_vars("split", errors="ignore")}, seed, stimulus_groups)[
        "responses"
    ]
    halves = [part_of(marked, part).drop_vars("split") for part in ("fit", "score")]
    for half in halves:
        require_varying(half, " of a random half")
    return halves, [clone(finder).fit(half) for half in halves]


def _drop_duplicates(D: np.ndarray, stable: float) -> np.ndarray:
    """Return rows without those whose |cosine| with one that is kept before is at least `stable`."""
    cosine = np.abs(D @ D.T)
    kept: list[int] = []
    for i in range(len(D)):
        if not (cosine[i, kept] >= stable).any():
            kept.append(i)
    return D[kept]


def _count_matches(a: np.ndarray, b: np.ndarray, stable: float) -> int:
    """Return the number of pairs of a one-to-one match, with the largest sum of |cosine|, that reach `stable`."""
    cosine = np.abs(a @ b.T)
    return int((cosine[linear_sum_assignment(cosine, maximize=True)] >= stable).sum())


def _participation_ratio(R: np.ndarray) -> float:
    """Return (Σλ)²/Σλ² of the eigenvalues λ of the covariance: tr(C)² / ‖C‖²."""
    centred = R - R.mean(0, dtype=float)
    # ‖C‖² is the same for R Rᵀ and Rᵀ R; take the smaller.
    C = centred.T @ centred if centred.shape[0] > centred.shape[1] else centred @ centred.T
    return float(np.trace(C) ** 2 / (C**2).sum())
