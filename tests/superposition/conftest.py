"""A toy world with known features, shared by the tests of this room."""

import pytest

from neurosuper.demo.superposed import superposed


@pytest.fixture(scope="module")
def world():
    return superposed(n_features=60, n_units=20, n_stimuli=400, active=0.1, random_state=1)
