"""Images of a file have the same labels as its responses, in the order of their indices."""

import datetime

import h5py
import numpy as np
import pytest
import xarray as xr
from pynwb import NWBHDF5IO, NWBFile
from pynwb.base import ImageReferences, Images
from pynwb.image import GrayscaleImage, ImageSeries, IndexSeries, OpticalSeries, RGBImage

from neurosuper import align, load_nwb
from neurosuper.loaders import load_nwb_images, load_presentations

ONSETS = np.arange(4.0)


@pytest.fixture
def write(tmp_path):
    """Write a session with templates, and an IndexSeries [2, 0, 1, 2] on the first of them."""

    def write(*templates):
        nwb = NWBFile("images", "images 1", datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC))
        for template in templates:
            nwb.add_stimulus_template(template)
        if isinstance(templates[0], Images):
            data = np.array([2, 0, 1, 2], np.uint32)
            series = IndexSeries(name="shown", data=data, unit="N/A", indexed_images=templates[0], timestamps=ONSETS)
            nwb.add_stimulus(series)
        nwb.add_unit(spike_times=[0.1, 2.1])
        with NWBHDF5IO(tmp_path / "images.nwb", "w") as file:
            file.write(nwb)
        return tmp_path / "images.nwb"

    return write


def container(names, order=None, shape=(4, 6), name="scenes"):
    """Images of constant colour: the first 10, the second 20, …"""
    images = [GrayscaleImage(name=each, data=np.full(shape, 10 * i + 10, np.uint8)) for i, each in enumerate(names)]
    chosen = None if order is None else ImageReferences(name="order_of_images", data=[images[i] for i in order])
    return Images(name=name, images=images, description="shown", order_of_images=chosen)


def movie(data, name="movie"):
    return ImageSeries(name=name, data=data, unit="n.a.", rate=1.0)


def colours(images):
    return dict(zip(images.stimulus.values.tolist(), images.values[:, 0, 0, 0].tolist(), strict=True))


def test_images_are_in_the_order_of_the_container(write):
    path = write(container(["owl", "cat", "eel"], order=[1, 2, 0]))
    images = load_nwb_images(path)
    assert colours(images) == {"cat": 20, "eel": 30, "owl": 10}
    assert images.stimulus.values.tolist() == ["cat", "eel", "owl"]
    assert images.sizes == {"stimulus": 3, "row": 4, "column": 6, "channel": 3}
    assert images.dtype == np.uint8
    shown = load_presentations(path, presentations=None, index_series="shown")
    assert shown.stimulus.values.tolist() == ["owl", "cat", "eel", "owl"]


def test_images_without_an_order_are_sorted_by_their_numbers(write):
    """As in dandiset 000728; HDF5 lists Scene10 before Scene2."""
    path = write(container([f"Scene{i}" for i in range(12)]))
    assert colours(load_nwb_images(path)) == {f"Scene{i}": 10 * i + 10 for i in range(12)}
    shown = load_presentations(path, presentations=None, index_series="shown")
    assert shown.stimulus.values.tolist() == ["Scene2", "Scene0", "Scene1", "Scene2"]


@pytest.mark.parametrize("names", [["owl", "cat", "eel"], ["a1", "b2", "a3"], ["s1", "s2", "s4"], ["s5", "s6", "s7"]])
def test_images_of_unknown_order_are_named_by_index(write, names):
    path = write(container(names))
    assert load_presentations(path, presentations=None, index_series="shown").stimulus.values.tolist() == list("2012")
    with pytest.raises(ValueError, match="template 'scenes' of images.nwb have no order in the file"):
        load_nwb_images(path, template="scenes")


def test_responses_and_images_have_the_same_labels(write):
    path = write(container(["s1", "s2", "s3"]))
    rates = load_nwb(path, presentations=None, index_series="shown", window=(0.0, 0.5))
    responses, images = align(rates, load_nwb_images(path))
    assert images.stimulus.values.tolist() == responses.stimulus.values.tolist() == ["s1", "s2", "s3"]


def test_both_readers_agree(write):
    path = write(
        container(["owl", "cat", "eel"], order=[1, 2, 0]), movie(np.arange(48, dtype=np.uint8).reshape(2, 4, 6))
    )
    by_pynwb = [load_nwb_images(path, template=name) for name in ("scenes", "movie")]
    with h5py.File(path, "r+") as file:
        del file["session_start_time"]  # pynwb refuses
    for name, images in zip(("scenes", "movie"), by_pynwb, strict=True):
        xr.testing.assert_identical(load_nwb_images(path, template=name), images)


def test_frames_of_a_series_are_named_by_index(write):
    data = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    images = load_nwb_images(write(movie(data)))
    assert images.stimulus.values.tolist() == ["0", "1", "2"]
    np.testing.assert_array_equal(images, data)


def test_whole_numbers_of_another_type_are_pixels(write):
    images = load_nwb_images(write(movie(np.full((2, 4, 6), 255.0, np.float32))))
    assert (images == 255).all()
    assert images.dtype == np.uint8


