"""Permutation tests of the difference between two sets of scores, and the result in a sentence for a paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper._checks import Seed, check_one_of, seed_or_new
from neurosuper._rounding import decimals_for, format_interval, format_number, format_p
from neurosuper.inference.effect import standardized_difference, superiority
from neurosuper.inference.items import (
    CENTERS,
    MAX_RESAMPLED,
    ROUNDING,
    Statistic,
    check_resamples,
    check_two,
)

ALPHA = 0.05  # a sentence claims a difference if p is below this
ERROR_OF = {"mean": 1.0, "median": math.sqrt(math.pi / 2)}  # standard error of normal scores, in that of their mean
Alternative = Literal["two-sided", "greater", "less"]


def permutation_test(
    a: xr.DataArray,
    b: xr.DataArray,
    *,
    paired: bool = False,
    statistic: Statistic = "mean",
    alternative: Alternative = "two-sided",
    n_resamples: int = 9999,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return a permutation test of whether one set of scores is higher than another.

    Unpaired, scores are reassigned to the two sets at random; the null hypothesis is that both sets have the same
    distribution. Paired, the two scores of an item are swapped at random; the null hypothesis is that their differences
    are symmetric about 0. In both cases items are assumed to be independent, which items of one subject may not be (see
    `bootstrap_interval`).

    Parameters
    ----------
    a, b : DataArray (item,)
        Scores of two sets of units or directions, without NaN.
    paired : bool, optional
        The items of `a` and `b` are the same, by label.
    statistic : {"mean", "median"}, optional
        The statistic to compare; for pairs, the mean or median of the differences.
    alternative : {"two-sided", "greater", "less"}, optional
        "greater": `a` is higher. "two-sided": p is twice the smaller of the two one-sided ones.
    n_resamples : int, optional
        Number of random permutations, at least 100. If there are no more than this, all are made, and p is exact.
    random_state : int, Generator, RandomState or None, optional
        Seed of the permutations.

    Returns
    -------
    Dataset
        Scalars: `difference` (a − b) with its `standard_error` over items (see Notes), and `p_value`; the effect sizes
        `cohens_d` and `superiority` (see `cohens_d`, `probability_of_superiority`); `estimate_a` and `estimate_b`, the
        means or medians; `n_a` and `n_b`, the numbers of items. attrs: `paired` and `exact` (0 or 1), `statistic`,
        `alternative`, `n_permutations` made, `random_state`.

    Raises
    ------
    TypeError
        Not DataArrays of real numbers.
    ValueError
        More than one dim; fewer than two items; NaN; pairs whose labels differ; another `statistic` or `alternative`;
        too few resamples.

    See Also
    --------
    test_sentence : The result as a sentence for a paper.
    adjust_p_values : Adjusts p-values for the number of tests.
    neurosuper.interpretability.index_difference : Test over stimuli and items.

    Notes
    -----
    Many permutations have the same median as the observed scores, so that p of medians is slightly too large. The
    standard error of means is √(s_a²/n_a + s_b²/n_b), or s/√n of paired differences; that of medians is √(π/2) times as
    large, which is right for many normal scores. The test does not use it.

    References
    ----------
    Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9, 39, eq. 2: with random permutations p is
    (more extreme + 1) / (permutations + 1), and never 0.

    Examples
    --------
    >>> import xarray as xr
    >>> a, b = (xr.DataArray(values, dims="unit") for values in ([4., 5., 6., 7.], [0., 1., 2., 3.]))
    >>> test = permutation_test(a, b)
    >>> test.difference.item(), round(test.p_value.item(), 4), test.n_permutations  # 2 in 70
    (4.0, 0.0286, 70)
    """
    check_one_of("statistic", statistic, tuple(CENTERS))
    check_one_of("alternative", alternative, ("two-sided", "greater", "less"))
    check_resamples(n_resamples)
    seed = seed_or_new(random_state)
    x, y = check_two(a, b, paired)
    difference, p = _permute(x, y, paired, statistic, alternative, n_resamples, np.random.default_rng(seed))
    return _result(x, y, difference, p, paired, statistic, alternative, n_resamples, seed)


def _result(
    x: np.ndarray,
    y: np.ndarray,
    difference: float,
    p: float,
    paired: bool,
    statistic: Statistic,
    alternative: Alternative,
    n_resamples: int,
    seed: int,
) -> xr.Dataset:
    center = CENTERS[statistic]
    possible = 2 ** len(x) if paired else math.comb(len(x) + len(y), len(x))
    numbers = {
        "difference": difference,
        "standard_error": _standard_error(x, y, paired) * ERROR_OF[statistic],
        "p_value": p,
        "cohens_d": standardized_difference(x, y, paired),
        "superiority": superiority(x, y, paired),
        "estimate_a": float(center(x)),
        "estimate_b": float(center(y)),
        "n_a": len(x),
        "n_b": len(y),
    }
    attrs = {
        "paired": int(paired),
        "statistic": statistic,
        "alternative": alternative,
        "n_permutations": int(min(n_resamples, possible)),
        "exact": int(possible <= n_resamples),
        "random_state": seed,
    }
    return xr.Dataset(numbers, attrs=attrs)


