"""Random numbers from a seed; global state is never touched."""

from __future__ import annotations

import torch

from neurosuper._checks import check_seed


def seeded_generator(random_state: int | None) -> torch.Generator:
    """Return a generator on the CPU; None draws a new seed.

    Raises
    ------
    TypeError
        Neither an int nor None.
    """
    seed, generator = check_seed(random_state), torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator
