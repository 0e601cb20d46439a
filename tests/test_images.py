"""Images: the same stack from every container, in the order that is promised, or the file that is at fault by name."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from numpy.testing import assert_array_equal
from PIL import Image

from neurosuper import images as images_module
from neurosuper import load_images
from neurosuper.images import check_images, image_labels

NAMES = ["owl.png", "cat.bmp", "b/dog.PNG", "b/c/ant.v2.tif"]
LABELS = ["ant.v2", "cat", "dog", "owl"]
JUNK = ["notes.txt", "._owl.png", "__MACOSX/._cat.png", ".thumbnails/owl.png"]


def encode(pixels: np.ndarray | Image.Image, suffix: str = ".png", **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, Image.registered_extensions()[suffix.lower()], **options)
    return stream.getvalue()


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def assert_refused(error: type[Exception], message: str, call: Callable[[], object]) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.fixture
def pixels(rng) -> np.ndarray:
    """Four images of 6 rows and 8 columns."""
    return rng.integers(0, 256, (4, 6, 8, 3), dtype=np.uint8)


@pytest.fixture
def files(pixels) -> dict[str, bytes]:
    """The four images in lossless files, labelled `LABELS` when sorted, listed out of order, among junk."""
    stack = dict(zip(LABELS, pixels, strict=True))
    images = {name: encode(stack[Path(name).stem], Path(name).suffix) for name in NAMES}
    return images | dict.fromkeys(JUNK, b"junk")


@pytest.fixture
def one(tmp_path) -> Callable[..., xr.DataArray]:
    """Load a single image from its encoded bytes."""

    def load(content: bytes, name: str = "owl.png", **options: object) -> xr.DataArray:
        return load_images(write_folder(tmp_path / "one", {name: content}), **options)

    return load


@pytest.fixture(params=["folder", "folder as str", "zip", "ZIP", "list of files"])
def source(request, tmp_path, files) -> object:
    """The files in every container; the folder is in a hidden one."""
    if request.param.lower() == "zip":
        return write_zip(tmp_path / f"images.{request.param}", {f"set/{name}": file for name, file in files.items()})
    folder = write_folder(tmp_path / ".cache" / "images", files)
    if request.param == "list of files":
        return [folder / name for name in NAMES]
    return str(folder) if request.param == "folder as str" else folder


def test_every_container_gives_the_same_stack_sorted_or_in_the_order_of_the_list(source, pixels):
    images = load_images(source)
    order = ["owl", "cat", "dog", "ant.v2"] if isinstance(source, list) else LABELS
    assert_array_equal(images.sel(stimulus=LABELS), pixels)
    assert images.dims == ("stimulus", "row", "column", "channel")
    assert images.stimulus.values.tolist() == order == image_labels(source)
    assert images.channel.values.tolist() == ["red", "green", "blue"]
    xr.testing.assert_identical(check_images(images), images)


@pytest.mark.parametrize("as_sequence", [list, tuple, np.array, pd.Series, pd.Index])
def test_the_order_given_is_the_order_kept(as_sequence, tmp_path, rng):
    names = ["zebra", "apple", "10", "9", "mango"]
    shown = dict(zip(names, rng.integers(0, 256, (5, 4, 4, 3), np.uint8), strict=True))
    folder = write_folder(tmp_path, {f"{name}.png": encode(pixels) for name, pixels in shown.items()})
    images = load_images(as_sequence([str(folder / f"{name}.png") for name in names]))
    assert images.stimulus.values.tolist() == names
    assert_array_equal(images, list(shown.values()))
    assert load_images(folder).stimulus.values.tolist() == sorted(names)


def test_names_of_files_are_labels_in_one_unicode_form(tmp_path, pixels):
    typed, composed = "re\u0301sume\u0301", "r\u00e9sum\u00e9"  # as macOS names files, and as Windows does
    files = {f"{typed}.png": encode(pixels[0]), "owl .png": encode(pixels[1])}
    for source in (write_folder(tmp_path / "folder", files), write_zip(tmp_path / "images.zip", files)):
        images = load_images(source, category_from={typed: "text", "owl": "bird"})
        assert images.stimulus.values.tolist() == image_labels(source) == ["owl", composed]
        assert images.category.values.tolist() == ["bird", "text"]
    twice = write_folder(tmp_path / "twice", files | {f"{composed}.png": encode(pixels[2])})
    assert_refused(ValueError, f"two images have the label '{composed}'", lambda: load_images(twice))


def test_zip_files_made_on_windows_have_folders_too(tmp_path, pixels):
    source = tmp_path / "windows.zip"
    with zipfile.ZipFile(source, "w") as archive:
        for name, image in zip(["set\\cats\\a.png", "set\\dogs\\b.png", "__MACOSX\\._a.png"], pixels, strict=False):
            entry = zipfile.ZipInfo()
            entry.filename = name
            archive.writestr(entry, encode(image))
    images = load_images(source, category_from="folder")
    assert images.stimulus.values.tolist() == ["a", "b"]
    assert images.category.values.tolist() == ["cats", "dogs"]
    assert_array_equal(images, pixels[:2])


def test_two_members_of_one_name_in_a_zip_are_refused(tmp_path, pixels):
    source = tmp_path / "twice.zip"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("owl.png", encode(pixels[0]))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("owl.png", encode(pixels[1]))
    assert_refused(ValueError, "two images have the label 'owl'", lambda: load_images(source))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_photographs_are_turned_as_viewers_turn_them(one, suffix, orientation):
    quarters = np.kron(np.array([[[250, 0, 0], [0, 250, 0]], [[0, 0, 250], [250, 250, 250]]]), np.ones((16, 24, 1)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if suffix == ".webp" else {}
    content = encode(Image.fromarray(quarters.astype(np.uint8)), suffix, exif=exif, **lossless)
    turn = {  # what the camera saw, from what it stored
        1: lambda q: q,
        2: lambda q: q[:, ::-1],
        3: lambda q: q[::-1, ::-1],
        4: lambda q: q[::-1],
        5: lambda q: q.swapaxes(0, 1),
        6: lambda q: np.rot90(q, -1),
        7: lambda q: q[::-1, ::-1].swapaxes(0, 1),
        8: lambda q: np.rot90(q),
    }[orientation]
    images = one(content, f"phone{suffix}")
    expected = turn(quarters)
    assert images.shape[1:] == expected.shape
    assert np.abs(images[0].values.astype(float) - expected).mean() < 12  # JPEG blurs the edges between quarters
    assert one(content, f"phone{suffix}", size=(8, 12)).shape == (1, 8, 12, 3)


@pytest.mark.parametrize("form", ["GIF", "PNG", "TIFF", "WEBP"])
def test_a_file_of_several_frames_is_refused_by_name_with_their_number(one, tmp_path, pixels, form):
    frames = [Image.fromarray(frame) for frame in pixels[:3]]
    stream = io.BytesIO()
    frames[0].save(stream, form, save_all=True, append_images=frames[1:])
    message = r"image .*owl\.png has 3 frames; save the one that was shown as an image of its own"
    assert_refused(ValueError, message, lambda: one(stream.getvalue()))
    assert_refused(ValueError, message, lambda: one(stream.getvalue(), size=4))
    alone = io.BytesIO()
    frames[0].save(alone, form, save_all=True)
    assert one(alone.getvalue()).shape == (1, 6, 8, 3)


def test_the_photograph_of_a_phone_is_the_first_of_its_file(one, rng):
    """Phones add a preview or a map of depth to a JPEG file (MPO)."""
    photograph = Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8))
    stream = io.BytesIO()
    photograph.save(stream, "MPO", save_all=True, append_images=[Image.new("RGB", (24, 16))])
    assert Image.open(stream).n_frames == 2
    assert_array_equal(one(stream.getvalue(), "phone.jpg"), one(encode(photograph, ".jpg"), "phone.jpg"))


def test_images_in_formats_that_are_not_read_are_counted_and_named(tmp_path, files):
    others = {"a.heic": b"", "b/c.HEIC": b"", "d.svg": b"", "cat.nef": b"", "owl.mov": b"", ".hidden.heic": b""}
    folder = write_folder(tmp_path / "photos", files | others)
    message = r"in .*photos.* are left out, because .* \(2 \.heic, 1 \.svg\): 'a\.heic', 'b/c\.HEIC', 'd\.svg'; convert"
    for source in (folder, write_zip(tmp_path / "photos.zip", files | others)):
        for read in (load_images, image_labels):
            with pytest.warns(UserWarning, match=message) as caught:
                read(source)
            assert caught[0].filename == __file__
    only = write_folder(tmp_path / "only", {"a.heic": b"", "b.heic": b""})
    assert_refused(FileNotFoundError, r"looked .*, found 2 \.heic, which are not read", lambda: load_images(only))


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".pgm", ".pnm", ".apng"])
def test_other_names_of_the_formats_that_are_read_are_found(tmp_path, suffix):
    write_folder(tmp_path, {f"owl{suffix}": encode(Image.new("L", (8, 6), 7), suffix)})
    images = load_images(tmp_path)
    assert images.stimulus.values.tolist() == ["owl"]
    assert images.shape == (1, 6, 8, 3)
    assert (abs(images.astype(int) - 7) <= 1).all()


def test_folders_above_are_not_hidden_ones(tmp_path, pixels):
    source = write_zip(tmp_path / "images.zip", {"../owl.png": encode(pixels[0]), "./set/cat.png": encode(pixels[1])})
    assert load_images(source).stimulus.values.tolist() == ["cat", "owl"]


IN_MEMORY = {
    "PIL images": lambda p: [Image.fromarray(image) for image in p],
    "arrays": list,
    "arrays, channels first": lambda p: list(p.transpose(0, 3, 1, 2)),
    "tensors": lambda p: list(torch.tensor(p).permute(0, 3, 1, 2)),
    "tensors, channels last": lambda p: [torch.tensor(image) for image in p],
    "tensors of floats": lambda p: [torch.tensor(image).permute(2, 0, 1) / 255 for image in p],
    "one array": lambda p: p,
    "one array, channels first": lambda p: np.ascontiguousarray(p.transpose(0, 3, 1, 2)),
    "one array of floats": lambda p: p / 255,
    "one tensor": lambda p: torch.tensor(p).permute(0, 3, 1, 2),
    "one tensor, channels last": lambda p: torch.tensor(p),
    "one tensor of floats": lambda p: torch.tensor(p).permute(0, 3, 1, 2) / 255,
    "one tensor of half floats": lambda p: (torch.tensor(p).permute(0, 3, 1, 2) / 255).half(),
    "one tensor that has a gradient": lambda p: (torch.tensor(p).permute(0, 3, 1, 2) / 255).requires_grad_(),
}


@pytest.mark.parametrize("make", list(IN_MEMORY.values()), ids=list(IN_MEMORY))
def test_images_in_memory_are_those_of_files(make, pixels, tmp_path):
    every = np.arange(256, dtype=np.uint8)  # every level survives the way through floats
    pixels = np.concatenate([pixels, np.resize(every, (2, 6, 8, 3)), np.resize(every[::-1], (2, 6, 8, 3))])
    source = make(pixels)
    images = load_images(source)
    assert_array_equal(images, pixels)
    assert images.dtype == np.uint8
    assert images.stimulus.values.tolist() == list("01234567")
    folder = write_folder(tmp_path, {f"{i}.png": encode(image) for i, image in enumerate(pixels)})
    assert images.content.values.tolist() == load_images(folder).content.values.tolist()
    assert_array_equal(load_images(source, size=4), load_images(folder, size=4))
    named = load_images(source, category_from={str(i): "odd" if i % 2 else "even" for i in range(8)})
    assert named.category.values.tolist() == ["even", "odd"] * 4


def test_three_rows_of_three_channels_are_read_as_is_usual_for_the_kind_of_array(rng):
    square = rng.integers(0, 256, (2, 3, 3, 3), dtype=np.uint8)
    assert_array_equal(load_images(square), square)
    assert_array_equal(load_images(torch.tensor(square)), square.transpose(0, 2, 3, 1))


def test_pil_images_may_differ_in_size_mode_and_orientation(tmp_path, pixels):
    exif = Image.Exif()
    exif[0x0112] = 6
    phone = Image.open(io.BytesIO(encode(pixels[0], exif=exif)))
    grey = Image.fromarray(pixels[1, ..., 0])
    assert image_labels([phone, grey]) == ["0", "1"]
    assert_refused(ValueError, r"images differ in size: 8×6 \(0\), 6×8 \(1\)", lambda: load_images([phone, grey]))
    images = load_images([phone, grey], size=(8, 6))
    assert_array_equal(images[0], np.rot90(pixels[0], -1))
    assert_array_equal(images[1], np.asarray(grey.convert("RGB").resize((6, 8), Image.Resampling.BICUBIC)))
    assert_array_equal(phone.convert("RGB"), pixels[0])  # the image of the user stays as it is


WRONG_PIXELS = {
    "CMYK": (lambda: [Image.new("CMYK", (8, 8))], "image 0 has mode CMYK, which has no single meaning"),
    "transparent": (lambda: [Image.new("RGB", (8, 8)), Image.new("RGBA", (8, 8))], "image 1 is partly transparent"),
    "a normalised tensor": (
        lambda: torch.full((2, 3, 8, 8), -1.5),
        r"must be from 0 to 1, got -1\.5 to 0; undo",
    ),
    "floats of 8 bits": (lambda: [torch.full((3, 8, 8), 255.0)], "image 0: .* must be from 0 to 1, got 0 to 255; undo"),
    "NaN": (lambda: np.full((2, 8, 8, 3), np.nan), "must be from 0 to 1, got nan to nan"),
    "one image": (
        lambda: torch.zeros(3, 8, 8),
        r"\(stimulus, channel, .*, pass x\[None\] if it is one",
    ),
    "grey": (
        lambda: [np.zeros((8, 8), np.uint8)],
        r"image 0: .* \(row, column, .* got shape \(8, 8\); repeat",
    ),
    "four channels": (
        lambda: np.zeros((2, 8, 8, 4), np.uint8),
        r"need 3 channels \(RGB\), last or before rows, got",
    ),
}


@pytest.mark.parametrize(("make", "message"), list(WRONG_PIXELS.values()), ids=list(WRONG_PIXELS))
def test_images_in_memory_without_a_single_meaning_are_refused(make, message):
    assert_refused(ValueError, message, lambda: load_images(make()))


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, bool])
def test_whole_numbers_other_than_bytes_are_refused(dtype):
    message = r"must be uint8 \(0 to 255\), or floats from 0 to 1, got .*; convert"
    assert_refused(TypeError, message, lambda: load_images(np.zeros((2, 8, 8, 3), dtype)))


def test_images_in_memory_have_no_folders():
    images = [Image.new("RGB", (8, 8))]
    message = "category_from='folder' is for files; give a dict of labels"
    assert_refused(ValueError, message, lambda: load_images(images, category_from="folder"))


WRONG_OBJECTS = {
    "a PIL image": (
        lambda: Image.new("RGB", (8, 8)),
        "from Image; give a folder, .* of PIL images or of tensors",
    ),
    "images and files": (lambda: [Image.new("RGB", (8, 8)), "owl.png"], "from a list of Image and str; give"),
    "a data set": (lambda: torch.utils.data.TensorDataset(torch.zeros(2, 3)), "from TensorDataset; give"),
    "pairs": (lambda: [("owl.png", 0)], r"from a list of tuple; give .*pass \[image for image, _ in pairs\]"),
    "a set": (lambda: {"owl.png", "cat.png"}, r"from set; .*\(its files have no order: pass sorted\(files\)\)"),
    "a glob": (lambda: Path().glob("*.png"), r"from generator; .*pass sorted\(files\)"),
    "a number": (lambda: 3, "from int; give"),
    "numbers": (lambda: [3, 4], "from a list of int; give"),
    "nothing": (lambda: None, "from NoneType; give"),
    "bytes": (lambda: b"owl.png", "from bytes; give"),
}


@pytest.mark.parametrize(("make", "message"), list(WRONG_OBJECTS.values()), ids=list(WRONG_OBJECTS))
def test_what_is_neither_files_nor_images_is_refused_in_one_line(make, message):
    assert_refused(TypeError, f"images cannot be loaded {message}", lambda: load_images(make()))


def test_the_source_is_kept(tmp_path, files):
    folder = write_folder(tmp_path, files)
    assert load_images(folder).attrs == {"source": str(folder)}
    assert load_images([folder / "owl.png"]).attrs == {"source": "1 images"}


@pytest.mark.parametrize(("n_images", "last"), [(10, "9"), (11, "10")])
def test_an_array_is_labelled_by_position(rng, n_images, last):
    stack = rng.integers(0, 256, (n_images, 4, 4, 3), dtype=np.uint8)
    images = load_images(stack)
    assert_array_equal(images, stack)
    assert images.stimulus.values.tolist() == [str(i).zfill(len(last)) for i in range(n_images)]


def test_a_labelled_array_keeps_its_labels_coords_and_attrs(images):
    images = images.assign_attrs(source="planted")
    loaded = load_images(images.transpose("channel", "stimulus", "row", "column"))
    xr.testing.assert_identical(loaded.drop_vars("content"), images)


@pytest.mark.parametrize(("size", "shape"), [(5, (5, 5)), ((3, 12), (3, 12)), (np.int64(6), (6, 6)), ((6, 8), (6, 8))])
def test_images_are_resized_as_pillow_does_bicubically(tmp_path, files, pixels, size, shape):
    expected = [Image.fromarray(image).resize(shape[::-1], Image.Resampling.BICUBIC) for image in pixels]
    assert_array_equal(load_images(write_folder(tmp_path, files), size=size), np.stack(expected))
    assert_array_equal(load_images(pixels, size=size), np.stack(expected))


def test_resizing_a_labelled_array_keeps_all_but_the_coords_of_pixels(images):
    placed = images.assign_coords(row=range(16), height=("row", range(16))).assign_attrs(source="planted")
    small = load_images(placed, size=(4, 5))
    xr.testing.assert_identical(small.coords.to_dataset(), load_images(images).coords.to_dataset())
    assert small.shape == (120, 4, 5, 3)
    assert small.name == "image"
    assert small.attrs == {"source": "planted"}


def test_resizing_a_dask_array_stays_lazy(images):
    small = load_images(images.chunk(stimulus=50), size=(5, 7))
    assert small.chunks == ((50, 50, 20), (5,), (7,), (3,))
    for lazy in (small, load_images(images.chunk(row=4), size=(5, 7))):
        whole = load_images(images, size=(5, 7))
        xr.testing.assert_identical(lazy.compute().drop_vars("content"), whole.drop_vars("content"))


@pytest.mark.parametrize("size", [0, -4, 2.5, True, "64", (4,), (4, 0), (4, 5, 3), (4.0, 4.0)])
def test_a_size_that_is_none_is_refused(pixels, size):
    assert_refused(ValueError, r"size must be .* int or \(rows, columns\)", lambda: load_images(pixels, size=size))


def test_mixed_sizes_are_refused_by_name_and_resized_when_asked(tmp_path, files, rng):
    tall = rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)
    folder = write_folder(tmp_path, files | {"tall.png": encode(tall)})
    message = r"images differ in size: 6×8 \(.*ant\.v2\.tif\), 9×8 \(.*tall\.png\); pass size=\(rows, columns\)"
    assert_refused(ValueError, message, lambda: load_images(folder))
    resized = np.asarray(Image.fromarray(tall).resize((8, 6), Image.Resampling.BICUBIC))
    assert_array_equal(load_images(folder, size=(6, 8)).sel(stimulus="tall"), resized)


def test_equal_base_names_are_refused_by_name(tmp_path, pixels):
    files = {"left/owl.png": encode(pixels[0]), "right/owl.bmp": encode(pixels[1], ".bmp")}
    sources = [write_folder(tmp_path / "images", files), write_zip(tmp_path / "images.zip", files)]
    message = r"two images have the label 'owl': .*owl\.... and .*owl\....; rename one, or, .*category_from='folder'"
    for read in (load_images, image_labels):
        for source in sources:
            assert_refused(ValueError, message, lambda read=read, source=source: read(source))


def test_folders_are_categories_and_distinguish_equal_base_names(tmp_path, pixels):
    files = {f"{name}.png": encode(image) for name, image in zip(["b/2", "a/1", "a/2", "b/1"], pixels, strict=True)}
    images = load_images(write_zip(tmp_path / "images.zip", files), category_from="folder")
    assert images.stimulus.values.tolist() == ["a/1", "a/2", "b/1", "b/2"]
    assert images.category.values.tolist() == ["a", "a", "b", "b"]
    assert_array_equal(images, pixels[[1, 2, 3, 0]])


def test_different_base_names_stay_as_they_are_where_folders_are_categories(tmp_path, pixels):
    files = {"z/cat.png": encode(pixels[0]), "a/owl.png": encode(pixels[1])}
    images = load_images(write_folder(tmp_path, files), category_from="folder")
    assert images.stimulus.values.tolist() == ["cat", "owl"]
    assert images.category.values.tolist() == ["z", "a"]


def test_equal_names_in_folders_of_equal_name_are_refused(tmp_path, pixels):
    files = {"left/owl/1.png": encode(pixels[0]), "right/owl/1.png": encode(pixels[1])}
    source = write_zip(tmp_path / "images.zip", files)
    message = (
        r"two images have the label 'owl/1': images\.zip/left/owl/1\.png and images\.zip/right/owl/1\.png; rename one$"
    )
    assert_refused(ValueError, message, lambda: load_images(source, category_from="folder"))


def test_a_mapping_gives_categories(tmp_path, files, images):
    mapping = {"owl": "bird", "cat": "mammal", "dog": "mammal", "ant.v2": "insect", "unseen": "none"}
    loaded = load_images(write_folder(tmp_path, files), category_from=mapping)
    assert loaded.category.values.tolist() == ["insect", "mammal", "mammal", "bird"]
    relabelled = load_images(images, category_from=dict.fromkeys(images.stimulus.values, 7))
    assert set(relabelled.category.values) == {"7"}


@pytest.mark.parametrize(
    ("category_from", "message"),
    [
        ({"0": "owl"}, r"category_from has no category for stimulus '1', '2', '3'; add it"),
        ("species", r"must be 'folder' \(for files\), a dict of labels, or None, got 'species'"),
        ("folder", r"must be 'folder' \(for files\), .* got 'folder'"),
        (np.eye(4), r"must be 'folder' .* got ndarray"),
    ],
)
def test_categories_that_cannot_be_had_are_refused(pixels, category_from, message):
    assert_refused(ValueError, message, lambda: load_images(pixels, category_from=category_from))


GREY = np.array([[0, 100], [200, 255]], np.uint8)


def palette_image(**options: object) -> bytes:
    image = Image.fromarray(GREY // 100).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    return encode(image, **options)


def deep_png() -> bytes:
    """A PNG of 16 bits a channel, which Pillow can read but not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    rows = zlib.compress(2 * (b"\0" + np.full((2, 3), 0x1234, ">u2").tobytes()))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


