"""Top stimuli: the stimuli that drive a unit or direction most (most exciting images, MEIs, in the paper)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
import xarray as xr

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper._content import photographs_of
from neurosuper.interpretability.ties import TieOrder
from neurosuper.responses import check_labels, coords_along, name_some

End = Literal["top", "bottom"]
GIVEN = ("code", "end", "has_copies", "is_copy", "n_active", "rank", "top")  # coords that scores and top stimuli get
MAX_RANKED = 2**20  # codes that are ranked at once: a working copy of 8 MiB in double precision


def top_stimuli(codes: xr.DataArray, *, top: int = 5, end: End = "top", random_state: Seed = 0) -> xr.DataArray:
    """Return the top stimuli of every unit or direction: those with the largest codes, or the smallest.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Responses or codes. NaN is never chosen; equal codes are ranked at random. A dask array is read one block of
        stimuli at a time.
    top : int, optional
        Number of top stimuli (M in Klindt et al. 2023).
    end : {"top", "bottom"}, optional
        "top": the stimuli with the largest codes. "bottom": those with the smallest.
    random_state : int, Generator, RandomState or None, optional
        Seed of the order of stimuli with equal codes. None: a new one each time.

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

    Notes
    -----
    Stimuli with equal codes are ranked in a random order, drawn for each item from its label, the labels of the stimuli
    and `random_state`. So neither labels nor positions favour a stimulus, two items with the same codes have different
    top stimuli, and the order is the same after stimuli or items are reordered or left out. "bottom" reads the order
    from its end. Trials, indices and intervals use this order too.

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
    item, labels = codes.dims[1], codes.stimulus.values.astype(str)
    ties = TieOrder(labels, codes[item].values, seed_or_new(random_state), from_end=end == "bottom")
    positions, values = merge_blocks(codes, 1 if end == "top" else -1, ties, top)
    if (short := ~np.isfinite(values).all(axis=0)).any():
        names = name_some(codes[item].values[short])
        raise ValueError(f"{item} {names} has fewer than {top} stimuli with a code; lower `top` or drop it")
    coords = {"rank": np.arange(1, top + 1), "code": (("rank", item), values)} | coords_along(codes, str(item))
    if (copies := _find_copies(codes, positions)).any():
        coords["is_copy"] = (("rank", item), copies)
    chosen = xr.DataArray(labels[positions], dims=("rank", item), coords=coords, name="top_stimuli")
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


def _find_copies(codes: xr.DataArray, positions: np.ndarray) -> np.ndarray:
    """Return which top stimuli (n, item), given by their positions, show the photograph of a higher one."""
    photographs = photographs_of(codes)
    if photographs[-1] == len(photographs) - 1:  # no copies
        return np.zeros(positions.shape, bool)
    shown = photographs[positions]
    order = np.argsort(shown, axis=0, kind="stable")
    in_order = np.take_along_axis(shown, order, axis=0)
    copies = np.zeros(positions.shape, bool)
    np.put_along_axis(copies, order[1:], in_order[1:] == in_order[:-1], axis=0)
    return copies


def check_codes(codes: xr.DataArray) -> xr.DataArray:
    """Return responses or codes as (stimulus, item), for items of any name.

    Raises
    ------
    ValueError
        Not two labelled dims with `stimulus` among them; a coord of items with the name of one that results get.
    """
    if not isinstance(codes, xr.DataArray) or codes.ndim != 2 or "stimulus" not in codes.dims:
        got = codes.dims if isinstance(codes, xr.DataArray) else type(codes).__name__
        raise ValueError(f"codes are a DataArray with dims stimulus and unit or direction, got {got}")
    codes = codes.transpose("stimulus", ...)
    for dim in codes.dims:
        codes = check_labels(codes, str(dim), "codes")
    item = str(codes.dims[1])
    if taken := sorted(coords_along(codes, item).keys() & set(GIVEN)):
        raise ValueError(
            f"{item}s have a coord {taken[0]!r}, the name of one that top stimuli and scores get; rename it, e.g. "
            f"codes.rename({taken[0]}='{item}_{taken[0]}')"
        )
    return codes


