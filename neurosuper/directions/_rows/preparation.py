"""Preparation of responses before directions are fitted: scaling, normalising, centring, whitening.

R (row, unit) responses, X (row, unit) prepared responses.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
import torch

from neurosuper.responses import name_some

SMALLEST, LARGEST = 1e-24, 1e19  # largest response: below, float32 loses digits; 1e20 and 1e30 mark missing values
ORDINARY = 2.0**-16, 2.0**16  # largest response: within these bounds responses are not scaled, and not copied
OUTSIZED = 1e6  # largest response of a unit over that of the median unit: float32 has 7 digits, others would be lost


class Preparation(NamedTuple):
    """Steps that prepare response vectors, in this order, for a fit and in `transform`.

    Responses are multiplied by `scale`; each vector is scaled to unit length; the mean is subtracted; the result is
    multiplied by `whitening` (unit, unit).
    """

    normalize: bool = False
    mean: torch.Tensor | None = None
    whitening: torch.Tensor | None = None
    scale: float = 1.0

    def __call__(self, R: torch.Tensor) -> torch.Tensor:
        """Return X `(row, unit)`; R itself if there is nothing to do."""
        if self.scale != 1:
            R = R * self.scale
        if self.normalize:
            R = torch.nn.functional.normalize(R, dim=1)
        if self.mean is not None:
            R = R - self.mean.to(R.device)
        return R if self.whitening is None else R @ self.whitening.to(R.device)

    def undo(self, X: torch.Tensor) -> torch.Tensor:
        """Return R `(row, unit)`; where vectors were normalised, their length is lost."""
        if self.whitening is not None:
            X = X @ torch.linalg.pinv(self.whitening.to(X.device), hermitian=True)
        X = X if self.mean is None else X + self.mean.to(X.device)
        return X if self.normalize or self.scale == 1 else X / self.scale

    @property
    def is_unitless(self) -> bool:
        """Whether prepared responses have no physical unit."""
        return self.normalize or self.whitening is not None

    @property
    def is_nothing(self) -> bool:
        """Whether rows do not change."""
        return not self.normalize and self.mean is None and self.whitening is None and self.scale == 1


def choose_scale(sizes: np.ndarray, units: np.ndarray) -> float:
    """Return the power of two that brings responses to an ordinary size; 1 if they have one.

    Absolute thresholds, and squares in float32, need numbers that are neither tiny nor huge, in volts as in spikes per
    second. A power of two changes no digit.

    Parameters
    ----------
    sizes : array (unit,)
        Largest |response| of each unit.
    units : array (unit,)
        Labels of the units.

    Raises
    ------
    ValueError
        The largest response is below `SMALLEST` or above `LARGEST`.

    Warns
    -----
    UserWarning
        Some units are over 10⁶ times as large as the median unit.
    """
    if not (fits := sizes < LARGEST).all():
        raise ValueError(
            f"responses are larger than {LARGEST:g} in unit {name_some(units[~fits])}; if that stands for a missing "
            "value, drop those units or stimuli, else rescale the responses (their units), e.g. responses * 1e-12"
        )
    largest = float(sizes.max())
    if largest < SMALLEST:
        raise ValueError(f"responses are smaller than {SMALLEST:g}; rescale them (their units), e.g. responses * 1e24")
    outsized = sizes > OUTSIZED * np.sort(sizes)[(len(sizes) - 1) // 2]
    if outsized.any():
        warnings.warn(
            f"responses of unit {name_some(units[outsized])} are over {OUTSIZED:g} times as large as those of the "
            "median unit, and outweigh all others; drop such units, or bring all to one scale: "
            "neurosuper.normalize(responses, 'zscore')",
            stacklevel=4,
        )
    return 1.0 if ORDINARY[0] <= largest <= ORDINARY[1] else 2.0 ** -math.frexp(largest)[1]
