"""Top stimuli: the stimuli that drive a unit or direction most (most exciting images, MEIs, in the paper)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
import xarray as xr

from neurosuper._checks import check_count
from neurosuper._content import photographs_of
from neurosuper.responses import check_labels, coords_along, name_some

End = Literal["top", "bottom"]
MAX_RANKED = 2**20  # codes that are ranked at once: a working copy of 8 MiB in double precision


def top_stimuli(codes: xr.DataArray, *, top: int = 5, end: End = "top") -> xr.DataArray:
    """Return the top stimuli of every unit or direction: those with the largest codes, or the smallest.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Responses or codes. NaN is never chosen; equal codes are ranked by label. A dask array is read one block of
        stimuli at a time.
    top : int, optional
        Number of top stimuli (M in Klindt et al. 2023).
    end : {"top", "bottom"}, optional
        "top": the stimuli with the largest codes. "bottom": those with the smallest.

    Returns
    -------
    DataArray (rank, unit) or (rank, direction)
        Labels of stimuli; `rank` 1 has the largest code (with `end="bottom"`: the smallest). Coords of units or
        directions are kept; the coord `code` contains the codes of these stimuli. If codes have the coord `content` and
        an item has two copies of one photograph among its top stimuli, the coord `is_copy` marks all but the first of
        them, and `attrs["n_items_with_copies"]` counts such items.

    Raises
    ------
    ValueError
        `top` below 1, or above the number of stimuli that have a code; another `end`.

    See Also
    --------
    interpretability_index : How similar the top stimuli are to one another.
    neurosuper.interpretability.index_of_top : The index of given top stimuli.
    neurosuper.plot.plot_top_stimuli : A figure of the top stimuli.

    Examples
    --------
    >>> import xarray as xr
    >>> codes = xr.DataArray([[1., 7.], [3., 7.], [2., 0.]], dims=("stimulus", "unit"),
    ...                      coords={"stimulus": ["x", "y", "z"], "unit": ["a", "b"]})
    >>> top_stimuli(codes, top=2).sel(unit="a").values.tolist()
    ['y', 'z']
    """
    codes = check_codes(codes)
    if end not in ("top", "bottom"):
        raise ValueError(f"end must be 'top' or 'bottom', got {end!r}")
    top = check_count("top", top, most=codes.sizes["stimulus"], why=", the number of stimuli")
    item = codes.dims[1]
    labels = np.sort(codes.stimulus.values.astype(str))
    sign = 1 if end == "top" else -1
    ranks, values = _merge_blocks(codes, sign, np.searchsorted(labels, codes.stimulus.values.astype(str)), top)
    if (short := ~np.isfinite(values).all(axis=0)).any():
        names = name_some(codes[item].values[short])
        raise ValueError(f"{item} {names} has fewer than {top} stimuli with a code; lower `top` or drop it")
    coords = {"rank": np.arange(1, top + 1), "code": (("rank", item), values)} | coords_along(codes, str(item))
    if (copies := _find_copies(codes, ranks)).any():
        coords["is_copy"] = (("rank", item), copies)
    chosen = xr.DataArray(labels[ranks], dims=("rank", item), coords=coords, name="top_stimuli")
    return chosen.assign_attrs(top=top, end=end, **copies_among(chosen))


def copies_among(chosen: xr.DataArray) -> dict[str, int]:
    """Return the attr with the number of items that have two copies of one photograph among their top stimuli."""
    if "is_copy" not in chosen.coords:
        return {}
    return {
        "n_items_with_copies": int(chosen.is_copy.any([dim for dim in ("rank", "end") if dim in chosen.dims]).sum())
    }


def warn_of_copies(n_items: int, of: int, top: int) -> None:
    """Warn that the top stimuli of some items show a photograph twice."""
    warnings.warn(
        f"{n_items} of {of} items have copies of one photograph among their top {top} stimuli, and seem more "
        "interpretable than they are; has_copies marks them; average copies with "
        "neurosuper.copies.average_copies(responses, images)",
        stacklevel=4,
    )


def _find_copies(codes: xr.DataArray, ranks: np.ndarray) -> np.ndarray:
    """Return which top stimuli (n, item), given by the rank of their label, show the photograph of a higher one."""
    photographs = photographs_of(codes)
    if photographs[-1] == len(photographs) - 1:  # no copies
        return np.zeros(ranks.shape, bool)
    shown = photographs[np.argsort(codes.stimulus.values.astype(str))][ranks]
    order = np.argsort(shown, axis=0, kind="stable")
    in_order = np.take_along_axis(shown, order, axis=0)
    copies = np.zeros(ranks.shape, bool)
    np.put_along_axis(copies, order[1:], in_order[1:] == in_order[:-1], axis=0)
    return copies


def check_codes(codes: xr.DataArray) -> xr.DataArray:
    """Return responses or codes as (stimulus, item), for items of any name.

    Raises
    ------
    ValueError
        Not two labelled dims with `stimulus` among them.
    """
    if not isinstance(codes, xr.DataArray) or codes.ndim != 2 or "stimulus" not in codes.dims:
        got = codes.dims if isinstance(codes, xr.DataArray) else type(codes).__name__
        raise ValueError(f"codes are a DataArray with dims stimulus and unit or direction, got {got}")
    codes = codes.transpose("stimulus", ...)
    for dim in codes.dims:
        codes = check_labels(codes, str(dim), "codes")
    return codes


def _blocks(codes: xr.DataArray) -> Iterator[tuple[slice, np.ndarray]]:
    stop = 0
    for size in codes.variable.chunksizes.get("stimulus", (codes.sizes["stimulus"],)):
        start, stop = stop, stop + size
        values = codes[start:stop].values
        yield slice(start, stop), values if values.dtype.kind == "f" else values.astype(float)


def _merge_blocks(codes: xr.DataArray, sign: int, label_ranks: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (rank of the label, code) of the `n` stimuli with the largest sign × code, both (n, item)."""
    tops = []
    for rows, values in _blocks(codes):
        order = np.argsort(label_ranks[rows])
        positions, keys = _smallest_of_columns(values, sign, order, min(n, len(values)))
        tops.append((label_ranks[rows][order][positions], keys))
    ranks, keys = (np.concatenate(parts) for parts in zip(*tops, strict=True))
    order = np.lexsort((ranks, keys), axis=0)[:n]
    return np.take_along_axis(ranks, order, axis=0), -sign * np.take_along_axis(keys, order, axis=0)


