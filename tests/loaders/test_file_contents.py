"""What a file contains is listed, and the call that is proposed loads it as it is."""

import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import torch
import xarray as xr
from PIL import Image

import neurosuper
from neurosuper.loaders import inspect_file, inspect_nwb

LABELS = [f"photo{i:02d}" for i in range(12)]
RATES = np.random.default_rng(0).gamma(1, 5, (4, 12))


def write_npz(path):
    np.savez(path, rates=RATES, image=LABELS, onset=np.arange(12.0))


def write_netcdf(path):
    array = xr.DataArray(RATES, {"image": LABELS}, ("neuron", "image"), name="rates")
    xr.Dataset({"rates": array, "depth": ("neuron", np.arange(4.0))}).to_netcdf(path)


def write_zarr(path):
    pytest.importorskip("zarr")
    array = xr.DataArray(RATES, {"stimulus": LABELS}, ("unit", "stimulus"), name="rates")
    array.to_dataset().to_zarr(path, zarr_format=2)


def write_matlab_5(path):
    text = {"image": np.array(LABELS, dtype=object), "letters": "abc"}
    scipy.io.savemat(path, {"rates": RATES, "info": {"lab": 1.0}} | text)


def write_matlab_7_3(path):
    """As MATLAB does: columns first, text as numbers, cells as references."""
    with h5py.File(path, "w", userblock_size=512) as file:

        def write(name, values, kind):
            file[name] = values
            file[name].attrs["MATLAB_class"] = np.bytes_(kind)
            return file[name].ref

        write("rates", RATES.T, "double")
        write("letters", as_codes("abc"), "char")
        cells = [write(f"#refs#/{label}", as_codes(label), "char") for label in LABELS]
        write("image", np.array([cells], dtype=h5py.ref_dtype).T, "cell")
        file.create_group("info").attrs["MATLAB_class"] = np.bytes_("struct")
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    path.write_bytes(header + path.read_bytes()[len(header) :])


def as_codes(text):
    return np.array([[ord(letter)] for letter in text], np.uint16)


def write_hdf5(path):
    with h5py.File(path, "w") as file:
        file["session/rates"] = RATES
        file["image"] = LABELS


def write_table(table, path):
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow")
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")


def run(code):
    """Return what proposed code loads."""
    found = {}
    exec(code, found)
    return found[code.splitlines()[-1].partition(" = ")[0]]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.npz", write_npz),
        ("a.nc", write_netcdf),
        ("a.zarr", write_zarr),
        ("5.mat", write_matlab_5),
        ("7.mat", write_matlab_7_3),
        ("a.h5", write_hdf5),
        ("a.pt", lambda path: torch.save({"rates": torch.as_tensor(RATES), "image": LABELS}, path)),
    ],
    ids=["npz", "nc", "zarr", "mat5", "mat7.3", "h5", "pt"],
)
def test_the_proposed_call_gives_the_responses_with_the_labels_in_the_file(name, write, tmp_path):
    write(tmp_path / name)
    found = inspect_file(tmp_path / name)
    loaded = run(found.proposed_call)
    assert loaded.stimulus.values.tolist() == LABELS
    np.testing.assert_allclose(loaded.transpose("unit", "stimulus"), RATES)
    (matrix,) = [each for each in found.arrays.index if each.endswith("rates")]
    assert found.arrays.loc[matrix, ["shape", "dtype"]].tolist() == [(4, 12), "float64"]
    assert found.arrays.examples[matrix] == f"{RATES[0, 0]:g}, {RATES[0, 1]:g}, {RATES[0, 2]:g}, …"
    if name != "a.zarr":
        assert found.arrays.loc["image", ["dtype", "examples"]].tolist() == ["text", "photo00, photo01, photo02, …"]
    assert found.proposed_call.splitlines()[-1] in str(found)


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_labels_that_repeat_are_those_of_trials(suffix, tmp_path):
    trials = [LABELS[i] for i in (0, 1, 0, 2, 1, 0)]
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez(path, rates=RATES[:, :6].T, image=trials, onset=np.arange(6.0))
    else:
        write_table(pd.DataFrame(RATES[:, :6].T, columns=list("abcd")).assign(image=trials), path)
    loaded = run(inspect_file(path).proposed_call)
    assert dict(loaded.sizes) == {"stimulus": 3, "repetition": 3, "unit": 4}
    np.testing.assert_allclose(loaded.sel(stimulus="photo01")[:2], RATES[:, [1, 4]].T, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "dims"),
    [
        ((4, 12), ("unit", "stimulus")),
        ((4, 12, 3), ("unit", "stimulus", "repetition")),
        ((2, 4, 12), ("repetition", "unit", "stimulus")),
    ],
)
def test_stimuli_without_labels_are_numbered(shape, dims, tmp_path, rng):
    values = rng.gamma(1, 5, shape)
    np.save(tmp_path / "a.npy", values)
    loaded = run(inspect_file(tmp_path / "a.npy").proposed_call)
    assert loaded.stimulus.values.tolist() == [str(i) for i in range(12)]
    np.testing.assert_allclose(loaded.transpose(*dims), values)


