"""Images that an NWB file contains as templates of its stimuli, with the same labels as its responses."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import xarray as xr

from neurosuper.images import load_images
from neurosuper.loaders.external import check_written
from neurosuper.loaders.nwb.records import Template, listed
from neurosuper.loaders.nwb.session import Session, find, open_session

__all__ = ["load_nwb_images"]


def load_nwb_images(
    path: str | Path | BinaryIO,
    *,
    template: str | None = None,
    size: int | tuple[int, int] | None = None,
    allow_external: bool = False,
) -> xr.DataArray:
    """Return the images of an NWB file, with the same labels as in `load_nwb(…, index_series=…)`.

    Parameters
    ----------
    path : path of an .nwb file, or a binary file object that can seek
        The session.
    template : str, optional
        Images container or ImageSeries among the templates of the stimuli. May be left out if only one of them contains
        pixels.
    size : int or (rows, columns), optional
        Resize every image to this size in pixels; see `load_images`. Needed if sizes differ.
    allow_external : bool, optional
        Read a file that takes data from other files of this machine (external storage, external links, virtual
        datasets). By default it is refused.

    Returns
    -------
    DataArray (stimulus, row, column, channel)
        RGB images of type uint8; grey images are repeated over the channels. Stimuli are named by the names of the
        images, in their order, else by their index. The first axis of an image is read as its rows.

    Raises
    ------
    FileNotFoundError
        No file at that path.
    ValueError
        Not NWB, no such template, images in external files, images of unknown order or different sizes, or pixels that
        are not whole numbers from 0 to 255.

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
    with open_session(path, allow_external=allow_external) as session:
        chosen = _choose(session, template)
        where = f"template {chosen.name!r} of {session.name}"
        check_written(chosen.pixels, f"data of {where}")
        names = chosen.names or [str(i) for i in range(len(chosen.pixels))]
        stack = [_as_image(chosen.pixels[i], name, where, size) for i, name in enumerate(names)]
    if len(shapes := {image.shape for image in stack}) > 1:
        raise ValueError(f"images of {where} differ in size: {sorted(shapes)[:3]}; pass size=(rows, columns)")
    images = xr.concat(stack, dim="stimulus").assign_attrs(source=session.name)
    return load_images(images.assign_coords(channel=["red", "green", "blue"]))


def _choose(session: Session, template: str | None) -> Template:
    """Return the named template, or the only one that contains pixels."""
    if template is None:
        templates = [opened() for opened in session.found("template").values()]
        stored = [candidate for candidate in templates if candidate.pixels is not None]
        if len(stored) != 1:
            names = listed([candidate.name for candidate in templates])
            raise ValueError(
                f"{len(stored)} templates of {session.name} contain images, among {names}; name one as template="
                if stored
                else f"no template of {session.name} contains images (it has {names}); take them from the archive, "
                "then use load_images"
            )
        return stored[0]
    chosen: Template = find(session, "template", template, "template")
    if chosen.pixels is None:
        why = "are in external files" if chosen.n != 0 and chosen.names else "have no order in the file"
        raise ValueError(f"the images of template {template!r} of {session.name} {why}; use load_images on their files")
    return chosen


def _as_image(pixels: np.ndarray, name: str, where: str, size: int | tuple[int, int] | None) -> xr.DataArray:
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
    dims = ("stimulus", "row", "column", "channel")
    return load_images(xr.DataArray(whole[np.newaxis], dims=dims, coords={"stimulus": [name]}, name="image"), size=size)
