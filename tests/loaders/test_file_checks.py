"""A file of another kind is described in one line with a remedy, and presentations are arranged correctly."""

import gzip
import json
import os
import re
import struct
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosuper.loaders.arrange import arrange
from neurosuper.loaders.file_checks import MAX_TAIL, _volume_end, check_file, open_hdf5

PLACEHOLDERS = {
    b"": "it is empty; fetch it again",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n": "git-lfs pointer; .* `git lfs pull`",
    b"/annex/objects/SHA256E-s3--ab.mat\n": "git-annex pointer; .* `git annex get`",
    b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>": "a web page, .* fetch it again",
    b'\n<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>': "a web page, .* fetch it again",
}


def write_hdf5(path):
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(1000.0)


def write_matlab73(path):
    with h5py.File(path, "w", userblock_size=512) as file:
        file["x"] = np.arange(1000.0)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def write_nifti(path):
    nibabel.Nifti1Image(np.ones((5, 6, 7), np.float32), np.eye(4)).to_filename(path)


def write_nifti2(path):
    nibabel.Nifti2Image(np.ones((5, 6, 7), np.int16), np.eye(4)).to_filename(path)


WRITERS = {
    ("HDF5", "a.nwb"): write_hdf5,
    ("netCDF", "three.nc"): lambda path: xr.Dataset({"x": np.arange(9)}).to_netcdf(path, engine="scipy"),
    ("netCDF", "four.nc"): lambda path: xr.Dataset({"x": np.arange(9)}).to_netcdf(path, engine="netcdf4"),
    ("MATLAB", "five.mat"): lambda path: scipy.io.savemat(path, {"x": np.arange(100.0), "name": "y"}),
    ("MATLAB", "zipped.mat"): lambda path: scipy.io.savemat(path, {"x": np.arange(100.0)}, do_compression=True),
    ("MATLAB", "seven.mat"): write_matlab73,
    ("NIfTI", "a.nii"): write_nifti,
    ("NIfTI", "a.nii.gz"): write_nifti,
    ("NIfTI", "two.nii"): write_nifti2,
    ("CSV", "a.csv"): lambda path: path.write_text("image_id,größe\n1,2\n" * 90, encoding="utf-8"),
    ("JSON", "a.json"): lambda path: path.write_text(json.dumps({"session": [1, 2]})),
}
CUTTABLE = [key for key in WRITERS if key[0] != "CSV" and key[1] != "three.nc"]  # these do not store their length


def test_a_locked_file_is_reported_as_locked_not_damaged(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    write_hdf5(tmp_path / "a.h5")
    with (tmp_path / "a.h5").open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # as HDF5 does for a file that it writes
        with pytest.raises(OSError, match="a.h5 is locked: another program .* HDF5_USE_FILE_LOCKING") as raised:
            open_hdf5(tmp_path / "a.h5").__enter__()
    assert "damaged" not in str(raised.value)
    with open_hdf5(tmp_path / "a.h5") as file:
        assert len(file["x"]) == 1000


@pytest.mark.parametrize("url", ["https://example.org/a.nwb", "s3://bucket/a.nwb", Path("https://example.org/a.nwb")])
def test_a_url_is_not_taken_for_a_path(url):
    with pytest.raises(ValueError, match="is a URL, and NWB is read from a file: download it, or .* remfile"):
        check_file(url, "NWB")


@pytest.mark.parametrize("marker", [".zgroup", "zarr.json"])
def test_a_zarr_folder_is_named(tmp_path, marker):
    (tmp_path / "a.nwb").mkdir()
    (tmp_path / "a.nwb" / marker).write_text("{}")
    with pytest.raises(ValueError, match="is a Zarr folder, not a NWB file; export it"):
        check_file(tmp_path / "a.nwb", "NWB")


def test_a_json_of_references_is_named_but_read_as_json(tmp_path):
    path = tmp_path / "a.lindi.json"
    path.write_text(json.dumps({"refs": {".zgroup": {"zarr_format": 2}}}))
    with pytest.raises(ValueError, match="references .lindi or kerchunk. to data elsewhere; open the file"):
        check_file(path, "NWB")
    assert check_file(path, "JSON") == path


def test_the_home_of_the_user_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_hdf5(tmp_path / "a.h5")
    assert check_file("~/a.h5", "HDF5") == tmp_path / "a.h5"


@pytest.mark.parametrize(("kind", "name"), WRITERS)
def test_files_of_each_kind_pass(tmp_path, kind, name):
    WRITERS[kind, name](tmp_path / name)
    assert check_file(str(tmp_path / name), kind) == tmp_path / name


@pytest.mark.parametrize(("kind", "name"), CUTTABLE)
@pytest.mark.parametrize("share", [0.2, 0.7, 0.98])
def test_a_file_cut_short_is_to_be_fetched_again(tmp_path, kind, name, share):
    WRITERS[kind, name](tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=rf"{name} cannot be read as {kind}: .*fetch it again") as raised:
        check_file(tmp_path / name, kind)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["HDF5", "netCDF", "MATLAB", "NIfTI", "CSV", "JSON"])
