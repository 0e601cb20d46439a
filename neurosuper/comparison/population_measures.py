"""Measures of similarity as functions of the stimuli to score on, for `compare_populations`.

A, B (stimulus, item) codes of two systems. Each measure learns what it needs once, and then scores any of the stimuli
(for intervals), or all of them with those of the second system shuffled (for tests).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper.comparison.distance_matrices import squared_distances
from neurosuper.comparison.encoding import ALPHAS, predict_fold
from neurosuper.comparison.halved_systems import Half, Learned
from neurosuper.comparison.kernel_alignment import unbiased_hsic
from neurosuper.comparison.pair_kernels import shuffled_product
from neurosuper.comparison.pairings import Pairing, correlate, correlate_columns, standardize
from neurosuper.comparison.population_items import Column, Population
from neurosuper.comparison.rotated_systems import learn_rotations, score_rotations
from neurosuper.comparison.shared_stimuli import groups_of, number_folds, shuffle_stimuli_order

N_FOLDS = 5  # of encoding and Procrustes, whose defaults these are


class World(NamedTuple):
    """What all measures share: the systems, the pairs to compare, and how to divide stimuli."""

    populations: Mapping[str, Population]
    pairs: Sequence[tuple[str, str]]
    stimulus_groups: str | None
    remove: str
    seed: int

    def groups(self, name: str) -> np.ndarray | None:
        """Return the group of each stimulus to score on."""
        return None if self.stimulus_groups is None else groups_of(self.populations[name].score, self.stimulus_groups)

    def folds(self, name: str) -> np.ndarray:
        """Return the fold of each stimulus to score on, the same in all systems."""
        return number_folds(self.populations[name].score, self.groups(name), N_FOLDS, self.seed)


class Measure(Protocol):
    """A measure of all pairs of systems by one kind of items."""

    def score(self, rows: np.ndarray) -> np.ndarray:
        """Return the measure (pair,) of the stimuli at these positions."""

    def shuffled(self, orders: Sequence[np.ndarray]) -> np.ndarray:
        """Return the measure (draw, pair) with the stimuli of the second system in each order."""


class Alignment:
    """Debiased linear CKA."""

    def __init__(self, column: Column, world: World) -> None:
        self.X = {name: codes.score for name, codes in column.codes.items()}
        self.pairs = world.pairs

    def score(self, rows: np.ndarray) -> np.ndarray:
        """Return the CKA (pair,) of some stimuli."""
        X = {name: _Centred.of(each[rows]) for name, each in self.X.items()}
        own = {name: _hsic(each, each) for name, each in X.items()}
        return np.array([_hsic(X[a], X[b]) / _root(own[a] * own[b]) for a, b in self.pairs])

    def shuffled(self, orders: Sequence[np.ndarray]) -> np.ndarray:
        """Return the CKA (draw, pair) of shuffled stimuli, which changes the numerator alone."""
        X = {name: _Centred.of(each) for name, each in self.X.items()}
        own = {name: _hsic(each, each) for name, each in X.items()}
        scales = np.array([_root(own[a] * own[b]) for a, b in self.pairs])
        return np.array([[_hsic(X[a], X[b].take(order)) for a, b in self.pairs] for order in orders]) / scales


class _Centred(NamedTuple):
    """Codes of mean 0, and their squared lengths: the diagonal of K."""

    X: np.ndarray  # (stimulus, item)
    d: np.ndarray  # (stimulus,)

    @classmethod
    def of(cls, X: np.ndarray) -> _Centred:
        X = X - X.mean(axis=0)
        return cls(X, np.einsum("si,si->s", X, X))

    def take(self, order: np.ndarray) -> _Centred:
        return _Centred(self.X[order], self.d[order])


def _hsic(a: _Centred, b: _Centred) -> float:
    """Return the unbiased HSIC, from products of items or of stimuli, depending on which are fewer."""
    n = len(a.X)
    of_items = a.X.shape[1] * b.X.shape[1] < n * n
    # tr K L = ‖Aᵀ B‖²
    trace = ((a.X.T @ b.X) ** 2).sum() if of_items else np.vdot(a.X @ a.X.T, b.X @ b.X.T)
    return float(unbiased_hsic(trace, a.d.sum() * b.d.sum(), a.d @ b.d, n))


class Dissimilarity:
    """Representational similarity: rho-a of squared Euclidean distances."""

    def __init__(self, column: Column, world: World) -> None:
        self.pairs, self.n = world.pairs, len(next(iter(column.codes.values())).score)
        self.ends = np.triu_indices(self.n, 1)
        # the place of each distance among all different ones: any stimuli are then ranked without sorting
        self.place = {
            name: (stats.rankdata(_distances(codes.score)[self.ends], "dense") - 1).astype(np.int32)
            for name, codes in column.codes.items()
        }

    def score(self, rows: np.ndarray) -> np.ndarray:
        """Return rho-a (pair,) of some stimuli."""
        is_in = np.zeros(self.n, bool)
        is_in[rows] = True
        used = np.flatnonzero(is_in[self.ends[0]] & is_in[self.ends[1]])
        ranks = {name: _ranks(place[used]) for name, place in self.place.items()}
        return np.array([ranks[a] @ ranks[b] for a, b in self.pairs]) / _spread(len(used))

    def shuffled(self, orders: Sequence[np.ndarray]) -> np.ndarray:
        """Return rho-a (draw, pair) of shuffled stimuli, which permutes rows and columns of a matrix of ranks."""
        F = {name: np.zeros((self.n, self.n)) for name in self.place}
        for name, place in self.place.items():
            F[name][self.ends] = _ranks(place)
            F[name] += F[name].T  # each distance is there twice
        scale = 2 * _spread(len(self.ends[0]))
        return np.array([[shuffled_product(F[a], F[b], order) for a, b in self.pairs] for order in orders]) / scale


class Rotation:
    """The cosine after the best rotation, learned on other folds of the stimuli."""

    def __init__(self, column: Column, world: World) -> None:
        self.codes = [(column.codes[a].score, column.codes[b].score) for a, b in world.pairs]
        self.fold = world.folds(world.pairs[0][0])
        self.learned = [learn_rotations(A, B, self.fold, 1.0) for A, B in self.codes]

    def score(self, rows: np.ndarray) -> np.ndarray:
        """Return the cosine (pair,) of some stimuli."""
        return np.array([score_rotations(each, rows) for each in self.learned])

    def shuffled(self, orders: Sequence[np.ndarray]) -> np.ndarray:
        """Return the cosine (draw, pair) of shuffled stimuli, with rotations of their own."""
        every = np.arange(len(self.fold))
        return np.array(
            [
                [score_rotations(learn_rotations(A, B[order], self.fold, 1.0), every) for A, B in self.codes]
                for order in orders
            ]
        )


class Encoding:
    """The mean correlation of units of one system with their predictions by items of the other."""

    def __init__(self, column: Column, world: World, back: bool = False) -> None:
        first = world.pairs[0][0]
        self.fold, self.groups, self.seed = world.folds(first), world.groups(first), world.seed
        predicting = [(b, a) if back else (a, b) for a, b in world.pairs]
        units = [world.populations[goal].score.values.astype(float) for _, goal in predicting]
        self.ends = _ends(units)
        # targets and their predictions (stimulus, unit), of all pairs side by side
        self.Y, self.P = np.empty((2, len(self.fold), sum(each.shape[1] for each in units)))
        places = np.split(np.arange(self.Y.shape[1]), self.ends)
        for source in dict.fromkeys(source for source, _ in predicting):
            # one model for all that a system predicts; each unit has a penalty of its own
            own = [i for i, (each, _) in enumerate(predicting) if each == source]
            X, Y = [column.codes[source].score], np.hstack([units[i] for i in own])
            columns, labels = np.concatenate([places[i] for i in own]), world.populations[first].score
            for k in range(N_FOLDS):
                one = predict_fold(X, Y, self.fold, k, self.groups, np.asarray(ALPHAS), self.seed, labels)
                rows = np.ix_(self.fold == k, columns)
                self.Y[rows], self.P[rows] = one.target, one.by_band.sum(axis=0)
        for place in places:  # systems may have other units of measurement
            self.Y[:, place], self.P[:, place] = standardize(self.Y[:, place]), standardize(self.P[:, place])

    def score(self, rows: np.ndarray) -> np.ndarray:
        """Return the mean correlation (pair,) over units and folds, of some stimuli."""
        parts = [own for k in range(N_FOLDS) if len(own := rows[self.fold[rows] == k]) > 2]
        r = np.mean([correlate_columns(self.Y[own], self.P[own]) for own in parts], axis=0)
        return np.array([each.mean() for each in np.split(r, self.ends)])

    def shuffled(self, orders: Sequence[np.ndarray]) -> np.ndarray:
        """Return the mean correlation (draw, pair) of predictions with other stimuli of the same fold."""
        members = [np.flatnonzero(self.fold == k) for k in range(N_FOLDS)]
        Y, P = np.empty(self.Y.shape), np.empty(self.P.shape)
        for own in members:
            Y[own], P[own] = standardize(self.Y[own]), standardize(self.P[own])
        draws, rng = [], np.random.default_rng([self.seed, 2])
        for _ in orders:
            within = np.empty(len(self.fold), int)
            for own in members:
                groups = None if self.groups is None else self.groups[own]
                within[own] = own[shuffle_stimuli_order(len(own), groups, rng)]
            r = np.einsum("si,si->i", Y[within], P) / N_FOLDS
            draws.append([each.mean() for each in np.split(r, self.ends)])
        return np.array(draws)


class Twins:
    """The median correlation of items with their best partners, which are chosen on the stimuli to fit on."""

    def __init__(self, column: Column, world: World, back: bool = False) -> None:
        prepared, both = _without_common(column, world), []
        for pair in world.pairs:
            A, B = (prepared[name] for name in (reversed(pair) if back else pair))
            both.append((A.score, Pairing.of(correlate(A.fit, B.fit), "best", False).courses(B.score)))
        # items of all pairs, and their partners (stimulus, item), on the stimuli to score on
        self.A, self.B = (np.hstack(each) for each in zip(*both, strict=True))
        self.ends = _ends(A for A, _ in both)

    def score(self, rows: np.ndarray) -> np.ndarray:
        """Return the median correlation (pair,) of some stimuli."""
        return self._medians(correlate_columns(self.A[rows], self.B[rows]))

    def shuffled(self, orders: Sequence[np.ndarray]) -> np.ndarray:
        """Return the median correlation (draw, pair) with shuffled stimuli of partners, which stay."""
        A, B = standardize(self.A), standardize(self.B)
        return np.array([self._medians(np.einsum("si,si->i", A, B[order])) for order in orders])

    def _medians(self, r: np.ndarray) -> np.ndarray:
        return np.array([np.median(each) for each in np.split(r, self.ends)])


class SoftMatching:
    """The correlation of all items under the best soft match, which is found on the stimuli to fit on."""

    def __init__(self, column: Column, world: World) -> None:
        prepared, self.both = _without_common(column, world), []
        for a, b in world.pairs:
            T = np.asarray(Pairing.of(correlate(prepared[a].fit, prepared[b].fit), "soft", False).coupling)
            self.both.append((prepared[a].score, prepared[b].score, T / T.sum()))

    def score(self, rows: np.ndarray) -> np.ndarray:
        """Return Σ T C (pair,) of some stimuli."""
        return np.array([np.vdot(T, correlate(A[rows], B[rows])) for A, B, T in self.both])

    def shuffled(self, orders: Sequence[np.ndarray]) -> np.ndarray:
        """Return Σ T C (draw, pair) with shuffled stimuli of the second system; the match stays."""
        # Σ T_ij a_i · b_j = Σ_j (A T)_j · b_j
        scaled = [(standardize(A) @ T, standardize(B)) for A, B, T in self.both]
        return np.array([[np.vdot(A, B[order]) for A, B in scaled] for order in orders])


def _without_common(column: Column, world: World) -> dict[str, Half]:
    """Return z-scored codes of each system without what all its items share, as `twins` compares them."""
    prepared = {}
    for name in dict.fromkeys(name for pair in world.pairs for name in pair):
        codes = column.codes[name]
        both = xr.DataArray(np.concatenate(codes), dims=("stimulus", "item"))
        both = both.assign_coords(item=np.arange(both.shape[1]).astype(str))
        n_fit = len(codes.fit)
        try:
            Z = Learned.of(both, np.arange(len(both)) < n_fit, world.remove).apply(both.values)
        except ValueError as error:
            raise ValueError(f"twins of {name!r} by {column.items!r}: {error}") from error
        prepared[name] = Half(Z[:n_fit], Z[n_fit:])
    return prepared


def _ends(of_pairs: Iterable[np.ndarray]) -> np.ndarray:
    """Return where the columns of each pair but the last end, of all side by side."""
    return np.cumsum([each.shape[1] for each in of_pairs])[:-1]


def _root(product: float) -> float:
    return float(np.sqrt(product)) if product > 0 else np.nan


def _ranks(place: np.ndarray) -> np.ndarray:
    """Return ranks, with those of ties averaged, minus their mean, of values that are given by their place."""
    counts = np.bincount(place)
    return (np.cumsum(counts) - (counts - 1) / 2)[place] - (len(place) + 1) / 2


def _spread(m: int) -> float:
    """Return the sum of squares that m ranks without ties would have (Schütt et al. 2023, eq. 29)."""
    return (m**3 - m) / 12


def _distances(X: np.ndarray) -> np.ndarray:
    """Return the squared distances of all rows."""
    X = X - X.mean(axis=0)  # the same distances, with smaller products that cancel
    return np.maximum(squared_distances(X @ X.T), 0)
