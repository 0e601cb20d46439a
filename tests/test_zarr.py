"""Zarr stores whose codecs could run code are refused by the names of the codecs, and no chunk is decoded."""

import json
import pickle

import numpy as np
import pytest
import xarray as xr

from neurosuper import load_array
from neurosuper._zarr import FREE_BYTES, check_codecs
from neurosuper.metrics.store import RowStore, digest

PICKLE = {"id": "pickle", "protocol": 5}
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


class Marks:
    """A pickle that makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def version_2(folder, codecs, dtype="<f8"):
    about = {"zarr_format": 2, "shape": [2, 2], "chunks": [2, 2], "dtype": dtype, "fill_value": 0, "order": "C"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".zarray").write_text(json.dumps(about | {"compressor": None, "filters": None} | codecs))
    (folder / "0.0").write_bytes(pickle.dumps(Marks(folder.parent / "ran")))
    return folder


def version_3(codecs):
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [2, 2],
        "data_type": "float64",
        "fill_value": 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 2]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": codecs,
    }


def refused(folder, name="pickle"):
    with pytest.raises(ValueError, match=f"names the codec '?{name}'?, which may run code") as caught:
        load_array(folder, ("stimulus", "unit"), stimuli=["a", "b"])
    assert "\n" not in str(caught.value)
    assert not list(folder.parent.rglob("ran"))


@pytest.mark.parametrize(
    ("codecs", "dtype"),
    [
        ({"compressor": PICKLE}, "<f8"),
        ({"filters": [PICKLE]}, "|O"),
        ({"filters": [{"id": "delta", "dtype": "<f8"}, PICKLE]}, "<f8"),
        ({"filters": [{"id": "vlen-utf8"}, PICKLE]}, "|O"),
        ({"compressor": {"id": "zlib", "level": 1}, "filters": [PICKLE]}, "|O"),
    ],
)
def test_version_2_names_it_as_compressor_or_filter(codecs, dtype, tmp_path):
    refused(version_2(tmp_path / "a.zarr", codecs, dtype))


@pytest.mark.parametrize("name", ["pickle", "numcodecs.pickle", "somebodys.own", "n5_wrapper"])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_version_3_names_it_also_within_shards(name, depth, tmp_path):
    codecs = [BYTES, {"name": name, "id": "zlib"}]
    for _ in range(depth):
        sharding = {"chunk_shape": [2, 2], "codecs": codecs, "index_codecs": [BYTES]}
        codecs = [{"name": "sharding_indexed", "configuration": sharding}]
    folder = tmp_path / "a.zarr"
    folder.mkdir()
    (folder / "zarr.json").write_text(json.dumps(version_3(codecs)))
    refused(folder, name)


@pytest.mark.parametrize("codec", [{"level": 1}, 3, ["zlib"]])
def test_a_codec_without_a_name_is_refused(codec, tmp_path):
    with pytest.raises(ValueError, match="names the codec"):
        check_codecs(version_2(tmp_path / "a.zarr", {"filters": [codec]}))


@pytest.mark.parametrize("inner", ["rates", "deep/er/rates", "attributes", "x.zattrs"])
def test_arrays_of_a_group_are_looked_at_whatever_they_are_called(inner, tmp_path):
    folder = tmp_path / "a.zarr"
    version_2(folder / inner, {"compressor": PICKLE})
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    refused(folder)


@pytest.mark.parametrize("name", ["rates", "attributes", "filters", "x.zattrs"])
def test_consolidated_metadata_are_looked_at(name, tmp_path):
    folder = tmp_path / "two.zarr"
    array = json.loads((version_2(tmp_path / "other", {"filters": [PICKLE]}) / ".zarray").read_text())
    folder.mkdir()
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    (folder / ".zmetadata").write_text(json.dumps({"metadata": {f"{name}/.zarray": array}}))
    refused(folder)

    folder = tmp_path / "three.zarr"
    folder.mkdir()
    group = {"zarr_format": 3, "node_type": "group", "consolidated_metadata": {"metadata": {name: {}}}}
    group["consolidated_metadata"]["metadata"][name] = version_3([BYTES, "numcodecs.pickle"])
    (folder / "zarr.json").write_text(json.dumps(group))
    refused(folder, "numcodecs.pickle")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.filterwarnings("ignore")  # zarr: some of this is not in its specification
def test_stores_of_xarray_are_read(version, consolidated, tmp_path):
    values = np.arange(6.0).reshape(3, 2)
    about = {"filters": "0.3 to 300 Hz", "codecs": ["none"], "compressor": {"id": "pickle"}}
    array = xr.DataArray(values, dims=("stimulus", "unit"), coords={"stimulus": list("abc"), "unit": ["u", "v"]})
    array = array.assign_attrs(about).rename("rate")
    array.to_zarr(tmp_path / "a.zarr", zarr_format=version, consolidated=consolidated)
    read = load_array(tmp_path / "a.zarr")
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{" * 100_000, b"\xff\xfe\x00", b'{"a":' * 100_000])
def test_metadata_that_cannot_be_read_are_refused_in_one_line(content, tmp_path):
    (tmp_path / ".zarray").write_bytes(content)
    with pytest.raises(ValueError, match="is not readable metadata of zarr") as caught:
        check_codecs(tmp_path)
    assert "\n" not in str(caught.value)


def test_folders_that_link_to_themselves_end(tmp_path):
    (tmp_path / ".zgroup").write_text('{"zarr_format": 2}')
    (tmp_path / "loop").symlink_to(tmp_path)
    check_codecs(tmp_path)


def test_a_store_that_declares_far_more_than_it_stores_is_refused(tmp_path):
    folder = tmp_path / "a.zarr"
    folder.mkdir()
    about = version_3([BYTES]) | {"shape": [2, FREE_BYTES]}
    (folder / "zarr.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="declares 536,870,912 chunks, but 1,048,576 can be read"):
        load_array(folder, ("stimulus", "unit"), stimuli=["a", "b"])
    about["chunk_grid"]["configuration"]["chunk_shape"] = [2, 2**20]
    (folder / "zarr.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"declares 17.2 GB but stores \d+ bytes; .* fetch it again"):
        load_array(folder, ("stimulus", "unit"), stimuli=["a", "b"])


def test_a_cache_of_embeddings_that_was_poisoned_is_made_again(tmp_path):
    folder = tmp_path / "rows"
    RowStore(folder, "float32", {}).write([digest(b"a")], np.ones((1, 3), np.float32))
    about = json.loads((folder / "zarr.json").read_text())
    about["codecs"] = [BYTES, {"name": "numcodecs.pickle"}]
    (folder / "zarr.json").write_text(json.dumps(about))
    for chunk in (folder / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(pickle.dumps(Marks(tmp_path / "ran")))
    with pytest.warns(UserWarning, match=r"not readable \(ValueError\); its rows are computed again"):
        assert RowStore(folder, "float32", {}).read([digest(b"a")]) == {}
    assert not (tmp_path / "ran").exists()