def _smallest_of_columns(values: np.ndarray, sign: int, order: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return positions in `order` of the `n` smallest keys −sign × value of each column, and the keys (n, item)."""
    width = max(1, MAX_RANKED // len(values))
    places, smallest = [], []
    for start in range(0, values.shape[1], width):
        keys = values[order, start : start + width].T.copy()
        keys *= -sign
        if (missing := np.isnan(keys)).any():
            keys[missing] = np.inf
        positions = _smallest(keys, n)
        places.append(positions.T)
        smallest.append(np.take_along_axis(keys, positions, axis=1).T)
    return np.concatenate(places, axis=1), np.concatenate(smallest, axis=1)


def _smallest(keys: np.ndarray, n: int) -> np.ndarray:
    """Return positions (item, n) of the `n` smallest keys of each row; of equal keys, the first ones."""
    # topk chooses among equal keys arbitrarily: rows with a tie at the threshold are sorted instead.
    positions = torch.from_numpy(keys).topk(n, dim=1, largest=False, sorted=False).indices.numpy()
    threshold = np.take_along_axis(keys, positions, axis=1).max(axis=1)
    tied = (keys <= threshold[:, None]).sum(axis=1) > n
    positions[tied] = np.argsort(keys[tied], axis=1, kind="stable")[:, :n]
    return positions
