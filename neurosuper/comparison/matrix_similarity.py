"""Representational similarity: how similar the dissimilarities of two systems are.

d (stimulus, other) the dissimilarities of a system. Each similarity but tau-a is a sum of products of two matrices F
(stimulus, other), one for each system, so that shuffling the stimuli of a system permutes rows and columns of its F.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper._checks import Seed, check_count, check_one_of, seed_or_new
from neurosuper._labels import check_labels
from neurosuper._progress import progress
from neurosuper.comparison.shared_stimuli import groups_of, refuse_copies
from neurosuper.inference import adjust_p_values, halves_interval
from neurosuper.inference.null_draws import p_of_draws
from neurosuper.responses import align

__all__ = ["rsa"]

Similarity = Literal["rho-a", "spearman", "pearson", "cosine", "tau-a", "whitened-cosine"]
MIN_STIMULI = 8  # halves of 4 still have 6 dissimilarities
ONE = "b"  # the name of a system that has none


def rsa(
    a: xr.DataArray,
    b: xr.DataArray | Mapping[str, xr.DataArray],
    *,
    similarity: Similarity = "rho-a",
    stimulus_groups: str | None = None,
    n_permutations: int = 999,
    n_resamples: int = 100,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return how similar the dissimilarities of two systems are, with interval, test and noise ceiling.

    Parameters
    ----------
    a : DataArray (stimulus, other), or (subject, stimulus, other)
        From `dissimilarities`. Several subjects (`xarray.concat(matrices, "subject")`) have a noise ceiling.
    b : DataArray (stimulus, other), or dict of them
        The other system, or several by name, such as the layers of a network; each is compared with `a`.
    similarity : {"rho-a", "spearman", "pearson", "cosine", "tau-a", "whitened-cosine"}, optional
        "rho-a": rank correlation that expects equal dissimilarities in random order, so that a system with many of them
        does not gain. "whitened-cosine" accounts for the dependence of dissimilarities on one another, and equals
        linear CKA of responses whose squared Euclidean distances these are.
    stimulus_groups : str, optional
        A stimulus coord of `a`, such as "burst", whose groups of dependent stimuli are halved whole for the interval.
    n_permutations : int, optional
        Number of times that the stimuli of `b` are shuffled, at least 19.
    n_resamples : int, optional
        Number of random halves of the stimuli for the interval, at least 10; 0 computes none.
    random_state : int, Generator, RandomState or None, optional
        Seed.

    Returns
    -------
    Dataset, or Dataset (system,) if `b` is a dict
        `estimate`, the mean over subjects, with `estimate_low` and `estimate_high` for other stimuli; `p_value`,
        one-sided, and `p_adjusted` over systems (Benjamini and Hochberg). With two subjects or more: `ceiling_low` and
        `ceiling_high`, the mean similarity of each subject with the mean of the others, and with that of all: no
        system can be expected above `ceiling_high`. attrs: `method`, `quantity`, `n_stimuli`, and the settings.

    Raises
    ------
    TypeError
        Not a DataArray.
    ValueError
        Other dims; fewer than 8 common stimuli, or copies of one photograph among them; NaN; dissimilarities that are
        all the same; settings out of range.

    See Also
    --------
    dissimilarities : Returns matrices from responses.
    cka : The same question without dissimilarities.

    Notes
    -----
    Dissimilarities share stimuli, and are not independent: intervals are from halves of the stimuli, and tests from
    permutations of them. The ceiling is that of Nili et al. 2014: dissimilarities are ranked ("rho-a", "spearman",
    "tau-a") or brought to unit length, after subtracting the mean for "pearson", and averaged over subjects.

    References
    ----------
    Kriegeskorte, Mur and Bandettini 2008, Front. Syst. Neurosci. 2, 4. Nili et al. 2014, PLoS Comput. Biol. 10,
    e1003553. Schütt et al. 2023, eLife 12, e82566, and Diedrichsen et al. 2021, Neurons Behav. Data Anal. Theory 5
    ("whitened-cosine").

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper.comparison import dissimilarities
    >>> r = xr.DataArray(np.random.default_rng(0).normal(size=(20, 30)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": np.arange(20).astype(str), "unit": np.arange(30).astype(str)})
    >>> v4 = dissimilarities(r[:, :20], distance="correlation")
    >>> found = rsa(v4, dissimilarities(r[:, 10:], distance="correlation"), n_permutations=99)
    >>> bool(found.estimate > 0.3), float(found.p_value)
    (True, 0.01)
    """
    check_one_of("similarity", similarity, get_args(Similarity))
    check_count("n_permutations", n_permutations, least=19, why=", which allow p = 0.05")
    seed = seed_or_new(random_state)
    systems = dict(b) if isinstance(b, Mapping) else {ONE: b}
    found = [
        _compare(a, each, name, similarity, stimulus_groups, n_permutations, n_resamples, seed)
        for name, each in progress(systems.items(), desc="systems", unit="system", leave=False, total=len(systems))
    ]
    attrs: dict[str, object] = {"method": "representational similarity analysis", "quantity": similarity}
    attrs |= {"n_permutations": int(n_permutations), "n_resamples": int(n_resamples), "random_state": seed}
    attrs |= {} if stimulus_groups is None else {"stimulus_groups": stimulus_groups}
    if not isinstance(b, Mapping):
        return found[0].assign_attrs(attrs | found[0].attrs)
    table = xr.concat([each.drop_attrs() for each in found], xr.DataArray(list(systems), dims="system", name="system"))
    table["n_stimuli"] = ("system", [each.attrs["n_stimuli"] for each in found])
    table["p_adjusted"] = adjust_p_values(table.p_value)
    return table.assign_attrs(attrs)


