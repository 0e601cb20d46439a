"""Test finders against one another within each system, and systems against one another by each finder."""

from __future__ import annotations

from itertools import product
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper.inference import adjust_p_values, test_sentence
from neurosuper.inference.permutation import compare_means
from neurosuper.interpretability.stimulus_sampling import Sample, compare_samples

Varied = Literal["finder", "system"]
KEPT: dict[Varied, Varied] = {"finder": "system", "system": "finder"}
TESTED = (
    *("difference", "difference_low", "difference_high", "p_value", "p_items", "cohens_d", "superiority"),
    *("estimate_a", "estimate_b", "n_a", "n_b"),
)


def contrast_finders(
    comparison: xr.Dataset, *, against: str = "Units", n_resamples: int = 9999, random_state: int | None = 0
) -> xr.Dataset:
    """Test in every system and by every metric whether a finder's mean index differs from that of another.

    How sure a difference is, for other stimuli and other items of the same kind, is told from random halves of the
    stimuli (`index_difference`), and directions are taken as they were found; so it speaks of these recordings only.
    p-values are adjusted over all tests (Benjamini and Hochberg 1995). Of several seeds the first is tested, because
    they share units and stimuli.

    Parameters
    ----------
    comparison : Dataset (item, metric)
        From `compare` or `run_study`. Items without an index are left out.
    against : str, optional
        The finder that all others are tested against.
    n_resamples, random_state : int, optional
        Of permutation tests of items, to which stimuli are no sample, so that p is too small.

    Returns
    -------
    Dataset (test,)
        Coords `system`, `finder` and `metric`; `difference` of means (finder − `against`), its 95 % interval
        `difference_low` and `difference_high`, `p_value`, `p_adjusted`, `p_items` of the permutation test, `cohens_d`,
        `superiority`, `estimate_a` and `estimate_b` (the means), `n_a`, `n_b`, and `sentence`, which a paper could
        quote; it claims a direction where the adjusted p is below 0.05. Where halves are not known (stimuli fewer than
        twice `top`, or a comparison older than they are), the interval is NaN, and `p_value` is `p_items`. Systems with
        fewer than two items of either finder are left out.

    Raises
    ------
    ValueError
        No such finder in the comparison, or nothing to test it against.

    Examples
    --------
    >>> index = np.concatenate([np.linspace(-0.8, -0.6, 30), np.linspace(-0.6, -0.4, 30)])
    >>> finders = np.repeat(["Units", "KMeans"], 30)
    >>> comparison = xr.Dataset(
    ...     {"interpretability": (("item", "metric"), index[:, None])},
    ...     {"system": ("item", ["V4"] * 60), "finder": ("item", finders), "metric": ["LPIPS"]})
    >>> tests = contrast_finders(comparison)
    >>> tests.finder.values.tolist(), bool(tests.p_adjusted[0] < 0.001)
    (['KMeans'], True)
    """
    return _contrast(comparison, "finder", against, n_resamples, random_state)


def contrast_systems(
    comparison: xr.Dataset, *, against: str | None = None, n_resamples: int = 9999, random_state: int | None = 0
) -> xr.Dataset:
    """Test for every finder and by every metric whether a system's mean index differs from that of another.

    Indices of two systems compare only where both were shown the same images (`comparison.shared_stimuli` tells): of
    more images, or of images that are more alike, the top ones may be more alike too, whatever the system. The tests
    are those of `contrast_finders`; nothing follows about other recordings or networks than these.

    Parameters
    ----------
    comparison : Dataset (item, metric)
        From `compare` or `run_study`. Items without an index are left out.
    against : str, optional
        The system that all others are tested against. None: the first.
    n_resamples, random_state : int, optional
        As for `contrast_finders`.

    Returns
    -------
    Dataset (test,)
        As from `contrast_finders`; `difference` is that of means (`system` − `against`). Finders with fewer than two
        items in either system are left out.

    Raises
    ------
    ValueError
        No such system in the comparison, or nothing to test it against.

    Examples
    --------
    >>> index = np.concatenate([np.linspace(-0.8, -0.6, 30), np.linspace(-0.6, -0.4, 30)])
    >>> systems = np.repeat(["V4", "net"], 30)
    >>> comparison = xr.Dataset(
    ...     {"interpretability": (("item", "metric"), index[:, None])},
    ...     {"system": ("item", systems), "finder": ("item", ["KMeans"] * 60), "metric": ["LPIPS"]})
    >>> contrast_systems(comparison, n_resamples=999).sentence.item()[:75]
    'KMeans: net (n = 30, mean −0.50) scored higher in interpretability by LPIPS'
    """
    against = str(comparison.system.values[0]) if against is None else against
    return _contrast(comparison, "system", against, n_resamples, random_state)