@pytest.mark.parametrize(("content", "message"), PLACEHOLDERS.items())
def test_placeholders_are_named(tmp_path, kind, content, message):
    (tmp_path / "a.dat").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.dat cannot be read as {kind}: .*{message}") as raised:
        check_file(tmp_path / "a.dat", kind)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["HDF5", "netCDF", "MATLAB", "NIfTI", "CSV", "JSON"])
def test_a_file_of_another_kind_is_refused(tmp_path, kind):
    (tmp_path / "a.dat").write_bytes(gzip.compress(b"x" * 9999) + bytes(range(256)) * 20)
    with pytest.raises(ValueError, match=rf"a\.dat cannot be read as {kind}: .*fetch it again"):
        check_file(tmp_path / "a.dat", kind)


@settings(max_examples=60)
@given(content=st.binary(max_size=700), kind=st.sampled_from(["HDF5", "netCDF", "MATLAB", "NIfTI", "CSV", "JSON"]))
def test_noise_never_raises_anything_else(tmp_path_factory, content, kind):
    path = tmp_path_factory.mktemp("noise") / "a.dat"
    path.write_bytes(content)
    try:
        check_file(path, kind)
        message = "a.dat cannot be read as"
    except ValueError as error:
        message = str(error)
    assert "a.dat cannot be read as" in message
    assert "\n" not in message


def test_a_csv_may_be_longer_than_the_checked_start_which_may_end_within_a_letter(tmp_path):
    (tmp_path / "a.csv").write_bytes("é".join(["x" * 7] * 500).encode())
    with pytest.raises(ValueError, match="fetch it again"):
        check_file(tmp_path / "a.csv", "JSON")
    assert check_file(tmp_path / "a.csv", "CSV")


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no HDF5 file at .*gone\.h5; check the path"):
        check_file(tmp_path / "gone.h5", "HDF5")
    with pytest.raises(FileNotFoundError, match="which is a folder; check the path"):
        check_file(tmp_path, "HDF5")


def test_a_dataset_that_is_not_there_names_the_file(tmp_path):
    write_hdf5(tmp_path / "a.h5")
    message = r"a\.h5 cannot be read as HDF5: .*betas.*another layout"
    with pytest.raises(ValueError, match=message), open_hdf5(tmp_path / "a.h5") as file:
        file["betas"]


def test_a_damaged_chunk_names_the_file(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.random.default_rng(0).normal(size=2000), compression="gzip")
        offset, size = file["x"].id.get_chunk_info(0).byte_offset, file["x"].id.get_chunk_info(0).size
    content = bytearray(path.read_bytes())
    content[offset + 8 : offset + size] = bytes(size - 8)
    path.write_bytes(content)
    message = r"a\.h5 cannot be read as HDF5: .*fetch it again"
    with pytest.raises(ValueError, match=message) as raised, open_hdf5(path) as file:
        file["x"][:]
    assert "\n" not in str(raised.value)


