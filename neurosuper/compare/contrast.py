"""Test finders against one another, within each system."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neurosuper.inference import adjust_p_values, describe_test, permutation_test

TESTED = ("difference", "p_value", "cohens_d", "superiority", "estimate_a", "estimate_b", "n_a", "n_b")


def contrast_finders(
    comparison: xr.Dataset, against: str = "Units", *, n_resamples: int = 9999, random_state: int | None = 0
) -> xr.Dataset:
    """Test in every system and by every metric whether a finder's median index differs from that of another.

    Unpaired permutation tests of medians, two-sided; p-values are adjusted over all of them (Benjamini and Hochberg
    1995). Items are taken as independent, although those of one system share stimuli and directions are alike, so that
    p is too small (tutorial 04 measures by how much), and speaks of these recordings only. Of several seeds the first
    is tested, because items of different seeds are not independent at all.

    Parameters
    ----------
    comparison : Dataset (item, metric)
        From `compare` or `run_study`. Items without an index are left out.
    against : str, optional
        The finder that all others are tested against.
    n_resamples : int, optional
        Random permutations of each test.
    random_state : int, optional

    Returns
    -------
    Dataset (test,)
        Coords `system`, `finder` and `metric`; `difference` of medians (finder − `against`), `p_value`, `p_adjusted`,
        `cohens_d`, `superiority`, `estimate_a` and `estimate_b` (the medians), `n_a`, `n_b`, and `sentence`, which a
        paper could quote; it claims a direction where the adjusted p is below 0.05. Systems with fewer than two items
        of either finder are left out.

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
    finders = list(dict.fromkeys(comparison.finder.values.tolist()))
    if against not in finders:
        raise ValueError(f"no finder {against!r} in the comparison; it has {', '.join(finders)}")
    items = comparison
    if "seed" in comparison.coords:
        items = comparison.isel(item=(comparison.seed == comparison.seed[0]).values)
    keys, tests = [], []
    for system in dict.fromkeys(items.system.values.tolist()):
        for metric in items.metric.values.tolist():
            for finder in finders:
                a, b = (_scores(items, system, metric, name) for name in (finder, against))
                if finder != against and min(a.size, b.size) > 1:
                    keys.append((system, finder, metric))
                    tests.append(
                        permutation_test(a, b, statistic="median", n_resamples=n_resamples, random_state=random_state)
                    )
    if not tests:
        raise ValueError(f"nothing to test {against!r} against: no system has two items of it and of another finder")
    return _put_together(keys, tests, against)


def _scores(items: xr.Dataset, system: str, metric: str, finder: str) -> xr.DataArray:
    own = items.interpretability.sel(metric=metric)[((items.system == system) & (items.finder == finder)).values]
    return own[np.isfinite(own.values)].reset_coords(drop=True)


def _put_together(keys: list[tuple[str, str, str]], tests: list[xr.Dataset], against: str) -> xr.Dataset:
    columns = {name: np.array([test[name].item() for test in tests]) for name in TESTED}
    adjusted = adjust_p_values(xr.DataArray(columns["p_value"], dims="test")).values
    sentences = [
        f"{system}: {describe_test(test.assign(p_value=p), finder, against, f'interpretability by {metric}')}"
        for (system, finder, metric), test, p in zip(keys, tests, adjusted, strict=True)
    ]
    coords = {name: ("test", [key[i] for key in keys]) for i, name in enumerate(("system", "finder", "metric"))}
    return xr.Dataset(
        {name: ("test", values) for name, values in columns.items()}
        | {"p_adjusted": ("test", adjusted), "sentence": ("test", sentences)},
        coords=coords,
        attrs={"against": against, "n_tests": len(tests), "adjustment": "Benjamini-Hochberg"} | tests[0].attrs,
    )