PALETTE = [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [70, 80, 90]]]
OPAQUE = {
    "grey": (encode(GREY), GREY[..., None].repeat(3, -1)),
    "grey with an unused transparent shade": (encode(GREY, transparency=7), GREY[..., None].repeat(3, -1)),
    "palette": (palette_image(), PALETTE),
    "palette with opacity": (palette_image(transparency=b"\xff\xff\xff"), PALETTE),
    "1 bit": (encode(GREY > 150), np.where(GREY > 150, 255, 0)[..., None].repeat(3, -1)),
    "RGBA": (encode(np.dstack([GREY, GREY.T, 0 * GREY, 0 * GREY + 255])), np.dstack([GREY, GREY.T, 0 * GREY])),
    "grey and alpha": (encode(np.dstack([GREY, 0 * GREY + 255])), GREY[..., None].repeat(3, -1)),
}


@pytest.mark.parametrize(("content", "expected"), list(OPAQUE.values()), ids=list(OPAQUE))
def test_opaque_images_of_8_bits_become_rgb(one, content, expected):
    assert_array_equal(one(content)[0], expected)


AMBIGUOUS = {
    "RGBA": (
        encode(np.dstack([GREY] * 3 + [0 * GREY + 254])),
        r"image .*owl\.png is partly transparent; draw it on the background",
    ),
    "grey and alpha": (encode(np.dstack([GREY] * 2)), "partly transparent"),
    "transparent palette": (palette_image(transparency=1), "partly transparent"),
    "transparent shade": (encode(GREY, transparency=100), "partly transparent"),
    "CMYK": (
        encode(Image.new("CMYK", (2, 2)), ".jpg"),
        r"image .*owl\.png has mode CMYK, which has no single meaning as 8-bit RGB; save it as 8-bit RGB",
    ),
    "16-bit grey": (encode(GREY.astype(np.uint16)), "has mode I;16 of 16 bit, which has no"),
    "16-bit RGB": (deep_png(), "has mode RGB of 16 bit, which has no"),
    "float": (encode(GREY.astype(np.float32), ".tif"), "has mode F, which has no"),
}


