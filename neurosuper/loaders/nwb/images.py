"""Images that an NWB file contains as templates of its stimuli, with the same labels as its responses."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import xarray as xr

from neurosuper._checks import check_one_of
from neurosuper.images import load_images
from neurosuper.loaders.external import check_written
from neurosuper.loaders.nwb.presentations import column_labels
from neurosuper.loaders.nwb.records import Table, Template, listed
from neurosuper.loaders.nwb.session import Kind, Session, find, open_session

__all__ = ["load_nwb_images"]


def load_nwb_images(
    path: str | Path | BinaryIO,
    *,
    template: str | None = None,
    stimulus_column: str | None = None,
    presentations: str = "trials",
    channel_order: Literal["RGB", "BGR"] = "RGB",
    columns_first: bool = False,
    size: int | tuple[int, int] | None = None,
    allow_external: bool = False,
) -> xr.DataArray:
    """Return the images of an NWB file, with the same labels as the responses.

    Parameters
    ----------
    path : path of an .nwb file, or a binary file object that can seek
        The session, as in `load_nwb`.
    template : str, optional
        Images container, ImageSeries or OpticalSeries with the images, among the templates of the stimuli or elsewhere
        in the file. May be left out if only one of the templates contains pixels (if none does: only one elsewhere).
    stimulus_column : str, optional
        Column of a table of intervals that names the images, one row per image and in the same order, for series with
        an image per presentation. An image that was presented again is returned once.
    presentations : str, optional
        That table.
    channel_order : {"RGB", "BGR"}, optional
        Order in which the file stores the colors. OpenCV reads images as BGR, and some files were written so.
    columns_first : bool, optional
        The first axis of a stored image is its columns, as the schema of NWB and files written by MATLAB have it. By
        default it is its rows, as in most files that were written by Python.
    size : int or (rows, columns), optional
        Resize every image to this size in pixels; see `load_images`. Needed if sizes differ.
    allow_external : bool, optional
        Read a file that takes data from other files of this machine (external storage, external links, virtual
        datasets). By default it is refused.

    Returns
    -------
    DataArray (stimulus, row, column, channel)
        RGB images of type uint8; grey images are repeated over the channels. Stimuli are named by `stimulus_column`, as
        in `load_nwb`, else by the names of the images, in their order, else by their index: the names that `load_nwb`
        gives for an `index_series`.

    Raises
    ------
    FileNotFoundError
        No file at that path.
    ValueError
        Not NWB, no such template or column, images in external files, images of unknown order or different sizes,
        different images with one name, or pixels that are not whole numbers from 0 to 255.

    See Also
    --------
    load_nwb : Load the responses.
    load_images : Load images from a folder, a zip file or an array.

    Examples
    --------
    >>> import numpy as np
    >>> import datetime, pathlib, pynwb, tempfile
    >>> from pynwb.image import GrayscaleImage
    >>> nwb = pynwb.NWBFile("two scenes", "demo", datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc))
    >>> scenes = [GrayscaleImage(name=f"scene{i}", data=np.full((4, 6), i, np.uint8)) for i in range(2)]
    >>> nwb.add_stimulus_template(pynwb.base.Images(name="scenes", images=scenes, description="shown"))
    >>> path = pathlib.Path(tempfile.mkdtemp(), "demo.nwb")
    >>> with pynwb.NWBHDF5IO(path, "w") as file:
    ...     file.write(nwb)
    >>> load_nwb_images(path).sel(stimulus="scene1").values[0, 0].tolist()
    [1, 1, 1]
    """
    check_one_of("channel_order", channel_order, ("RGB", "BGR"))
    with open_session(path, allow_external=allow_external) as session:
        chosen = _choose(session, template)
        where = f"template {chosen.name!r} of {session.name}"
        check_written(chosen.pixels, f"data of {where}")
        names = chosen.names or [str(i) for i in range(len(chosen.pixels))]
        if stimulus_column is not None:
            table = find(session, "intervals", presentations, "table of presentations")
            names = _names_in_table(table, stimulus_column, len(names), where)
        stack: dict[str, xr.DataArray] = {}
        for i, name in enumerate(names):
            image = _as_image(chosen.pixels[i], name, where, size, columns_first)
            if name and not stack.setdefault(name, image).equals(image):
                raise ValueError(f"two different images of {where} are named {name!r}; name another stimulus_column")
    if len(shapes := {image.shape for image in stack.values()}) > 1:
        raise ValueError(f"images of {where} differ in size: {sorted(shapes)[:3]}; pass size=(rows, columns)")
    images = xr.concat(list(stack.values()), dim="stimulus").assign_attrs(source=session.name)
    if channel_order == "BGR":
        images = images.isel(channel=[2, 1, 0])
    return load_images(images.assign_coords(channel=["red", "green", "blue"]))


def _names_in_table(table: Table, column: str, n_images: int, where: str) -> list[str]:
    """Return the name of the image of each row of a table, "" where there is none."""
    names = column_labels(table, column).tolist()
    if len(names) != n_images:
        raise ValueError(
            f"{where} has {n_images} images, but table {table.name!r} has {len(names)} rows; stimulus_column names one "
            "image per row: name another table, or leave stimulus_column out"
        )
    return names


def _choose(session: Session, template: str | None) -> Template:
    """Return the named template, or the only one that contains pixels; if there is none, the same of other stacks."""
    if template is not None:
        kind: Kind = "template" if any(_ends_with(path, template) for path in session.found("template")) else "stack"
        if kind == "stack" and not any(_ends_with(path, template) for path in session.found("stack")):
            known = [*session.found("template"), *session.found("stack")]
            raise ValueError(f"no template {template!r} in {session.name}; it has {listed(known)}")
        chosen: Template = find(session, kind, template, "template")
        if chosen.pixels is None:
            why = "are in external files" if chosen.n != 0 and chosen.names else "have no order in the file"
            raise ValueError(
                f"the images of template {template!r} of {session.name} {why}; use load_images on their files"
            )
        return chosen
    by_kind = [[opened() for opened in session.found(kind).values()] for kind in ("template", "stack")]
    stored = [[each for each in templates if each.pixels is not None] for templates in by_kind]
    candidates = stored[0] or stored[1]
    if len(candidates) != 1:
        names = listed([each.name for templates in by_kind for each in templates])
        raise ValueError(
            f"{len(candidates)} templates of {session.name} contain images, among {names}; name one as template="
            if candidates
            else f"no template of {session.name} contains images (it has {names}); take them from the archive, "
            "then use load_images"
        )
    return candidates[0]


def _ends_with(path: str, wanted: str) -> bool:
    return f"/{path}".endswith(f"/{wanted}")


def _as_image(
    pixels: np.ndarray, name: str, where: str, size: int | tuple[int, int] | None, columns_first: bool
) -> xr.DataArray:
    """Return one image as (stimulus, row, column, channel)."""
    check_written(pixels, f"image {name!r} of {where}")
    values = np.asarray(pixels)
    if values.ndim == 2 or values.shape[-1:] == (1,):
        values = np.repeat(values.reshape(*values.shape[:2], 1), 3, axis=2)
    if values.shape[2:] == (4,) and (values[..., 3] == values[..., 3].max()).all():
        values = values[..., :3]
    if values.ndim != 3 or values.shape[2] != 3:
        raise ValueError(f"image {name!r} of {where} has shape {values.shape}; an image is grey or RGB, and opaque")
    whole = values.astype(np.uint8)
    if not np.array_equal(whole, values):
        raise ValueError(
            f"image {name!r} of {where} has {values.dtype} from {values.min()} to {values.max()}, but pixels must be "
            "whole numbers from 0 to 255; read it with pynwb, and scale it as it was shown"
        )
    if columns_first:
        whole = whole.swapaxes(0, 1)
    dims = ("stimulus", "row", "column", "channel")
    return load_images(xr.DataArray(whole[np.newaxis], dims=dims, coords={"stimulus": [name]}, name="image"), size=size)
