"""Representational similarity: how similar the dissimilarities of two systems are.

d (stimulus, other) the dissimilarities of a system. Each similarity but tau-a is a product Σ f g of two vectors f
(pair of stimuli), one for each system. As a matrix F (stimulus, other), shuffled stimuli permute its rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper._checks import Seed, check_count, check_one_of, seed_or_new
from neurosuper._labels import check_labels
from neurosuper._progress import progress
from neurosuper.comparison.pair_kernels import is_symmetric, rank, shuffled_product, upper_triangle
from neurosuper.comparison.repetition_ceilings import split_half_ceilings
from neurosuper.comparison.shared_stimuli import groups_of, refuse_copies, shuffle_stimuli_order
from neurosuper.inference import adjust_p_values, halves_interval
from neurosuper.inference.null_draws import p_of_draws
from neurosuper.responses import align

__all__ = ["rsa"]

Similarity = Literal["rho-a", "spearman", "pearson", "cosine", "tau-a", "whitened-cosine"]
MIN_STIMULI = 8  # halves of 4 still have 6 dissimilarities
ONE = "b"  # the name of a system that has none


class _Settings(NamedTuple):
    """What `rsa` is asked for, of each system."""

    similarity: str
    stimulus_groups: str | None
    repeated: xr.DataArray | None
    n_permutations: int
    n_resamples: int
    seed: int


def rsa(
    a: xr.DataArray,
    b: xr.DataArray | Mapping[str, xr.DataArray],
    *,
    similarity: Similarity = "rho-a",
    repeated: xr.DataArray | None = None,
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
    repeated : DataArray (stimulus, repetition, unit), optional
        The responses that `a` was computed from, before they were averaged: the ceiling is then from random halves of
        their repetitions, where there are no subjects. "crossnobis" needs 4 repetitions, all other distances 2.
    stimulus_groups : str, optional
        A stimulus coord of `a`, such as "burst", whose groups of dependent stimuli are halved whole for the interval,
        and change places whole, with others of the same size, for p.
    n_permutations : int, optional
        Number of times that the stimuli of `b` are shuffled, at least 19; 0 computes no p.
    n_resamples : int, optional
        Number of random halves of the stimuli for the interval, at least 10; 0 computes none.
    random_state : int, Generator, RandomState or None, optional
        Seed.

    Returns
    -------
    Dataset, or Dataset (system,) if `b` is a dict
        `estimate`, the mean over subjects, with `estimate_low` and `estimate_high` for other stimuli; `p_value`,
        one-sided, and `p_adjusted` over systems (Benjamini and Hochberg). With two subjects or more: `ceiling_low` and
        `ceiling_high`, the mean similarity of each subject with the mean of the others, and with that of all. With
        `repeated`: the similarity to be expected of `a` with a second measurement of the same system, and with that
        system without noise. No system can be expected above `ceiling_high`. attrs: `method`, `quantity`, `n_stimuli`,
        and the settings.

    Raises
    ------
    TypeError
        Not a DataArray.
    ValueError
        Other dims; fewer than 8 common stimuli, or copies of one photograph among them; NaN; dissimilarities that are
        all the same; settings out of range; `repeated` with several subjects, with other stimuli or units than `a`,
        with too few repetitions, or with a cosine of distances that are larger the more noise there is.

    See Also
    --------
    dissimilarities : Returns matrices from responses.
    cka : The same question without dissimilarities.

    Notes
    -----
    Dissimilarities share stimuli, and are not independent: intervals are from halves of the stimuli, and tests from
    permutations of them. The ceiling over subjects is that of Nili et al. 2014: dissimilarities are ranked ("rho-a",
    "spearman", "tau-a") or brought to unit length, after subtracting the mean for "pearson", and averaged over
    subjects.
    Over repetitions, it is that of `a` with another measurement, ρ = k r / (1 + (k − 1) r), and with the system without
    noise, √ρ: r is the mean similarity of two halves of the repetitions over 20 random splits, and k the variance of
    noise in the dissimilarities of a half over that in those of all. k = 2 would be the equation of Spearman and Brown,
    but the noise of dissimilarities falls faster. "tau-a" is converted to a correlation for this, and back, as of
    normal variables (sin(π τ / 2)).

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
    if n_permutations != 0:
        check_count("n_permutations", n_permutations, least=19, why=", which allow p = 0.05; 0 computes none")
    seed = seed_or_new(random_state)
    systems = dict(b) if isinstance(b, Mapping) else {ONE: b}
    a = _check(a, "a", ("subject", "stimulus", "other"))
    if repeated is not None and a.sizes["subject"] > 1:
        raise ValueError("a has several subjects, and so a ceiling over subjects; leave out repeated")
    settings = _Settings(similarity, stimulus_groups, repeated, n_permutations, n_resamples, seed)
    first: _First | None = None
    found = []
    for name, each in progress(systems.items(), desc="systems", unit="system", leave=False, total=len(systems)):
        each = _check(each, name, ("stimulus", "other"))
        shared = _common_stimuli(a, each)
        if first is None or not np.array_equal(first.stimuli, shared):
            first = _First.of(a, shared, settings)
        found.append(_compare(first, _on_stimuli(each, shared), name, settings))
    attrs: dict[str, object] = {"method": "representational similarity analysis", "quantity": similarity}
    attrs |= {"n_permutations": int(n_permutations), "n_resamples": int(n_resamples), "random_state": seed}
    attrs |= {} if stimulus_groups is None else {"stimulus_groups": stimulus_groups}
    if not isinstance(b, Mapping):
        return found[0].assign_attrs(attrs | found[0].attrs)
    table = xr.concat([each.drop_attrs() for each in found], xr.DataArray(list(systems), dims="system", name="system"))
    table["n_stimuli"] = ("system", [each.attrs["n_stimuli"] for each in found])
    if n_permutations:
        table["p_adjusted"] = adjust_p_values(table.p_value)
    return table.assign_attrs(attrs)


class _First(NamedTuple):
    """The first system on the stimuli that it shares with another, and what does not depend on that."""

    stimuli: np.ndarray  # (stimulus,), labels
    A: np.ndarray  # (subject, stimulus, other)
    f: np.ndarray | None  # (subject, pair), None for tau-a
    groups: np.ndarray | None  # (stimulus,)
    ceilings: dict[str, float]

    @classmethod
    def of(cls, a: xr.DataArray, shared: np.ndarray, settings: _Settings) -> _First:
        A = _on_stimuli(a, shared)
        _require_spread(A, "a")
        f = None if settings.similarity == "tau-a" else np.stack([_features(each, settings.similarity) for each in A])
        groups = None
        if settings.stimulus_groups is not None:
            groups = groups_of(a, settings.stimulus_groups)[a.indexes["stimulus"].get_indexer(shared)]
        ceilings: tuple[float, float] | None = None
        if len(A) > 1:
            ceilings = _ceilings(A, settings.similarity)
        elif settings.repeated is not None:
            mean_similarity = partial(_mean_similarity, similarity=settings.similarity)
            one = a.isel(subject=0)
            ceilings = split_half_ceilings(
                one, settings.repeated, shared, mean_similarity, settings.similarity, settings.seed
            )
        names = ("ceiling_low", "ceiling_high")
        return cls(shared, A, f, groups, {} if ceilings is None else dict(zip(names, ceilings, strict=True)))


def _compare(first: _First, B: np.ndarray, name: str, settings: _Settings) -> xr.Dataset:
    """Return one row of the table."""
    _require_spread(B[None], name)
    A, similarity = first.A, settings.similarity
    g = None if first.f is None else _features(B, similarity)
    estimate = _mean_similarity(A, B, similarity) if g is None else float((first.f @ g).mean())
    columns: dict[str, Any] = {"estimate": estimate}
    if settings.n_resamples:
        found = halves_interval(
            lambda rows: _mean_similarity(A[:, rows][:, :, rows], B[rows][:, rows], similarity),
            len(B),
            n_resamples=settings.n_resamples,
            stimulus_groups=first.groups,
            random_state=settings.seed,
        )
        columns |= {f"estimate_{end}": float(found[f"estimate_{end}"]) for end in ("low", "high")}
    if settings.n_permutations:
        columns["p_value"] = _p_value(first, B, g, estimate, settings)
    return xr.Dataset(columns | first.ceilings, attrs={"n_stimuli": len(B)})


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
    matrix = matrix.transpose(*dims)
    if not np.array_equal(matrix.stimulus.values, matrix.other.values):
        matrix = matrix.sel(other=matrix.stimulus.values)
    values = matrix.values
    is_finite = np.isfinite(values.sum()) or np.isfinite(values).all()  # a sum is faster, but may overflow
    mirrored = np.swapaxes(values, -1, -2)
    is_exact = all(map(is_symmetric, np.ascontiguousarray(values, float).reshape(-1, *values.shape[-2:])))
    if not is_finite or not (is_exact or np.allclose(values, mirrored)):
        raise ValueError(f"{name} must be finite and symmetric, as from dissimilarities; drop stimuli with NaN")
    return matrix


def _common_stimuli(a: xr.DataArray, b: xr.DataArray) -> np.ndarray:
    """Return the labels of the stimuli that both have, in the order of `a`."""
    joined, _ = align(a.isel(subject=0, other=0, drop=True), b.isel(other=0, drop=True))
    refuse_copies(joined)
    if len(joined) < MIN_STIMULI:
        raise ValueError(f"{len(joined)} common stimuli are too few; use at least {MIN_STIMULI}")
    return joined.stimulus.values


def _on_stimuli(matrix: xr.DataArray, shared: np.ndarray) -> np.ndarray:
    """Return dissimilarities (…, stimulus, other) of these stimuli, in this order."""
    if not np.array_equal(matrix.stimulus.values, shared):
        matrix = matrix.sel(stimulus=shared, other=shared)
    return np.ascontiguousarray(matrix.values, float)


def _require_spread(matrices: np.ndarray, name: str) -> None:
    for each in matrices:
        # those of the first stimulus differ, as a rule, and make sorting out the pairs of all unnecessary
        if np.ptp(each[0, 1:]) == 0 and np.ptp(upper_triangle(each)) == 0:
            raise ValueError(f"all dissimilarities of {name} are the same; there is nothing to compare")


def _upper(n: int) -> np.ndarray:
    """Return which entries (stimulus, other) are pairs of two stimuli, each once."""
    return ~np.tri(n, dtype=bool)


def _features(d: np.ndarray, similarity: str) -> np.ndarray:
    """Return f of a system: a similarity is f · g, with g of another, over pairs ("whitened-cosine": all entries)."""
    if similarity == "whitened-cosine":
        # −½ d, centred over rows and columns: the products of centred responses (Diedrichsen et al. 2021, section 3.4)
        F = -0.5 * d
        F = F - F.mean(axis=0) - F.mean(axis=1, keepdims=True) + F.mean()
        return F.ravel() / np.linalg.norm(F)
    x = upper_triangle(d)
    m = len(x)
    if similarity in ("rho-a", "spearman"):
        x = rank(x)
    if similarity != "cosine":
        x -= x.mean()
    # rho-a: the variance that ranks without ties would have (Schütt et al. 2023, eq. 29)
    x /= np.sqrt((m**3 - m) / 12) if similarity == "rho-a" else np.linalg.norm(x)
    return x


def _as_matrix(f: np.ndarray, n: int) -> np.ndarray:
    """Return F (stimulus, other) of f, symmetric, whose products over all entries are those of f."""
    if len(f) == n * n:
        return f.reshape(n, n)
    F = np.zeros((n, n))
    F[_upper(n)] = f / np.sqrt(2)  # each pair is there twice
    return F + F.T


def _mean_similarity(A: np.ndarray, B: np.ndarray, similarity: str) -> float:
    """Return the similarity of dissimilarities A (subject, stimulus, other) with B (stimulus, other), over subjects."""
    if similarity == "tau-a":
        return float(np.mean([_tau_a(upper_triangle(each), upper_triangle(B)) for each in A]))
    g = _features(B, similarity)
    return float(np.mean([_features(each, similarity) @ g for each in A]))


def _tau_a(x: np.ndarray, y: np.ndarray) -> float:
    """Return Kendall's tau-a: concordant minus discordant pairs, over all pairs, with or without ties."""

    def untied(values: np.ndarray) -> float:
        counts = np.unique(values, return_counts=True)[1].astype(float)
        return len(values) * (len(values) - 1) / 2 - (counts * (counts - 1) / 2).sum()

    # tau-b is the same difference, over the geometric mean of the numbers of pairs without ties
    tau_b = stats.kendalltau(x, y).statistic
    return float(tau_b * np.sqrt(untied(x) * untied(y)) / (len(x) * (len(x) - 1) / 2))


