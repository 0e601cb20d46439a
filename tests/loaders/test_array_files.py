"""Planted responses come back from the files of other programs, written by those programs' own libraries."""

import h5py
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import scipy.io
import torch
import xarray as xr
from PIL import Image

from neurosuper import as_responses, load_array
from neurosuper.demo.write_tvsd import open_mat, save_array
from neurosuper.loaders import array as array_module

STIMULI = ["owl", "cat", "bat", "dog", "elk"]
TRIALS = ["owl", "cat", "owl", "bat", "owl"]
VALUES = np.random.default_rng(0).normal(size=(5, 3))  # (stimulus or trial, unit)
PLANTED = as_responses(VALUES, stimuli=STIMULI)
REPEATED = as_responses(VALUES, trials=TRIALS)


def save_cells(file, name, texts):
    """Write a cell array of text as MATLAB 7.3 does: references to columns of UTF-16."""
    cells = np.empty((1, len(texts)), h5py.ref_dtype)
    for i, text in enumerate(texts):
        letters = file.create_dataset(f"#refs#/{name}{i}", data=np.array([[ord(letter)] for letter in text], np.uint16))
        letters.attrs["MATLAB_class"] = np.bytes_("char")
        cells[0, i] = letters.ref
    file.create_dataset(name, data=cells).attrs["MATLAB_class"] = np.bytes_("cell")


def save_letters(file, name, texts):
    """Write a matrix of letters, one text per row, padded as MATLAB pads them."""
    padded = [text.ljust(max(map(len, texts))) for text in texts]
    letters = np.array([[ord(letter) for letter in text] for text in padded], np.uint16)
    file.create_dataset(name, data=letters.T).attrs["MATLAB_class"] = np.bytes_("char")


def matlab5(path, values, labels):
    scipy.io.savemat(path, {"rates": values, "names": np.array(labels, dtype=object), "letters": np.array(labels)})


def matlab5_struct(path, values, labels):
    content = {"rates": values, "names": np.array(labels, dtype=object), "letters": np.array(labels)}
    scipy.io.savemat(path, {"session": content, "note": "text"})


def matlab73(path, values, labels):
    with open_mat(path) as file:
        save_array(file, "rates", values)
        save_cells(file, "names", labels)
        save_letters(file, "letters", labels)


def hdf5(path, values, labels):
    with h5py.File(path, "w") as file:
        file["session/rates"] = values
        file["names"] = labels
        file["letters"] = np.array(labels, dtype="S")


def numpy(path, values, labels):
    np.savez(path, rates=values, names=labels, letters=np.array(labels, "S"))


def torch_file(path, values, labels):
    torch.save({"rates": torch.tensor(values), "names": list(labels), "letters": list(labels)}, path)


WRITERS = {
    "MATLAB 5": (matlab5, "r.mat", {}),
    "struct of MATLAB 5": (matlab5_struct, "r.mat", {"prefix": "session/"}),
    "MATLAB 7.3": (matlab73, "r.mat", {}),
    "HDF5": (hdf5, "r.h5", {}),
    "npz": (numpy, "r.npz", {"variable": "rates"}),
    "torch": (torch_file, "r.pt", {}),
}


@pytest.mark.parametrize("lazy", [False, True], ids=["small", "large"])
@pytest.mark.parametrize(("write", "name", "options"), WRITERS.values(), ids=WRITERS)
def test_labels_in_the_same_file_name_stimuli_or_trials(write, name, options, lazy, tmp_path, monkeypatch):
    if lazy:
        monkeypatch.setattr(array_module, "LAZY_BYTES", 0)
    options = dict(options)
    prefix = options.pop("prefix", "")
    write(tmp_path / name, VALUES, STIMULI)
    for labels in ("names", "letters"):
        responses = load_array(tmp_path / name, stimuli=prefix + labels, **options)
        assert (responses.chunks is not None) == lazy
        xr.testing.assert_equal(responses.compute(), PLANTED)
    write(tmp_path / name, VALUES, TRIALS)
    responses = load_array(tmp_path / name, trials=prefix + "names", **options)
    xr.testing.assert_equal(responses.compute(), REPEATED)
    assert responses.attrs == {"units": "a.u.", "source": name}


@pytest.mark.parametrize("write", [matlab5, matlab73])
def test_axes_of_a_mat_file_are_those_of_matlab_in_every_version(write, tmp_path):
    square = VALUES[:3]
    write(tmp_path / "r.mat", square, STIMULI[:3])
    with pytest.raises(ValueError, match=r"r.mat has shape \(3, 3\), so its axes may be in several orders; pass dims="):
        load_array(tmp_path / "r.mat", stimuli="names")
    responses = load_array(tmp_path / "r.mat", ("stimulus", "unit"), stimuli="names")
    np.testing.assert_array_equal(responses, square)


