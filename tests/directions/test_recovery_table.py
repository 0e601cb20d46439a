"""Which finders recover planted atoms: the table of `tutorials/methods/README.md` and of the docstrings.

Print it with `pytest -s`. 64 or 16 atoms in 32 units; codes are sparse and not negative; atoms have any sign, or are
not negative, as tuning of firing rates. A finder that subtracts the mean is also compared with the atoms less the mean.
"""

import numpy as np
import pytest

from neurosuper.directions import (
    ICA,
    NMF,
    PCA,
    Archetypal,
    CovarianceMatched,
    DictionaryLearning,
    Exemplars,
    KMeans,
    Random,
    SparseAutoencoder,
    Units,
)

N_STIMULI, N_UNITS, N_ACTIVE = 8000, 32, 3
WORLDS = ("signed 64", "rate-like 64", "signed 16", "rate-like 16")
NONE, ALL = (0, 0.1), (0.95, 1)
EXPECTED = {  # share of atoms with a direction at a cosine above .9: at least, at most, in each of the worlds
    "KMeans": (ALL, (0.9, 1), ALL, ALL),
    "KMeans(center=True)": (ALL, NONE, (0.8, 1), NONE),
    "KMeans(center=True), atoms less mean": (ALL, (0.9, 1), ALL, (0.8, 1)),
    "DictionaryLearning(positive=True)": (ALL, ALL, ALL, ALL),
    "SparseAutoencoder": ((0.8, 1), NONE, ALL, (0, 0.2)),
    "NMF": ((0, 0.2), NONE, (0, 0.2), (0.7, 1)),  # semi-NMF of atoms of any sign
    "ICA": ((0.1, 0.5), (0.2, 0.6), ALL, ALL),
    "PCA": (NONE, NONE, NONE, NONE),
    "Archetypal": (None, None, (0.8, 1), None),  # minutes for 64; rate-like, a corner is at the origin: an error
    "Units": (NONE, NONE, NONE, NONE),
    "Random": (NONE, NONE, NONE, NONE),
    "Exemplars": ((0.2, 0.6), (0.4, 0.8), (0.2, 0.7), (0.3, 0.8)),
    "CovarianceMatched": (NONE, NONE, NONE, (0.1, 0.5)),
}


def planted(world, make_responses):
    """Return responses, and atoms (atom, unit) of unit length."""
    kind, n_atoms = world.split()[0], int(world.split()[1])
    rng = np.random.default_rng(0)
    D = rng.normal(size=(n_atoms, N_UNITS))
    D = np.abs(D) if kind == "rate-like" else D
    D /= np.linalg.norm(D, axis=1, keepdims=True)
    Z = rng.exponential(1, (N_STIMULI, n_atoms)) * (rng.random((N_STIMULI, n_atoms)) < N_ACTIVE / n_atoms)
    return make_responses(Z @ D), D


def make_finder(name, k, world):
    n_axes = min(k, N_UNITS)
    finders = {
        "KMeans": KMeans(k),
        "KMeans(center=True)": KMeans(k, center=True),
        "DictionaryLearning(positive=True)": DictionaryLearning(k, positive=True, max_iter=100),
        "SparseAutoencoder": SparseAutoencoder(k, n_active=N_ACTIVE, max_iter=60),
        "NMF": NMF(k, signed=world.startswith("signed")),
        "ICA": ICA(n_axes),
        "PCA": PCA(n_axes),
        "Archetypal": Archetypal(k, max_iter=20, tol=None),
        "Units": Units(),
        "Random": Random(k),
        "Exemplars": Exemplars(k, normalize=True),
        "CovarianceMatched": CovarianceMatched(k, normalize=True),
    }
    return finders[name.partition(",")[0]]


def less_mean(atoms, R):
    """Return the atoms as they are in responses of unit length whose mean was subtracted."""
    lengths = np.linalg.norm(R.values, axis=1)
    shifted = atoms - (R.values / np.where(lengths > 0, lengths, 1)[:, None]).mean(0)
    return shifted / np.linalg.norm(shifted, axis=1, keepdims=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*stopped after")
@pytest.mark.parametrize("world", WORLDS)
def test_planted_recovery_is_that_of_the_docstrings(world, make_responses):
    R, atoms = planted(world, make_responses)
    for name, expected in EXPECTED.items():
        if expected[WORLDS.index(world)] is None:
            continue
        low, high = expected[WORLDS.index(world)]
        planted_here = less_mean(atoms, R) if "less mean" in name else atoms
        cosine = (planted_here @ make_finder(name, len(atoms), world).fit(R).directions_.values.T).max(1)
        share = (cosine > 0.9).mean()
        print(f"{world:12s} {name:37s} share {share:.2f}; median cosine {np.median(cosine):.2f}")  # noqa: T201 - the table
        assert low <= share <= high, (world, name, share)


@pytest.mark.slow
@pytest.mark.parametrize(("world", "low", "high"), [("signed 64", 0.1, 0.3), ("rate-like 64", 0.85, 0.95)])
def test_centres_may_be_planted_atoms_and_close_to_the_mean_response(world, low, high, make_responses):
    """So a high cosine with the mean response alone does not show that nothing was found."""
    R, _ = planted(world, make_responses)
    mean = R.values.mean(0) / np.linalg.norm(R.values.mean(0))
    cosine = (KMeans(64).fit(R).directions_.values @ mean).mean()
    print(f"{world:12s} mean cosine of centres with the mean response {cosine:.2f}")  # noqa: T201 - the page on K-means
    assert low < cosine < high