@pytest.mark.parametrize(("content", "message"), list(AMBIGUOUS.values()), ids=list(AMBIGUOUS))
def test_pixels_without_a_single_meaning_are_refused_by_name(one, content, message):
    assert_refused(ValueError, message, lambda: one(content))


def test_a_broken_jpeg_in_a_zip_is_named(tmp_path, pixels, rng):
    noise = encode(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), ".jpg")
    source = write_zip(tmp_path / "images.zip", {"a.jpg": noise, "b/owl.jpg": noise[:-40]})
    message = r"cannot read image images\.zip/b/owl\.jpg: .*truncated.*; replace or remove it"
    assert_refused(ValueError, message, lambda: load_images(source))


@pytest.mark.parametrize("name", ["owl.png", "owl.bmp", "owl.tif", "owl.ppm", "owl.gif", "owl.webp"])
def test_a_truncated_file_in_a_folder_is_named(one, pixels, name):
    message = rf"cannot read image .*one/{name}: .*; replace or remove it"
    for cut in (10, 60, -40):
        content = encode(pixels[0], Path(name).suffix)[:cut]
        assert_refused(ValueError, message, lambda content=content: one(content, name, size=4))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "unknown format"),
        (b"not an image", "unknown format"),
        (b"P6 9999999 9999999 255 ", "exceeds limit"),
        (b"P6 2 zwei 255 ", "invalid literal"),
    ],
)
def test_what_no_decoder_takes_is_named_in_one_line(one, content, reason):
    message = rf"cannot read image .*owl\.ppm: .*{reason}.*; replace or remove it"
    assert_refused(ValueError, message, lambda: one(content, "owl.ppm"))