def test_the_largest_matrix_is_taken_and_labels_say_which_axis_is_the_stimulus(tmp_path, rng):
    np.savez(tmp_path / "a.npz", small=np.ones((2, 2)), wide=rng.gamma(1, 5, (12, 30)), stimulus_id=LABELS)
    loaded = run(inspect_file(tmp_path / "a.npz").proposed_call)
    assert dict(loaded.sizes) == {"stimulus": 12, "unit": 30}
    assert loaded.stimulus.values.tolist() == LABELS


def test_times_are_not_taken_for_labels(tmp_path):
    np.savez(tmp_path / "a.npz", rates=RATES.T, onset_time=np.arange(4))
    assert "onset_time" not in inspect_file(tmp_path / "a.npz").proposed_call


def test_a_file_without_a_matrix_has_no_proposal(tmp_path):
    np.savez(tmp_path / "a.npz", times=np.arange(5.0), words=["a", "b"])
    found = inspect_file(tmp_path / "a.npz")
    assert found.proposed_call == ""
    assert found.arrays.examples.to_dict() == {"times": "0, 1, 2, …", "words": "a, b"}


@pytest.mark.parametrize("as_zip", [False, True])
def test_a_folder_or_zip_file_of_images_is_loaded(as_zip, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for label in LABELS:
        Image.new("RGB", (4, 4)).save(folder / f"{label}.png")
    path = folder
    if as_zip:
        path = tmp_path / "photos.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in folder.iterdir():
                archive.write(file, file.name)
    found = inspect_file(path)
    assert "12 images, labelled 'photo00', 'photo01', 'photo02', … (12 in all)" in str(found)
    assert run(found.proposed_call).stimulus.values.tolist() == LABELS


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("extra", [{}, {"category": ["pet", "bird"] * 6}], ids=["units", "and a column"])
def test_the_columns_of_a_table_are_listed_and_those_with_numbers_loaded(suffix, extra, tmp_path):
    table = pd.DataFrame(RATES.T, columns=list("abcd")).assign(image=LABELS, **extra)
    path = tmp_path / f"a{suffix}"
    write_table(table, path)
    found = inspect_file(path)
    assert found.arrays.dtype.to_dict() == dict.fromkeys("abcd", "float64") | dict.fromkeys(["image", *extra], "text")
    assert f"{5 + len(extra)} columns" in str(found)
    loaded = run(found.proposed_call)
    np.testing.assert_allclose(loaded, RATES.T)
    assert loaded.stimulus.values.tolist() == LABELS
    assert loaded.unit.values.tolist() == list("abcd")


def test_rows_of_a_table_may_be_labelled_or_only_numbered(tmp_path):
    table = pd.DataFrame(RATES.T, index=LABELS, columns=list("abcd"))
    table.to_csv(tmp_path / "labelled.csv")
    assert run(inspect_file(tmp_path / "labelled.csv").proposed_call).stimulus.values.tolist() == LABELS
    table.to_csv(tmp_path / "numbered.csv", index=False)
    assert run(inspect_file(tmp_path / "numbered.csv").proposed_call).stimulus.values.tolist() == [
        str(i) for i in range(12)
    ]


def test_a_folder_of_phy_is_loaded_as_spikes(tmp_path):
    np.save(tmp_path / "spike_times.npy", np.array([30, 60, 90]))
    np.save(tmp_path / "spike_clusters.npy", np.array([4, 7, 4]))
    (tmp_path / "params.py").write_text("sample_rate = 30.0")
    (tmp_path / "cluster_group.tsv").write_text("cluster_id\tgroup\n4\tgood\n7\tmua\n")
    found = inspect_file(tmp_path)
    assert found.arrays.examples.to_dict() == {"spike_times": "30, 60, 90", "spike_clusters": "4, 7, 4"}
    assert "To load the spike times, which neurosuper.count_spikes turns into responses" in str(found)
    assert run(found.proposed_call).times["4"].tolist() == [1, 3]


def test_arrays_of_python_objects_are_named_and_not_read(tmp_path):
    np.savez(tmp_path / "a.npz", rates=RATES, notes=np.array([{"a": 1}], dtype=object))
    assert "may run code" in inspect_file(tmp_path / "a.npz").arrays.dtype["notes"]


def test_a_recording_is_described_by_inspect_nwb(tmp_path, monkeypatch):
    monkeypatch.setattr("neurosuper.loaders.file_contents.inspect_nwb", lambda path: path.name)
    (tmp_path / "a.nwb").touch()
    assert inspect_file(tmp_path / "a.nwb") == "a.nwb"
    assert inspect_nwb is not neurosuper.loaders.file_contents.inspect_nwb


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.nc", "a.mat", "a.h5", "a.csv", "a.zip"])
def test_a_damaged_file_is_named_in_one_line(name, tmp_path):
    (tmp_path / name).write_bytes(b"\x80\x00\xff" * 7)
    with pytest.raises(ValueError, match=rf"{name}") as caught:
        inspect_file(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_format_or_none_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("no images")
    with pytest.raises(ValueError, match=r"a\.txt is neither a folder nor a zip file"):
        inspect_file(tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError, match="no file or folder .*nowhere"):
        inspect_file(tmp_path / "nowhere.npy")