@pytest.mark.parametrize("version", [5, 7.3])
def test_three_axes_and_numbers_as_labels_of_matlab(version, tmp_path):
    values = np.random.default_rng(1).normal(size=(2, 4, 3))
    if version == 5:
        scipy.io.savemat(tmp_path / "r.mat", {"r": values, "ids": [[30.0], [4.0], [5.0], [6.0]]})
    else:
        with open_mat(tmp_path / "r.mat") as file:
            save_array(file, "r", values)
            save_array(file, "ids", np.array([[30.0], [4.0], [5.0], [6.0]]))
    responses = load_array(tmp_path / "r.mat", ("unit", "stimulus", "repetition"), stimuli="ids", variable="r")
    assert responses.stimulus.values.tolist() == ["30", "4", "5", "6"]
    np.testing.assert_array_equal(responses, values.transpose(1, 2, 0))


def test_several_matrices_are_named_and_never_guessed(tmp_path):
    scipy.io.savemat(tmp_path / "r.mat", {"rates": VALUES, "counts": VALUES, "ids": np.arange(5)})
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file["a/rates"], file["b/rates"], file["ids"] = VALUES, VALUES, np.arange(5)
    for name, known in {"r.mat": "'rates', 'counts'", "r.h5": "'a/rates', 'b/rates'"}.items():
        with pytest.raises(ValueError, match=f"contains the arrays {known} and no variable was named; pass variable="):
            load_array(tmp_path / name, stimuli="ids")
    assert load_array(tmp_path / "r.h5", stimuli="ids", variable="b/rates").sizes == {"stimulus": 5, "unit": 3}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_tensors_in_files(dtype, tmp_path):
    tensor = torch.tensor(VALUES, dtype=dtype)
    torch.save(tensor, tmp_path / "r.pt")
    safetensors.torch.save_file({"rates": tensor}, tmp_path / "r.safetensors")
    for name in ("r.pt", "r.safetensors"):
        responses = load_array(tmp_path / name, stimuli=STIMULI)
        np.testing.assert_array_equal(responses, tensor.double())


def test_a_large_hdf5_file_is_read_chunk_by_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(array_module, "LAZY_BYTES", 0)
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file.create_dataset("r", data=np.arange(300.0).reshape(100, 3), chunks=(10, 3))
    responses = load_array(tmp_path / "r.h5", stimuli=[f"s{i:02d}" for i in range(100)])
    np.testing.assert_array_equal(responses.isel(stimulus=slice(35, 45)), np.arange(105.0, 135).reshape(10, 3))


# Tables


def test_labels_of_trials_in_a_table_beside_an_array(tmp_path):
    np.save(tmp_path / "r.npy", VALUES)
    table = pd.DataFrame({"image": TRIALS, "onset": range(5), "kind": ["bird", "pet", "bird", "wild", "bird"]})
    table.to_csv(tmp_path / "trials.csv", index=False)
    responses = load_array(tmp_path / "r.npy", trials=str(tmp_path / "trials.csv"))
    xr.testing.assert_equal(responses.drop_vars("kind"), REPEATED)
    assert responses.kind.values.tolist() == ["wild", "pet", "bird"]


TABLES = {
    "without a line of names": (lambda p: np.savetxt(p, VALUES, delimiter=","), {"stimuli": STIMULI}),
    "with its axes named": (
        lambda p: np.savetxt(p, VALUES, delimiter=","),
        {"stimuli": STIMULI, "dims": ("stimulus", "unit")},
    ),
    "with semicolons": (lambda p: np.savetxt(p, VALUES, delimiter=";"), {"stimuli": STIMULI}),
    "with spaces": (lambda p: np.savetxt(p, VALUES), {"stimuli": STIMULI}),
    "with tabs": (lambda p: pd.DataFrame(VALUES, STIMULI).to_csv(p, sep="\t"), {}),
    "units as rows": (
        lambda p: np.savetxt(p, VALUES.T, delimiter=","),
        {"stimuli": STIMULI, "dims": ("unit", "stimulus")},
    ),
    "numbers as names": (lambda p: pd.DataFrame(VALUES).to_csv(p, index=False), {"stimuli": STIMULI}),
    "numbers as names and rows": (lambda p: pd.DataFrame(VALUES).to_csv(p), {"stimuli": STIMULI}),
    "labels as the index": (lambda p: pd.DataFrame(VALUES, STIMULI).to_csv(p), {}),
    "labels in a column": (
        lambda p: pd.DataFrame(VALUES).assign(image=STIMULI).to_csv(p, index=False),
        {"stimuli": "image"},
    ),
    "labels in a named index": (
        lambda p: pd.DataFrame(VALUES, pd.Index(STIMULI, name="image")).to_csv(p),
        {"stimuli": "image"},
    ),
}


