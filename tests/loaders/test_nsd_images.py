"""Images of NSD are returned under their nsdId, without reading all 73,000."""

import dask.array as da
import h5py
import numpy as np
import pytest

from neurosuper import load_images
from neurosuper.demo.write_nsd import write_nsd, write_nsd_images
from neurosuper.loaders import load_nsd, load_nsd_images
from neurosuper.loaders.nsd_images import IMAGES

SIDE = 12
IDS = (3, 42, 72_999, 500)


@pytest.fixture(scope="module")
def stack():
    return dict(zip(IDS, np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), np.uint8), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, stack):
    folder = tmp_path_factory.mktemp("nsd")
    write_nsd_images(folder, stack, SIDE)
    return folder


@pytest.mark.parametrize("opens", [".", IMAGES])
def test_images_come_back_in_the_requested_order(folder, stack, opens):
    images = load_nsd_images(folder / opens, ["72999", "00003", "00042"])
    assert isinstance(images.data, da.Array)
    np.testing.assert_array_equal(images, [stack[72_999], stack[3], stack[42]])
    assert images.stimulus.values.tolist() == ["72999", "00003", "00042"]


def test_all_images_are_there_and_none_is_read(folder, stack, monkeypatch):
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: pytest.fail("read before it was needed"))
    images = load_nsd_images(folder)
    monkeypatch.undo()
    assert images.sizes == {"stimulus": 73_000, "row": SIDE, "column": SIDE, "channel": 3}
    np.testing.assert_array_equal(images.sel(stimulus="00500"), stack[500])


def test_images_of_responses(folder):
    write_nsd(folder, sessions=(1,))
    responses = load_nsd(folder, subject="subj01")
    images = load_nsd_images(folder, responses)
    assert images.indexes["stimulus"].equals(responses.indexes["stimulus"])


def test_images_are_resized_as_all_images_are(folder):
    np.testing.assert_array_equal(
        load_nsd_images(folder, ["00003"], size=(6, 4)), load_images(load_nsd_images(folder, ["00003"]), size=(6, 4))
    )


@pytest.mark.parametrize("wrong", ["cat", "73000", "3", "-0001"])
def test_labels_that_are_not_nsd_ids(folder, wrong):
    with pytest.raises(ValueError, match=f"'00000' to '72999', got '{wrong}'; see load_nsd"):
        load_nsd_images(folder, ["00003", wrong])


def test_no_label_at_all(folder):
    with pytest.raises(ValueError, match="stimuli must be nsdIds"):
        load_nsd_images(folder, [])


@pytest.mark.parametrize("brick", [np.zeros((2, 4, 4, 3)), np.zeros((2, 3, 4, 4), np.uint8), np.zeros(3, np.uint8)])
def test_other_bricks_are_refused(tmp_path, brick):
    with h5py.File(tmp_path / "nsd_stimuli.hdf5", "w") as file:
        file["imgBrick"] = brick
    with pytest.raises(
        ValueError, match=r"nsd_stimuli\.hdf5 contains imgBrick of shape .* uint8 \(image, row, column, ch"
    ):
        load_nsd_images(tmp_path / "nsd_stimuli.hdf5")


@pytest.mark.parametrize(
    ("content", "error"), [(None, FileNotFoundError), (b"", ValueError), (b"<html>no</html>", ValueError)]
)
def test_missing_and_broken_files(tmp_path, content, error):
    path = tmp_path / "nsd_stimuli.hdf5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match="nsd_stimuli.hdf5"):
        load_nsd_images(path)
