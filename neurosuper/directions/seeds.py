"""Random numbers from a seed; global state is never touched."""

from __future__ import annotations

import numpy as np
import torch


def seeded_generator(random_state: int | None) -> torch.Generator:
    """Return a generator on the CPU; None draws a new seed.

    Raises
    ------
    TypeError
        Neither an int nor None.
    """
    if not isinstance(random_state, int | np.integer | None):
        raise TypeError(f"random_state must be an int or None, got {type(random_state).__name__}")
    generator = torch.Generator()
    if random_state is None:
        generator.seed()
    else:
        generator.manual_seed(int(random_state))
    return generator
