"""Names and reliabilities as a page shows them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neurosuper._rounding import format_number
from neurosuper.interpretability.disjoint_stimuli import RELIABLE_ENOUGH


def unique_names(names: xr.DataArray) -> list[str]:
    """Return each name once, in the order in which they first occur."""
    return list(dict.fromkeys(names.values.astype(str).tolist()))


def digits_of(values: np.ndarray) -> int:
    """Return the number of decimals that shows three significant digits of the largest value."""
    largest = np.abs(values[np.isfinite(values)]).max(initial=0)
    return int(np.clip(2 - np.floor(np.log10(largest)), 0, 6)) if largest else 2


def is_unreliable(reliability: float) -> bool:
    """Return whether the index says too little about single items; False if its reliability is not known.

    Between halves of the stimuli it is r. On all of them, 2r/(1 + r) is expected (Spearman–Brown), as in
    `index_reliability`.
    """
    return 2 * reliability < RELIABLE_ENOUGH * (1 + reliability)


def describe_reliability(reliability: float) -> str:
    """Return the reliability of single items as text."""
    return format_number(reliability, 2) if np.isfinite(reliability) else "unknown"