def _compare(
    a: xr.DataArray,
    b: xr.DataArray,
    name: str,
    similarity: str,
    stimulus_groups: str | None,
    n_permutations: int,
    n_resamples: int,
    seed: int,
) -> xr.Dataset:
    """Return one row of the table."""
    a, b = _check(a, "a", ("subject", "stimulus", "other")), _check(b, name, ("stimulus", "other"))
    shared = _common_stimuli(a, b)
    groups = None if stimulus_groups is None else groups_of(a.sel(stimulus=shared), stimulus_groups)
    A, B = (each.sel(stimulus=shared, other=shared).values.astype(float) for each in (a, b))
    for which, each in (("a", A), (name, B[None])):
        _require_spread(each, which)
    mean_similarity = partial(_mean_similarity, similarity=similarity)
    estimate = mean_similarity(A, B)
    columns: dict[str, Any] = {"estimate": estimate}
    if n_resamples:
        found = halves_interval(
            lambda rows: mean_similarity(A[:, rows][:, :, rows], B[rows][:, rows]),
            len(B),
            n_resamples=n_resamples,
            stimulus_groups=groups,
            random_state=seed,
        )
        columns |= {f"estimate_{end}": float(found[f"estimate_{end}"]) for end in ("low", "high")}
    columns["p_value"] = _p_value(A, B, similarity, estimate, n_permutations, seed)
    if len(A) > 1:
        columns |= dict(zip(("ceiling_low", "ceiling_high"), _ceilings(A, similarity), strict=True))
    return xr.Dataset(columns, attrs={"n_stimuli": len(B)})


def _check(matrix: xr.DataArray, name: str, dims: tuple[str, ...]) -> xr.DataArray:
    """Return dissimilarities with these dims (`subject` may be added), or raise an error that says what is wrong."""
    if not isinstance(matrix, xr.DataArray):
        raise TypeError(
            f"{name} must be a DataArray from neurosuper.comparison.dissimilarities, got {type(matrix).__name__}"
        )
    if dims[0] == "subject" and "subject" not in matrix.dims:
        matrix = matrix.expand_dims("subject")
    if set(matrix.dims) != set(dims):
        raise ValueError(f"{name} must have the dims {dims[-2:]}, as from dissimilarities, got {matrix.dims}")
    for dim in dims[-2:]:
        matrix = check_labels(matrix, dim, name)
    if set(matrix.stimulus.values) != set(matrix.other.values):
        raise ValueError(
            f"{name} has other labels along `other` than along `stimulus`; pass what dissimilarities returns"
        )
    matrix = matrix.transpose(*dims).sel(other=matrix.stimulus.values)
    if not np.isfinite(matrix.values).all() or not np.allclose(matrix.values, np.swapaxes(matrix.values, -1, -2)):
        raise ValueError(f"{name} must be finite and symmetric, as from dissimilarities; drop stimuli with NaN")
    return matrix


def _common_stimuli(a: xr.DataArray, b: xr.DataArray) -> np.ndarray:
    """Return the labels of the stimuli that both have, in the order of `a`."""
    joined, _ = align(a.isel(subject=0, other=0, drop=True), b.isel(other=0, drop=True))
    refuse_copies(joined)
    if len(joined) < MIN_STIMULI:
        raise ValueError(f"{len(joined)} common stimuli are too few; use at least {MIN_STIMULI}")
    return joined.stimulus.values


