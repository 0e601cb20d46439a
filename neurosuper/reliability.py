"""Reliability: how much of a unit's response is due to the stimulus, from stimuli that were shown more than once.

For one unit: x_sk response to repetition k of stimulus s, n_s number of its repetitions, m_s mean over them,
W_s = Σ_k (x_sk − m_s)². Repetitions may be missing (NaN), and for some units only; a stimulus that a unit has fewer
than two of is left out. Every measure is one number per unit, without unit of measurement, and so a coord of the
responses: `responses.assign_coords(reliability=split_half_reliability(responses))`. It is NaN for a unit that gives
every stimulus the same response, or has fewer than three stimuli with two repetitions. Its attrs are the `rule` and, of
the unit that has most, `n_stimuli` and `n_stimuli_left_out`. Computing it takes about three times the memory of float32
responses.
"""

from numbers import Integral, Real
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr
from tqdm import tqdm

from neurosuper._checks import check_count
from neurosuper.repetitions import first_half, present_repetitions, rank_labels
from neurosuper.responses import check_responses, coords_along, name_some

__all__ = [
    "explainable_variance",
    "ncsnr",
    "noise_ceiling",
    "oracle_correlation",
    "select_units",
    "split_half_reliability",
]

FEWEST = 3  # repeated stimuli: over two, every correlation is 1 or −1


def split_half_reliability(
    responses: xr.DataArray, *, n_resamples: int = 100, spearman_brown: bool = True, random_state: int | None = 0
) -> xr.DataArray:
    """Correlate, over stimuli, the means of two random halves of every stimulus' repetitions.

    Of an odd number of repetitions, the one left over joins either half at random. Units that have the same repetitions
    are split alike. A half that gives every stimulus the same response correlates at 0.

    Parameters
    ----------
    responses : DataArray (stimulus, repetition, unit)
    n_resamples : int, optional
        How many random splits the correlation is averaged over.
    spearman_brown : bool, optional
        Return 2r / (1 + r), the reliability of the mean over all repetitions (Spearman 1910, Brown 1910), where r is
        the mean over splits; otherwise r.
    random_state : int, optional
        The same labels and `random_state` give the same splits, whatever the order of the stimuli.

    Returns
    -------
    DataArray (unit)
        At most 1; NaN, attrs and memory as at the top of this module.

    Raises
    ------
    ValueError
        No unit has two repetitions of three stimuli; responses not in memory; `n_resamples` below 1.

    Examples
    --------
    >>> import xarray as xr
    >>> r = xr.DataArray([[[1.], [1.]], [[2.], [2.]], [[4.], [4.]]], dims=("stimulus", "repetition", "unit"),
    ...                  coords={"stimulus": ["x", "y", "z"], "unit": ["a"]})
    >>> split_half_reliability(r).round(6).values.tolist()
    [1.0]
    """
    n_resamples = check_count("n_resamples", n_resamples)
    repeats = _find_repeats(responses, "split_half_reliability")
    position = rank_labels(responses)
    rng = np.random.default_rng(random_state)
    bar = tqdm(range(n_resamples), desc="split-half", unit="split", delay=2)
    r = np.mean([_correlate_halves(repeats, first_half(repeats.valid, position, rng)) for _ in bar], axis=0)
    rule = "split-half correlation" + ", Spearman–Brown" * bool(spearman_brown)
    if spearman_brown:
        with np.errstate(divide="ignore"):
            r = 2 * r / (1 + np.maximum(r, -1))
    return _measure(r, repeats, "reliability", rule=rule, n_resamples=int(n_resamples), random_state=str(random_state))