@pytest.mark.parametrize(("failure", "reason"), [(RuntimeError("two\n  lines"), "two lines"), (EOFError(), "EOFError")])
def test_any_error_of_a_decoder_is_reported_in_one_line(one, monkeypatch, failure, reason):
    def fail(_stream: io.BytesIO, formats: object) -> None:
        raise failure

    monkeypatch.setattr(Image, "open", fail)
    assert_refused(ValueError, rf"cannot read image .*owl\.png: {reason}; replace or remove it", lambda: one(b""))


def test_a_member_that_does_not_inflate_is_named(tmp_path, files):
    source = write_zip(tmp_path / "images.zip", {"owl.bmp": files["cat.bmp"]})
    content = bytearray(source.read_bytes())
    content[30 + len("owl.bmp")] = 0xFF  # the first byte of the member's data
    source.write_bytes(content)
    message = r"cannot read image images\.zip/owl\.bmp: Error -3 while decompressing .*; replace or remove it"
    assert_refused(ValueError, message, lambda: load_images(source))


def test_sources_without_images_are_refused(tmp_path, files):
    empty = write_folder(tmp_path / "empty", {"notes.txt": b"", ".owl.png": b""})
    broken = write_zip(tmp_path / "broken.zip", files)
    broken.write_bytes(broken.read_bytes()[:100])
    cases = [
        (empty, FileNotFoundError, r"no image in .*empty; looked for \.apng, \.bmp, "),
        (write_zip(tmp_path / "empty.zip", {"notes.txt": b""}), FileNotFoundError, r"no image in .*empty\.zip; looked"),
        (tmp_path / "gone", FileNotFoundError, "no images at .*gone; give a folder, a zip file or a list of files"),
        (broken, ValueError, r"broken\.zip is not a readable zip file; it may be cut short, fetch it again"),
        (empty / "notes.txt", ValueError, r"notes\.txt is neither a folder nor a zip file; to load single files, pass"),
        ([empty / "gone.png"], FileNotFoundError, r"no such image file: '.*gone\.png'; check the paths"),
        ([], FileNotFoundError, "the list of images is empty; give at least one"),
    ]
    for source, error, message in cases:
        for read in (load_images, image_labels):
            assert_refused(error, message, lambda read=read, source=source: read(source))