@pytest.mark.parametrize(("write", "options"), TABLES.values(), ids=TABLES)
def test_tables_of_text(write, options, tmp_path):
    write(tmp_path / "r.csv")
    xr.testing.assert_allclose(load_array(tmp_path / "r.csv", **options), PLANTED, rtol=1e-15)


def test_trials_of_a_table_and_labels_with_zeros(tmp_path):
    names = dict(zip(["owl", "cat", "bat"], ["010", "009", "011"], strict=True))
    table = pd.DataFrame(VALUES, columns=list("abc")).assign(image=[names[trial] for trial in TRIALS], block=range(5))
    table.to_csv(tmp_path / "r.tsv", index=False, sep="\t")
    responses = load_array(tmp_path / "r.tsv", trials="image", unit_coords={"area": list("wxyz")})
    assert responses.unit.values.tolist() == ["a", "b", "c", "block"]
    for chosen in (
        as_responses(table, trials="image", units=list("abc")),
        load_array(tmp_path / "r.tsv", trials="image", units=list("abc")),
    ):
        assert chosen.stimulus.values.tolist() == ["009", "010", "011"]
        np.testing.assert_allclose(chosen.sel(stimulus="010"), REPEATED.sel(stimulus="owl"), rtol=1e-15)


def test_labels_that_look_like_missing_values_are_kept(tmp_path):
    table = pd.DataFrame({"image": ["NA", "nan", "007", "NA"], "u": [1.0, 2.0, 3.0, 4.0], "v": 0.5})
    table.to_csv(tmp_path / "r.csv", index=False)
    table[["image"]].to_csv(tmp_path / "trials.csv", index=False)
    np.save(tmp_path / "r.npy", table[["u", "v"]])
    for name, trials in {"r.csv": "image", "r.npy": tmp_path / "trials.csv"}.items():
        responses = load_array(tmp_path / name, trials=trials)
        assert sorted(responses.stimulus.values) == ["007", "NA", "nan"]
        assert responses.sel(stimulus="NA").values.tolist() == [[1.0, 0.5], [4.0, 0.5]]


def test_labels_of_units_in_the_same_file(tmp_path):
    np.savez(tmp_path / "r.npz", rates=VALUES, names=STIMULI, sites=["c", "a", "b"])
    responses = load_array(tmp_path / "r.npz", stimuli="names", units="sites", variable="rates", measured_in="Hz")
    assert responses.unit.values.tolist() == ["c", "a", "b"]
    assert responses.attrs["units"] == "Hz"
    with pytest.raises(ValueError, match="measured_in= is the unit of measurement"):
        load_array(tmp_path / "r.npz", stimuli="names", units="spikes/s", variable="rates")


def test_files_that_are_no_arrays_are_refused_in_one_line(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "r.png")
    (tmp_path / "r.mat").write_bytes(
        b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"\x0e\0\0\0\x10\0\0\0" + b"x" * 16
    )
    (tmp_path / "r.h5").write_bytes(b"no HDF5")
    (tmp_path / "r.csv").write_bytes(b"\xff\0\0")
    (tmp_path / "r.pt").write_bytes(b"no tensor")
    (tmp_path / "r.safetensors").write_bytes(b"no tensor")
    for name, message in {
        "r.png": "cannot read r.png: an array is a file in .npy",
        "r.csv": "cannot be read as CSV",
    }.items():
        with pytest.raises(ValueError, match=message):
            load_array(tmp_path / name, stimuli=STIMULI)
    for name in ("r.mat", "r.h5", "r.pt", "r.safetensors"):
        with pytest.raises(ValueError, match="cannot (be )?read") as raised:
            load_array(tmp_path / name, stimuli=STIMULI)
        assert "\n" not in str(raised.value)


def test_hdf5_that_takes_data_from_other_files_is_refused(tmp_path):
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file["r"] = h5py.ExternalLink("other.h5", "/r")
    with pytest.raises(ValueError, match="takes data from another file"):
        load_array(tmp_path / "r.h5", stimuli=STIMULI)