def count_active(codes: np.ndarray, end: End = "top") -> np.ndarray:
    """Return the number of active stimuli of each item of codes `(stimulus, item)`, NaN left out.

    A stimulus is active if its code is above (for `end="bottom"`: below) the one that more than half of the stimuli
    share, such as 0 of a sparse code. If there is no such code, all stimuli with a code are active.
    """
    n_active = np.empty(codes.shape[1], int)
    for item, column in enumerate(codes.T):
        values = column[~np.isnan(column)] if codes.dtype.kind == "f" else column
        middle = np.partition(values, len(values) // 2)[len(values) // 2]  # the code that more than half share, if any
        if 2 * np.count_nonzero(values == middle) > len(values):
            n_active[item] = np.count_nonzero(values > middle if end == "top" else values < middle)
        else:
            n_active[item] = len(values)
    return n_active


def _blocks(codes: xr.DataArray) -> Iterator[tuple[slice, np.ndarray]]:
    stop = 0
    for size in codes.variable.chunksizes.get("stimulus", (codes.sizes["stimulus"],)):
        start, stop = stop, stop + size
        values = codes[start:stop].values
        yield slice(start, stop), values if values.dtype.kind == "f" else values.astype(float)


def merge_blocks(codes: xr.DataArray, sign: int, ties: TieOrder, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (position, code) of the `n` stimuli with the largest sign × code, both (n, item)."""
    tops = []
    for rows, values in _blocks(codes):
        positions, keys = _smallest_of_columns(values, sign, ties, rows, min(n, len(values)))
        tops.append((positions + rows.start, keys))
    positions, keys = (np.concatenate(parts) for parts in zip(*tops, strict=True))
    order = np.argsort(keys, axis=0)
    ranked = np.take_along_axis(keys, order, axis=0)
    if (ranked[1:] == ranked[:-1]).any():
        order = np.lexsort((ties.numbers(positions, np.arange(positions.shape[1])), keys), axis=0)
    order = order[:n]
    return np.take_along_axis(positions, order, axis=0), -sign * np.take_along_axis(keys, order, axis=0)


def _smallest_of_columns(
    values: np.ndarray, sign: int, ties: TieOrder, rows: slice, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions in `values`, the codes of `rows`, of the `n` smallest −sign × value, and these (n, item)."""
    width = max(1, MAX_RANKED // len(values))
    places, smallest = [], []
    for start in range(0, values.shape[1], width):
        keys = values[:, start : start + width].T.copy()
        keys *= -sign
        if (missing := np.isnan(keys)).any():
            keys[missing] = np.inf
        positions = _smallest(keys, n, ties, rows, start)
        places.append(positions.T)
        smallest.append(np.take_along_axis(keys, positions, axis=1).T)
    return np.concatenate(places, axis=1), np.concatenate(smallest, axis=1)


def _smallest(keys: np.ndarray, n: int, ties: TieOrder, rows: slice, first_item: int) -> np.ndarray:
    """Return positions (item, n) of the `n` smallest keys of each row; of equal keys, those first by `ties`."""
    # topk chooses among equal keys arbitrarily: rows with a tie at the threshold are ranked by `ties` instead.
    positions = torch.from_numpy(keys).topk(n, dim=1, largest=False, sorted=False).indices.numpy()
    threshold = np.take_along_axis(keys, positions, axis=1).max(axis=1)
    for i in np.flatnonzero((keys <= threshold[:, None]).sum(axis=1) > n).tolist():
        below, equal = (np.flatnonzero(compare(keys[i], threshold[i])) for compare in (np.less, np.equal))
        numbers = ties.numbers(rows.start + equal, first_item + i)
        drawn = np.argpartition(numbers, n - len(below) - 1)[: n - len(below)]
        positions[i] = np.concatenate([below, equal[drawn]])
    return positions
