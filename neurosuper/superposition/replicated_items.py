"""Replication: whether single items of one fit, or animal, have one partner each in another.

R (item of A, item of B) absolute rank correlations over stimuli.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper._content import photographs_of
from neurosuper._progress import progress
from neurosuper.comparison.couplings import MOST_PAIRS
from neurosuper.inference import halves_interval
from neurosuper.inference.null_draws import p_of_draws
from neurosuper.superposition.finite_codes import check_resamples, sorted_pair

MIN_STIMULI = 8  # whose halves still have rank correlations


def replicate_disentanglement(
    a: xr.DataArray,
    b: xr.DataArray,
    *,
    n_permutations: int = 99,
    n_resamples: int = 100,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return whether each item of one fit or animal corresponds to a single item of another, without any factors.

    Representations that are disentangled agree on their items, but for order and sign; those that are not are rotated
    against each other. So the score ranks fits where no factors are known (unsupervised disentanglement ranking).

    Parameters
    ----------
    a, b : DataArray (stimulus, item)
        Codes of two fits, such as of two seeds, or responses of two animals; stimuli are matched by label. Items whose
        code is constant are left out.
    n_permutations : int, optional
        Number of random permutations of the stimuli of `b`, for the null mean and the p-value; 0 computes none.
    n_resamples : int, optional
        Number of random halves of the stimuli for the interval, at least 10; 0 computes none.
    random_state : int, Generator, RandomState or None, optional
        Seed.

    Returns
    -------
    Dataset (item_a, item_b)
        `replication`, the mean over items of both of max R²/Σ R, with `replication_low` and `replication_high` for
        other stimuli; `replication_null`, its mean over permutations, and `p_value`. `correlation (item_a, item_b)`, R.
        For each item of `a`, `replication_a`, its own term, and `partner_a`, the item of `b` with the largest R; the
        same for `b`. NaN and "" for constant items, which `attrs["n_constant"]` counts.

    Raises
    ------
    ValueError
        No common stimuli, or fewer than 8; NaN; too many pairs of items; only constant items; settings out of range.

    See Also
    --------
    disentanglement : Measures that need factors.
    soft_matching : How well items pair up, without the demand that they resemble no other item.

    Notes
    -----
    R is the absolute rank correlation (Spearman). The score is 1 if each item has one partner, and no correlation with
    any other item. Chance lowers it: independent items with perfect partners score about 1/(1 + 0.8 (m − 1)/√n) for m
    items and n stimuli. So compare it at one number of items and stimuli, and with its null mean.

    References
    ----------
    Duan, Matthey, Saraiva, Watters, Burgess, Lerchner and Higgins 2020, "Unsupervised model selection for variational
    disentangled representation learning", arXiv 1905.12614, eq. 3.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> a = xr.DataArray(np.random.default_rng(0).normal(size=(500, 3)), dims=("stimulus", "direction"),
    ...                  coords={"stimulus": np.arange(500).astype(str), "direction": ["f", "g", "h"]})
    >>> b = -a[:, ::-1].assign_coords(direction=["x", "y", "z"]) ** 3
    >>> found = replicate_disentanglement(a, b, n_permutations=19, n_resamples=10)
    >>> bool(found.replication > 0.9), found.partner_a.values.tolist()
    (True, ['z', 'y', 'x'])
    """
    check_count("n_permutations", n_permutations, least=0)
    n_resamples, seed = check_resamples(n_resamples), seed_or_new(random_state)
    a, b = sorted_pair(a, b, MIN_STIMULI)
    if (n_pairs := a.shape[1] * b.shape[1]) > MOST_PAIRS:
        raise ValueError(
            f"correlations of {a.shape[1]:,} × {b.shape[1]:,} items take {n_pairs * 8 / 2**30:.1f} GiB, several times; "
            f"select items, so that there are at most {MOST_PAIRS:,} pairs"
        )
    R = _rank_correlations(a.values, b.values)
    constant = np.isnan(R).all(1), np.isnan(R).all(0)
    if constant[0].all() or constant[1].all():
        raise ValueError("all items of one side are constant over the common stimuli; there is nothing to replicate")
    score = _score(R)
    variables: dict[str, object] = {"replication": score}
    if n_resamples:
        found = halves_interval(
            lambda rows: _score(_rank_correlations(a.values[rows], b.values[rows])),
            len(a),
            n_resamples=n_resamples,
            stimulus_groups=photographs_of(a),
            random_state=seed,
        )
        variables |= {f"replication_{end}": float(found[f"estimate_{end}"]) for end in ("low", "high")}
    if n_permutations:
        draws = _permuted(a.values, b.values, n_permutations, seed)
        variables |= {"replication_null": draws.mean(), "p_value": p_of_draws(score, draws)}
    labels = {f"item_{side}": each[each.dims[1]].values for side, each in (("a", a), ("b", b))}
    variables["correlation"] = (("item_a", "item_b"), R)
    variables |= _by_item(R, labels)
    attrs: dict[str, object] = {"method": "unsupervised disentanglement ranking"}
    attrs |= {"quantity": "relative strength of rank correlation", "n_stimuli": len(a)}
    attrs |= {"n_constant": int(constant[0].sum() + constant[1].sum()), "n_permutations": n_permutations}
    return xr.Dataset(variables, labels, attrs | {"n_resamples": n_resamples, "random_state": seed})


def _by_item(R: np.ndarray, labels: dict[str, np.ndarray]) -> dict[str, tuple[str, np.ndarray]]:
    """Return the term and the partner of each item of both sides."""
    columns = {}
    for side, other, table in (("a", "b", R), ("b", "a", R.T)):
        best = labels[f"item_{other}"][np.nan_to_num(table).argmax(1)]
        columns[f"replication_{side}"] = (f"item_{side}", _of_rows(table))
        columns[f"partner_{side}"] = (f"item_{side}", np.where(np.isnan(table).all(1), "", best))
    return columns


def _rank_correlations(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return absolute rank correlations; NaN for items that are constant."""
    return np.abs(_scaled_ranks(A).T @ _scaled_ranks(B))


def _scaled_ranks(A: np.ndarray) -> np.ndarray:
    ranks = stats.rankdata(A, axis=0) - (len(A) + 1) / 2
    length = np.linalg.norm(ranks, axis=0)
    return np.asarray(ranks / np.where(length > 0, length, np.nan))


def _of_rows(R: np.ndarray) -> np.ndarray:
    """Return max R² / Σ R of each row; NaN for constant items."""
    total, largest = np.nansum(R, axis=1), np.nan_to_num(R).max(1)
    return np.where(total > 0, largest**2 / np.where(total > 0, total, 1), np.where(np.isnan(R).all(1), np.nan, 0))


def _score(R: np.ndarray) -> float:
    """Return the mean of both sides (Duan et al. 2020)."""
    return float(np.nanmean(_of_rows(R)) + np.nanmean(_of_rows(R.T))) / 2


def _permuted(A: np.ndarray, B: np.ndarray, n_permutations: int, seed: int) -> np.ndarray:
    rng, ranks = np.random.default_rng([seed, 1]), (_scaled_ranks(A), _scaled_ranks(B))
    bar = progress(range(n_permutations), desc="permuted stimuli", unit="draw", leave=False)
    return np.array([_score(np.abs(ranks[0].T @ ranks[1][rng.permutation(len(B))])) for _ in bar])
