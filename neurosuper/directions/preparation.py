"""What is done to responses first.

R (row, unit) responses, X the same, prepared.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class Preparation(NamedTuple):
    """What is done to response vectors before directions are sought, in this order; the same in `transform`.

    Each is scaled to unit length; the mean is taken off; they are whitened `(unit, unit)`.
    """

    normalize: bool = False
    mean: torch.Tensor | None = None
    whitening: torch.Tensor | None = None

    def __call__(self, R: torch.Tensor) -> torch.Tensor:
        """Return X `(row, unit)`, a new tensor unless there is nothing to do."""
        if self.normalize:
            R = torch.nn.functional.normalize(R, dim=1)
        if self.mean is not None:
            R = R - self.mean.to(R.device)
        return R if self.whitening is None else R @ self.whitening.to(R.device)

    def undo(self, X: torch.Tensor) -> torch.Tensor:
        """Return R `(row, unit)`, whose length is that of X where it was normalised."""
        if self.whitening is not None:
            X = X @ torch.linalg.pinv(self.whitening.to(X.device), hermitian=True)
        return X if self.mean is None else X + self.mean.to(X.device)

    @property
    def is_unitless(self) -> bool:
        """Whether prepared responses have lost their physical unit."""
        return self.normalize or self.whitening is not None

    @property
    def is_nothing(self) -> bool:
        """Whether rows stay as they are."""
        return not self.normalize and self.mean is None and self.whitening is None
