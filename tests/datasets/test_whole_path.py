"""From the id of a shipped manifest to means over repetitions: responses planted in the archive's layout are recovered.

The datasets on DANDI are in test_allen.py and test_free_viewing.py, NSD and TVSD also in tests/demo/test_brains.py.
"""

import zipfile

import h5py
import numpy as np
import pytest
from PIL import Image

import neurosuper as ns
from neurosuper.datasets.manifest import Dandi, read_manifest
from neurosuper.demo.write_allen import scene_onsets, trains, write_allen_ecephys
from neurosuper.demo.write_nsd import write_nsd
from neurosuper.demo.write_tvsd import write_tvsd
from tests.datasets.dandi_server import DANDISET, VERSION, Archive
from tests.loaders.faithful_cadena import write_cadena
from tests.loaders.faithful_neuroid import neuroids, write_assembly, write_stimulus_set
from tests.loaders.faithful_stringer import present, write_images, write_recording

RNG = np.random.default_rng(0)
PLANTED = RNG.gamma(1.0, 5.0, (12, 6)).round(2)  # (image, unit)
SHOWN = RNG.permutation(np.repeat(np.arange(12), [2, 3] * 6))


def save_images(write, names):
    for i, name in enumerate(names):
        write(name, Image.new("RGB", (8, 8), (i, 0, 0)))


def put_cowley(folder):
    for part in ("images", "responses_raw"):
        (folder / part).mkdir()
    names = [f"image{i:04d}" for i in range(12)]
    with zipfile.ZipFile(folder / "images" / "images_210325.zip", "w") as archive:

        def write(name, image):
            with archive.open(f"{name}.png", "w") as file:
                image.save(file, "png")

        save_images(write, names)
    repeats = np.repeat(PLANTED.T[..., None], 3, axis=-1)
    repeats[:, ::2, 2] = np.nan
    np.save(folder / "responses_raw" / "responses_210325.npy", repeats)
    return names


def put_majaj(folder):
    folder = folder / "brainio-brainscore"
    folder.mkdir()
    ids, categories = [f"{i:02d}f86d6d{i}" for i in range(12)], ["Cars", "Faces", "Fruits"] * 4
    columns = {"stimulus_id": [ids[i] for i in SHOWN], "object_name": [categories[i] for i in SHOWN]}
    values = PLANTED[SHOWN].T[..., None].astype(np.float32)
    write_assembly(folder / "assy_dicarlo_MajajHong2015_public.nc", values, columns, neuroids(3, 3))
    write_stimulus_set(folder / "stimulus_hvm-public.csv", ids, categories)
    names = [f"astra_rx+00.{i:03d}_{label}_256x256" for i, label in enumerate(ids)]
    with zipfile.ZipFile(folder / "stimulus_hvm-public.zip", "w") as archive:

        def write(name, image):
            with archive.open(f"{name}.png", "w") as file:
                image.save(file, "png")

        save_images(write, names)
    return names


def put_stringer(folder):
    numbers = present(12, 3, RNG)
    shown = np.vstack([PLANTED, np.full((1, 6), 90.0)])[numbers - 1]
    write_recording(folder / "natimg2800_M170714_MP032_2017-09-14.mat", shown, numbers, np.ones((5, 6)))
    write_images(folder / "images_natimg2800_all.mat", np.arange(12, dtype=float)[:, None, None] + np.zeros((12, 8, 8)))
    return [str(i + 1) for i in range(12)]


def put_cadena(folder):
    counts = np.zeros((len(SHOWN), 6, 12))
    counts[:, :, 3:] = np.round(PLANTED[SHOWN] * 100)[..., None]
    write_cadena(folder / "V4" / "test" / "SESSION", counts.astype(int), SHOWN.tolist())
    (folder / "V4" / "images").mkdir(parents=True)
    names = [f"{i:06d}" for i in range(12)]
    save_images(lambda name, image: image.save(folder / "V4" / "images" / f"{name}.png"), names)
    return names


@pytest.mark.parametrize(
    ("dataset", "put"),
    [
        ("cowley-v4", put_cowley),
        ("majajhong-2015", put_majaj),
        ("stringer-natimg2800", put_stringer),
        ("cadena-2024", put_cadena),
    ],
)
def test_planted_responses_and_their_images_are_recovered(tmp_path, dataset, put):
    names = put(tmp_path)
    responses = ns.average_repetitions(ns.load(dataset, path=tmp_path))
    images = ns.load_stimuli(dataset, path=tmp_path)
    responses, images = ns.align(responses, images)
    found = responses.sel(stimulus=names)
    assert np.corrcoef(found.values.ravel(), PLANTED.ravel())[0, 1] > 0.999
    assert images.sel(stimulus=names).values[:, 0, 0, 0].tolist() == list(range(12))
    shifted = found.roll(stimulus=1)
    assert np.corrcoef(shifted.values.ravel(), PLANTED.ravel())[0, 1] < 0.5
    assert responses.attrs["dataset"] == dataset