def _require_spread(matrices: np.ndarray, name: str) -> None:
    pairs = matrices[:, *np.triu_indices(matrices.shape[1], 1)]
    if (pairs.min(axis=1) == pairs.max(axis=1)).any():
        raise ValueError(f"all dissimilarities of {name} are the same; there is nothing to compare")


def _pairs(matrix: np.ndarray) -> np.ndarray:
    return matrix[np.triu_indices(len(matrix), 1)]


def _features(d: np.ndarray, similarity: str) -> np.ndarray:
    """Return F (stimulus, other) of a system: a similarity is Σ F G over all entries, with G of another."""
    n = len(d)
    if similarity == "whitened-cosine":
        # −½ d, centred over rows and columns: the products of centred responses (Diedrichsen et al. 2021, section 3.4)
        F = -0.5 * d
        F = F - F.mean(axis=0) - F.mean(axis=1, keepdims=True) + F.mean()
        return F / np.linalg.norm(F)
    x = _pairs(d)
    if similarity in ("rho-a", "spearman"):
        x = stats.rankdata(x)
    if similarity != "cosine":
        x = x - x.mean()
    m = len(x)
    # rho-a: the variance that ranks without ties would have (Schütt et al. 2023, eq. 29)
    length = np.sqrt((m**3 - m) / 12) if similarity == "rho-a" else np.linalg.norm(x)
    F = np.zeros((n, n))
    F[np.triu_indices(n, 1)] = x / (np.sqrt(2) * length)  # each pair is there twice
    return F + F.T


def _mean_similarity(A: np.ndarray, B: np.ndarray, similarity: str) -> float:
    """Return the similarity of dissimilarities A (subject, stimulus, other) with B (stimulus, other), over subjects."""
    if similarity == "tau-a":
        return float(np.mean([_tau_a(_pairs(each), _pairs(B)) for each in A]))
    G = _features(B, similarity)
    return float(np.mean([(_features(each, similarity) * G).sum() for each in A]))


def _tau_a(x: np.ndarray, y: np.ndarray) -> float:
    """Return Kendall's tau-a: concordant minus discordant pairs, over all pairs, with or without ties."""

    def untied(values: np.ndarray) -> float:
        counts = np.unique(values, return_counts=True)[1].astype(float)
        return len(values) * (len(values) - 1) / 2 - (counts * (counts - 1) / 2).sum()

    # tau-b is the same difference, over the geometric mean of the numbers of pairs without ties
    tau_b = stats.kendalltau(x, y).statistic
    return float(tau_b * np.sqrt(untied(x) * untied(y)) / (len(x) * (len(x) - 1) / 2))


def _p_value(A: np.ndarray, B: np.ndarray, similarity: str, estimate: float, n_permutations: int, seed: int) -> float:
    """Return the share of permutations of the stimuli of B with at least this similarity, counting the estimate."""
    rng, n = np.random.default_rng([seed, 1]), len(B)
    shuffled: Callable[[np.ndarray], float]
    if similarity == "tau-a":

        def shuffled(order: np.ndarray) -> float:
            return _mean_similarity(A, B[order][:, order], similarity)

    else:
        F, G = np.mean([_features(each, similarity) for each in A], axis=0), _features(B, similarity)

        def shuffled(order: np.ndarray) -> float:
            return float(np.einsum("ij,ij->", F, G[order][:, order]))

    bar = progress(range(n_permutations), desc="permutations", unit="draw", leave=False)
    return float(p_of_draws(estimate, np.array([shuffled(rng.permutation(n)) for _ in bar])))


def _ceilings(A: np.ndarray, similarity: str) -> tuple[float, float]:
    """Return the mean similarity of subjects with the mean of the others, and with that of all (Nili et al. 2014)."""
    ranked = similarity in ("rho-a", "spearman", "tau-a")
    x = np.stack([_pairs(each) for each in A])
    if ranked:
        x = stats.rankdata(x, axis=1)
    elif similarity == "pearson":
        x = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    else:
        x = x / np.sqrt((x**2).mean(axis=1, keepdims=True))
    pooled = np.zeros_like(A)
    pooled[:, *np.triu_indices(A.shape[1], 1)] = x
    pooled += np.swapaxes(pooled, 1, 2)
    total = pooled.sum(axis=0)
    low = np.mean([_mean_similarity(A[[i]], (total - pooled[i]) / (len(A) - 1), similarity) for i in range(len(A))])
    return float(low), _mean_similarity(A, total / len(A), similarity)