@pytest.fixture
def _large(monkeypatch):
    monkeypatch.setattr(images_module, "LAZY_BYTES", 0)
    monkeypatch.setattr(images_module, "CHUNK", 3)


@pytest.mark.usefixtures("_large")
def test_a_large_stack_is_lazy_and_the_same(source, pixels):
    images = load_images(source, size=(6, 8), category_from=dict.fromkeys(LABELS, "animal"))
    assert images.chunks == ((3, 1), (6,), (8,), (3,))
    assert_array_equal(images.sel(stimulus=LABELS).compute(), pixels)
    assert (images.content == "").all()


@pytest.mark.usefixtures("_large")
def test_a_large_stack_names_a_broken_image_when_that_is_read(tmp_path, files):
    files["owl.png"] = files["owl.png"][:-30]
    images = load_images(write_folder(tmp_path, files))
    assert images[:3].compute().shape == (3, 6, 8, 3)
    with dask.config.set(scheduler="synchronous"):
        assert_refused(ValueError, r"cannot read image .*owl\.png", images.compute)


IMAGES_REFUSED = {
    "an array": (lambda i: i.values, TypeError, "must be an xarray.DataArray, got ndarray; see load_images"),
    "other dims": (
        lambda i: i.rename(row="y"),
        ValueError,
        r"need the dims \('stimulus', 'row', 'column', 'channel'\), got \('stimulus', 'y', 'column', 'channel'\)",
    ),
    "no labels": (lambda i: i.drop_vars("stimulus"), ValueError, "images need labels on 'stimulus'"),
    "a label twice": (
        lambda i: i.assign_coords(stimulus=["owl", *i.stimulus.values[:-1]]).isel(stimulus=[0, 0, 1]),
        ValueError,
        "images have duplicate stimulus labels 'owl'",
    ),
    "floats": (lambda i: i / 255, TypeError, r"must be uint8 \(0 to 255\), got float64; multiply \[0, 1\] by 255"),
    "grey": (lambda i: i[..., :1], ValueError, r"images need 3 channels \(RGB\), got 1; see load_images"),
}


