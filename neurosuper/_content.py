"""Content: identify the photograph that a stimulus shows by a digest of its pixels, in the coord `content`.

A label is the name of a photograph; the digest is its identity. Two labels may name copies of one photograph, and in
two recordings one label may name two photographs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._labels import name_some

CONTENT = "content"
DIGEST = re.compile(r"[0-9a-f]{32}")
READ_AT_ONCE = 64  # images of a lazy stack that are in memory at the same time
Array = xr.DataArray | xr.Dataset


def digest_of(pixels: np.ndarray) -> str:
    """Return the digest of one image (row, column, channel), uint8 RGB: 32 hexadecimal digits."""
    digest = hashlib.sha256(np.asarray(pixels.shape, "<i8").tobytes())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()[:32]  # 128 bits: among 10¹² photographs, the probability of any collision is about 10⁻¹⁵


def digests_of(images: xr.DataArray) -> np.ndarray:
    """Return the digest of every image, reading block by block."""
    images = images.transpose("stimulus", "row", "column", "channel")
    starts = range(0, images.sizes["stimulus"], READ_AT_ONCE)
    return np.array([digest_of(image) for i in starts for image in images[i : i + READ_AT_ONCE].values], dtype="U32")


def content_of(array: Array) -> np.ndarray | None:
    """Return the digests `(stimulus,)` in the coord `content` of an array, "" if unknown; None if it has none.

    A coord of this name with other values belongs to the user and is ignored.
    """
    coord = array.coords.get(CONTENT)
    if coord is None or coord.dims != ("stimulus",) or coord.chunks is not None:
        return None
    if coord.dtype.kind == "U" and _are_digests(coord.values):
        return coord.values
    content = np.array([value if isinstance(value, str) else "" for value in coord.values.tolist()], dtype=str)
    ours = all(DIGEST.fullmatch(value) for value in np.unique(content).tolist() if value)
    return content if ours and content.any() else None


def _are_digests(texts: np.ndarray) -> bool:
    """Return whether all texts are digests, testing all characters at once: scores do this often for every stimulus."""
    if not texts.size or texts.dtype.itemsize != 4 * 32 or not texts.dtype.isnative:
        return False
    codes = np.ascontiguousarray(texts).view(np.uint32)
    return bool((((codes >= ord("0")) & (codes <= ord("9"))) | ((codes >= ord("a")) & (codes <= ord("f")))).all())


def photographs_of(array: Array) -> np.ndarray:
    """Return the number of the photograph that each stimulus shows, in order of first appearance.

    A stimulus of unknown content counts as a photograph of its own.
    """
    content = content_of(array)
    if content is None:
        return np.arange(array.sizes["stimulus"])
    unknown = content == ""
    content = np.where(
        unknown, np.arange(len(content)).astype(str), content
    )  # digests are longer, so these cannot equal one
    return pd.factorize(content)[0]


def without_later(numbers: np.ndarray) -> np.ndarray:
    """Return which numbers (or digests) appear for the first time."""
    first = np.zeros(len(numbers), bool)
    first[np.unique(numbers, return_index=True)[1]] = True
    return first


def all_stimuli(arrays: Iterable[Array]) -> xr.DataArray:
    """Return the stimuli of all arrays, sorted by label, with their content if any array has it.

    Raises
    ------
    ValueError
        One label for two photographs.
    """
    known: dict[str, str] = {}
    twice: list[str] = []
    for array in arrays:
        content = content_of(array)
        digests = np.full(array.sizes["stimulus"], "") if content is None else content
        for label, digest in zip(array.stimulus.values.astype(str).tolist(), digests.tolist(), strict=True):
            if known.setdefault(label, digest) != digest:
                twice += [label] if known[label] and digest else []
                known[label] = known[label] or digest
    if twice:
        refuse_one_label_for_two(twice)
    labels = sorted(known)
    stimuli = xr.DataArray(np.zeros(len(labels)), dims="stimulus", coords={"stimulus": np.array(labels, dtype=str)})
    if not any(known.values()):
        return stimuli
    return stimuli.assign_coords({CONTENT: ("stimulus", [known[label] for label in labels])})


def refuse_one_label_for_two(labels: list[str]) -> None:
    """Raise an error for labels that name different photographs in two arrays."""
    raise ValueError(
        f"stimulus {name_some(labels)} names different photographs in the two arrays, by the pixels of the files; "
        "relabel one side, join with align(a, b, by='content'), or, if one side was only saved in another format or "
        "size, remove its digests with .drop_vars('content')"
    )
