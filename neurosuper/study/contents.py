"""What any file of an analysis contains, in words: results of a study, a recording, arrays, or images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import xarray as xr

from neurosuper.comparison import headline
from neurosuper.loaders import inspect_file, inspect_nwb
from neurosuper.loaders.netcdf import open_netcdf
from neurosuper.study.measures import read_tree
from neurosuper.study.pairs import TWINS_METHOD

__all__ = ["describe_file"]


def describe_file(path: str | Path, *, companion: str | Path | None = None) -> str:
    """Return what a file contains, as text, and how to load it.

    Parameters
    ----------
    path : path
        A `study.nc`, `superposition.nc`, `populations.nc` or `twins.nc`, or anything that
        `neurosuper.loaders.inspect_file` reads.
    companion : path, optional
        Of an NWB file: another NWB file of the session, which contains the responses.

    Returns
    -------
    str
        Several lines.

    Raises
    ------
    FileNotFoundError
        No such file, or no image in a folder.
    ValueError
        A file of another format, or a damaged one; a companion of a file that is not NWB.

    See Also
    --------
    neurosuper.loaders.inspect_file : the same as an object, except for the files of a study.
    new_study : write a study file for it.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> path = Path(tempfile.mkdtemp(), "v4.npy")
    >>> np.save(path, np.zeros((89, 1200)))
    >>> print(describe_file(path).splitlines()[0].partition("v4.npy")[2])
    : 1 array
    """
    path = Path(path)
    if companion is not None:
        if ".nwb" not in map(str.lower, path.suffixes):
            raise ValueError(f"a companion is for an NWB file, and {path.name} is none; leave it out")
        return str(inspect_nwb(path, companion=companion))
    if path.suffix.lower() == ".nc" and path.exists():
        with open_netcdf(path) as data:
            if "format_version" in data.attrs:
                return "\n".join(_describe_study(path, data))
            is_of_study, kind = "provenance" in data.attrs, str(data.attrs.get("method", ""))
            is_of_measures = is_of_study and "measures" in data.attrs
        if is_of_measures:
            return "\n".join(_describe_measures(path))
        if is_of_study and kind in OF_PAIRS:
            return "\n".join(OF_PAIRS[kind](path))
    return str(inspect_file(path))


def _describe_study(path: Path, data: xr.Dataset) -> Iterator[str]:
    provenance = json.loads(data.attrs.get("provenance", "{}"))
    created = provenance.get("created", "at an unknown time")
    yield f"{path}: results of the study {data.attrs.get('title', '')!r}, written {created}"
    if note := data.attrs.get("note"):
        yield note
    counts = data.interpretability[:, 0].groupby(["system", "finder"]).count().to_series().unstack("finder")
    yield from ["", "Items (system, finder):", counts.fillna(0).astype(int).to_string(), ""]
    yield f"Metrics: {', '.join(map(str, data.metric.values))}"
    if "command" in provenance:
        yield f"Command: {provenance['command']}"
    yield from ["", *headline(data.load())]
    yield from ["", "To load the scores:", f"  neurosuper.study.read_numbers({str(path)!r})"]


def _describe_measures(path: Path) -> Iterator[str]:
    tree = read_tree(path)
    yield f"{path}: measures of superposition; images by {tree.attrs['metric']}"
    yield from ["", "Results (measure/system/finder):"]
    yield from (f"  {node.path.strip('/')}" for node in tree.leaves if node.has_data)
    if left_out := tree.attrs["left_out"]:
        yield from ["", "Left out, as not possible:", *(f"  {line}" for line in left_out.splitlines())]
    yield from ["", "To load them:", f"  neurosuper.study.read_superposition({str(path)!r})"]


def _describe_populations(path: Path) -> Iterator[str]:
    found = xr.load_dataset(path)
    yield f"{path}: similarity of populations; {', '.join(found.measure.values)}"
    yield from ["", "Pairs:", *(f"  {pair}" for pair in found.pair.values)]
    yield from ["", "Items:", *(f"  {items}" for items in found["items"].values)]
    yield from ["", "To load it:", f"  neurosuper.study.read_populations({str(path)!r})"]


def _describe_twins(path: Path) -> Iterator[str]:
    tree = read_tree(path)
    yield f"{path}: twins; match {tree.attrs['match']}, removed: {tree.attrs['remove']}"
    yield from ["", "Results (pair/items):"]
    yield from (f"  {node.path.strip('/')}" for node in tree.leaves if node.has_data)
    if left_out := tree.attrs["left_out"]:
        yield from ["", "Left out, as not possible:", *(f"  {line}" for line in left_out.splitlines())]
    yield from ["", "To load them:", f"  neurosuper.study.read_twins({str(path)!r})"]


# By the attr `method` of the file.
OF_PAIRS = {"similarity of populations": _describe_populations, TWINS_METHOD: _describe_twins}
