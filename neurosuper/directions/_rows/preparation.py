"""What is done to responses first.

R (row, unit) responses, X the same, prepared.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
import torch

from neurosuper.responses import name_some

SMALLEST, LARGEST = 1e-24, 1e19  # of the largest response: float32 loses digits below; 1e20 and 1e30 mean "missing"
ORDINARY = 2.0**-16, 2.0**16  # of the largest response: such responses are taken as they are, without a copy
OUTSIZED = 1e6  # times the median unit: rounding in float32 leaves little of the other units beside it


class Preparation(NamedTuple):
    """What is done to response vectors before directions are sought, in this order; the same in `transform`.

    They are multiplied by `scale`; each is scaled to unit length; the mean is taken off; they are whitened
    `(unit, unit)`.
    """

    normalize: bool = False
    mean: torch.Tensor | None = None
    whitening: torch.Tensor | None = None
    scale: float = 1.0

    def __call__(self, R: torch.Tensor) -> torch.Tensor:
        """Return X `(row, unit)`, a new tensor unless there is nothing to do."""
        if self.scale != 1:
            R = R * self.scale
        if self.normalize:
            R = torch.nn.functional.normalize(R, dim=1)
        if self.mean is not None:
            R = R - self.mean.to(R.device)
        return R if self.whitening is None else R @ self.whitening.to(R.device)

    def undo(self, X: torch.Tensor) -> torch.Tensor:
        """Return R `(row, unit)`, whose length is that of X where it was normalised."""
        if self.whitening is not None:
            X = X @ torch.linalg.pinv(self.whitening.to(X.device), hermitian=True)
        X = X if self.mean is None else X + self.mean.to(X.device)
        return X if self.normalize or self.scale == 1 else X / self.scale

    @property
    def is_unitless(self) -> bool:
        """Whether prepared responses have lost their physical unit."""
        return self.normalize or self.whitening is not None

    @property
    def is_nothing(self) -> bool:
        """Whether rows stay as they are."""
        return not self.normalize and self.mean is None and self.whitening is None and self.scale == 1


def choose_scale(sizes: np.ndarray, units: np.ndarray) -> float:
    """Return the power of two that brings responses to an ordinary size, 1 where they are of one.

    Volts and tesla are as good as spikes per second then: thresholds that are absolute, and squares in float32, need
    numbers that are neither tiny nor huge. A power of two changes no digit.

    Parameters
    ----------
    sizes : array (unit,)
        The largest |response| of each unit.
    units : array (unit,)
        Their labels.

    Raises
    ------
    ValueError
        The largest response of all is beyond `SMALLEST` or `LARGEST`.

    Warns
    -----
    UserWarning
        Some units are 10⁶ times as large as the median one.
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
