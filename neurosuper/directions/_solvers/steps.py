"""The state of an iterative fit after each pass, and how far its directions turned."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch


class Step(NamedTuple):
    """Where a fit stands after one more pass over the responses.

    `D` (direction, unit) are the directions, or centres, of any length; `objective` is what the method lowers (or, for
    ICA, raises); `state` is whatever else the finder needs to finish from here.
    """

    D: torch.Tensor
    objective: float
    state: Any = None


def largest_turn(before: torch.Tensor, after: torch.Tensor) -> float:
    """Return the largest 1 − cosine between directions before and after, ½‖b − a‖²/(‖b‖‖a‖), which minds length too."""
    change = ((after - before) ** 2).sum(1) / 2
    length = before.norm(dim=1) * after.norm(dim=1)
    return float((change / length.clamp(min=torch.finfo(length.dtype).tiny)).max())
