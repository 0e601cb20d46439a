"""Labels: check and clean them, so that equal text is equal as a string and each label is unique."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np
import pandas as pd
import xarray as xr
from pandas.api.types import infer_dtype

Labelled = TypeVar("Labelled", xr.DataArray, xr.Dataset)
DOOR = "neurosuper.as_responses(values, stimuli=…) makes responses of arrays, tables, tensors and trials"
PADDING = string.whitespace + "\0\u00a0\u3000\ufeff"  # pads text of fixed width, or starts a file
IMAGE_SUFFIXES = {
    *(".apng", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
}
UNCLEAN = re.compile(f"[{re.escape(PADDING)}]")


def name_some(labels: object, most: int = 3) -> str:
    """Return the first few labels and how many there are: `'a', 'b', 'c', … (12 in all)`."""
    names = [str(label) for label in np.atleast_1d(np.asarray(labels)).tolist()]
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names)} in all)"


def clean_label(label: str) -> str:
    """Return a label in Unicode form NFC, without padding at its ends."""
    return (label if label.isascii() else unicodedata.normalize("NFC", label)).strip(PADDING)


def as_label(value: object) -> str:
    """Return any value as a label: text in NFC without padding (bytes of UTF-8, else Latin-1), 12 and 12.0 as "12"."""
    if isinstance(value, bytes):
        value = _decoded(value)
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return clean_label(str(value))


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")  # which assigns a letter to every byte


def clean_labels(labels: Sequence[str]) -> list[str]:
    """Return labels in Unicode form NFC, without padding at their ends (see `clean_label`)."""
    text = "".join(labels)
    if text.isascii() and not UNCLEAN.search(text):
        return list(labels)  # one test for all labels: scores check the labels of every batch of images
    return [clean_label(label) for label in labels]


def without_suffixes(labels: Sequence[str]) -> list[str]:
    """Return labels without the extension of image files: `cat` for `cat.jpg`, but `cat.01` as it is."""
    suffixes = (PurePosixPath(label).suffix if "." in label else "" for label in labels)
    return [
        label[: -len(suffix)] if suffix.lower() in IMAGE_SUFFIXES else label
        for label, suffix in zip(labels, suffixes, strict=True)
    ]


def match_file_names(labels: Sequence[str], known: Iterable[str]) -> list[str] | None:
    """Return labels without the extension of image files, and without folder, if some are known in this form only.

    None if none is, and if two labels would become equal, such as `cat.jpg` and `cat.png`, or `a/cat` and `b/cat`.
    """
    known = set(known)
    if known.isdisjoint(labels):
        for bare in (shorter := without_suffixes(labels)), [re.split(r"[/\\]", label)[-1] for label in shorter]:
            if not known.isdisjoint(bare) and len(set(bare)) == len(set(labels)):
                return bare
    return None


def check_labels(array: Labelled, dim: str, what: str) -> Labelled:
    """Return an array with clean labels on a dim; raise an error if they are missing, repeated, or not strings."""
    door = f", or {DOOR}" if what == "responses" else ""
    if dim not in array.dims:
        raise ValueError(f"{what} need a dim {dim!r}, got dims {tuple(array.dims)}; rename them{door}")
    if dim not in array.indexes:
        raise ValueError(f"{what} need labels on {dim!r}; add them with .assign_coords({dim}=[...]){door}")
    array = with_plain_coords(array)
    index = array.indexes[dim]
    if index.nlevels > 1:
        raise ValueError(
            f"{what} have a MultiIndex on {dim!r}; flatten it with .reset_index({dim!r}) and label {dim!r}{door}"
        )
    index = index.astype(object) if isinstance(index.dtype, pd.CategoricalDtype) else index
    if len(index) and (infer_dtype(index, skipna=False) != "string" or index.hasnans):
        kinds = {type(label).__name__ for label in index if not isinstance(label, str)}
        raise TypeError(
            f"{what} need strings on {dim!r}, got {', '.join(sorted(kinds))}; "
            f"use .assign_coords({dim}=labels.astype(str)){door}"
        )
    if not index.is_unique:
        twice = index[index.duplicated()].unique()
        trials = "; if they are trials, neurosuper.as_responses(values, trials=labels) arranges them" if door else ""
        raise ValueError(
            f"{what} have duplicate {dim} labels {name_some(twice)}; average or relabel them first{trials}"
        )
    return _in_one_form(array, dim, what)


def with_plain_coords(array: Labelled) -> Labelled:
    """Return an array whose coords can be written to files: none has a type of pandas or NumPy's `StringDType`.

    Missing numbers and truth values become NaN, missing text "". Times with a time zone are in UTC.
    """
    plain = {
        name: (coord.dims, _as_plain(coord), coord.attrs)
        for name, coord in array.coords.items()
        if name not in array.dims and _is_of_pandas(coord)
    }
    return array.assign_coords(plain) if plain else array


def _is_of_pandas(coord: xr.DataArray) -> bool:
    """Return whether a coord has NumPy's `StringDType`, a type of pandas, or, as with older xarray, such objects."""
    if not isinstance(coord.dtype, np.dtype) or coord.dtype.kind == "T":
        return True
    if coord.dtype.kind != "O" or coord.chunks is not None:
        return False
    return any(kind.__module__.startswith("pandas.") for kind in set(map(type, coord.values.flat)))


def _as_plain(coord: xr.DataArray) -> np.ndarray:
    if isinstance(coord.dtype, pd.DatetimeTZDtype):
        times = pd.DatetimeIndex(getattr(coord.data, "array", coord.data))  # xarray wraps it, or does not
        return times.tz_convert(None).to_numpy()
    values = np.asarray(coord.values)
    if values.dtype.kind not in "OT":
        return values
    items = values.astype(object)
    missing, kind = pd.isna(items), infer_dtype(items, skipna=True)
    if kind in ("boolean", "integer", "floating", "mixed-integer-float"):
        return np.where(missing, np.nan, items).astype(float)
    if kind in ("datetime", "datetime64"):
        return pd.to_datetime(items, utc=True).tz_localize(None).to_numpy()
    return np.array([str(item) for item in np.where(missing, "", items)])


def _in_one_form(array: Labelled, dim: str, what: str) -> Labelled:
    """Return an array with clean labels as numpy strings; raise an error if two differ in padding or form only."""
    labels, dtype = array.indexes[dim].tolist(), array[dim].dtype
    clean = clean_labels(labels)
    if clean == labels and isinstance(dtype, np.dtype) and dtype.kind in "UO":
        return array
    if len(set(clean)) < len(clean):
        first = dict(zip(reversed(clean), reversed(labels), strict=True))
        a, b = next((first[text], label) for text, label in zip(clean, labels, strict=True) if first[text] != label)
        raise ValueError(
            f"{what} have the {dim} labels {a!a} and {b!a}, which differ only in padding or Unicode form; relabel "
            "one of them"
        )
    return array.assign_coords({dim: (dim, np.array(clean), array[dim].attrs)})
