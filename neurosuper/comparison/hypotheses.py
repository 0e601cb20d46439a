"""Tests of the hypotheses that were stated before the scores existed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._rounding import decimals_for, format_interval, format_number, format_p
from neurosuper.comparison.contrast import CONFIDENCE_LEVEL, CORRECTIONS, NothingToTestError, References, contrast_pairs
from neurosuper.comparison.selections import whole_comparison
from neurosuper.comparison.variable_attrs import add_attrs
from neurosuper.inference import adjust_p_values
from neurosuper.inference.permutation import ALPHA

CLAIMS = {"greater": "above", "less": "below", "two-sided": "different from"}
NAMED = {"system": "system", "finder": "finder", "against": "finder", "metric": "metric"}  # the coord of each name
KEYS = ("system", "finder", "metric", "against", "correction", "alternative")


def contrast_hypotheses(comparison: xr.Dataset, hypotheses: Sequence[Mapping[str, str]]) -> xr.Dataset:
    """Return the tests of stated hypotheses, adjusted over these alone.

    The tests are those of `contrast_finders`; a one-sided p is half the two-sided one if the difference has the stated
    direction, else 1 minus this half. Whether the hypotheses were stated before scores existed is not known here:
    `run_study` writes it down.

    Parameters
    ----------
    comparison : Dataset (item, metric)
        From `compare` or `run_study`.
    hypotheses : sequence of mapping
        Each with `system`, `finder`, `metric`, `against`, `correction` ("hub" or "none") and `alternative` ("greater",
        "less" or "two-sided"); see `neurosuper.study.Hypothesis`. Other keys are ignored.

    Returns
    -------
    Dataset (test,)
        Coords: the keys above. `difference` (finder − against) with `difference_low` and `difference_high` (two-sided
        95 %) and `standard_error`, `p_value`, `p_adjusted` over all hypotheses (Benjamini and Hochberg 1995),
        `supported` (adjusted p below 0.05), and `sentence`. A hypothesis about a set with fewer than two active items
        is not tested: its sentence says so, its numbers are NaN, and p is adjusted over the others.

    Raises
    ------
    ValueError
        No hypothesis, or one about a system, finder, metric or correction that the comparison does not have.

    See Also
    --------
    contrast_finders : All contrasts of a comparison.
    neurosuper.run_study : Writes hypotheses down before scores exist.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> index, finders = np.linspace(-0.8, -0.4, 60)[:, None], ["Units"] * 30 + ["KMeans"] * 30
    >>> comparison = xr.Dataset({"interpretability": (("item", "metric"), index)}, {
    ...     "system": ("item", ["V4"] * 60), "finder": ("item", finders), "metric": ["LPIPS"]})
    >>> stated = {"system": "V4", "finder": "KMeans", "metric": "LPIPS", "against": "Units"}
    >>> tests = contrast_hypotheses(comparison, [stated | {"correction": "none", "alternative": "greater"}])
    >>> tests.sentence.item()[:77]
    'V4: KMeans above Units by LPIPS, not corrected: supported (difference +0.203;'
    """
    if not hypotheses:
        raise ValueError("no hypotheses to test; name at least one")
    comparison = whole_comparison(comparison)
    references: dict[tuple[str, str], dict[str, str]] = {}
    for stated in hypotheses:
        _check_stated(comparison, stated)
        references.setdefault((stated["system"], stated["finder"]), {})[stated["against"]] = stated["against"]
    found = _find_all(comparison, references, hypotheses)
    columns = {
        name: np.array([np.nan if test is None else test[name].item() for test in found])
        for name in ("difference", "difference_low", "difference_high", "standard_error")
    }
    p_values = np.array([_p_value(test, stated) for test, stated in zip(found, hypotheses, strict=True)])
    is_tested = np.isfinite(p_values)
    adjusted = p_values.copy()
    if n_tests := int(is_tested.sum()):
        adjusted[is_tested] = adjust_p_values(xr.DataArray(p_values[is_tested], dims="test")).values
    table = pd.DataFrame(columns | {"p_value": p_values, "p_adjusted": adjusted, "supported": adjusted < ALPHA})
    table["sentence"] = [
        _sentence(stated, row, n_tests) for stated, (_, row) in zip(hypotheses, table.iterrows(), strict=True)
    ]
    tests = xr.Dataset(
        {name: ("test", table[name].to_numpy()) for name in table},
        coords={key: ("test", [stated[key] for stated in hypotheses]) for key in KEYS},
        attrs={"n_tests": n_tests, "adjustment": "Benjamini-Hochberg", "confidence_level": CONFIDENCE_LEVEL},
    )
    return add_attrs(tests)


def _check_stated(comparison: xr.Dataset, stated: Mapping[str, str]) -> None:
    """Raise unless the comparison has what a hypothesis names."""
    if stated["correction"] != "none" and "corrected" not in comparison:
        raise ValueError("the comparison has no corrected index; score it again, or state correction='none'")
    for key, coord in NAMED.items():
        if stated[key] not in comparison[coord].values:
            known = ", ".join(dict.fromkeys(comparison[coord].values.tolist()))
            raise ValueError(f"a hypothesis has the {key} {stated[key]!r}; the comparison has {known}")


def is_about(stated: Mapping[str, str], comparison: xr.Dataset) -> bool:
    """Return whether a comparison, which may be a part of a study, has all names of a hypothesis."""
    return all(stated[key] in comparison[coord].values for key, coord in NAMED.items())


def describe_claim(stated: Mapping[str, str]) -> str:
    """Return what a hypothesis claims, such as "V4: KMeans above Units by LPIPS, hub-corrected"."""
    return (
        f"{stated['system']}: {stated['finder']} {CLAIMS[stated['alternative']]} {stated['against']} by "
        f"{stated['metric']}, {CORRECTIONS[stated['correction']]}"
    )


def _find_all(
    comparison: xr.Dataset, references: References, hypotheses: Sequence[Mapping[str, str]]
) -> list[xr.Dataset | None]:
    """Return the contrast that each hypothesis is about; None where a set has too few items for a test."""
    try:
        contrasts = contrast_pairs(comparison, "finder", references)
    except NothingToTestError:
        return [None] * len(hypotheses)
    found: list[xr.Dataset | None] = []
    for stated in hypotheses:
        keys = ("system", "finder", "metric", "against", "correction")
        here = np.logical_and.reduce([contrasts[key].values == stated[key] for key in keys])
        found.append(contrasts.isel(test=int(np.flatnonzero(here)[0])) if here.any() else None)
    return found


def _p_value(test: xr.Dataset | None, stated: Mapping[str, str]) -> float:
    if test is None:
        return float("nan")
    p, alternative = float(test.p_value), stated["alternative"]
    if alternative == "two-sided":
        return p
    as_stated = float(test.difference) * (1 if alternative == "greater" else -1) > 0
    return p / 2 if as_stated else 1 - p / 2


def _sentence(stated: Mapping[str, str], row: pd.Series, n_tests: int) -> str:
    claim = describe_claim(stated)
    if np.isnan(row.p_value):
        return f"{claim}: not tested, as {stated['finder']} or {stated['against']} has fewer than two active items."
    verdict = "supported" if row.supported else "not supported"
    sides = "two-sided" if stated["alternative"] == "two-sided" else "one-sided"
    decimals = decimals_for(row.standard_error, row.difference)
    interval = ""
    if np.isfinite(row.difference_low):
        interval = f", 95 % interval {format_interval(row.difference_low, row.difference_high, decimals)}"
    adjusted = f"adjusted p {format_p(row.p_adjusted)} (family of {n_tests})"
    if n_tests == 1:
        adjusted = "not adjusted: one hypothesis"
    return (
        f"{claim}: {verdict} (difference {format_number(row.difference, decimals, sign=True)}{interval}; {sides} p "
        f"{format_p(row.p_value)}, {adjusted})."
    )
