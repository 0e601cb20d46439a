"""A small valid file of every format that the package reads, and the call that reads it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array  # noqa: F401 - imported once, before the sandbox forks
import h5py
import nibabel  # noqa: F401
import numpy as np
import torch
import xarray as xr
import zarr  # noqa: F401
from PIL import Image

import neurosuper as ns
from neurosuper import loaders
from neurosuper.datasets.manifest import read_manifest
from neurosuper.demo.write_nsd import write_nsd
from neurosuper.demo.write_tvsd import write_tvsd
from neurosuper.interpretability import read_judgements
from neurosuper.loaders import nwb
from neurosuper.study import read_study
from tests.loaders.faithful_cadena import write_cadena
from tests.loaders.faithful_neuroid import neuroids, write_assembly
from tests.loaders.faithful_stringer import present, write_images, write_recording
from tests.study.minimal import MINIMAL_STUDY

LABELS = [f"s{i:02d}" for i in range(30)]
DIMS = ("stimulus", "unit")
PICTURES = {"png": "PNG", "jpg": "JPEG", "gif": "GIF", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP", "ppm": "PPM"}
WINDOW, TABLE = (0.0, 0.25), "natural_scenes_presentations"


def _responses() -> xr.DataArray:
    values = np.random.default_rng(0).gamma(1, 5, (30, 6)).astype(np.float32)
    return xr.DataArray(
        values, {"stimulus": LABELS, "unit": list("abcdef")}, DIMS, name="response", attrs={"units": "spikes/s"}
    )


def _fit_from(checkpoint: Path) -> xr.DataArray:
    finder = ns.SparseAutoencoder("2x", n_active=2, max_iter=3, checkpoint=str(checkpoint), device="cpu")
    return finder.fit(_responses()).directions_


def _use_finder(path: Path) -> xr.DataArray:
    with xr.open_dataset(path, engine="netcdf4") as stored:
        return ns.PCA.from_dataset(stored.load()).transform(_responses())


def _judged(path: Path) -> np.ndarray:
    return np.array(repr(read_judgements(path).to_dict("list")))


def _activations(folder: Path) -> xr.DataArray:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    return ns.activations(net, _photos(6), "1", device="cpu", cache=folder, batch_size=6)


def _photos(n: int) -> xr.DataArray:
    return ns.load_images(np.random.default_rng(1).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8))


def _spikes(path: Path) -> xr.DataArray:
    options: dict[str, Any] = {"area_column": "location", "units_where": {"quality": "good"}}
    return loaders.load_nwb(path, presentations=TABLE, stimulus_column="frame", window=WINDOW, blanks=-1, **options)


def _rois(path: Path) -> xr.DataArray:
    options: dict[str, Any] = {"series": "DfOverF", "units_where": {"layer": ["L2", "L5"]}, "area_column": "location"}
    return loaders.load_nwb(path, presentations=TABLE, stimulus_column="frame", window=WINDOW, blanks=-1, **options)


def _shown(path: Path) -> xr.DataArray:
    return loaders.load_nwb(path, presentations=None, index_series="shown", window=WINDOW, blanks=-1)


def _trials(path: Path) -> xr.DataArray:
    options: dict[str, Any] = {"area_column": "location", "units_where": {"quality": "good"}}
    return loaders.load_nwb(path, stimulus_column="image", window=WINDOW, **options)


NWB_CALLS = {"mouse": (_spikes, _rois, _shown, nwb.load_nwb_images), "session": (_trials,)}
# name of a call: (the file or folder that it is given, which files in it are damaged, the call)
FORMATS: dict[str, tuple[str, str, Callable[[Path], Any]]] = {
    "npy": ("a.npy", "", lambda path: loaders.load_array(path, DIMS, stimuli=LABELS)),
    "npz": ("a.npz", "", lambda path: loaders.load_array(path, DIMS, stimuli=LABELS, variable="rates")),
    "compressed npz": ("packed.npz", "", lambda path: loaders.load_array(path, DIMS, stimuli=LABELS)),
    "netCDF 4": ("a.nc", "", loaders.load_array),
    "netCDF 3": ("classic.nc", "", loaders.load_array),
    "zarr": ("a.zarr", "*", loaders.load_array),
    "MATLAB recording": ("recording.mat", "", loaders.load_stringer),
    "MATLAB images": ("images.mat", "", loaders.load_mat_images),
    "NSD betas": ("nsd", "betas_session01.hdf5", lambda path: loaders.load_nsd(path, subject="subj01")),
    "NSD design": ("nsd", "nsd_expdesign.mat", lambda path: loaders.load_nsd(path, subject="subj01")),
    "NSD atlas": ("nsd", "prf-visualrois.nii.gz", lambda path: loaders.load_nsd(path, subject="subj01")),
    "NSD ceiling": ("nsd", "ncsnr.nii.gz", lambda path: loaders.load_nsd(path, subject="subj01")),
    "NSD images": ("nsd", "nsd_stimuli.hdf5", lambda path: loaders.load_nsd_images(path).compute()),
    "TVSD": ("tvsd", "THINGS_normMUA.mat", lambda path: loaders.load_tvsd(path, monkey="N")),
    "TVSD names": ("tvsd", "things_imgs.mat", lambda path: loaders.load_tvsd(path, monkey="N")),
    "Cadena 2024": ("cadena", "responses.csv", lambda path: loaders.load_cadena(path, window=(0.04, 0.16))),
    "Cadena 2024, session": ("cadena", "meta_data.json", lambda path: loaders.load_cadena(path, window=(0.04, 0.16))),
    "assembly": ("assembly.nc", "", loaders.load_neuroid),
    "Cowley": ("cowley", "responses_raw_1.npy", lambda path: loaders.load_cowley(path, session=1)),
    "Cowley images": ("cowley", "images_1.zip", lambda path: loaders.load_cowley(path, session=1)),
    "zip of images": ("photos.zip", "", ns.load_images),
    **{kind: (f"photo.{kind}", "", lambda path: ns.load_images([path])) for kind in PICTURES},
    "judgements": ("judged.csv", "", _judged),
    "finder": ("finder.nc", "", _use_finder),
    "checkpoint": ("finder.ckpt", "", _fit_from),
    "activations": ("activations", "*.npz", _activations),
    "study": ("study.toml", "", lambda path: np.array(repr(read_study(path)))),
    "manifest": ("cowley-v4.toml", "", lambda path: np.array(repr(read_manifest(path)))),
    "NWB spikes": ("mouse.nwb", "", _spikes),
    "NWB ROIs": ("mouse.nwb", "", _rois),
}
CALLS = {name: call for name, (_, _, call) in FORMATS.items()}
CALLS |= {f"{file} {call.__name__}": call for file, calls in NWB_CALLS.items() for call in calls}


def write_files(folder: Path, mouse: Path, session: Path) -> None:
    """Write all files below a folder; `mouse` and `session` are existing NWB files."""
    (folder / "mouse.nwb").write_bytes(mouse.read_bytes())
    (folder / "session.nwb").write_bytes(session.read_bytes())
    rng, responses = np.random.default_rng(0), _responses()
    _write_arrays(folder, responses)
    _write_brains(folder, rng)
    _write_photos(folder, rng)
    ns.PCA(3, device="cpu").fit(responses).to_dataset().to_netcdf(folder / "finder.nc")
    _fit_from(folder / "finder.ckpt")
    _activations(folder / "activations")
    rows = [f"resnet50,layer1,{i % 4},{i},{i % 2 == 0},{i % 3 + 1}\n" for i in range(12)]
    (folder / "judged.csv").write_text("model,layer,channel,batch,correct,confidence\n" + "".join(rows))
    (folder / "study.toml").write_text(MINIMAL_STUDY)
    manifests = Path(__file__).resolve().parents[2] / "data_manifests"
    (folder / "cowley-v4.toml").write_bytes((manifests / "cowley-v4.toml").read_bytes())


def _write_arrays(folder: Path, responses: xr.DataArray) -> None:
    np.save(folder / "a.npy", responses)
    np.savez(folder / "a.npz", rates=responses, others=responses[:2])
    np.savez_compressed(folder / "packed.npz", rates=responses)
    responses.to_netcdf(folder / "a.nc")
    responses.to_netcdf(folder / "classic.nc", format="NETCDF3_64BIT", engine="netcdf4")
    responses.to_dataset().to_zarr(folder / "a.zarr", mode="w", consolidated=False, zarr_format=2)


def _write_brains(folder: Path, rng: np.random.Generator) -> None:
    istim = present(6, 3, rng)
    write_recording(folder / "recording.mat", rng.random((len(istim), 4)), istim, rng.random((9, 4)), np.arange(4) % 2)
    write_images(folder / "images.mat", rng.integers(0, 256, (6, 8, 5)).astype(float))
    write_nsd(folder / "nsd", sessions=(1,), shape=(3, 4, 5))
    bricks = folder / "nsd" / "nsddata_stimuli" / "stimuli" / "nsd"
    bricks.mkdir(parents=True)
    with h5py.File(bricks / "nsd_stimuli.hdf5", "w") as file:
        file["imgBrick"] = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    write_tvsd(folder / "tvsd", monkey="N", train=rng.random((3, 1024)), test=rng.random((2, 1024)), n_repetitions=2)
    write_cadena(folder / "cadena", rng.integers(0, 5, (15, 3, 12)), [i % 5 + 1 for i in range(15)])
    shown = {"stimulus_id": [f"i{i % 5}" for i in range(15)], "repetition": [i // 5 for i in range(15)]}
    cells = neuroids(2, 2)
    write_assembly(folder / "assembly.nc", rng.random((4, 15, 1)), shown, cells)


def _write_photos(folder: Path, rng: np.random.Generator) -> None:
    def photo(kind: str) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(stream, PICTURES[kind])
        return stream.getvalue()

    for kind in PICTURES:
        (folder / f"photo.{kind}").write_bytes(photo(kind))
    (folder / "cowley").mkdir()
    np.save(folder / "cowley" / "responses_raw_1.npy", rng.random((4, 6, 3)))
    for path, n in ((folder / "cowley" / "images_1.zip", 6), (folder / "photos.zip", 4)):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for i in range(n):
                archive.writestr(f"img{i}.png", photo("png"))
