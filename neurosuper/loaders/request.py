"""What a user says about the form of responses: names of axes, labels, trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Request"]


@dataclass(frozen=True)
class Request:
    """The settings of `as_responses` and `load_array` that say which axis and which label is which."""

    dims: Sequence[str] | None = None
    stimuli: Any = None
    units: Any = None
    trials: Any = None
    unit_coords: Mapping[str, Any] = field(default_factory=dict)
    what: str = "values"  # name of the array or file in errors
    token: str | None = None  # of a large array of a file: it becomes a dask array of this name

    def __post_init__(self) -> None:
        if "unit" in self.unit_coords:
            raise ValueError("unit= would be labels of units; pass them as units=")