def test_images_are_resized(write):
    small = RGBImage(name="s1", data=np.full((4, 6, 3), 7, np.uint8))
    large = RGBImage(name="s2", data=np.full((8, 8, 3), 9, np.uint8))
    path = write(movie(np.zeros((1, 2, 2), np.uint8)), Images(name="both", images=[small, large], description=""))
    images = load_nwb_images(path, template="both", size=5)
    assert (images.sizes["row"], images.sizes["column"], colours(images)) == (5, 5, {"s1": 7, "s2": 9})
    with pytest.raises(ValueError, match=r"images of template 'both' of images.nwb differ in size: .* pass size="):
        load_nwb_images(path, template="both")


@pytest.fixture
def write_stack(tmp_path):
    """Write a session with a stack of images outside the templates, and a table with a row per image."""

    def write(stack, labels, to="acquisition"):
        nwb = NWBFile("images", "images 2", datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC))
        getattr(nwb, f"add_{to}")(stack)
        nwb.add_trial_column("image", "file")
        for i, label in enumerate(labels):
            nwb.add_trial(start_time=float(i), stop_time=i + 0.5, image=label)
        nwb.add_unit(spike_times=[0.1, 1.1])
        with NWBHDF5IO(tmp_path / "images.nwb", "w") as file:
            file.write(nwb)
        return tmp_path / "images.nwb"

    return write


def optical(data):
    lens = {"distance": 0.7, "field_of_view": [0.2, 0.3], "orientation": "upright", "unit": "n.a.", "format": "raw"}
    return OpticalSeries(name="shown", data=data, rate=1.0, **lens)


@pytest.mark.parametrize("reader", ["pynwb", "h5py"])
@pytest.mark.parametrize(("make", "to"), [(movie, "acquisition"), (optical, "stimulus"), (optical, "acquisition")])
def test_a_stack_outside_the_templates_is_named_by_a_column_of_a_table(write_stack, make, to, reader):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    path = write_stack(make(pixels[[2, 0, 1, 2]]), ["c.png", "a.png", "b.png", "c.png"], to)
    if reader == "h5py":
        with h5py.File(path, "r+") as file:
            del file["session_start_time"]  # pynwb refuses
    images = load_nwb_images(path, stimulus_column="image")
    assert images.stimulus.values.tolist() == ["c.png", "a.png", "b.png"]
    np.testing.assert_array_equal(images.sel(stimulus=["a.png", "b.png", "c.png"]), pixels)
    assert load_nwb_images(path).stimulus.values.tolist() == ["0", "1", "2", "3"]
    bgr = load_nwb_images(path, stimulus_column="image", channel_order="BGR", columns_first=True)
    np.testing.assert_array_equal(bgr.sel(stimulus="a.png"), pixels[0].swapaxes(0, 1)[..., ::-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stimulus_column": "image"}, "template 'movie' of images.nwb has 2 images, but table 'trials' has 3 rows"),
        ({"stimulus_column": "file"}, "no column 'file' in table 'trials'; it has 'start_time', 'stop_time', 'image'"),
        ({"stimulus_column": "image", "presentations": "flashes"}, "no table of presentations 'flashes'"),
        ({"template": "scenes"}, "no template 'scenes' in images.nwb; it has 'movie'"),
        ({"channel_order": "GBR"}, "channel_order must be one of 'RGB', 'BGR'; got 'GBR'"),
    ],
)
def test_stacks_that_a_table_does_not_name_are_refused(write_stack, options, message):
    path = write_stack(movie(np.zeros((2, 4, 6), np.uint8)), ["a", "b", "c"])
    with pytest.raises(ValueError, match=message) as raised:
        load_nwb_images(path, **options)
    assert "\n" not in str(raised.value)


def external():
    files = {"external_file": ["a/x.png", "a/y.png"], "starting_frame": [0, 1], "format": "external"}
    return ImageSeries(name="files", **files, unit="n.a.", timestamps=[0.0, 1.0], dimension=[4, 4])


@pytest.mark.parametrize(
    ("templates", "template", "message"),
    [
        (
            [external()],
            None,
            "no template of images.nwb contains images .*'files'.*; take them from the archive, then use load_im",
        ),
        ([external()], "files", "template 'files' of images.nwb are in external files; use load_images"),
        ([external()], "scenes", "no template 'scenes' in images.nwb; it has 'files'"),
        ([movie(np.zeros((1, 2, 2), "u1")), movie(np.zeros((1, 2, 2), "u1"), "more")], None, "2 templates .* name one"),
        (
            [movie(np.full((1, 2, 2), 0.5))],
            None,
            "image '0' of template 'movie' .* float64 from 0.5 to 0.5, but pixels must",
        ),
        (
            [movie(np.full((1, 2, 2), 256))],
            None,
            "int64 from 256 to 256, but pixels must be whole numbers",
        ),
        ([movie(np.zeros((1, 2, 2, 5), "u1"))], None, r"has shape \(2, 2, 5\); an image is grey or RGB"),
    ],
)
def test_arrays_that_are_not_images_are_refused_in_one_line(write, templates, template, message):
    with pytest.raises(ValueError, match=message) as raised:
        load_nwb_images(write(*templates), template=template)
    assert "\n" not in str(raised.value)