def oracle_correlation(
    responses: xr.DataArray, *, method: Literal["jackknife", "conservative"] = "jackknife"
) -> xr.DataArray:
    """Correlate each response with the mean of the other responses to the same stimulus.

    As `oracle_corr_jackknife` (but for its eps of 1e-8) and `oracle_corr_conservative` of neuralpredictors 0.3.

    Parameters
    ----------
    responses : DataArray (stimulus, repetition, unit)
    method : {"jackknife", "conservative"}, optional
        "jackknife": over presentations, x_sk with (n_s m_s − x_sk) / (n_s − 1), which is noisy, so that it is too low.
        "conservative": √(V / (V + mean_s W_s / n_s)), where V, the variance of m_s over stimuli, is too high.

    Returns
    -------
    DataArray (unit)
        At most 1; NaN, attrs and memory as at the top of this module.

    Raises
    ------
    ValueError
        Another `method`; no unit has two repetitions of three stimuli; responses not in memory.

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
    repeats = _find_repeats(responses, "oracle_correlation")
    n, between, within = _squares(repeats.values, repeats.valid, weighted=method == "jackknife")
    signal, others = between.sum(axis=0), np.maximum(n - 1, 1)
    with np.errstate(invalid="ignore"):
        if method == "jackknife":  # the mean of the others is m − (x − m) / (n − 1)
            lengths = (signal + within.sum(axis=0)) * (signal + (within / others**2).sum(axis=0))
            r = (signal - (within / others).sum(axis=0)) / np.sqrt(lengths)
        else:
            r = np.sqrt(signal / (signal + (within / (others + 1)).sum(axis=0)))
    return _measure(r, repeats, "oracle_correlation", rule=f"oracle correlation, {method}")


def explainable_variance(responses: xr.DataArray) -> xr.DataArray:
    """Return the share of a unit's variance over presentations that is not noise.

    (T − N) / T, where T = Σ_sk (x_sk − x̄)² / (Σ_s n_s − 1) is the variance over presentations, and the variance of the
    noise, N = mean_s W_s / (n_s − 1), is averaged over stimuli, each of which counts once. From Cadena et al. 2019
    (PLoS Comput. Biol. 15, e1006897); as `explainable_var` (but for its eps of 1e-9) and `fev` of neuralpredictors 0.3.

    Parameters
    ----------
    responses : DataArray (stimulus, repetition, unit)

    Returns
    -------
    DataArray (unit)
        At most 1, below 0 where N > T; of single presentations. NaN, attrs and memory as at the top of this module.

    Raises
    ------
    ValueError
        No unit has two repetitions of three stimuli; responses not in memory.

    Examples
    --------
    >>> import xarray as xr
    >>> r = xr.DataArray([[[1.], [1.]], [[2.], [2.]], [[4.], [4.]]], dims=("stimulus", "repetition", "unit"),
    ...                  coords={"stimulus": ["x", "y", "z"], "unit": ["a"]})
    >>> explainable_variance(r).values.tolist()
    [1.0]
    """
    repeats = _find_repeats(responses, "explainable_variance")
    total, noise = _variances(*_squares(repeats.values, repeats.valid))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = 1 - noise / total
    return _measure(share, repeats, "explainable_variance", rule="explainable variance")


def ncsnr(responses: xr.DataArray) -> xr.DataArray:
    """Return the noise-ceiling signal-to-noise ratio of the Natural Scenes Dataset (NSD): signal s.d. / noise s.d.

    √(max(T − N, 0) / N), with N as in `explainable_variance`, and T too, but over all presentations: those of stimuli
    shown once count as well. From Allen et al. 2022 (Nat. Neurosci. 25, 116–126), Methods, and their
    export_noiseceiling.m, which takes N from the images shown three times and no others.

    Parameters
    ----------
    responses : DataArray (stimulus, repetition, unit)
        Drift from one session to the next counts as noise: z-score single presentations within their session first, as
        NSD's authors do, so that T is 1.

    Returns
    -------
    DataArray (unit)
        0 where N > T, inf where there is no noise; NaN, attrs and memory as at the top of this module.

    Raises
    ------
    ValueError
        No unit has two repetitions of three stimuli; responses not in memory.

    Examples
    --------
    >>> import xarray as xr
    >>> r = xr.DataArray([[[0.], [2.]], [[2.], [4.]], [[7.], [9.]]], dims=("stimulus", "repetition", "unit"),
    ...                  coords={"stimulus": ["x", "y", "z"], "unit": ["a"]})
    >>> ncsnr(r).round(3).values.tolist()
    [2.191]
    """
    repeats = _find_repeats(responses, "ncsnr")
    total, noise = _variances(*_squares(repeats.values, repeats.present))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt(np.maximum(total - noise, 0) / noise)
    return _measure(ratio, repeats, "ncsnr", rule="ncsnr from repetitions")


def noise_ceiling(ncsnr: xr.DataArray, repetitions: int | xr.DataArray) -> xr.DataArray:
    """Return the share of variance over stimuli that a perfect model of a unit would explain.

    ncsnr² / (ncsnr² + mean_s 1/n_s), of the mean over n_s repetitions, after Allen et al. 2022 (Nat. Neurosci. 25,
    116–126) and NSD's manual: where A, B and C images were shown 3, 2 and 1 times, mean_s 1/n_s is
    (A/3 + B/2 + C) / (A + B + C).

    Parameters
    ----------
    ncsnr : DataArray (unit)
        As `ncsnr` returns it, or as the authors of a dataset give it.
    repetitions : int or DataArray
        How many are averaged; or the responses, with the dim `repetition` or, averaged, the coord `n_repetitions` (of
        the unit that has most). Stimuli without any do not count.

    Returns
    -------
    DataArray (unit)
        From 0 to 1 (NSD prints percent); NaN where `ncsnr` is. `attrs["rule"]`.

    Raises
    ------
    ValueError
        `ncsnr` not one number from 0 per unit; `repetitions` below 1, or without one of the units, or not in memory.

    Examples
    --------
    >>> import xarray as xr
    >>> noise_ceiling(xr.DataArray([0., 1.], dims="unit", coords={"unit": ["a", "b"]}), 3).values.tolist()
    [0.0, 0.75]
    """
    if not isinstance(ncsnr, xr.DataArray) or ncsnr.dims != ("unit",) or (ncsnr < 0).any():
        raise ValueError(f"ncsnr must be a DataArray over unit, not below 0, as ncsnr() gives; got {name_some(ncsnr)}")
    with np.errstate(divide="ignore"):
        share = 1 / (1 + _mean_inverse(repetitions, ncsnr.unit.values.tolist()) / ncsnr.values.astype(float) ** 2)
    n = "of each stimulus" if isinstance(repetitions, xr.DataArray) else f"= {repetitions}"
    rule = f"ncsnr² / (ncsnr² + 1/n), n {n}; {ncsnr.attrs.get('rule', 'ncsnr as given')}"
    ncsnr = ncsnr.drop_vars("noise_ceiling", errors="ignore")
    return ncsnr.copy(data=share).rename("noise_ceiling").assign_attrs(rule=rule)


def select_units(responses: xr.DataArray, **at_least: float) -> xr.DataArray:
    """Keep the units whose coords reach a threshold.

    Parameters
    ----------
    responses : DataArray (stimulus, unit) or (stimulus, repetition, unit)
    **at_least : float
        The least value of a coord over `unit`, by its name: `reliability=0.3, noise_ceiling=0.2`; NaN fails. Where
        `reliability` is missing it is computed, as `split_half_reliability(responses)`, and attached.

    Returns
    -------
    DataArray
        Those units; `attrs["selected_units"]` says how many of how many, by which thresholds and rules.

    Raises
    ------
    TypeError
        A threshold, or a coord, that is not a number.
    ValueError
        No threshold; no such coord; no unit left (the best is named); no `reliability` and no repetitions.

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


