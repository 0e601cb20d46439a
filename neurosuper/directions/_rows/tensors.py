"""Arrays of any real dtype as tensors."""

from __future__ import annotations

import numpy as np
import torch

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def to_tensor(values: np.ndarray, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return an array of any real dtype, layout or byte order as a tensor; copied only if necessary."""
    target = torch.empty(0, dtype=dtype).numpy().dtype
    try:
        with np.errstate(over="raise"):
            return torch.from_numpy(np.require(values, target, ["C", "W"])).to(device)
    except FloatingPointError as error:
        raise ValueError(
            f"responses are larger than the largest {target}; rescale them (their units), e.g. responses * 1e-12"
        ) from error


def require_finite(values: np.ndarray) -> np.ndarray:
    """Return values of a block unchanged, or refuse NaN and infinity, which a lazy array may contain."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = values.sum()  # one pass; finite only where all values are
    if not np.isfinite(total) and (n_bad := int((~np.isfinite(values)).sum())):
        raise ValueError(f"responses contain {n_bad} NaN or infinite values in a block of stimuli; drop them")
    return values


def require_finite_codes(codes: np.ndarray) -> np.ndarray:
    """Return codes unchanged, or refuse responses so much larger than those of the fit that codes overflow."""
    if not np.isfinite(codes.sum(dtype=np.float64)):
        raise ValueError(
            "codes are not finite: the responses are far larger than those of the fit; are they in the same units?"
        )
    return codes
