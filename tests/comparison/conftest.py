"""Systems to compare."""

import numpy as np
import pytest


@pytest.fixture
def systems(responses, make_responses, rng):
    """A brain that saw all 120 images, and a network that saw the first 80 of them."""
    brain = responses.assign_coords(area=("unit", ["V1", "V4"] * 4), subject=("unit", ["F"] * 8))
    network = make_responses(rng.random((80, 5))).assign_coords(channel=("unit", np.arange(5)))
    return {"brain": brain, "network": network}
