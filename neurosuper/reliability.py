"""Reliability: how much of a unit's response is due to the stimulus, from stimuli that were shown more than once.

Notation, for one unit: x_sk is the response to repetition k of stimulus s, n_s the number of its repetitions, m_s the
mean over them, and W_s = Σ_k (x_sk − m_s)². Repetitions may be missing (NaN), also for some units only; a stimulus with
fewer than two repetitions in a unit is left out for that unit. Each measure is one dimensionless number per unit, which
can be stored as a coord of the responses: `responses.assign_coords(reliability=split_half_reliability(responses))`. It
is NaN for a unit that gives every stimulus the same response, or has fewer than three stimuli with two repetitions. Its
attrs are the `rule` and, for the unit with most stimuli, `n_stimuli` and `n_stimuli_left_out`. Computing it takes about
three times the memory of float32 responses.
"""

from numbers import Real
from typing import Literal

import numpy as np
import xarray as xr

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper._progress import progress
from neurosuper.repetitions import Repeats, find_repeats, first_half, mean_inverse, rank_labels
from neurosuper.responses import check_responses, coords_along, name_some

__all__ = [
    "explainable_variance",
    "ncsnr",
    "noise_ceiling",
    "oracle_correlation",
    "select_units",
    "split_half_reliability",
]

RESIDUE = 1e-24  # variance / mean square of a half, at most, that rounding in float64 may leave of a constant unit


def split_half_reliability(
    responses: xr.DataArray, *, n_resamples: int = 100, spearman_brown: bool = True, random_state: Seed = 0
) -> xr.DataArray:
    """Return the split-half reliability of each unit: the correlation between means over two halves of the repetitions.

    The correlation is over stimuli, and halves are drawn at random for each stimulus. If the number of repetitions is
    odd, the remaining one is added to either half at random. Units with the same repetitions are split in the same way.
    If a half gives every stimulus the same response, its correlation is 0.

    Parameters
    ----------
    responses : DataArray (stimulus, repetition, unit)
        NaN where a repetition is missing.
    n_resamples : int, optional
        Number of random splits over which the correlation is averaged.
    spearman_brown : bool, optional
        Return 2r / (1 + r), the reliability of the mean over all repetitions (Spearman 1910, Brown 1910), where r is
        the mean over splits; otherwise r.
    random_state : int, Generator, RandomState or None, optional
        The same labels and `random_state` give the same splits, in any order of the stimuli.

    Returns
    -------
    DataArray (unit)
        At most 1. NaN, attrs and memory: see the top of this module.

    Raises
    ------
    ValueError
        No unit has two repetitions of three stimuli; responses that are not in memory; `n_resamples` below 1.

    See Also
    --------
    oracle_correlation : correlation of each response with the mean of the others.
    neurosuper.select_units : keep the units that reach a threshold.
    neurosuper.split_repetitions : the averages over one random split.

    Examples
    --------
    >>> import xarray as xr
    >>> r = xr.DataArray([[[1.], [1.]], [[2.], [2.]], [[4.], [4.]]], dims=("stimulus", "repetition", "unit"),
    ...                  coords={"stimulus": ["x", "y", "z"], "unit": ["a"]})
    >>> split_half_reliability(r).round(6).values.tolist()
    [1.0]
    """
    n_resamples = check_count("n_resamples", n_resamples)
    repeats = find_repeats(responses, "split_half_reliability")
    position = rank_labels(responses)
    seed = seed_or_new(random_state)
    rng = np.random.default_rng(seed)
    bar = progress(range(n_resamples), desc="split-half", unit="split")
    r = np.mean([_correlate_halves(repeats, first_half(repeats.valid, position, rng)) for _ in bar], axis=0)
    rule = "split-half correlation" + ", Spearman–Brown" * bool(spearman_brown)
    if spearman_brown:
        with np.errstate(divide="ignore"):
            r = 2 * r / (1 + np.maximum(r, -1))
    return _measure(r, repeats, "reliability", rule=rule, n_resamples=int(n_resamples), random_state=seed)