def test_errors_of_the_reader_itself_pass_and_the_file_is_closed(tmp_path):
    write_hdf5(tmp_path / "a.h5")
    with pytest.raises(KeyError, match="mine"), open_hdf5(tmp_path / "a.h5"):
        raise KeyError("mine")
    with h5py.File(tmp_path / "a.h5", "r+"):
        """Opens for writing only if it was closed."""


def test_presentations_of_one_text_are_repetitions_for_any_padding_or_unicode_form():
    labels = np.array(["cafe\u0301", "caf\u00e9 ", "owl", "owl  ", "caf\u00e9"])
    stimuli, arranged = arrange(np.arange(5.0)[:, None], labels)
    assert stimuli == ["caf\u00e9", "owl"]
    np.testing.assert_array_equal(arranged[..., 0], [[0, 1, 4], [2, 3, np.nan]])


def test_repetitions_are_arranged_in_order_of_time():
    values = np.arange(10.0).reshape(5, 2)
    stimuli, arranged = arrange(values, np.array(["b", "a", "b", "b", "a"]), order=np.array([3.0, 9.0, 1.0, 2.0, 8.0]))
    assert stimuli == ["a", "b"]
    np.testing.assert_array_equal(arranged[0], [values[4], values[1], [np.nan, np.nan]])
    np.testing.assert_array_equal(arranged[1], values[[2, 3, 0]])
    assert arranged.dtype == np.float32


def test_repetitions_keep_their_order_without_times():
    assert arrange(np.array([[1.0], [2.0]]), np.array(["a", "a"]))[1].ravel().tolist() == [1, 2]


@pytest.mark.parametrize(
    ("labels", "ordered"), [(["10", "9", "-1"], ["-1", "9", "10"]), (["10", "9", "x"], ["10", "9", "x"])]
)
def test_numbers_are_in_order_of_number(labels, ordered):
    stimuli, arranged = arrange(np.arange(3.0)[:, None], np.array(labels))
    assert stimuli == ordered
    assert arranged[:, 0, 0].tolist() == [labels.index(label) for label in ordered]


@given(st.lists(st.tuples(st.sampled_from("abcdefg"), st.integers(0, 5)), min_size=1, max_size=600))
def test_every_value_has_one_place(rows):
    labels, times = np.array([label for label, _ in rows]), np.array([time for _, time in rows])
    stimuli, arranged = arrange(np.arange(len(rows))[:, None], labels, order=times)
    found = arranged[~np.isnan(arranged)].astype(int)
    assert sorted(found) == list(range(len(rows)))
    for stimulus, row in zip(stimuli, arranged[..., 0], strict=True):
        places = row[~np.isnan(row)].astype(int)
        assert np.isnan(row[len(places) :]).all()
        assert set(labels[places]) == {stimulus}
        assert (np.diff(times[places]) >= 0).all()


def test_values_are_read_in_blocks_from_a_file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(3000.0).reshape(1000, 3)
        _, arranged = arrange(file["x"], np.array([f"{i % 500}" for i in range(1000)]))
        np.testing.assert_array_equal(arranged[:, 1], file["x"][500:])


def test_labels_must_fit():
    with pytest.raises(ValueError, match="3 labels for 2 presentations"):
        arrange(np.zeros((2, 1)), np.array(["a", "b", "c"]))


HEADER = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)).to_bytes()[:352]


