"""Properties of items on any subset of stimuli: their index, and what may explain it.

Z (stimulus, item) codes, h (stimulus,) how plain the image of each stimulus is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper._checks import check_one_of
from neurosuper.comparison.halved_systems import reliability
from neurosuper.interpretability.random_splits import index_of_sets, top_in_split
from neurosuper.interpretability.ties import TieOrder, rank_stimuli
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.metrics.distances import Distances, open_distances
from neurosuper.repetitions import split_repetitions
from neurosuper.responses import name_some

COVARIATES = ("sparseness", "variance", "plainness", "reliability")
CONSTANT = 1e-9  # of the largest absolute value: differences that are rounding
WITHIN = 0  # the number of a subset in `top_in_split`


class ItemProperties(NamedTuple):
    """What the index and covariates of items are computed from.

    Parameters
    ----------
    Z : array (stimulus, item)
    order : array of int (item, place)
        Stimuli, the largest code first.
    distances : Distances
        Between the images of the stimuli.
    self_similarity : float
        Of the metric.
    plainness : array (stimulus,), or None
        Minus the mean distance to the images of all other stimuli, if it is wanted.
    repeats : tuple of two arrays (stimulus, item), or None
        Averages over halves of the repetitions.
    """

    Z: np.ndarray
    order: np.ndarray
    distances: Distances
    self_similarity: float
    plainness: np.ndarray | None
    repeats: tuple[np.ndarray, np.ndarray] | None

    def index_and_top(self, rows: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the index (item,) and the top stimuli (item, rank), by position, in a subset of stimuli, a mask."""
        chosen = top_in_split(self.order, np.where(rows, WITHIN, WITHIN + 1), 1, top)[0]
        return index_of_sets(self.distances, chosen, self.self_similarity), chosen

    def covariates(self, names: Sequence[str], rows: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Return covariates (item, name) in a subset of stimuli, with these top stimuli."""
        found = {}
        if "sparseness" in names:
            found["sparseness"] = stats.skew(self.Z[rows], axis=0)
        if "variance" in names:
            found["variance"] = self.Z[rows].var(axis=0)
        if "plainness" in names and self.plainness is not None:
            found["plainness"] = self.plainness[chosen].mean(axis=1)
        if "reliability" in names and self.repeats is not None:
            found["reliability"] = reliability(*(half[rows] for half in self.repeats))
        return np.stack([found[name] for name in names], axis=1) if names else np.empty((self.Z.shape[1], 0))


@contextmanager
def open_properties(
    system: xr.DataArray, images: xr.DataArray, metric: ImageMetric | Precomputed, names: Sequence[str], seed: int
) -> Iterator[ItemProperties]:
    """Open the distances between the images of responses (stimulus, item) or (stimulus, repetition, item)."""
    averages, repeats = system, None
    if "repetition" in system.dims:
        averages = system.mean("repetition")
        halves = split_repetitions(system.rename({system.dims[-1]: "unit"}), random_state=seed)
        one, other = (half.values.astype(float) for half in halves)
        repeats = one, other
    Z, n = averages.values.astype(float), len(averages)
    ties = TieOrder(averages.stimulus.values.astype(str), averages[averages.dims[1]].values, seed)
    with open_distances(images.sel(stimulus=averages.stimulus.values), np.arange(n), metric) as distances:
        plainness = None
        if "plainness" in names:
            # −Σ_{j≠i} d_ij / (n − 1), as in `image_statistics`
            plainness = metric.self_similarity - distances.weighted_sums(np.ones((n, 1)))[:, 0] / (n - 1)
        order, same = rank_stimuli(Z, ties), float(metric.self_similarity)
        yield ItemProperties(Z, order, distances.as_matrix(), same, plainness, repeats)


def varies(values: np.ndarray) -> np.ndarray:
    """Return which columns (item, name) differ by more than rounding."""
    return np.ptp(values, axis=0) > CONSTANT * np.abs(values).max(axis=0)


def check_names(covariates: str | Sequence[str] | None, has_repetitions: bool) -> list[str]:
    """Return names of covariates that can be computed; None is all of them."""
    if covariates is None:
        return [name for name in COVARIATES if has_repetitions or name != "reliability"]
    names = [covariates] if isinstance(covariates, str) else list(dict.fromkeys(covariates))
    for name in names:
        check_one_of("covariates", name, COVARIATES)
    if "reliability" in names and not has_repetitions:
        raise ValueError("the covariate 'reliability' needs the dim repetition of a; leave it out, or do not average")
    return names


def check_covariates(covariates: xr.Dataset, items: xr.DataArray, taken: Collection[str]) -> np.ndarray:
    """Return covariates of a user (item, name) in the order of the items, or raise an error that says what is wrong."""
    item = str(items.dims[0])
    for name, values in covariates.data_vars.items():
        if values.dims != (item,) or values.dtype.kind not in "iufb":
            raise ValueError(f"covariate {name!r} must be numbers ({item},), got {values.dtype} {values.dims}; drop it")
        if name in taken:
            raise ValueError(f"covariate {name!r} has the name of a variable or coord of the result; rename it")
    if not covariates.data_vars:
        return np.empty((len(items), 0))
    if missing := sorted(set(items.values.tolist()) - set(covariates[item].values.tolist())):
        raise ValueError(f"covariates have no {item} {name_some(missing)}; give a value for every {item} of a")
    ordered = covariates.sel({item: items.values})
    table = np.stack([values.values.astype(float) for values in ordered.data_vars.values()], axis=1)
    names = np.array(list(map(str, covariates.data_vars)))
    if (bad := ~np.isfinite(table).all(axis=0)).any():
        raise ValueError(f"covariate {name_some(names[bad])} is NaN or infinite for some {item}; drop those {item}s")
    refuse_constant(table, names)
    return table


def refuse_constant(table: np.ndarray, names: Sequence[str] | np.ndarray) -> None:
    """Raise an error that names the covariates (item, name) that are the same for all items."""
    if (flat := ~varies(table)).any():
        raise ValueError(f"covariate {name_some(np.array(names)[flat])} has the same value for all items; drop it")