def oracle_correlation(
    responses: xr.DataArray, *, method: Literal["jackknife", "conservative"] = "jackknife"
) -> xr.DataArray:
    """Return the oracle correlation: of each response with the mean of the other responses to the same stimulus.

    The values are those of `oracle_corr_jackknife` (without its eps of 1e-8) and `oracle_corr_conservative` in
    neuralpredictors 0.3.

    Parameters
    ----------
    responses : DataArray (stimulus, repetition, unit)
        NaN where a repetition is missing.
    method : {"jackknife", "conservative"}, optional
        "jackknife": x_sk is correlated with (n_s m_s − x_sk) / (n_s − 1) over presentations; as this mean is noisy, the
        result is biased downwards. "conservative": √(V / (V + mean_s W_s / n_s)), where V is the variance of m_s over
        stimuli, which is biased upwards.

    Returns
    -------
    DataArray (unit)
        At most 1. NaN, attrs and memory: see the top of this module.

    Raises
    ------
    ValueError
        Another `method`; no unit has two repetitions of three stimuli; responses that are not in memory.

    See Also
    --------
    split_half_reliability : correlation between two halves of the repetitions.
    explainable_variance : the share of variance that is not noise.

    Examples
    --------
    >>> import xarray as xr
    >>> r = xr.DataArray([[[1.], [1.]], [[2.], [2.]], [[4.], [4.]]], dims=("stimulus", "repetition", "unit"),
    ...                  coords={"stimulus": ["x", "y", "z"], "unit": ["a"]})
    >>> oracle_correlation(r).values.tolist()
    [1.0]
    """
    if method not in ("jackknife", "conservative"):
        raise ValueError(f"method must be 'jackknife' or 'conservative', got {method!r}")
    repeats = find_repeats(responses, "oracle_correlation")
    n, between, within = _squares(repeats.values, repeats.valid, weighted=method == "jackknife")
    signal, others = between.sum(axis=0), np.maximum(n - 1, 1)
    with np.errstate(invalid="ignore"):
        if method == "jackknife":
            # the mean of the others is m − (x − m) / (n − 1), so all sums follow from n (m − x̄)² and W
            lengths = (signal + within.sum(axis=0)) * (signal + (within / others**2).sum(axis=0))
            r = (signal - (within / others).sum(axis=0)) / np.sqrt(lengths)
        else:
            r = np.sqrt(signal / (signal + (within / (others + 1)).sum(axis=0)))
    return _measure(r, repeats, "oracle_correlation", rule=f"oracle correlation, {method}")


def explainable_variance(responses: xr.DataArray) -> xr.DataArray:
    """Return the share of a unit's variance over presentations that is not noise.

    The share is (T − N) / T. T = Σ_sk (x_sk − x̄)² / (Σ_s n_s − 1) is the variance over presentations. The variance of
    the noise, N = mean_s W_s / (n_s − 1), is an average in which each stimulus counts once. From Cadena et al. 2019
    (PLoS Comput. Biol. 15, e1006897); the values are those of `explainable_var` (without its eps of 1e-9) and `fev` in
    neuralpredictors 0.3.

    Parameters
    ----------
    responses : DataArray (stimulus, repetition, unit)
        NaN where a repetition is missing.

    Returns
    -------
    DataArray (unit)
        At most 1, and below 0 if N > T; of single presentations. NaN, attrs and memory: see the top of this module.

    Raises
    ------
    ValueError
        No unit has two repetitions of three stimuli; responses that are not in memory.

    See Also
    --------
    ncsnr : signal-to-noise ratio of the same variances.
    split_half_reliability : correlation between two halves of the repetitions.

    Examples
    --------
    >>> import xarray as xr
    >>> r = xr.DataArray([[[1.], [1.]], [[2.], [2.]], [[4.], [4.]]], dims=("stimulus", "repetition", "unit"),
    ...                  coords={"stimulus": ["x", "y", "z"], "unit": ["a"]})
    >>> explainable_variance(r).values.tolist()
    [1.0]
    """
    repeats = find_repeats(responses, "explainable_variance")
    total, noise = _variances(*_squares(repeats.values, repeats.valid))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = 1 - noise / total
    return _measure(share, repeats, "explainable_variance", rule="explainable variance")


def ncsnr(responses: xr.DataArray) -> xr.DataArray:
    """Return the noise-ceiling signal-to-noise ratio of the Natural Scenes Dataset (NSD): signal s.d. / noise s.d.

    The ratio is √(max(T − N, 0) / N), with T and N as in `explainable_variance`, except that T is over all
    presentations, including those of stimuli shown once. From Allen et al. 2022 (Nat. Neurosci. 25, 116–126), Methods,
    and their export_noiseceiling.m, which takes N only from the images shown three times.

    Parameters
    ----------
    responses : DataArray (stimulus, repetition, unit)
        Drift from one session to the next counts as noise: first z-score single presentations within their session, as
        NSD's authors do, so that T is 1.

    Returns
    -------
    DataArray (unit)
        0 if N > T, inf if there is no noise. NaN, attrs and memory: see the top of this module.

    Raises
    ------
    ValueError
        No unit has two repetitions of three stimuli; responses that are not in memory.

    See Also
    --------
    noise_ceiling : the share of variance that a perfect model would explain.
    explainable_variance : the share of variance that is not noise.

    Examples
    --------
    >>> import xarray as xr
    >>> r = xr.DataArray([[[0.], [2.]], [[2.], [4.]], [[7.], [9.]]], dims=("stimulus", "repetition", "unit"),
    ...                  coords={"stimulus": ["x", "y", "z"], "unit": ["a"]})
    >>> ncsnr(r).round(3).values.tolist()
    [2.191]
    """
    repeats = find_repeats(responses, "ncsnr")
    total, noise = _variances(*_squares(repeats.values, repeats.present))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt(np.maximum(total - noise, 0) / noise)
    return _measure(ratio, repeats, "ncsnr", rule="ncsnr from repetitions")


