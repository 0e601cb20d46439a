"""Checks of the settings that finders share."""

from __future__ import annotations

import re

from neurosuper._checks import check_count, is_count
from neurosuper._memory import memory_of_machine


def count_directions(n_directions: int | str | None, n_units: int) -> int:
    """Return the number of directions that a setting asks for: a number, a multiple of the units, or None for all.

    Raises
    ------
    ValueError
        Anything else, fewer than one, or more than fit in the memory of this machine.

    Examples
    --------
    >>> count_directions("0.5x", n_units=90)
    45
    """
    if n_directions is None:
        return n_units
    if isinstance(n_directions, str) and re.fullmatch(r"\d*\.?\d+x", n_directions):
        n_directions = round(float(n_directions[:-1]) * n_units)
    if not is_count(n_directions):
        raise ValueError(
            f"n_directions must be a positive int, a multiple of the units such as '2x', or None, got {n_directions!r}"
        )
    n_bytes = 4 * int(n_directions) * n_units  # in float32
    if n_bytes > memory_of_machine():
        raise ValueError(
            f"{n_directions} directions of {n_units} units take {n_bytes / 1e9:.3g} GB, more memory than this machine "
            "has; ask for fewer"
        )
    return int(n_directions)


def check_stopping(max_iter: int, tol: float | None) -> None:
    """Check the settings at which an iterative finder stops."""
    check_count("max_iter", max_iter)
    if tol is not None and not tol >= 0:
        raise ValueError(f"tol must be a number of at least 0, or None to run all of max_iter, got {tol!r}")
