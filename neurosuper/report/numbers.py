"""Numbers and names as a page shows them."""

from __future__ import annotations

import numpy as np
import xarray as xr


def unique_names(names: xr.DataArray) -> list[str]:
    """Return each name once, in the order in which they first occur."""
    return list(dict.fromkeys(names.values.astype(str).tolist()))


def digits_of(values: np.ndarray) -> int:
    """Return the number of decimals that shows three significant digits of the largest value."""
    largest = np.abs(values[np.isfinite(values)]).max(initial=0)
    return int(np.clip(2 - np.floor(np.log10(largest)), 0, 6)) if largest else 2


def format_number(value: float, digits: int) -> str:
    """Return a number with this many decimals, and a real minus sign."""
    return f"{value:.{digits}f}".replace("-", "−")


def describe_reliability(reliability: float) -> str:
    """Return the reliability of single items as text."""
    return f"{reliability:.2f}".replace("-", "−") if np.isfinite(reliability) else "unknown"