def noise_ceiling(ncsnr: xr.DataArray, repetitions: int | xr.DataArray) -> xr.DataArray:
    """Return the share of variance over stimuli that a perfect model of a unit would explain.

    For means over n_s repetitions it is ncsnr² / (ncsnr² + mean_s 1/n_s), after Allen et al. 2022 (Nat. Neurosci. 25,
    116–126) and NSD's manual: if A, B and C images were shown 3, 2 and 1 times, mean_s 1/n_s is
    (A/3 + B/2 + C) / (A + B + C).

    Parameters
    ----------
    ncsnr : DataArray (unit)
        As `ncsnr` returns it, or as published with a dataset.
    repetitions : int or DataArray
        Number of repetitions that are averaged; or the responses, with the dim `repetition` or, if averaged, the coord
        `n_repetitions` (of the unit with most). Stimuli without repetitions are left out.

    Returns
    -------
    DataArray (unit)
        From 0 to 1 (NSD gives percent); NaN where `ncsnr` is NaN. `attrs["rule"]` is the formula.

    Raises
    ------
    ValueError
        `ncsnr` is not one number of at least 0 per unit; `repetitions` is below 1, lacks a unit, or is not in memory.

    See Also
    --------
    ncsnr : the noise-ceiling signal-to-noise ratio of responses.
    neurosuper.select_units : keep the units that reach a threshold.

    Examples
    --------
    >>> import xarray as xr
    >>> noise_ceiling(xr.DataArray([0., 1.], dims="unit", coords={"unit": ["a", "b"]}), 3).values.tolist()
    [0.0, 0.75]
    """
    if not isinstance(ncsnr, xr.DataArray) or ncsnr.dims != ("unit",) or (ncsnr < 0).any():
        raise ValueError(f"ncsnr must be a DataArray over unit, not below 0, as ncsnr() gives; got {name_some(ncsnr)}")
    with np.errstate(divide="ignore"):
        share = 1 / (1 + mean_inverse(repetitions, ncsnr.unit.values.tolist()) / ncsnr.values.astype(float) ** 2)
    n = "of each stimulus" if isinstance(repetitions, xr.DataArray) else f"= {repetitions}"
    rule = f"ncsnr² / (ncsnr² + 1/n), n {n}; {ncsnr.attrs.get('rule', 'ncsnr as given')}"
    ncsnr = ncsnr.drop_vars("noise_ceiling", errors="ignore")
    return ncsnr.copy(data=share).rename("noise_ceiling").assign_attrs(rule=rule)


def select_units(responses: xr.DataArray, **at_least: float) -> xr.DataArray:
    """Return the responses of the units whose coords reach a threshold.

    Parameters
    ----------
    responses : DataArray (stimulus, unit) or (stimulus, repetition, unit)
        With coords over `unit`, or with repetitions.
    **at_least : float
        Smallest value of each coord over `unit`, by its name: `reliability=0.3, noise_ceiling=0.2`; NaN fails. If there
        is no coord `reliability`, it is computed as `split_half_reliability(responses)` and added.

    Returns
    -------
    DataArray
        Those units; `attrs["selected_units"]` records how many were kept of how many, by which thresholds and rules.

    Raises
    ------
    TypeError
        A threshold, or a coord, that is not a number.
    ValueError
        No threshold; no such coord; no unit left (the largest value is shown); no `reliability` and no repetitions.

    See Also
    --------
    neurosuper.reliability.split_half_reliability : the reliability that is computed if the coord is missing.
    neurosuper.responses.drop_constant_units : remove units that give every stimulus the same response.

    Examples
    --------
    >>> import xarray as xr
    >>> r = xr.DataArray([[1., 2.], [3., 4.]], dims=("stimulus", "unit"), coords={"stimulus": ["x", "y"],
    ...                  "unit": ["a", "b"], "reliability": ("unit", [0.2, 0.8])})
    >>> select_units(r, reliability=0.3).unit.values.tolist()
    ['b']
    """
    responses = check_responses(responses)
    if not at_least:
        raise ValueError("select_units needs a threshold, such as select_units(responses, reliability=0.3)")
    if "reliability" in at_least and "reliability" not in responses.coords:
        responses = responses.assign_coords(reliability=split_half_reliability(responses))
    coords = {name: _number_coord(responses, name, threshold) for name, threshold in at_least.items()}
    passing = np.logical_and.reduce([coord.values >= at_least[name] for name, coord in coords.items()])
    asked = " and ".join(f"{n} >= {at_least[n]:g} ({c.attrs.get('rule', 'as given')})" for n, c in coords.items())
    if not passing.any():
        best = ", ".join(f"{name} {coord.max().item():.3g}" for name, coord in coords.items())
        raise ValueError(f"none of {len(passing)} units has {asked}; the best has {best}; lower the threshold")
    before = f"{responses.attrs['selected_units']}; then " if "selected_units" in responses.attrs else ""
    note = f"{before}{passing.sum()} of {len(passing)} with {asked}"
    return responses.isel(unit=passing).assign_attrs(selected_units=note)


