"""Join two arrays on their shared stimuli, by label or content, and warn of the stimuli that are left out."""

from __future__ import annotations

import warnings
from typing import Literal, TypeVar

import numpy as np
import xarray as xr

from neurosuper._content import CONTENT, content_of, digests_of, refuse_one_label_for_two, without_later
from neurosuper._labels import check_labels, match_file_names, name_some

By = Literal["label", "content"]
Labelled = TypeVar("Labelled", xr.DataArray, xr.Dataset)
Other = TypeVar("Other", xr.DataArray, xr.Dataset)
LEFT_OUT = "n_stimuli_left_out"
IMAGE = {"row", "column", "channel"}


def join(
    a: Labelled,
    b: Other,
    by: By = "label",
    names: tuple[str, str] = ("the first", "the second"),
    images: Literal["a", "b", None] = None,
) -> tuple[Labelled, Other]:
    """Return both sides restricted to their shared stimuli, in the order of the first (see `align`).

    `images` names the side that contains images, if any: images without responses alone give no warning.
    """
    a, b = check_labels(a, "stimulus", "both sides"), check_labels(b, "stimulus", "both sides")
    if by not in ("label", "content"):
        raise ValueError(f"by must be 'label' or 'content', got {by!r}")
    rows, partners = _partners_by_label(a, b) if by == "label" else _partners_by_content(a, b)
    _warn_of_lost((a, b), (rows, partners), names, images)
    a, b = _take(a, rows), _take(b, partners)
    if by == "content":
        b = b.assign_coords(stimulus=a.stimulus.values)
    return _share_content(a, b)


def join_images(responses: xr.DataArray, images: xr.DataArray, name: str = "the responses") -> xr.DataArray:
    """Return the responses or codes restricted to stimuli with an image, with the content of these images."""
    return join(responses, images.stimulus, names=(name, "the images"), images="b")[0]


def left_out(joined: xr.DataArray) -> dict[str, int]:
    """Return the attr that counts the stimuli left out by joins, or an empty dict."""
    return {LEFT_OUT: joined.attrs[LEFT_OUT]} if LEFT_OUT in joined.attrs else {}


def is_images(side: xr.DataArray | xr.Dataset) -> bool:
    """Return whether an array is a stack of images."""
    return isinstance(side, xr.DataArray) and set(side.dims) >= IMAGE


def _partners_by_label(a: Labelled, b: Other) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of each side with the same labels; raise an error if a label names two photographs."""
    partners = b.indexes["stimulus"].get_indexer(a.indexes["stimulus"])
    rows = np.flatnonzero(partners >= 0)
    if not len(rows):
        raise ValueError(
            f"no stimulus label in common: {name_some(a.stimulus)} against {name_some(b.stimulus)}; {_remedy(a, b)}"
        )
    partners = partners[rows]
    ours, theirs = content_of(a), content_of(b)
    if ours is not None and theirs is not None:
        ours, theirs = ours[rows], theirs[partners]
        if (differ := (ours != theirs) & (ours != "") & (theirs != "")).any():
            refuse_one_label_for_two(a.stimulus.values[rows[differ]].tolist())
    return rows, partners


def _remedy(a: xr.DataArray | xr.Dataset, b: xr.DataArray | xr.Dataset) -> str:
    """Return what makes labels equal: if only folder and extension of files differ, the line that drops them."""
    ours, theirs = a.stimulus.values.tolist(), b.stimulus.values.tolist()
    for labels, others in ((ours, theirs), (theirs, ours)):
        if (bare := match_file_names(labels, others)) is not None:
            return (
                f"the other side has base names of files; make {labels[0]!r} {bare[0]!r}, and so on, with "
                r'x.assign_coords(stimulus=x.stimulus.str.replace(r"^.*[/\\]|\.\w+$", "").values)'
            )
    return "labels are base names of image files without extension"


def _partners_by_content(a: Labelled, b: Other) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of each side with the same photographs; raise an error for copies, which have two partners."""
    ours, theirs = (_require_content(side, which) for side, which in ((a, "first"), (b, "second")))
    shared = np.intersect1d(ours, theirs)
    if not len(shared):
        raise ValueError(
            f"no photograph in common between {len(ours)} stimuli of the first and {len(theirs)} of the second; "
            "pixels are compared as stored in the files, so use the same files on both sides"
        )
    for side, content, which in ((a, ours, "first"), (b, theirs, "second")):
        twice = np.isin(content, shared) & ~without_later(content)
        if twice.any():
            raise ValueError(
                f"the {which} shows a photograph under several labels, such as {name_some(side.stimulus.values[twice])}"
                ", so it has no unique partner; average copies with neurosuper.copies.average_copies, or drop "
                "them (see neurosuper.copies.find_copies)"
            )
    rows = np.flatnonzero(np.isin(ours, shared))
    where = {content: i for i, content in enumerate(theirs.tolist())}
    return rows, np.array([where[content] for content in ours[rows].tolist()])


def _require_content(side: xr.DataArray | xr.Dataset, which: str) -> np.ndarray:
    content = content_of(side)
    if (content is None or (content == "").any()) and isinstance(side, xr.DataArray) and is_images(side):
        return digests_of(side)
    if content is None or (content == "").any():
        raise ValueError(
            f"the {which} does not know the pixels of its stimuli, so it cannot be joined by='content'; load_images "
            "adds the coord 'content', and load_array(stimuli=images), activations and align pass it on"
        )
    return content


def _take(side: Labelled, rows: np.ndarray) -> Labelled:
    """Return these stimuli, with a count of the others in attrs; no copy is made if they are all, in this order."""
    n_lost = side.sizes["stimulus"] - len(rows)
    if not n_lost and (rows == np.arange(len(rows))).all():
        return side
    taken = side.isel(stimulus=rows)
    return taken.assign_attrs({LEFT_OUT: int(side.attrs.get(LEFT_OUT, 0)) + n_lost}) if n_lost else taken


def _share_content(a: Labelled, b: Other) -> tuple[Labelled, Other]:
    """Return both sides, where a side without content has that of the other."""
    ours, theirs = content_of(a), content_of(b)
    if ours is None and theirs is not None and _lacks_content(a):
        a = a.assign_coords({CONTENT: ("stimulus", theirs)})
    if theirs is None and ours is not None and _lacks_content(b):
        b = b.assign_coords({CONTENT: ("stimulus", ours)})
    return a, b


def _lacks_content(side: xr.DataArray | xr.Dataset) -> bool:
    """Return whether the coord `content` is missing, or empty as for a lazy stack of images."""
    return CONTENT not in side.coords or bool((side[CONTENT] == "").all())


def _warn_of_lost(
    sides: tuple[Labelled, Other],
    kept: tuple[np.ndarray, np.ndarray],
    names: tuple[str, str],
    images: Literal["a", "b", None],
) -> None:
    """Warn of the stimuli of each side without a partner, unless they are only images without responses."""
    lost = [np.delete(side.stimulus.values, rows) for side, rows in zip(sides, kept, strict=True)]
    if any(len(labels) for labels, side in zip(lost, "ab", strict=True) if side != images):
        counts = [
            f"{len(labels)} of {side.sizes['stimulus']} of {name}" + (f" ({name_some(labels)})" if len(labels) else "")
            for labels, side, name in zip(lost, sides, names, strict=True)
        ]
        warnings.warn(
            f"{len(kept[0])} stimuli are joined; left out are {' and '.join(counts)}, which have no partner; if "
            "they should have one, give both sides the same labels",
            stacklevel=4,  # the caller of align; through other functions, the line of the package that joins
        )
