"""A comparison in which the order of the medians is known."""

import numpy as np
import pytest
import xarray as xr

from tests.plot.superposition_results import make_superposition_results

SYSTEMS = ("V4", "SqueezeNet fire8")
FINDERS = ("Units", "PCA", "KMeans")


@pytest.fixture
def comparison(rng) -> xr.Dataset:
    """Two systems × three finders × 30 items; one item has no index."""
    system, finder = (np.repeat(names, 30) for names in zip(*[(s, f) for s in SYSTEMS for f in FINDERS], strict=True))
    index = rng.normal(-0.6, 0.05, (len(system), 1))
    index[0] = np.nan
    return xr.Dataset(
        {"interpretability": (("item", "metric"), index)},
        {
            "system": ("item", system),
            "finder": ("item", finder),
            "metric": ["LPIPS-alex"],
            "quantity": ("metric", ["−LPIPS distance (AlexNet)"]),
        },
    )


@pytest.fixture
def superposition_results():
    """Return a function that makes results of all measures of superposition, by name, of two systems."""
    return make_superposition_results
