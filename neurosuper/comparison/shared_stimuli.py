"""The stimuli that two systems share, for measures that compare the systems as wholes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._content import photographs_of
from neurosuper.interpretability.ranking import check_codes
from neurosuper.responses import align, check_averaged, check_responses, coords_along, name_some, require_varying

LARGEST = 1e60  # its fourth power, in the squares of products of responses, is far from the largest double


def common_systems(
    a: xr.DataArray, b: xr.DataArray, least: int, *, repeated: bool = False
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return two systems, in memory, on their common stimuli; refuse few of them, copies, NaN and constant items."""
    a, b = join_systems(a, b, least, repeated=repeated)
    return load_sound(a), load_sound(b)


def join_systems(
    a: xr.DataArray, b: xr.DataArray, least: int, *, repeated: bool = False
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return two systems, not yet read, on their common stimuli; refuse few of them, and copies."""
    a, b = align(*(_check(each, repeated) for each in (a, b)))
    refuse_copies(a)
    if len(a) < least:
        raise ValueError(f"{len(a)} common stimuli are too few; use at least {least}")
    return a, b


def load_sound(system: xr.DataArray) -> xr.DataArray:
    """Return a system, or some of its items, in memory; refuse NaN and constant items."""
    system = system.compute()
    item = system.dims[-1]
    flat = system.values.reshape(-1, system.shape[-1])
    if (bad := ~np.isfinite(flat).all(axis=0)).any():
        cure = "stimuli, or repetitions" if system.ndim == 3 else "stimuli"
        raise ValueError(
            f"NaN or infinite values in {item} {name_some(system[item].values[bad])}; drop those, or their {cure}"
        )
    largest = np.abs(flat).max(axis=0).astype(float)
    if (bad := (largest > LARGEST) | ((largest > 0) & (largest < 1 / LARGEST))).any():
        raise ValueError(
            f"values of {item} {name_some(system[item].values[bad])} are up to {largest[bad][0]:.0e}, which overflows "
            f"in products; use another unit of measurement, with values between {1 / LARGEST:.0e} and {LARGEST:.0e}"
        )
    require_varying(system if system.ndim == 2 else system.mean("repetition"))
    return system


def refuse_copies(system: xr.DataArray) -> None:
    """Raise an error that names the stimuli that show one photograph: shuffling would separate them."""
    if (copies := pd.Index(photographs_of(system)).duplicated(keep=False)).any():
        names = name_some(system.stimulus.values[copies])
        raise ValueError(f"{names} show the same photograph; average over copies first, by neurosuper.average_copies")


def groups_of(system: xr.DataArray, name: str) -> np.ndarray:
    """Return the group of each stimulus, from a stimulus coord."""
    if name not in system.coords or system[name].dims != ("stimulus",):
        raise ValueError(
            f"there is no stimulus coord {name!r}; a has {name_some(list(coords_along(system, 'stimulus')))}"
        )
    return system[name].values


def labels_of_items(a: xr.DataArray) -> dict[str, Any]:
    """Return the coords of the items of a system, along `item_a`."""
    item = str(a.dims[-1])
    coords = {name: ("item_a", coord.values) for name, coord in coords_along(a, item).items() if name != item}
    return coords | {"item_a": a[item].values}


def shuffle_stimuli_order(n: int, groups: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Return a random order of stimuli; with groups, whole ones change places with others of the same size.

    Stimuli of a group are not exchangeable with others, but groups are. One whose size no other has keeps its place.
    """
    if groups is None:
        return rng.permutation(n)
    order = np.empty(n, int)
    by_size: dict[int, list[np.ndarray]] = {}
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        by_size.setdefault(len(members), []).append(members)
    for same in by_size.values():
        for members, replaced in zip(same, rng.permutation(len(same)), strict=True):
            order[members] = same[replaced]
    return order


def number_folds(system: xr.DataArray, groups: np.ndarray | None, n_folds: int, seed: int) -> np.ndarray:
    """Return the fold of each stimulus: random, with groups whole, and the same in any order of the stimuli."""
    order = np.argsort(system.stimulus.values.astype(str))
    members = pd.factorize((system.stimulus.values if groups is None else groups)[order])[0]  # in order of label
    if members.max() + 1 < n_folds:
        raise ValueError(f"{members.max() + 1} stimulus groups are too few for {n_folds} folds; lower n_folds")
    drawn = np.random.default_rng([seed, 0]).permutation(members.max() + 1) % n_folds
    number = np.empty(len(order), int)
    number[order] = drawn[members]
    return number


def _check(system: xr.DataArray, repeated: bool) -> xr.DataArray:
    """Return responses or codes in standard order, with repetitions only where these are of use."""
    has_repetitions = isinstance(system, xr.DataArray) and "repetition" in system.dims
    if has_repetitions:
        item = next((dim for dim in system.dims if dim not in ("stimulus", "repetition")), "unit")
        named = system.rename({item: "unit"})  # of codes: directions
        return (check_responses(named) if repeated else check_averaged(named)).rename(unit=item)
    system = check_codes(system)
    if system.dtype.kind not in "fiub":
        raise TypeError(f"responses and codes must be real numbers, got dtype {system.dtype}; use .astype(float)")
    if not system.shape[-1]:
        raise ValueError(f"a system has no {system.dims[-1]}; at least 1 is needed")
    return system
