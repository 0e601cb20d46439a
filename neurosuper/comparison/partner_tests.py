"""Correlations of items with their partners: with permuted stimuli, and with random rotations of the items."""

from __future__ import annotations

import numba
import numpy as np

from neurosuper._kernels import FASTMATH, njit
from neurosuper._progress import progress
from neurosuper.comparison.halved_systems import Half
from neurosuper.comparison.pairings import Pairing, correlate, correlate_columns, standardize
from neurosuper.inference.null_draws import p_of_draws

TILE = 32  # items: two tiles of 1,000 stimuli take 0.5 MiB, and stay in the cache of a core
BLOCK = 100  # draws between two steps of the progress bar


def p_of_partners(
    own: np.ndarray, theirs: np.ndarray, r: np.ndarray, groups: np.ndarray | None, n_permutations: int, seed: int
) -> tuple[np.ndarray, float]:
    """Return p of each item, and of the largest r, from permutations of the stimuli of partners, which stay.

    Parameters
    ----------
    own, theirs : array (stimulus, item)
        Codes of items and of their partners.
    r : array (item,)
        Their correlations, NaN for items that are not tested.
    groups : array (stimulus,), or None
        Stimuli are permuted within these.
    n_permutations, seed : int
    """
    has = np.isfinite(r)
    p = np.full(len(r), np.nan)
    if not has.any():
        return p, np.nan
    own, theirs = _tiles(standardize(own[:, has])), _tiles(standardize(theirs[:, has]))
    rng, members = np.random.default_rng([seed, 1]), _members(own.shape[1], groups)
    draws = np.empty((n_permutations, int(has.sum())))
    bar = progress(total=n_permutations, desc="permutations", unit="draw", leave=False)
    for start in range(0, n_permutations, BLOCK):
        orders = np.stack([_shuffled(members, rng) for _ in range(min(BLOCK, n_permutations - start))])
        sums = np.zeros((len(own), len(orders), TILE))
        _add_permuted_products(own, theirs, orders, sums)
        draws[start : start + len(orders)] = np.hstack(list(sums))[:, : draws.shape[1]]
        bar.update(len(orders))
    bar.close()
    p[has] = p_of_draws(r[has], draws)
    return p, float(p_of_draws(r[has].max(), draws.max(axis=1)))


@njit(parallel=True, fastmath=FASTMATH)
def _add_permuted_products(own: np.ndarray, theirs: np.ndarray, orders: np.ndarray, sums: np.ndarray) -> None:
    """Add Σ_s own[s] theirs[order[s]] of each item and order to `sums` (tile, order, item)."""
    for tile in numba.prange(len(own)):
        for draw in range(len(orders)):
            for s in range(orders.shape[1]):
                other = orders[draw, s]
                for item in range(own.shape[2]):
                    sums[tile, draw, item] += own[tile, s, item] * theirs[tile, other, item]


def _tiles(Z: np.ndarray) -> np.ndarray:
    """Return columns (stimulus, item) by tiles, (tile, stimulus, item of the tile), with columns of 0 at the end."""
    n_tiles = -(-Z.shape[1] // TILE)
    padded = np.zeros((len(Z), n_tiles * TILE))
    padded[:, : Z.shape[1]] = Z
    return np.ascontiguousarray(padded.reshape(len(Z), n_tiles, TILE).transpose(1, 0, 2))


def _members(n: int, groups: np.ndarray | None) -> list[np.ndarray]:
    """Return the positions of the stimuli of each group."""
    if groups is None:
        return [np.arange(n, dtype=np.int32)]
    return [np.flatnonzero(groups == group).astype(np.int32) for group in np.unique(groups)]


def _shuffled(members: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Return a random order of stimuli, in which each stays among those of its group."""
    order = np.empty(sum(map(len, members)), np.int32)
    for group in members:
        order[group] = rng.permutation(group)
    return order


def rotate_partners(
    A: Half, B: Half, match: str, signed: bool, mass: float | None, n_rotations: int, seed: int
) -> np.ndarray:
    """Return the median r of random rotations of A, with partners of their own: (rotation,)."""
    n_fit, medians, rng = len(A.fit), [], np.random.default_rng([seed, 2])
    X = np.concatenate([A.fit, A.score])
    n_items = X.shape[1]
    # Of fewer stimuli than items, X = L W with orthonormal rows W; W Q of a random rotation Q is a random frame.
    L = np.linalg.qr(X.T)[1].T if len(X) < n_items else X
    for _ in progress(range(n_rotations), desc="rotations", unit="rotation", leave=False):
        turned = L @ _random_frame(L.shape[1], n_items, rng)
        pairing = Pairing.of(correlate(turned[:n_fit], B.fit), match, signed, mass)
        r = correlate_columns(turned[n_fit:], pairing.courses(B.score))[pairing.has]
        medians.append(np.median(r) if len(r) else 0.0)
    return np.array(medians)


def _random_frame(n_rows: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return orthonormal rows of n dimensions, uniform over all rotations: a rotation for n rows."""
    # Q of the QR decomposition of a Gaussian matrix is uniform if R has a positive diagonal (Mezzadri 2007)
    Q, R = np.linalg.qr(rng.normal(size=(n, n_rows)))
    return (Q * np.sign(R.diagonal())).T