@pytest.mark.parametrize(
    ("form", "offset", "values"),
    [
        ("<f", 108, [np.inf]),
        ("<f", 108, [np.nan]),
        ("<f", 108, [1e30]),
        ("<f", 108, [-1]),
        ("<8h", 40, [3, 32767, 32767, 32767, 1, 1, 1, 1]),
        ("<8h", 40, [3, -3, -4, 5, 1, 1, 1, 1]),
        ("<8h", 40, [3, 0, 4, 5, 1, 1, 1, 1]),
        ("<h", 40, [-5]),
        ("<h", 40, [0]),
        ("<h", 72, [-16]),
        ("<h", 72, [32767]),
    ],
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_volume_with_an_impossible_header_is_refused(form, offset, values, name, tmp_path):
    header = bytearray(HEADER)
    struct.pack_into(form, header, offset, *values)
    (tmp_path / name).write_bytes(gzip.compress(bytes(header)) if name.endswith("gz") else bytes(header))
    with pytest.raises(ValueError, match="cannot be read as NIfTI: its header declares ") as raised:
        check_file(tmp_path / name, "NIfTI")
    assert "\n" not in str(raised.value)


def test_a_volume_may_have_a_gibibyte():
    header = bytearray(HEADER)
    struct.pack_into("<8h", header, 40, 3, 1024, 1024, 512, 1, 1, 1, 1)  # of 2 bytes
    assert _volume_end(bytes(header)) == 352 + 2**30
    struct.pack_into("<8h", header, 40, 3, 1024, 1024, 513, 1, 1, 1, 1)
    with pytest.raises(ValueError, match=r"declares 1\.1 GB of voxels, but a volume may have 1\.1 GB; check the path"):
        _volume_end(bytes(header))
    struct.pack_into("<8h", header, 40, 4, 1024, 1024, 512, 3, 1, 1, 1)
    with pytest.raises(ValueError, match=r"declares 3\.2 GB of voxels"):
        _volume_end(bytes(header))


def test_bytes_packed_after_a_volume_are_not_unpacked(tmp_path, monkeypatch):
    n_read = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size: n_read.append(size) or read(self, size))
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(HEADER + bytes(50 * MAX_TAIL)))
    check_file(tmp_path / "a.nii.gz", "NIfTI")
    assert sum(n_read) <= 3 * MAX_TAIL


def test_a_mat_file_of_too_many_variables_is_refused(tmp_path):
    start = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    (tmp_path / "a.mat").write_bytes(start + bytes(8 * 70_000))
    with pytest.raises(ValueError, match="it has more than 65536 variables"):
        check_file(tmp_path / "a.mat", "MATLAB")


@pytest.mark.parametrize("kind", ["HDF5", "netCDF", "MATLAB", "NIfTI", "CSV", "JSON"])
def test_pipes_and_devices_are_no_files(kind, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for name in ("pipe", "zeros"):
        with pytest.raises(FileNotFoundError, match=f"no {kind} file at .*{name}"):
            check_file(tmp_path / name, kind)


def test_data_that_do_not_fit_into_memory_are_refused_in_one_line(tmp_path):
    write_hdf5(tmp_path / "a.h5")
    with pytest.raises(ValueError, match="a.h5 declares more data than fit into memory"), open_hdf5(tmp_path / "a.h5"):
        raise MemoryError("Unable to allocate 37.3 GiB")


@pytest.mark.parametrize(("at", "byte"), [(184, 187), (145, 8), (144, 1), (136, 5), (188, 112)])
def test_parts_of_a_matlab_file_that_end_the_process_in_scipy_are_refused(at, byte, tmp_path):
    """A part of an unknown type, an imaginary part or cells that are missing: scipy reads beyond its memory."""
    scipy.io.savemat(tmp_path / "a.mat", {"rates": np.arange(15.0)})
    content = bytearray((tmp_path / "a.mat").read_bytes())
    content[at] = byte
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(ValueError, match="the parts of the variable at byte 128 contradict each other; it is damaged"):
        check_file(tmp_path / "a.mat", "MATLAB")


def test_all_files_that_matlab_wrote_for_the_tests_of_scipy_are_accepted():
    files = sorted(Path(scipy.io.matlab.__file__).parent.glob("tests/data/test*.mat"))
    files = [file for file in files if not re.search(r"_4(\.2c)?_|mat4", file.name)]  # MATLAB 4 is another format
    assert [check_file(file, "MATLAB") for file in files] == files


@pytest.mark.parametrize(
    "content", [{"a": 1j}, {"a": [["x", 1.0]]}, {"a": {"b": "", "c": []}}, {"a": scipy.sparse.eye_array(3)}]
)
def test_every_class_of_matrix_is_accepted(content, tmp_path):
    content = {"a": np.array(content["a"], dtype=object)} if isinstance(content["a"], list) else content
    scipy.io.savemat(tmp_path / "a.mat", content)
    assert check_file(tmp_path / "a.mat", "MATLAB") == tmp_path / "a.mat"
