"""Sweeps: fits of one finder with several numbers of directions and several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
import xarray as xr
from sklearn.base import clone
from tqdm import tqdm

from neurosuper._progress import progress
from neurosuper._sparsity import hoyer
from neurosuper.directions._rows.cluster import client_in_charge
from neurosuper.directions._rows.rows import Rows, Tensors
from neurosuper.directions._rows.shared_passes import fit_together, stacks_on
from neurosuper.directions.base import DirectionFinder
from neurosuper.directions.iterative import IterativeFinder
from neurosuper.directions.labels import label_input
from neurosuper.directions.settings import count_directions
from neurosuper.directions.stability import matched_cosines

MEASURES = {  # name: (label of an axis, definition)
    "objective": ("objective", "function that the method minimises (ICA: maximises), at the end of the fit"),
    "explained_variance": (
        "explained variance",
        "share of the variance of prepared responses that their reconstruction explains",
    ),
    "sparsity": (
        "sparsity of codes",
        "Hoyer's sparsity of a stimulus's codes, averaged over stimuli: 0 if all are equal, 1 if only one is not zero",
    ),
    "n_active": ("active codes per stimulus", "codes of a stimulus that are not zero, averaged over stimuli"),
    "stability": (
        "stability over seeds",
        "|cosine| with the matched direction of another seed, averaged over directions and other seeds",
    ),
    "n_iter": ("iterations", "iterations of the fit"),
}


def sweep(
    finder: DirectionFinder,
    responses: xr.DataArray | np.ndarray,
    *,
    n_directions: Sequence[int | str | None],
    seeds: Sequence[int] = (0,),
) -> xr.Dataset:
    """Return measures of the fits of a finder with each number of directions and each seed.

    Responses are checked, sent to the device and prepared (centred, whitened, …) once, and their mean and scatter are
    computed once; only the parts that depend on the number of directions or on the seed are repeated. If responses are
    streamed, from a dask array or to a GPU with too little memory for them, all fits share their passes: each block is
    read and sent once per iteration, for any number of fits. (Except with finders that learn from shuffled
    mini-batches, and on a cluster.)

    On a GPU, fits of `KMeans` are stacked, streamed or not: distances of stimuli to the centres of all fits come from
    one matrix product (first centres are sought fit by fit if they are sought on a sample of the stimuli). Distances
    take as much memory at a time as those of one fit. Each fit adds its centres and, during a pass, their sums in
    float64 (about 30 bytes × directions × units), and a few numbers per stimulus.

    Parameters
    ----------
    finder : DirectionFinder
        Not changed; its `n_directions` and `random_state` are replaced in copies.
    responses : DataArray (stimulus, unit)
        As for `fit`.
    n_directions : sequence of int, str or None
        As in every finder: numbers, multiples of the units such as "2x", or None.
    seeds : sequence of int, optional
        Each is a `random_state` of the finder.

    Returns
    -------
    Dataset (n_directions, seed)
        `explained_variance`, `sparsity` (Hoyer 2004, of |codes|, over stimuli that have any), `n_active`, and
        `stability`, the mean |cosine| of directions matched by the Hungarian algorithm with those of every other seed
        (NaN with one seed); with finders that iterate, `objective` and `n_iter` too. The definition of
        each is in its `attrs["comment"]`.

    Raises
    ------
    ValueError
        No number, no seed, or one that is given twice; responses or settings that the finder refuses.

    See Also
    --------
    neurosuper.directions.direction_stability : Stability of each direction, also over stimuli.

    Examples
    --------
    >>> import numpy as np, neurosuper as ns
    >>> r = np.random.default_rng(0).exponential(size=(60, 5))
    >>> table = ns.sweep(ns.KMeans(), r, n_directions=[2, "2x"], seeds=[0, 1])
    >>> table.explained_variance.dims, table.n_directions.values.tolist()
    (('n_directions', 'seed'), [2, 10])
    >>> bool((table.explained_variance.sel(n_directions=10) > table.explained_variance.sel(n_directions=2)).all())
    True
    """
    labelled = label_input(responses)
    rows = finder.prepare_rows(labelled)
    counts = [count_directions(n, rows.n_columns) for n in n_directions]
    _require_distinct(counts, "n_directions")
    _require_distinct(seeds, "seeds")
    family = list(product(counts, seeds))
    with progress(total=len(family), desc="sweep", unit="fit", leave=False) as bar:
        jobs = [partial(_fit_and_measure, finder, labelled, n, seed, bar) for n, seed in family]
        fits = fit_together(jobs, rows) if _shares_passes(finder, rows) else [job(rows) for job in jobs]
    found = [measured.pop("directions") for measured in fits]
    shape = len(counts), len(seeds)
    stability = [_stability(found[i : i + len(seeds)]) for i in range(0, len(found), len(seeds))]
    columns = {name: np.reshape([fit[name] for fit in fits], shape) for name in fits[0]} | {
        "stability": np.array(stability)
    }
    dims = ("n_directions", "seed")
    variables = {
        name: (dims, values, dict(zip(("long_name", "comment"), MEASURES[name], strict=True)))
        for name, values in columns.items()
    }
    return xr.Dataset(variables, coords={"n_directions": counts, "seed": list(seeds)}, attrs={"finder": repr(finder)})


def _shares_passes(finder: DirectionFinder, rows: Rows) -> bool:
    """Whether fits run side by side: if each pass reads responses, or a GPU computes all fits at once."""
    if rows.in_memory:
        return isinstance(finder, IterativeFinder) and finder.stacks_fits and stacks_on(rows.device)
    return not (rows.is_lazy and client_in_charge())


def _fit_and_measure(
    finder: DirectionFinder, labelled: xr.DataArray, n_directions: int, seed: int, bar: tqdm, rows: Rows
) -> dict[str, Any]:
    """Return the measures of one fit, and its directions."""
    fitted = clone(finder).set_params(n_directions=n_directions, random_state=seed).fit_rows(labelled, rows)
    measured = _measure(fitted, rows)
    bar.update()
    return measured | {"directions": fitted.directions_.values}


def _require_distinct(values: Sequence[int], name: str) -> None:
    if not len(values) or len(set(values)) < len(values):
        raise ValueError(f"{name} must contain at least one number and no duplicates, got {list(values)!r}")


def _measure(fitted: DirectionFinder, rows: Rows) -> dict[str, float]:
    """Return the measures of one fit, in one pass over the responses, or two if the finder subtracts a mean."""
    rows = rows.prepared(fitted.preparation())
    residual, total, sparse, active, alive = (
        float(total) for total in rows.sum(_quality, fitted, rows.mean(), width=fitted.directions_.sizes["direction"])
    )
    measured = {
        "explained_variance": 1 - residual / total,
        "sparsity": sparse / alive if alive else np.nan,
        "n_active": active / rows.n_rows,
    }
    iterated = {"objective": "objective_", "n_iter": "n_iter_"}
    return measured | {name: getattr(fitted, key) for name, key in iterated.items() if hasattr(fitted, key)}


def _quality(X: torch.Tensor, fitted: DirectionFinder, mean: torch.Tensor) -> Tensors:
    """Return sums over rows: squared residual, squared distance to the mean, sparsity, active codes, rows with any."""
    Z = fitted.encode(X)
    alive = Z.any(1)
    codes = Z[alive]
    sparse = hoyer(codes.abs().sum(1), codes.norm(dim=1), Z.shape[1])
    sums = fitted.squared_error(X), ((X - mean) ** 2).sum(1), sparse, (Z != 0).sum(1), alive
    return tuple(values.sum(dtype=torch.float64) for values in sums)


def _stability(found: list[np.ndarray]) -> list[float]:
    """Return for each seed the mean |cosine| of its directions with the matched ones of every other seed."""
    n = len(found)
    cosines = np.full((n, n), np.nan)
    for i in range(n):
        for j in range(i):
            cosines[i, j] = cosines[j, i] = matched_cosines(found[i], found[j]).mean()
    return (np.nansum(cosines, 1) / (n - 1)).tolist() if n > 1 else [np.nan]
