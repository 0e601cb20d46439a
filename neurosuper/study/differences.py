"""Compare the numbers of two `study.nc` of one study, value by value.

All variables, coords and attrs of the scores and of the directions are compared, except the attrs in `NOT_COMPARED`.
Floating-point values agree if they differ by at most the tolerance times the largest absolute value that the recorded
file has in the same variable, metric, system and finder; of what is computed from the index, such as a difference
between halves, the index counts too where it is larger. Everything else must be equal. Entries are matched by their
labels (items by system, finder, direction and seed): if one file has an item more, this is reported, and all others are
still compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper.study.measures import read_groups

LABELS = {  # of a dim: the variables by which its entries are matched; those of other dims are matched by position
    "item": ("system", "finder", "direction", "seed"),
    "fit": ("fit_system", "fit_finder", "fit_seed"),
    "metric": ("metric",),
    "planted": ("planted",),
    "direction": ("direction",),
    "unit": ("unit",),
}
OF_TOP_STIMULI = ("top_stimuli", "top_groups")  # variables (item, rank)
NOT_COMPARED = ("provenance", "registry", "device")  # attrs: how and when a run was made, which differs between runs
CHECKPOINT = re.compile(r"checkpoint='[^']*'")  # in the settings of a finder; a rerun writes to a file of its own
COLUMNS = ["variable", "metric", "system", "finder", "n_different", "n_compared", "largest_difference"]
COLUMNS += ["recorded", "rerun"]

Item = tuple[str, str, str, int]
IsTie = Callable[[Item, str, str], bool]


class Cell(NamedTuple):
    """The values of one variable, of one metric, system and finder, in both files; "" where it has none of these."""

    variable: str
    metric: str
    system: str
    finder: str
    recorded: np.ndarray
    rerun: np.ndarray
    scale: float = 0.0  # rounding errors are relative to this, if it is larger than the values


def compare_files(recorded: Path, rerun: Path, tolerance: float, is_tie: IsTie) -> tuple[pd.DataFrame, int]:
    """Return a row for each set of values that differ between two `study.nc`, and the number of values compared.

    Parameters
    ----------
    recorded, rerun : Path
        The two files.
    tolerance : float
        Largest difference of floating-point values, as explained in the module.
    is_tie : callable
        Whether two stimuli, given after the labels of an item, have codes that are equal within the tolerance, so that
        either may be the top stimulus of a rank.

    Returns
    -------
    DataFrame
        Columns `variable`, `metric`, `system`, `finder`, `n_different` of `n_compared` values, `largest_difference`
        (NaN if the values are not numbers), and the values that differ most: `recorded` and `rerun`.
    int
        Number of values compared.
    """
    one, two = read_groups(recorded), read_groups(rerun)
    rows, n_compared = [], 0
    for cell in _cells(one, two, is_tie):
        n_compared += cell.recorded.size
        if (row := _compare(cell, tolerance)) is not None:
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS), n_compared


def compare_trees(recorded: Path, rerun: Path, tolerance: float) -> tuple[pd.DataFrame, int]:
    """Return the same for two files of another kind, such as `superposition.nc`.

    A variable is named after its measure, or after the file.
    """
    one, two = read_groups(recorded), read_groups(rerun)
    rows, n_compared = [], 0
    for cell in _cells_of_trees(one, two, recorded.stem):
        n_compared += cell.recorded.size
        if (row := _compare(cell, tolerance)) is not None:
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS), n_compared


def _cells_of_trees(one: dict[str, xr.Dataset], two: dict[str, xr.Dataset], file: str) -> Iterator[Cell]:
    """Yield all pairs of values of two files with results in groups; entries are matched by position.

    Groups of measures are measure/system/finder, those of twins pair/items.
    """
    what = "measures" if file == "superposition" else file
    yield Cell(f"groups of {what}", "", "", "", *_as_texts(sorted(one), sorted(two)))
    for group in [name for name in one if name in two]:
        measure, system, finder, *_ = [*group.split("/"), "", ""]
        if file != "superposition":
            measure, system, finder = file if group else "", measure, system
        of = f" of {measure or file}"
        for cell in (*_cells_of_attrs(one[group].attrs, two[group].attrs, of), *_by_variable(one[group], two[group])):
            name = cell.variable if cell.variable.startswith("attr ") else f"{measure or file} {cell.variable}"
            yield cell._replace(variable=name, system=system, finder=finder)


def _by_variable(one: xr.Dataset, two: xr.Dataset) -> Iterator[Cell]:
    for name in dict.fromkeys([*one.variables, *two.variables]):
        shapes = [str(dict(each[name].sizes)) if name in each.variables else "none" for each in (one, two)]
        if shapes[0] != shapes[1]:
            yield Cell(f"shape of {name}", "", "", "", *_as_texts(shapes[:1], shapes[1:]))
        else:
            yield Cell(str(name), "", "", "", one[name].values, two[name].values)


def _cells(one: dict[str, xr.Dataset], two: dict[str, xr.Dataset], is_tie: IsTie) -> Iterator[Cell]:
    """Yield all pairs of values of two files; no value is compared twice."""
    yield Cell("groups of directions", "", "", "", *_as_texts(sorted(one), sorted(two)))
    yield from _cells_of_attrs(one[""].attrs, two[""].attrs)
    for group in [name for name in one if name in two]:
        _, system, finder, *_ = [*group.split("/"), "", ""] if group else [""] * 4
        first, second, unmatched = _match(one[group], two[group])
        if "top_stimuli" in first and "top_stimuli" in second:
            second = _undo_ties(first, second, is_tie)
        for cell in (*unmatched, *_cells_of_variables(first, second)):
            yield cell if not system else cell._replace(system=system, finder=finder)


def _cells_of_attrs(one: Mapping, two: Mapping, of: str = "") -> Iterator[Cell]:
    """Yield the attrs of two files, or of a variable in both, as text."""
    for name in dict.fromkeys([*one, *two]):
        if name not in NOT_COMPARED:
            texts = [[CHECKPOINT.sub("", str(attrs.get(name, "")))] for attrs in (one, two)]
            yield Cell(f"attr {name}{of}", "", "", "", *_as_texts(*texts))


def _as_texts(one: list, two: list) -> tuple[np.ndarray, np.ndarray]:
    """Return two lists as arrays of text of one length, the shorter with empty texts at its end."""
    width = max(len(one), len(two))
    texts = [np.array([*map(str, each), *[""] * (width - len(each))]) for each in (one, two)]
    return texts[0], texts[1]


def _match(one: xr.Dataset, two: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset, list[Cell]]:
    """Return the entries that both have, in the same order, and a cell for each dim with entries that only one has."""
    unmatched = []
    for dim, names in LABELS.items():
        if not all(dim in each.dims and {*names} <= {*each.variables} for each in (one, two)):
            continue
        columns = [[each[name].values.tolist() for name in names] for each in (one, two)]
        labels = [pd.Index(list(zip(*each, strict=True))) for each in columns]
        found = labels[1].get_indexer(labels[0])
        gone, new = labels[0][found < 0].tolist(), labels[1].difference(labels[0], sort=False).tolist()
        pairs = _as_texts([*gone, *[""] * len(new)], [*[""] * len(gone), *new])
        unmatched.append(Cell(f"labels of {dim}", "", "", "", *pairs))
        one, two = one.isel({dim: found >= 0}), two.isel({dim: found[found >= 0]})
    return one, two, unmatched


def _undo_ties(one: xr.Dataset, two: xr.Dataset, is_tie: IsTie) -> xr.Dataset:
    """Return the rerun with the recorded stimulus at each rank where another has the same code."""
    labels = [each.top_stimuli.transpose("item", "rank").values for each in (one, two)]
    if labels[0].shape != labels[1].shape:
        return two
    items = list(zip(*(one[name].values.tolist() for name in LABELS["item"]), strict=True))
    tied = np.zeros(labels[0].shape, bool)
    for item, rank in np.argwhere(labels[0] != labels[1]):
        tied[item, rank] = is_tie(items[item], str(labels[0][item, rank]), str(labels[1][item, rank]))
    mask = xr.DataArray(tied, dims=("item", "rank"))
    both = [name for name in OF_TOP_STIMULI if name in one and name in two]
    return two.assign({name: two[name].variable.where(~mask.variable, one[name].variable) for name in both})


def _cells_of_variables(one: xr.Dataset, two: xr.Dataset) -> Iterator[Cell]:
    """Yield the values of two Datasets with matched entries, by variable, metric, system and finder."""
    for name in dict.fromkeys([*one.variables, *two.variables]):
        if name == "item":  # positions, which say nothing
            continue
        shapes = [str(dict(each[name].sizes)) if name in each.variables else "none" for each in (one, two)]
        if shapes[0] != shapes[1]:
            yield Cell(f"shape of {name}", "", "", "", *_as_texts(shapes[:1], shapes[1:]))
            continue
        yield from _cells_of_attrs(one[name].attrs, two[name].attrs, f" of {name}")
        for place, names in _places(one, one[name].dims):
            # What is computed from the index, such as a small difference of it, has the rounding errors of the index.
            of_index = {"item", "metric"} <= {*one[name].dims} and not str(name).endswith("reliability")
            scale = _largest(one.interpretability.isel(place).values) if of_index else 0.0
            yield Cell(str(name), *names, one[name].isel(place).values, two[name].isel(place).values, scale)


def _places(dataset: xr.Dataset, dims: tuple) -> Iterator[tuple[dict[str, Any], tuple[str, str, str]]]:
    """Yield the positions along `dims`, and the names, of each metric, system and finder."""
    metrics = list(enumerate(dataset.metric.values.tolist())) if "metric" in dims else [(slice(None), "")]
    prefix = next((prefix for dim, prefix in (("item", ""), ("fit", "fit_")) if dim in dims), None)
    fits: dict[tuple[str, str], Any] = {("", ""): slice(None)}
    if prefix is not None:
        pairs = zip(*(dataset[f"{prefix}{name}"].values.tolist() for name in ("system", "finder")), strict=True)
        fits = pd.Series(1, pd.MultiIndex.from_tuples(list(pairs))).groupby(level=[0, 1], sort=False).indices
    for at, metric in metrics:
        for (system, finder), items in fits.items():
            place = {"metric": at, "fit" if prefix else "item": items}
            yield {dim: where for dim, where in place.items() if dim in dims}, (metric, system, finder)


def _compare(cell: Cell, tolerance: float) -> list | None:
    """Return a row for values that differ; None if they agree."""
    one, two = np.ravel(cell.recorded), np.ravel(cell.rerun)
    if one.dtype.kind in "iufb" and two.dtype.kind in "iufb":
        one, two = one.astype(float), two.astype(float)
        is_float = "f" in (cell.recorded.dtype.kind, cell.rerun.dtype.kind)
        allowed = tolerance * max(_largest(one), cell.scale) if is_float else 0
        with np.errstate(invalid="ignore"):  # inf − inf
            gaps = np.where((one == two) | (np.isnan(one) & np.isnan(two)), 0, np.abs(one - two))
        gaps[np.isnan(gaps)] = np.inf  # a number in one file only
        different, worst = gaps > allowed, gaps.argmax() if len(gaps) else 0
    else:
        one, two = one.astype(str), two.astype(str)
        different = one != two
        gaps, worst = np.full(len(one), np.nan), different.argmax() if len(different) else 0
    if not different.any():
        return None
    return [*cell[:4], int(different.sum()), len(one), gaps[worst], one[worst], two[worst]]


def _largest(values: np.ndarray) -> float:
    """Return the largest absolute value, of those that are finite."""
    return float(np.abs(values[np.isfinite(values)]).max(initial=0))
