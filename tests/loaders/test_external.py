"""Files that take data from other files, declare more than they contain, or were never written are refused.

The secret is a file of 64 bytes next to the data; no reader may return a byte of it.
"""

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from neurosuper.loaders import (
    load_array,
    load_neuroid,
    load_nsd_images,
    load_nwb,
    load_nwb_images,
    load_presentations,
    load_tvsd,
)
from neurosuper.loaders.external import FREE_BYTES, MAX_STREAM_CHUNKS, check_written, heap_fault
from neurosuper.loaders.file_checks import check_file, open_hdf5
from neurosuper.loaders.netcdf import open_netcdf
from neurosuper.study.build import read_distances
from tests.loaders.faithful_neuroid import neuroids, write_assembly

SECRET = b"the sixty-four bytes of a file that belongs to no one but you..."
REFUSED = r"takes data from another file: '.*' from '.*secret.*'; if you trust it, pass allow_external=True$"


@pytest.fixture
def secret(tmp_path) -> Path:
    path = tmp_path / "secret.bin"
    path.write_bytes(SECRET)
    return path


@pytest.fixture
def hidden(tmp_path) -> Path:
    """The secret as an HDF5 file."""
    path = tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.frombuffer(SECRET, "u1")
    return path


def store_outside(group: h5py.Group, name: str, secret: Path, like: h5py.Dataset | None = None) -> None:
    """Replace a dataset by one with the secret's bytes, with the same shape, type and attributes."""
    old = group[name] if like is None else like
    shape, dtype, attrs = old.shape, old.dtype, dict(old.attrs)
    scales = [[scale.name for scale in dim.values()] for dim in old.dims]
    del group[name]
    size = int(np.prod(shape)) * dtype.itemsize
    new = group.create_dataset(name, shape, dtype, external=[(str(secret), 0, size)])
    for key, value in attrs.items():
        if key not in ("DIMENSION_LIST", "_FillValue"):
            new.attrs[key] = value
    for dim, names in zip(new.dims, scales, strict=True):
        for scale in names:
            dim.attach_scale(group.file[scale])


def stored_outside(file: h5py.File, secret: Path, hidden: Path) -> None:
    file.create_dataset("a/b", (8,), "i8", external=[(str(secret), 0, 64)])


def linked_outside(file: h5py.File, secret: Path, hidden: Path) -> None:
    file["a/b"] = h5py.ExternalLink(str(hidden), "/data")


def mapped_outside(file: h5py.File, secret: Path, hidden: Path) -> None:
    layout = h5py.VirtualLayout((64,), "u1")
    layout[:] = h5py.VirtualSource(str(hidden), "data", (64,))
    file.create_virtual_dataset("a/b", layout)


WAYS = [stored_outside, linked_outside, mapped_outside]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("from_stream", [False, True])
def test_data_of_another_file_are_refused_unless_allowed(way, from_stream, tmp_path, secret, hidden):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        way(file, secret, hidden)
    source = io.BytesIO(path.read_bytes()) if from_stream else path
    with pytest.raises(ValueError, match=REFUSED) as refused, open_hdf5(source):
        pass
    assert "\n" not in str(refused.value)
    if way is stored_outside or not from_stream:  # h5py opens no second file for a stream
        with open_hdf5(source, allow_external=True) as file:
            assert file["a/b"][:].tobytes() == SECRET


@pytest.mark.parametrize("way", WAYS)
def test_nothing_hides_behind_links_groups_and_cycles(way, tmp_path, secret, hidden):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        inner = file.create_group("x/y/z")
        inner["up"] = file["x"]
        inner["root"] = file["/"]
        inner["soft"] = h5py.SoftLink("/x/y")
        inner["nowhere"] = h5py.SoftLink("/not/there")
        way(inner, secret, hidden)
    with pytest.raises(ValueError, match=REFUSED), open_hdf5(path):
        pass