@pytest.mark.parametrize(("change", "error", "message"), list(IMAGES_REFUSED.values()), ids=list(IMAGES_REFUSED))
def test_what_breaks_the_contract_is_refused_in_one_line(images, change, error, message):
    assert_refused(error, message, lambda: check_images(change(images)))


def test_a_grey_array_is_refused_with_its_shape(pixels):
    message = r"is \(stimulus, row, .*, got shape \(4, 6, 8\); repeat grey images along an axis of 3"
    assert_refused(ValueError, message, lambda: load_images(pixels[..., 0]))


def test_the_photographs_of_the_v4_session(real_data):
    source = real_data / "v4" / "images_201025.zip"
    images = load_images(source)
    assert images.shape == (1200, 112, 112, 3)
    assert images.stimulus.values.tolist() == sorted(images.stimulus.values) == image_labels(source)
    with zipfile.ZipFile(source) as archive:
        names = {Path(name).stem: name for name in archive.namelist()}
        for label in images.stimulus.values[::400]:
            assert_array_equal(images.sel(stimulus=label), Image.open(archive.open(names[label])))


def test_the_categories_of_cifar_10(real_data):
    images = load_images(real_data / "images" / "cifar10_test_5000_jpg.zip", category_from="folder")
    categories, counts = np.unique(images.category.values, return_counts=True)
    assert images.shape == (5000, 32, 32, 3)
    assert counts.tolist() == [500] * 10
    assert {"airplane", "frog", "truck"} < set(categories)
