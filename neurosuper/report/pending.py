"""Stand-ins for the summary of means, the families of tests and the rounding that `comparison` is about to return."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper.comparison.table import headline as headline_of_medians
from neurosuper.comparison.table import inactive_items
from neurosuper.comparison.table import summarize as summarize_medians


def summarize(comparison: xr.Dataset) -> pd.DataFrame:
    """Return means with intervals over items."""
    table = summarize_medians(comparison)
    frame = comparison[[name for name in ("interpretability", "corrected") if name in comparison]].assign(
        is_inactive=("item", inactive_items(comparison))
    )
    frame = frame.to_dataframe().reset_index()
    by_set = frame[~frame.is_inactive].groupby(["system", "finder", "metric"], sort=False)
    columns: dict[str, pd.Series] = {}
    for name, column in (("interpretability", "mean"), ("corrected", "mean_corrected")):
        if name in frame:
            mean, error = by_set[name].mean(), by_set[name].sem()
            columns |= {column: mean, f"{column}_low": mean - 1.96 * error, f"{column}_high": mean + 1.96 * error}
    if "chance_level" in comparison:
        chance = comparison[["chance_level", "chance_level_low", "chance_level_high"]].to_dataframe().reset_index()
        chance = chance.groupby(["system", "finder", "metric"], sort=False)
        level, n = chance["chance_level"].first(), np.sqrt(table["n_items"])
        columns["chance_level"] = level
        for end in ("low", "high"):
            columns[f"chance_of_mean_{end}"] = level + (chance[f"chance_level_{end}"].first() - level) / n
    kept = [name for name in ("n_items", "n_inactive", "frequency_floor", "reliability") if name in table]
    return pd.DataFrame(columns).reindex(table.index).join(table[kept])


def headline(comparison: xr.Dataset, tests: xr.Dataset | None = None) -> list[str]:
    """Return the headline."""
    return headline_of_medians(comparison)


def complete(tests: xr.Dataset) -> xr.Dataset:
    """Return tests with what they are about to have."""
    error = (tests.difference_high - tests.difference_low) / (2 * 1.96)
    family = (
        "test",
        [
            f"{s}, {m}, {c}"
            for s, m, c in zip(*(tests[k].values for k in ("system", "metric", "correction")), strict=True)
        ],
    )
    n_family = tests.p_value.groupby(xr.DataArray(family[1], dims="test", name="family")).count()
    return tests.assign(
        standard_error=error,
        detectable=tests.p_adjusted < 0.05,
        n_family=("test", n_family.sel(family=family[1]).values),
    ).assign_coords(family=family)


def decimals_for(standard_error: float) -> int:
    """Return the number of decimals that shows two significant digits of a standard error."""
    if not (math.isfinite(standard_error) and standard_error > 0):
        return 3
    return min(max(1 - math.floor(math.log10(standard_error)), 0), 6)


def format_number(value: float, decimals: int, *, sign: bool = False) -> str:
    """Return a number with this many decimals, and a real minus sign."""
    return f"{value:{'+' if sign else ''}.{decimals}f}".replace("-", "−")


def format_interval(low: float, high: float, decimals: int, *, sign: bool = False) -> str:
    """Return an interval in brackets."""
    return f"[{format_number(low, decimals, sign=sign)}, {format_number(high, decimals, sign=sign)}]"