class _Repeats(NamedTuple):
    like: xr.DataArray  # what bears the labels
    values: np.ndarray  # (stimulus, repetition, unit)
    present: np.ndarray  # the same, of one unit where all have the same repetitions
    valid: np.ndarray  # present, of a stimulus with at least two repetitions
    sound: np.ndarray  # (unit,) with enough repeated stimuli, and not the same response to all


def _find_repeats(responses: xr.DataArray, measure: str) -> _Repeats:
    """Return what there is of repetitions, or say why there is no reliability."""
    responses = check_responses(responses)
    if "repetition" not in responses.dims:
        responses = responses.expand_dims("repetition", axis=1)
    present = present_repetitions(responses, measure)
    n = present.sum(axis=1, dtype=np.int32)
    enough = (n >= 2).sum(axis=0)
    if enough.max() < FEWEST:
        raise ValueError(
            f"{measure} needs at least 2 repetitions of at least {FEWEST} stimuli; {enough.max()} of {len(n)} have "
            f"that many (most: {n.max()}); use responses from before average_repetitions, or a dataset with repetitions"
        )
    values = responses.values if responses.dtype.kind == "f" else responses.values.astype(float)
    valid = present & (n >= 2)[:, None]
    highest = np.max(values, axis=(0, 1), where=valid, initial=-np.inf)
    sound = (values < highest).any(axis=(0, 1), where=valid) & (enough >= FEWEST)
    return _Repeats(responses, values, present, valid, sound)


