import base64
import io
import re

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal
from PIL import Image

from neurosuper.report.thumbnails import embed_thumbnails


def embedded(css):
    return [
        Image.open(io.BytesIO(base64.b64decode(data)))
        for data in re.findall(r"url\(data:image/\w+;base64,(.+?)\)", css)
    ]


def test_small_images_are_embedded_once_and_without_loss(images):
    labels = ["s0030", "s0002", "s0030", "s0020"]
    css, numbers = embed_thumbnails(images, labels)
    assert numbers == {"s0002": 0, "s0020": 1, "s0030": 2}
    for label, thumbnail in zip(numbers, embedded(css), strict=True):
        assert_array_equal(np.asarray(thumbnail), images.sel(stimulus=label).values)


def test_large_images_become_small_jpegs_of_the_same_shape_and_content():
    gradient = np.linspace(0, 255, 400).astype(np.uint8)
    pixels = np.broadcast_to(gradient[None, None, :, None], (1, 200, 400, 3))
    images = xr.DataArray(pixels, dims=("stimulus", "row", "column", "channel"), coords={"stimulus": ["wide"]})
    (thumbnail,) = embedded(embed_thumbnails(images, ["wide"])[0])
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (96, 48))
    assert np.abs(np.asarray(thumbnail)[24, :, 0] - np.linspace(0, 255, 96)).max() < 8


def test_a_lazy_stack_gives_the_same_and_only_the_blocks_needed_are_read(images):
    def read(block):
        seen.append(len(block))
        return block

    seen: list[int] = []
    lazy = images.chunk(stimulus=10)
    lazy = lazy.copy(data=lazy.data.map_blocks(read, dtype=np.uint8, meta=np.empty((0, 0, 0, 0), np.uint8)))
    labels = ["s0001", "s0030", "s0007"]
    assert embed_thumbnails(lazy, labels) == embed_thumbnails(images, labels)
    assert sum(seen) == 20


def test_labels_without_an_image_are_named(images):
    with pytest.raises(ValueError, match="no image of stimulus 'absent'; load the images"):
        embed_thumbnails(images, ["s0001", "absent"])