def _contrast(
    comparison: xr.Dataset, varied: Varied, against: str, n_resamples: int, random_state: int | None
) -> xr.Dataset:
    """Test items that differ in what is varied against those that are alike in all else."""
    names = {name: list(dict.fromkeys(comparison[name].values.tolist())) for name in KEPT}
    if against not in names[varied]:
        raise ValueError(f"no {varied} {against!r} in the comparison; it has {', '.join(names[varied])}")
    samples = _samples(comparison)
    keys, pairs = [], []
    for system, metric, finder in product(names["system"], comparison.metric.values.tolist(), names["finder"]):
        key = {"system": system, "finder": finder, "metric": metric}
        a, b = (samples.get(tuple(own.values())) for own in (key, key | {varied: against}))
        if key[varied] != against and a and b and min(a.n, b.n) > 1:
            keys.append(key)
            pairs.append((a, b))
    if not pairs:
        raise ValueError(
            f"nothing to test {against!r} against: no {KEPT[varied]} has two items of it and of another {varied}"
        )
    by_items = compare_means([(a.scores, b.scores) for a, b in pairs], n_resamples, random_state)
    tests = [_test(a, b, alone) for (a, b), alone in zip(pairs, by_items, strict=True)]
    return _put_together(keys, tests, varied, against)


def _samples(comparison: xr.Dataset) -> dict[tuple[str, str, str], Sample]:
    """Return the index of the items that have one, and that on halves, by system, finder and metric; of one seed."""
    systems, finders = (comparison[name].values for name in ("system", "finder"))
    if "seed" in comparison.coords:
        kept = np.flatnonzero((comparison.seed == comparison.seed[0]).values)
    else:
        kept = np.arange(len(systems))
    index = comparison.interpretability.transpose("item", "metric").values
    halves = None
    if "index_of_halves" in comparison:
        halves = comparison.index_of_halves.transpose("metric", "draw", "half", "item").values
    samples = {}
    for (system, finder), rows in pd.Series(kept).groupby([systems[kept], finders[kept]], sort=False):
        for i, metric in enumerate(comparison.metric.values.tolist()):
            own = rows.values[np.isfinite(index[rows, i])]
            known = np.full((1, 2, len(own)), np.nan) if halves is None else halves[i][..., own]
            samples[system, finder, metric] = Sample(index[own, i], known)
    return samples


def _test(a: Sample, b: Sample, by_items: xr.Dataset) -> xr.Dataset:
    if np.isnan(a.halves).any() or np.isnan(b.halves).any():
        return by_items.assign(p_items=by_items.p_value, difference_low=np.nan, difference_high=np.nan)
    sizes = {name: by_items[name] for name in ("cohens_d", "superiority")}
    return compare_samples(a, b).assign(sizes | {"p_items": by_items.p_value})


def _put_together(keys: list[dict[str, str]], tests: list[xr.Dataset], varied: Varied, against: str) -> xr.Dataset:
    columns = {name: np.array([test[name].item() for test in tests]) for name in TESTED}
    adjusted = adjust_p_values(xr.DataArray(columns["p_value"], dims="test"))
    sentences = [
        f"{key[KEPT[varied]]}: "
        + test_sentence(test.assign(p_value=p), key[varied], against, f"interpretability by {key['metric']}")
        for key, test, p in zip(keys, tests, adjusted, strict=True)
    ]
    return xr.Dataset(
        {name: ("test", values) for name, values in columns.items()}
        | {"p_adjusted": ("test", adjusted.values), "sentence": ("test", sentences)},
        coords={name: ("test", [key[name] for key in keys]) for name in ("system", "finder", "metric")},
        attrs={"against": against, "n_tests": len(tests), "adjustment": "Benjamini-Hochberg"},
    )
