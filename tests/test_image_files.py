"""Small files that declare, or unpack to, very many bytes are refused before they take memory or time."""

import io
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

import neurosuper._image_files as module
from neurosuper import load_images
from neurosuper._image_files import MAX_BYTES, MAX_PIXELS

SIDE = 2**13 + 1  # one more than fits


def encoded(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def png_that_declares(width, height):
    """A PNG of that size whose pixels are those of one black row."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(1 + 3 * width))),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff_that_declares(width, height):
    """A TIFF of 8 × 8 pixels whose header was changed."""
    content = bytearray(encoded(Image.new("RGB", (8, 8), (10, 20, 30)), "TIFF"))
    (at,) = struct.unpack_from("<I", content, 4)
    (n_entries,) = struct.unpack_from("<H", content, at)
    for entry in range(at + 2, at + 2 + 12 * n_entries, 12):
        tag = struct.unpack_from("<H", content, entry)[0]
        if tag in (256, 257):
            struct.pack_into("<HHII", content, entry, tag, 4, 1, (width, height)[tag - 256])
    return bytes(content)


def refused(tmp_path, content, message, name="owl.png"):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_images([tmp_path / name], size=4)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        png_that_declares(SIDE, SIDE),
        png_that_declares(1, MAX_PIXELS + 1),
        tiff_that_declares(8, 2**23 + 1),
        b"P6 8193 8193 255\n" + bytes(100),
    ],
)
def test_more_pixels_than_an_image_may_have(content, tmp_path):
    refused(tmp_path, content, r"it declares \d+ × \d+ pixels, but an image may have 67,108,864; replace or remove it")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("height", [12_000_000, 4_000_000_000])
def test_images_about_which_pillow_itself_warns_are_refused(height, tmp_path):
    refused(tmp_path, tiff_that_declares(8, height), "cannot read image .*(pixels|cut short|cannot|Invalid)")


@pytest.mark.parametrize(("width", "height"), [(8, 2**22), (2**22, 8), (8000, 8000)])
def test_a_png_of_more_pixels_than_its_bytes_can_contain(width, height, tmp_path):
    content = png_that_declares(width, height) if width < height else png_that_declares(1, 1)
    content = content.replace(content[8:33], png_that_declares(width, height)[8:33])
    refused(tmp_path, content, f"it declares {width} × {height} pixels, but has only {len(content)} bytes")


@pytest.mark.parametrize("height", [9, 100, 60_000])
def test_missing_rows_of_a_tiff_are_not_filled_in(height, tmp_path):
    refused(tmp_path, tiff_that_declares(8, height), f"it declares {height} rows of pixels, but contains 8")


@pytest.mark.parametrize(
    "options", [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_deflate"}, {"strip_size": 512}]
)
def test_tiffs_of_any_layout_are_read(options, tmp_path, rng):
    pixels = rng.integers(0, 256, (33, 65, 3), np.uint8)
    (tmp_path / "a.tif").write_bytes(encoded(Image.fromarray(pixels), "TIFF", **options))
    np.testing.assert_array_equal(load_images([tmp_path / "a.tif"])[0], pixels)


def test_the_largest_image_is_read(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(Image.new("1", (2**13, 2**13)), "PNG"))
    assert load_images([tmp_path / "a.png"], size=4).shape == (1, 4, 4, 3)


@pytest.mark.parametrize("form", ["EPS", "PDF", "ICNS", "TGA"])
def test_a_file_is_read_by_no_other_decoder_for_any_name(form, tmp_path):
    if form == "EPS":
        content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) run\n"
    else:
        content = encoded(Image.new("RGB", (64, 64)), form)
    refused(tmp_path, content, "unknown format")


def test_files_that_are_too_long_are_not_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # a sparse file, which takes no space on disk
    with pytest.raises(ValueError, match=r"it has 268 MB, but an image file may have 268 MB"):
        load_images([tmp_path / "a.png"])


def test_members_of_a_zip_file_that_unpack_to_more_are_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("owl.png", bytes(2**20 + 1))
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(ValueError, match="cannot read image a.zip/owl.png: it has 1 MB"):
        load_images(tmp_path / "a.zip")


@pytest.mark.parametrize("suffix", [".zip", ".npz"])
def test_a_zip_file_that_unpacks_to_more_than_it_can_contain(suffix, tmp_path, monkeypatch):
    from neurosuper import load_array

    monkeypatch.setattr(module, "FREE_BYTES", 2**20)
    path = tmp_path / f"a{suffix}"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("owl.png" if suffix == ".zip" else "x.npy", bytes(2**24))
    load = load_images if suffix == ".zip" else lambda path: load_array(path, ("stimulus", "unit"), stimuli=["a"])
    with pytest.raises(ValueError, match=r"would unpack to 0.0 GB, though it has 0.00\d MB; .* fetch it again"):
        load(path)


def test_a_folder_that_links_to_itself_or_has_a_pipe_in_it(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "owl.png")
    (tmp_path / "again").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "cat.png")
    assert load_images(tmp_path).stimulus.values.tolist() == ["owl"]


def test_blocks_of_large_images_have_few_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr("neurosuper.images.LAZY_BYTES", 1)
    monkeypatch.setattr("neurosuper.images.BLOCK_BYTES", 3 * 8 * 8 * 3)
    for i in range(7):
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / f"{i}.png")
    images = load_images(tmp_path)
    assert images.chunks[0] == (3, 3, 1)
    assert images[:, 0, 0, 0].values.tolist() == list(range(7))