def _p_value(first: _First, B: np.ndarray, g: np.ndarray | None, estimate: float, settings: _Settings) -> float:
    """Return the share of permutations of the stimuli of B with at least this similarity, counting the estimate."""
    rng, n = np.random.default_rng([settings.seed, 1]), len(B)
    shuffled: Callable[[np.ndarray], float]
    if first.f is None or g is None:

        def shuffled(order: np.ndarray) -> float:
            return _mean_similarity(first.A, B[order][:, order], settings.similarity)

    else:
        shuffled = partial(shuffled_product, _as_matrix(first.f.mean(axis=0), n), _as_matrix(g, n))

    bar = progress(range(settings.n_permutations), desc="permutations", unit="draw", leave=False)
    return float(p_of_draws(estimate, np.array([shuffled(shuffle_stimuli_order(n, first.groups, rng)) for _ in bar])))


def _ceilings(A: np.ndarray, similarity: str) -> tuple[float, float]:
    """Return the mean similarity of subjects with the mean of the others, and with that of all (Nili et al. 2014)."""
    ranked = similarity in ("rho-a", "spearman", "tau-a")
    x = np.stack([upper_triangle(each) for each in A])
    if ranked:
        x = np.stack([rank(each) for each in x])
    elif similarity == "pearson":
        x = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    else:
        x = x / np.sqrt((x**2).mean(axis=1, keepdims=True))
    pooled = np.zeros_like(A)
    pooled[:, _upper(A.shape[1])] = x
    pooled += np.swapaxes(pooled, 1, 2)
    total = pooled.sum(axis=0)
    low = np.mean([_mean_similarity(A[[i]], (total - pooled[i]) / (len(A) - 1), similarity) for i in range(len(A))])
    return float(low), _mean_similarity(A, total / len(A), similarity)