def test_two_sessions_and_two_subjects_of_nsd(tmp_path):
    for subject in ("subj01", "subj02"):
        truth = write_nsd(tmp_path, subject=subject, sessions=(1, 2), respond=None, seed=0)
        voxels = ns.load("nsd", path=tmp_path, subset={"subject": subject, "session": [1, 2]}, roi=["V1", "hV4"])
        ids = voxels.stimulus.values.astype(int)
        planted = truth.respond(ids)[:, voxels.x.values, voxels.y.values, voxels.z.values]
        assert np.corrcoef(ns.average_repetitions(voxels).values.ravel(), planted.ravel())[0, 1] > 0.999
    both = ns.load("nsd", path=tmp_path, subset={"subject": ["subj01", "subj02"], "session": [1]}, roi="V1")
    assert set(both.subject.values) == {"subj01", "subj02"}
    assert both.unit.values[0].startswith("subj01/prf-visualrois/")


@pytest.mark.parametrize("monkey", ["F", "N"])
def test_both_monkeys_of_tvsd(tmp_path, monkey):
    truth = write_tvsd(tmp_path, monkey=monkey)
    mean = ns.average_repetitions(ns.load("tvsd", path=tmp_path, subset={"monkey": monkey}))
    planted = truth.test[:, mean.channel.values]
    assert np.corrcoef(mean.sel(stimulus=truth.test_images).values.ravel(), planted.ravel())[0, 1] > 0.999
    first_it = {"F": 512, "N": 768}[monkey]
    assert mean.area.values[mean.channel.values == first_it].tolist() == ["IT"]


def _without_chunks(units, name):
    """Store a ragged column in one piece; chunks may contain other units, and would be read as a whole."""
    values, attrs = units[name][:], dict(units[name].attrs)
    del units[name]
    units.create_dataset(name, data=values).attrs.update(attrs)
    units[f"{name}_index"].attrs["target"] = units[name].ref


@pytest.fixture
def session(tmp_path):
    """A session of 000021 of several MB; its amplitudes and the spikes of noise units are not needed."""
    frames = RNG.permutation(np.append(np.repeat(np.arange(12), 4), [-1] * 5))
    rates, onsets = np.vstack([PLANTED, np.zeros((1, 6))])[frames], scene_onsets(53)
    spikes = [
        np.sort(np.append(train, RNG.uniform(500, 2000, 100_000)))
        for train in trains(rates.astype(int), onsets, (0, 0.25))
    ]
    quality = ["good"] * 2 + ["noise"] * 4
    path = write_allen_ecephys(tmp_path / "session.nwb", spikes, frames, onsets, ["VISp"] * 6, quality=quality)
    with h5py.File(path, "r+") as file:
        _without_chunks(file["units"], "spike_times")
    return path, sum(len(train) for train in spikes[:2]) * 8


def test_a_session_streams_from_dandi_as_it_is_fetched(session, tmp_path, monkeypatch):
    """With the real dandi client and the shipped manifest, at another address."""
    monkeypatch.setenv("NEUROSUPER_CACHE", str(tmp_path / "cache"))
    path, needed = session
    with Archive({"sub-699733573/sub-699733573_ses-715093703.nwb": path.read_bytes()}) as archive:
        source = Dandi(kind="dandi", dandiset=DANDISET, version=VERSION, instance=f"{archive.api.url}/api")
        manifest = read_manifest("allen-neuropixels-natural-scenes")
        manifest = manifest.model_copy(update={"source": source, "checksums": []})
        streamed = ns.load(manifest, stream=True)
        travelled = archive.blobs.sent
        again = ns.load(manifest, stream=True)
        assert archive.blobs.sent == travelled, "what was streamed once is kept"
        fetched = ns.load(manifest)
    assert travelled < 2 * needed < path.stat().st_size
    assert streamed.identical(again)
    assert streamed.drop_attrs().identical(fetched.drop_attrs())
    mean = ns.average_repetitions(fetched).sel(stimulus=[str(i) for i in range(12)])
    assert np.corrcoef(mean.values.ravel(), PLANTED[:, :2].astype(int).ravel())[0, 1] > 0.999