def _measure(values: np.ndarray, repeats: _Repeats, name: str, **attrs: object) -> xr.DataArray:
    """Label a measure, NaN where a unit has too little, and say what it rests on."""
    used = int(repeats.valid.any(axis=1).sum(axis=0).max())
    attrs |= {"n_stimuli": used, "n_stimuli_left_out": len(repeats.values) - used}
    coords = {key: coord for key, coord in coords_along(repeats.like, "unit").items() if key != name}
    return xr.DataArray(np.where(repeats.sound, values, np.nan), coords, dims="unit", name=name, attrs=attrs)


def _correlate_halves(repeats: _Repeats, first: np.ndarray) -> np.ndarray:
    """Return (unit,): the correlation over stimuli between the means of two halves, 0 where one does not vary."""
    a, b = (_standard_means(repeats.values, half) for half in (first, repeats.valid & ~first))
    return np.einsum("su,su->u", a, b)


def _standard_means(values: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Return (stimulus, unit): means over half of the repetitions, centred, of unit length over stimuli."""
    n = half.sum(axis=1, dtype=np.int32)
    means = values.sum(axis=1, where=half, dtype=np.float64)
    means /= np.maximum(n, 1)
    rounding = 1e-24 * np.einsum("su,su->u", means, means)
    means -= means.sum(axis=0) / np.maximum((n > 0).sum(axis=0), 1)
    means *= n > 0
    square = np.einsum("su,su->u", means, means)
    return np.divide(means, np.sqrt(np.where(square > rounding, square, np.inf)), out=means)


def _squares(values: np.ndarray, mask: np.ndarray, weighted: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (stimulus, unit): n_s, n_s (m_s − x̄)² and W_s; or (m_s − mean_s m_s)² unless weighted by n_s."""
    n = mask.sum(axis=1, dtype=np.int32)
    mean = values.sum(axis=1, where=mask, dtype=np.float64)
    mean /= np.maximum(n, 1)
    within, deviation = np.zeros_like(mean), np.empty_like(mean)
    for k in range(values.shape[1]):
        np.subtract(values[:, k], mean, out=deviation)
        np.add(within, np.square(deviation, out=deviation), out=within, where=mask[:, k])
    weight = n if weighted else n > 0
    mean -= np.einsum("su,su->u", weight, mean) / np.maximum(weight.sum(axis=0), 1)
    return n, np.multiply(weight, np.square(mean, out=mean), out=mean), within


def _variances(n: np.ndarray, between: np.ndarray, within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (unit,): T and N of `explainable_variance`."""
    total = (between.sum(axis=0) + within.sum(axis=0)) / np.maximum(n.sum(axis=0) - 1, 1)
    within /= np.maximum(n - 1, 1)
    return total, within.sum(axis=0) / np.maximum((n >= 2).sum(axis=0), 1)


def _mean_inverse(repetitions: int | xr.DataArray, units: list[str]) -> np.ndarray:
    """Return the mean of 1/n over stimuli, of every unit or of all alike."""
    if isinstance(repetitions, Integral) and repetitions > 0:
        return np.array([1 / repetitions])
    if not isinstance(repetitions, xr.DataArray):
        raise ValueError(f"repetitions must be a whole number of at least 1, or responses, got {repetitions!r}")
    if missing := sorted(set(units) - set(check_responses(repetitions).unit.values.tolist())):
        raise ValueError(f"the responses lack unit {name_some(missing)} of ncsnr; take both from the same dataset")
    if "repetition" in repetitions.dims:
        n = present_repetitions(check_responses(repetitions).sel(unit=units), "noise_ceiling").sum(axis=1)
    elif "n_repetitions" in repetitions.coords:
        n = repetitions.n_repetitions.values[:, None]
    else:
        raise ValueError("responses need the dim repetition or the coord n_repetitions; or give a whole number instead")
    return np.divide(1, n, out=np.zeros(n.shape), where=n > 0).sum(axis=0) / np.maximum((n > 0).sum(axis=0), 1)


def _number_coord(responses: xr.DataArray, name: str, threshold: float) -> xr.DataArray:
    coords = coords_along(responses, "unit")
    if name not in coords:
        there = ", ".join(sorted(set(coords) - {"unit"})) or "none"
        raise ValueError(f"responses have no coord {name!r} over unit; they have {there}; add it with .assign_coords")
    if coords[name].dtype.kind not in "iuf" or not isinstance(threshold, Real):
        raise TypeError(f"{name} is {coords[name].dtype} and its threshold {threshold!r}; both must be numbers")
    return coords[name]
