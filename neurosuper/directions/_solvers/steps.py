"""The state of an iterative fit after each pass, and the largest change of its directions."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch


class Step(NamedTuple):
    """The state of a fit after one more pass over the responses.

    Parameters
    ----------
    D : Tensor (direction, unit)
        The directions, or centres, of any length.
    objective : float
        The value that the method minimises (or, for ICA, maximises).
    state : object, optional
        Anything else that the finder needs to finish from here.

    See Also
    --------
    neurosuper.directions.IterativeFinder : yields one after every pass.

    Examples
    --------
    >>> import torch
    >>> Step(torch.eye(2), objective=0.5).objective
    0.5
    """

    D: torch.Tensor
    objective: float
    state: Any = None


def largest_turn(before: torch.Tensor, after: torch.Tensor) -> float:
    """Return the largest change of a direction, ½‖b − a‖² / (‖b‖‖a‖): 1 − cosine if its length does not change."""
    change = ((after - before) ** 2).sum(1) / 2
    length = before.norm(dim=1) * after.norm(dim=1)
    return float((change / length.clamp(min=torch.finfo(length.dtype).tiny)).max())