def _measure(values: np.ndarray, repeats: Repeats, name: str, **attrs: object) -> xr.DataArray:
    """Return a measure with labels, NaN for units with too few data, and with the number of stimuli it is based on."""
    used = int(repeats.valid.any(axis=1).sum(axis=0).max())
    attrs |= {"n_stimuli": used, "n_stimuli_left_out": len(repeats.values) - used}
    coords = {key: coord for key, coord in coords_along(repeats.like, "unit").items() if key != name}
    return xr.DataArray(np.where(repeats.sound, values, np.nan), coords, dims="unit", name=name, attrs=attrs)


def _correlate_halves(repeats: Repeats, first: np.ndarray) -> np.ndarray:
    """Return (unit,): the correlation over stimuli between the means of two halves, 0 if one is constant."""
    a, b = (_standard_means(repeats.values, half) for half in (first, repeats.valid & ~first))
    return np.einsum("su,su->u", a, b)


def _standard_means(values: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Return (stimulus, unit): means over half of the repetitions, centred, of unit length over stimuli."""
    n = half.sum(axis=1, dtype=np.int32)
    means = values.sum(axis=1, where=half, dtype=np.float64)
    means /= np.maximum(n, 1)
    rounding = RESIDUE * np.einsum("su,su->u", means, means)
    # centre over the stimuli that have repetitions; the others stay 0 and do not count
    means -= means.sum(axis=0) / np.maximum((n > 0).sum(axis=0), 1)
    means *= n > 0
    # divide by the length over stimuli: the product of two such columns is their correlation
    square = np.einsum("su,su->u", means, means)
    return np.divide(means, np.sqrt(np.where(square > rounding, square, np.inf)), out=means)


def _squares(values: np.ndarray, mask: np.ndarray, weighted: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (stimulus, unit): n_s, n_s (m_s − x̄)² and W_s; or (m_s − mean_s m_s)² unless weighted by n_s."""
    # m_s
    n = mask.sum(axis=1, dtype=np.int32)
    mean = values.sum(axis=1, where=mask, dtype=np.float64)
    mean /= np.maximum(n, 1)
    # W_s = Σ_k (x_sk − m_s)², one repetition at a time to save memory
    within, deviation = np.zeros_like(mean), np.empty_like(mean)
    for k in range(values.shape[1]):
        np.subtract(values[:, k], mean, out=deviation)
        np.add(within, np.square(deviation, out=deviation), out=within, where=mask[:, k])
    # n_s (m_s − x̄)², where x̄ is the mean over presentations; or with weights of 1, and the mean over stimuli
    weight = n if weighted else n > 0
    mean -= np.einsum("su,su->u", weight, mean) / np.maximum(weight.sum(axis=0), 1)
    return n, np.multiply(weight, np.square(mean, out=mean), out=mean), within


def _variances(n: np.ndarray, between: np.ndarray, within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (unit,): T and N of `explainable_variance`."""
    # T = Σ_s (n_s (m_s − x̄)² + W_s) / (Σ_s n_s − 1)
    total = (between.sum(axis=0) + within.sum(axis=0)) / np.maximum(n.sum(axis=0) - 1, 1)
    # N = mean_s W_s / (n_s − 1), over stimuli with at least two repetitions
    within /= np.maximum(n - 1, 1)
    return total, within.sum(axis=0) / np.maximum((n >= 2).sum(axis=0), 1)


def _number_coord(responses: xr.DataArray, name: str, threshold: float) -> xr.DataArray:
    coords = coords_along(responses, "unit")
    if name not in coords:
        there = ", ".join(sorted(set(coords) - {"unit"})) or "none"
        raise ValueError(f"responses have no coord {name!r} over unit; they have {there}; add it with .assign_coords")
    if coords[name].dtype.kind not in "iuf" or not isinstance(threshold, Real):
        raise TypeError(f"{name} is {coords[name].dtype} and its threshold {threshold!r}; both must be numbers")
    return coords[name]
