"""Which finders recover planted atoms in superposition: 64 atoms in 32 units, the table of the docstrings.

Print it with `pytest -s`. Codes are sparse, not negative; atoms have any sign, or are not negative, as tuning of rates.
"""

import numpy as np
import pytest

from neurosuper.directions import NMF, DictionaryLearning, KMeans, SparseAutoencoder

N_STIMULI, N_UNITS, N_ATOMS, N_ACTIVE = 8000, 32, 64, 3
EXPECTED = {  # share of atoms with a direction at a cosine above .9: at least, at most
    ("signed", "KMeans"): (0.95, 1),
    ("signed", "DictionaryLearning"): (0.95, 1),
    ("signed", "SparseAutoencoder"): (0.8, 1),
    ("signed", "NMF"): (0, 0.2),  # semi-NMF
    ("rate-like", "KMeans"): (0.9, 1),
    ("rate-like", "DictionaryLearning"): (0.95, 1),
    ("rate-like", "SparseAutoencoder"): (0, 0.1),
    ("rate-like", "NMF"): (0, 0.1),
}


def planted(kind, make_responses):
    """Return responses, and atoms (atom, unit) of unit length."""
    rng = np.random.default_rng(0)
    D = rng.normal(size=(N_ATOMS, N_UNITS))
    D = np.abs(D) if kind == "rate-like" else D
    D /= np.linalg.norm(D, axis=1, keepdims=True)
    Z = rng.exponential(1, (N_STIMULI, N_ATOMS)) * (rng.random((N_STIMULI, N_ATOMS)) < N_ACTIVE / N_ATOMS)
    return make_responses(Z @ D), D


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*stopped after")
@pytest.mark.parametrize("kind", ["signed", "rate-like"])
def test_planted_recovery_is_that_of_the_docstrings(kind, make_responses):
    R, atoms = planted(kind, make_responses)
    for finder in (
        KMeans(N_ATOMS),
        DictionaryLearning(N_ATOMS, positive=True, max_iter=100),
        SparseAutoencoder(N_ATOMS, n_active=N_ACTIVE, max_iter=60),
        NMF(N_ATOMS, signed=kind == "signed"),
    ):
        name = type(finder).__name__
        cosine = (atoms @ finder.fit(R).directions_.values.T).max(1)
        share = (cosine > 0.9).mean()
        print(f"{kind:10s} {name:20s} share {share:.2f}; median cosine {np.median(cosine):.2f}")  # noqa: T201 - the table
        low, high = EXPECTED[kind, name]
        assert low <= share <= high, (kind, name, share)
