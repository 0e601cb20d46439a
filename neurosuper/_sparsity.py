"""Hoyer's sparsity, from the norms of codes in NumPy or torch."""

from __future__ import annotations

from typing import TypeVar

Numbers = TypeVar("Numbers")  # arrays of NumPy, tensors of torch


def hoyer(total: Numbers, length: Numbers, n: int) -> Numbers:
    """Return (√n − ‖z‖₁/‖z‖₂)/(√n − 1): 0 if all n codes are equal, 1 if only one is not zero, or there is only one.

    Parameters
    ----------
    total, length : array or tensor
        ‖z‖₁, the sum of absolute codes, and ‖z‖₂ > 0, the root of the sum of their squares.
    n : int
        Number of codes.

    References
    ----------
    Hoyer 2004, J. Mach. Learn. Res. 5, 1457 (section 3.1).

    Examples
    --------
    >>> hoyer(3.0, 3.0, 9), hoyer(9.0, 3.0, 9)
    (1.0, 0.0)
    """
    root = n**0.5
    return (root - total / length) / (root - 1) if n > 1 else total / length  # type: ignore[operator]