def _standard_error(x: np.ndarray, y: np.ndarray, paired: bool) -> float:
    """Return the standard error of the difference of means, over items."""
    samples = (x - y,) if paired else (x, y)
    return math.sqrt(sum(sample.var(ddof=1) / len(sample) for sample in samples))


def _permute(
    x: np.ndarray,
    y: np.ndarray,
    paired: bool,
    statistic: Statistic,
    alternative: Alternative,
    n_resamples: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Return the difference and its p; permuted differences that equal it up to rounding count as equal to it."""
    samples = (x - y,) if paired else (x, y)
    rounding = ROUNDING * max(np.abs(x).max(), np.abs(y).max())

    def difference(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
        centers = [CENTERS[statistic](sample, axis=axis) for sample in samples]
        return centers[0] - sum(centers[1:])

    observed = difference(*samples)

    def difference_without_rounding(*samples: np.ndarray, axis: int) -> np.ndarray:
        permuted = difference(*samples, axis=axis)
        return np.where(np.abs(permuted - observed) <= rounding, observed, permuted)

    test = stats.permutation_test(
        samples,
        difference_without_rounding,
        permutation_type="samples" if paired else "independent",
        vectorized=True,
        n_resamples=n_resamples,
        batch=max(1, MAX_RESAMPLED // (len(x) + len(y))),
        alternative=alternative,
        rng=rng,
    )
    return float(observed), float(test.pvalue)


def compare_means(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], *, n_resamples: int = 9999, random_state: Seed = 0
) -> list[xr.Dataset]:
    """Return the `permutation_test` of each of many unpaired pairs of sets of scores.

    Pairs of the same sizes share their permutations, so that many tests take little longer than one.

    Parameters
    ----------
    pairs : sequence of (array (item,), array (item,))
        Finite scores, at least two in each.
    n_resamples : int, optional
        Number of random permutations, at least 100.
    random_state : int, Generator, RandomState or None, optional
        Seed of the permutations.

    Returns
    -------
    list of Dataset

    Raises
    ------
    ValueError
        Too few resamples.

    See Also
    --------
    permutation_test : A single test.

    Examples
    --------
    >>> (test,) = compare_means([(np.arange(4.0, 8), np.arange(4.0))])
    >>> test.difference.item(), round(test.p_value.item(), 4)
    (4.0, 0.0286)
    """
    check_resamples(n_resamples)
    seed = seed_or_new(random_state)
    pairs = [(x.astype(float), y.astype(float)) for x, y in pairs]
    p = np.empty(len(pairs))
    sizes: dict[tuple[int, int], list[int]] = {}
    for i, (x, y) in enumerate(pairs):
        sizes.setdefault((len(x), len(y)), []).append(i)
    for (n_x, n_y), tests in sizes.items():
        rng = np.random.default_rng(seed)
        if math.comb(n_x + n_y, n_x) <= n_resamples:  # few enough to make all permutations
            p[tests] = [_permute(*pairs[i], False, "mean", "two-sided", n_resamples, rng)[1] for i in tests]
        else:
            p[tests] = _p_of_columns(np.stack([np.concatenate(pairs[i]) for i in tests], axis=1), n_x, n_resamples, rng)
    return [
        _result(x, y, float(x.mean() - y.mean()), p_value, False, "mean", "two-sided", n_resamples, seed)
        for (x, y), p_value in zip(pairs, p.tolist(), strict=True)
    ]


def _p_of_columns(scores: np.ndarray, n_first: int, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return p of each column of scores (item, test); the first `n_first` items are one set, the others the other."""
    n, rounding = len(scores), ROUNDING * np.abs(scores).max(axis=0)
    observed = scores[:n_first].mean(axis=0) - scores[n_first:].mean(axis=0)
    # Centred columns sum to 0. With Σ the sum over the first set, the second mean is −Σ/n_other, and so
    # difference = Σ (1/n_first + 1/n_other): one matrix product gives Σ for all permutations and tests.
    centred = scores - scores.mean(axis=0)
    below, above = np.zeros((2, scores.shape[1]))
    for start in range(0, n_resamples, batch := max(1, MAX_RESAMPLED // n)):
        size = min(batch, n_resamples - start)
        first = np.stack([rng.permutation(n)[:n_first] for _ in range(size)])  # the permutations of scipy
        in_first = np.zeros((size, n))
        np.put_along_axis(in_first, first, 1, axis=1)
        permuted = in_first @ centred * (1 / n_first + 1 / (n - n_first))
        below += (permuted <= observed + rounding).sum(axis=0)
        above += (permuted >= observed - rounding).sum(axis=0)
    # p = 2 (min(below, above) + 1) / (n_resamples + 1), at most 1: Phipson & Smyth 2010, eq. 2, two-sided
    return np.minimum(1, 2 * (np.minimum(below, above) + 1) / (n_resamples + 1))


def test_sentence(result: xr.Dataset, a: str, b: str, quantity: str) -> str:
    """Return the result of a test in one sentence for a paper.

    The sentence claims which set is higher if p is below 0.05.

    Parameters
    ----------
    result : Dataset
        From `permutation_test`, or `index_difference`.
    a, b : str
        Names of the two sets of items, such as `"KMeans"` and `"units"`.
    quantity : str
        Name of the scores, such as `"interpretability (−LPIPS)"`.

    Returns
    -------
    str
        Numbers have as many decimals as two digits of the standard error of the difference (of the difference itself,
        if this error is 0). If no random permutation was as extreme as the observed difference, p is given as an upper
        bound. A p from `adjust_p_values` is called adjusted, with the number of tests in its family, unless it is the
        only one.

    Raises
    ------
    TypeError
        Not a Dataset from one of these.

    See Also
    --------
    permutation_test, neurosuper.interpretability.index_difference : Return the tests.
    adjust_p_values : Assign its result to `p_value` for a sentence with an adjusted p.

    Examples
    --------
    >>> a, b = (xr.DataArray(values, dims="unit") for values in ([4., 5., 6., 7.], [0., 1., 2., 3.]))
    >>> print(test_sentence(permutation_test(a, b), "KMeans", "units", "label agreement"))
    KMeans (n = 4, mean 5.50) scored higher in label agreement than units (n = 4, mean 1.50), by 4.00 (two-sided \
unpaired permutation test, p = 0.029, all 70 permutations; d = 3.10, probability of superiority 1.00).
    """
    if not isinstance(result, xr.Dataset) or not {"difference", "standard_error", "p_value"} <= set(result):
        raise TypeError(
            f"result must be a Dataset from permutation_test or index_difference, got {type(result).__name__}"
        )
    difference = result.difference.item()
    decimals = decimals_for(result.standard_error.item(), difference)
    statistic = result.attrs["statistic"]
    first, second = (
        f"{name} (n = {result[f'n_{side}'].item():,}, {statistic} {_format(result[f'estimate_{side}'], decimals)})"
        for name, side in ((a, "a"), (b, "b"))
    )
    description = _describe_test(result, decimals)
    sign = {"greater": 1, "less": -1}.get(result.attrs["alternative"], np.sign(difference))
    which = "higher" if sign > 0 else "lower"
    if result.p_value < ALPHA and difference * sign > 0:
        by = _format(abs(difference), decimals)
        return f"{first} scored {which} in {quantity} than {second}, by {by} ({description})."
    found = f"(difference {_format(difference, decimals)}; {description})"
    if result.attrs["alternative"] == "two-sided":
        return f"{first} and {second} did not differ detectably in {quantity} {found}."
    return f"{first} did not score detectably {which} in {quantity} than {second} {found}."


test_sentence.__test__ = False  # type: ignore[attr-defined] # pytest would take it for a test


def _format(number: xr.DataArray | float, decimals: int = 2) -> str:
    return format_number(float(number), decimals)


def _describe_test(result: xr.Dataset, decimals: int) -> str:
    has_interval = "difference_low" in result and np.isfinite(result.difference_low.item())
    description = _describe_interval(result, decimals) if has_interval else _describe_permutations(result)
    if "cohens_d" not in result:
        return description
    return f"{description}; d = {_format(result.cohens_d)}, probability of superiority {_format(result.superiority)}"


def _describe_interval(result: xr.Dataset, decimals: int) -> str:
    interval = format_interval(result.difference_low.item(), result.difference_high.item(), decimals)
    stimuli = "groups of stimuli" if "n_stimulus_groups" in result.attrs else "stimuli"
    share = f"{100 * result.attrs['confidence_level']:g} %"
    return f"{share} interval {interval} over {stimuli} and items, {_format_p(result)}"


def _describe_permutations(result: xr.Dataset) -> str:
    attrs = result.attrs
    sides = "two-sided" if attrs["alternative"] == "two-sided" else "one-sided"
    design = "paired" if attrs["paired"] else "unpaired"
    what = "" if attrs["statistic"] == "mean" else f" of {'the median difference' if attrs['paired'] else 'medians'}"
    return (
        f"{sides} {design} permutation test{what}, {_format_p(result)}, {'all ' * attrs['exact']}"
        f"{attrs['n_permutations']:,} permutations"
    )


def _format_p(result: xr.Dataset) -> str:
    """Return p, or an upper bound of it, and the size of its family if it is adjusted."""
    p, attrs, about = result.p_value.item(), result.attrs, result.p_value.attrs
    random = "n_permutations" in attrs and not attrs["exact"]
    least = (2 if attrs["alternative"] == "two-sided" else 1) / (attrs["n_permutations"] + 1) if random else 0
    text = format_p(p, "≤" if p <= least else "=")
    if "adjusted" not in about:
        return f"p {text}"
    n_tests = about["n_tests"]
    return f"p {text} (not adjusted: one test)" if n_tests == 1 else f"adjusted p {text} (family of {n_tests})"
