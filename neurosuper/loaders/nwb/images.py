"""NWB: the images that a file holds as templates of its stimuli, labelled as its responses are."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import xarray as xr

from neurosuper.images import load_images
from neurosuper.loaders.nwb.records import Template, listed
from neurosuper.loaders.nwb.session import Session, find, open_session
from neurosuper.loaders.nwb.validate import check_written

__all__ = ["load_nwb_images"]


def load_nwb_images(
    path: str | Path | BinaryIO,
    *,
    template: str | None = None,
    size: int | tuple[int, int] | None = None,
    allow_external: bool = False,
) -> xr.DataArray:
    """Load the images that an NWB file holds, labelled as `load_nwb(…, index_series=…)` labels stimuli.

    Parameters
    ----------
    path : path of an .nwb file, or a binary file object that can seek
    template : str, optional
        Images container or ImageSeries among the templates of the stimuli. May be left out where only one of them holds
        pixels.
    size : int or (rows, columns), optional
        Resize every image to this size in pixels; see `load_images`. Needed where sizes differ.
    allow_external : bool, optional
        Read a file that takes data from other files of this machine (external storage, external links, virtual
        datasets). By default it is refused.

    Returns
    -------
    DataArray (stimulus, row, column, channel)
        uint8 RGB; grey images are repeated over the channels. Stimuli are named by the names of the images, in their
        order, else by their index. The first axis of an image is taken as its rows.

    Raises
    ------
    FileNotFoundError
        No file there.
    ValueError
        Not NWB, no such template, images that lie in external files, whose order is not known or whose sizes differ, or
        pixels that are not whole numbers from 0 to 255.

    Examples
    --------
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
    """Return the template asked for, or the only one that holds pixels."""
    if template is None:
        templates = [opened() for opened in session.found("template").values()]
        stored = [each for each in templates if each.pixels is not None]
        if len(stored) != 1:
            named = listed([each.name for each in templates])
            raise ValueError(
                f"{len(stored)} templates of {session.name} hold images, of {named}; name one as template="
                if stored
                else f"no template of {session.name} holds images (it has {named}); take them from the archive, then "
                "use load_images"
            )
        return stored[0]
    chosen: Template = find(session, "template", template, "template")
    if chosen.pixels is None:
        why = "lie in external files" if chosen.n != 0 and chosen.names else "are not in an order that the file tells"
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
            f"image {name!r} of {where} holds {values.dtype} from {values.min()} to {values.max()}, but pixels are "
            "whole numbers from 0 to 255; read it with pynwb, and scale it as it was shown"
        )
    dims = ("stimulus", "row", "column", "channel")
    return load_images(xr.DataArray(whole[np.newaxis], dims=dims, coords={"stimulus": [name]}, name="image"), size=size)