def test_a_file_that_takes_no_data_from_others_is_read(tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["x/y"] = np.arange(6)
        file["x/self"] = file["x"]
        file["soft"] = h5py.SoftLink("/x/y")
        layout = h5py.VirtualLayout((3,), int)
        layout[:] = h5py.VirtualSource(".", "x/y", (6,))[:3]
        file.create_virtual_dataset("first", layout)
        file.create_dataset("packed", data=np.zeros(1000), compression="gzip")
    with open_hdf5(path) as file:
        assert file["soft"][:].tolist() == list(range(6))
        assert file["first"][:].tolist() == [0, 1, 2]


def test_a_damaged_dataset_does_not_prevent_reading_the_others(tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["good"], file["bad"] = [1, 2], [3, 4]
        where = file.id.links.get_info(b"bad").u
    content = bytearray(path.read_bytes())
    content[where : where + 8] = b"\xff" * 8
    path.write_bytes(content)
    with open_hdf5(path) as file:
        assert file["good"][:].tolist() == [1, 2]


def test_large_data_that_were_never_stored_are_refused(tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (4 * FREE_BYTES,), "u1", chunks=(2**20,))
    refused = r"declares 4.3 GB for 'x' but stores 0 bytes of it; .* fetch it again"
    with pytest.raises(ValueError, match=refused), open_hdf5(path):
        pass
    with pytest.raises(ValueError, match=r"declares 4.3 GB for 'x'"), open_hdf5(io.BytesIO(path.read_bytes())):
        pass


def test_large_data_that_compress_well_are_read(tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (2 * FREE_BYTES,), "u1", chunks=(2**26,), compression="gzip")
        chunk = zlib.compress(bytes(2**26))
        for start in range(0, 2 * FREE_BYTES, 2**26):
            file["x"].id.write_direct_chunk((start,), chunk)
    with open_hdf5(path) as file:
        assert file["x"][:10].tolist() == [0] * 10


def check_loader(call: Callable[..., object], returned: Callable[[object], bytes] | None = None) -> None:
    """Check that a loader refuses, and that with allow_external it returns what the other file contains."""
    with pytest.raises(ValueError, match=REFUSED) as refused:
        call()
    assert "\n" not in str(refused.value)
    if returned is not None:
        assert SECRET[:16] in returned(call(allow_external=True))


def test_no_reader_of_nwb_returns_data_of_another_file(mouse, write_nwb, tmp_path, secret):
    def pixels_of_secret(file):
        del file["stimulus/templates/scenes/order_of_images"]
        store_outside(file["stimulus/templates/scenes"], "scene0", secret)

    scenes = mouse.damaged(pixels_of_secret).path
    check_loader(lambda **more: load_nwb_images(scenes, **more), lambda images: images[0, ..., 0].values.tobytes())

    path = write_nwb("ab", [1.0, 2.0], [{"spike_times": [1.1], "electrodes": [0]} for _ in range(8)])
    with h5py.File(path, "r+") as file:
        store_outside(file["units"], "id", secret)
    options = {"stimulus_column": "image", "window": (0.0, 0.25)}
    check_loader(
        lambda **more: load_nwb(path, **options, **more),
        lambda responses: b"".join(int(unit).to_bytes(8, "little", signed=True) for unit in responses.unit.values),
    )
    check_loader(lambda **more: load_presentations(path, stimulus_column="image", **more))
    whole = write_nwb("ab", [1.0, 2.0], [{"spike_times": [1.1], "electrodes": [0]}])
    check_loader(lambda **more: load_nwb(whole, **options, companion=path, **more))


def test_no_reader_of_netcdf_returns_data_of_another_file(tmp_path, secret):
    path = tmp_path / "rates.nc"
    values = np.zeros((2, 4), "i8")
    array = xr.DataArray(values, dims=("stimulus", "unit"), coords={"stimulus": ["a", "b"], "unit": list("wxyz")})
    array.rename("response").to_netcdf(path)
    with h5py.File(path, "r+") as file:
        store_outside(file, "response", secret)
    check_loader(lambda **more: load_array(path, **more), lambda responses: responses.values.tobytes())

    def opened(**more):
        with open_netcdf(path, **more) as data:
            return data.response.values

    check_loader(opened, np.ndarray.tobytes)
    with pytest.raises(ValueError, match="takes data from another file"):
        read_distances(path)


def test_no_reader_of_assemblies_returns_data_of_another_file(tmp_path, secret):
    presentation = {"stimulus_id": ["a", "b"], "repetition": [0, 0], "category_name": ["c", "c"]}
    presentation |= {"object_name": ["o", "o"]}
    path = write_assembly(tmp_path / "a.nc", np.zeros((2, 2, 1), np.float32), presentation, neuroids(1, 1))
    with h5py.File(path, "r+") as file:
        largest = max((d for d in file.values() if isinstance(d, h5py.Dataset)), key=lambda d: d.ndim)
        store_outside(file, largest.name.strip("/"), secret)
    check_loader(lambda **more: load_neuroid(path, **more))


def test_no_reader_of_images_returns_data_of_another_file(tmp_path, secret):
    path = tmp_path / "nsd_stimuli.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("imgBrick", (2, 2, 4, 3), "u1", external=[(str(secret), 0, 48)])
    check_loader(lambda **more: load_nsd_images(path, **more), lambda images: images.values.tobytes())


def test_no_reader_of_matlab_returns_data_of_another_file(tmp_path, secret, hidden):
    folder = tmp_path / "monkeyN"
    (folder / "_logs").mkdir(parents=True)
    with h5py.File(folder / "_logs" / "things_imgs.mat", "w") as file:
        linked_outside(file, secret, hidden)
    check_loader(lambda **more: load_tvsd(tmp_path, monkey="N", **more))


@pytest.mark.parametrize("opened_as", ["file", "stream"])
@pytest.mark.parametrize("n_chunks", [8, 4 * MAX_STREAM_CHUNKS])
def test_data_that_were_never_written_are_found_except_in_streams_of_many_chunks(tmp_path, n_chunks, opened_as):
    """HDF5 would fetch the addresses of all chunks of a stream."""
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file.create_dataset("empty", (n_chunks,), "f8", chunks=(1,))
        file.create_dataset("begun", (n_chunks,), "f8", chunks=(1,))[:3] = 1
    with (
        open(tmp_path / "data.h5", "rb") as stream,
        h5py.File(stream if opened_as == "stream" else stream.name) as file,
    ):
        if (n_chunks, opened_as) == (4 * MAX_STREAM_CHUNKS, "stream"):
            check_written(file["empty"], "data")
            check_written(file["begun"], "data")
            return
        with pytest.raises(ValueError, match=f"^data has room for {n_chunks} values, but none was ever written"):
            check_written(file["empty"], "data")
        with pytest.warns(UserWarning, match=r"^parts of data were never written, and are read as .*0\.0"):
            check_written(file["begun"], "data")


def test_text_whose_reading_would_never_end_is_refused(tmp_path):
    """HDF5 2.0 does not return from a global heap with free space of size 0, for instance overwritten by zeros."""
    path = tmp_path / "a.nc"
    xr.DataArray(np.arange(6.0), {"stimulus": [f"s{i}" for i in range(6)]}, ("stimulus",), "r").to_netcdf(path)
    content = bytearray(path.read_bytes())
    start = content.index(b"GCOL")
    with path.open("rb") as file:
        assert heap_fault(file, len(content)) == ""
    content[start + 16 : start + 300] = bytes(284)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a.nc cannot be read as netCDF: its text is damaged"):
        check_file(path, "netCDF")
