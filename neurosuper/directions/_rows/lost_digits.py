"""Warnings of what rounding takes from responses: dimensions of small variance, and digits of units far from zero."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from neurosuper.directions._rows.rows import Rows
from neurosuper.responses import name_some

ROUNDING = 100  # squared relative errors of a unit: variances up to so much of its mean square may be rounding alone
EIGENVALUE_ROUNDING = 1e-13  # of the largest variance: errors of eigenvalues in float64, of thousands of units
FAR_RATIO = 1e4  # largest |response| / range of a unit: above it, float32 keeps fewer than 3 of 7 digits


def warn_of_dropped(
    what: str, rows: Rows, mean: torch.Tensor, variance: torch.Tensor, V: torch.Tensor, tolerance: float
) -> None:
    """Warn if directions are dropped whose variance is too large to come from rounding alone.

    Parameters
    ----------
    what : str
        What drops them.
    rows : Rows
    mean : tensor (unit,)
    variance : tensor (dimension,)
    V : tensor (unit, dimension)
        Directions of these variances, of unit length.
    tolerance : float
        Variances of at most `tolerance` times the largest are dropped.
    """
    largest = variance.max()
    # A unit is stored with a relative error ε: along v this adds up to Σ v_j² ε² (m_j² + σ_j²), σ_j² = Σ v_jk² λ_k.
    squares = V.double() ** 2
    mean_square = mean.double() ** 2 + squares @ variance.double().clamp(min=0)
    rounding = ROUNDING * torch.finfo(rows.dtype).eps ** 2 * (squares.T @ mean_square) + EIGENVALUE_ROUNDING * largest
    lost = (variance <= tolerance * largest) & (variance > rounding)
    if not lost.any():
        return
    units = rows.indexes["unit"][np.unique(V[:, lost].abs().argmax(0).cpu().numpy())]
    precision = "use dtype='float64', or " if what == "whitening" and rows.dtype == torch.float32 else ""
    warnings.warn(
        f"{what} drops {int(lost.sum())} of {len(V)} dimensions, mainly of unit {name_some(units)}: their variance is "
        f"at most {tolerance:g} of the largest; to keep them, {precision}bring all units to one scale: "
        "neurosuper.normalize(responses, 'zscore')",
        stacklevel=6,
    )


def warn_of_far_units(rows: Rows, least: torch.Tensor, largest: torch.Tensor) -> None:
    """Warn if float32 loses digits of units whose responses vary little about a value far from zero."""
    if rows.dtype != torch.float32 or rows.source_dtype.itemsize <= 2 or rows.source_dtype == np.float32:
        return
    far = (torch.maximum(least.abs(), largest.abs()) > FAR_RATIO * (largest - least)).cpu().numpy()
    if far.any():
        warnings.warn(
            f"responses of unit {name_some(rows.indexes['unit'][far])} are over {FAR_RATIO:g} times as large as their "
            "range, so that float32 loses digits of how they vary; use dtype='float64', or subtract their mean first",
            stacklevel=5,
        )
