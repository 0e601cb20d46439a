"""Slices of a mapped dataset equal those of the dataset, for any order of its chunks in the file."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosuper.loaders import memory_map as module
from neurosuper.loaders.memory_map import mapped

VALUES = np.random.default_rng(0).normal(size=1050)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Datasets in one run of chunks, in several (two were written in turns), and datasets that cannot be mapped."""
    path = tmp_path_factory.mktemp("mapped") / "a.h5"
    with h5py.File(path, "w") as file:
        file["contiguous"] = VALUES
        file.create_dataset("chunked", data=VALUES, chunks=(100,))
        for name in ("turns", "others"):
            file.create_dataset(name, shape=VALUES.shape, dtype=float, chunks=(100,))
        for start in range(0, 1050, 200):
            for name in ("turns", "others"):
                file[name][start : start + 200] = VALUES[start : start + 200]
        file.create_dataset("squeezed", data=VALUES, chunks=(100,), compression="gzip")
        file.create_dataset("foreign", data=VALUES, dtype=">f8")
        file.create_dataset("unwritten", shape=VALUES.shape, dtype=float, chunks=(100,))
        file["unwritten"][:100] = 1.0
        file.create_dataset("empty", shape=(0,), dtype=float)
        file["square"] = VALUES.reshape(2, -1)
    with h5py.File(path, "r") as file:
        yield file


@pytest.fixture(autouse=True, scope="module")
def small():
    """Map small datasets, too."""
    before, module.LARGE = module.LARGE, 0
    yield
    module.LARGE = before


@pytest.mark.parametrize("name", ["contiguous", "chunked", "turns"])
@given(start=st.integers(0, 1100), length=st.integers(0, 1100))
def test_slices_equal_those_of_the_dataset(file, name, start, length):
    view = mapped(file[name])
    assert view is not file[name]
    found = view[start : start + length]
    np.testing.assert_array_equal(found, VALUES[start : start + length])
    assert len(view) == len(VALUES)


def test_a_slice_within_a_run_is_no_copy_and_cannot_be_written(file):
    view = mapped(file["contiguous"])[10:20]
    assert not view.flags.owndata
    assert not view.flags.writeable


@pytest.mark.parametrize("name", ["squeezed", "foreign", "unwritten", "empty", "square"])
def test_datasets_that_cannot_be_mapped_stay_as_they_are(file, name):
    np.testing.assert_array_equal(mapped(file[name])[:], file[name][:])
    assert isinstance(mapped(file[name]), h5py.Dataset)


def test_a_stream_cannot_be_mapped(file):
    with open(file.filename, "rb") as stream, h5py.File(stream, "r") as streamed:
        assert isinstance(mapped(streamed["contiguous"]), h5py.Dataset)


def test_small_datasets_are_not_mapped(file, monkeypatch):
    monkeypatch.setattr(module, "LARGE", 2**26)
    assert isinstance(mapped(file["contiguous"]), h5py.Dataset)
