"""Natural scenes of the Allen Institute, in the layout of DANDI, are read through the manifests of the package."""

import h5py
import numpy as np
import pytest

import neurosuper as ns
from neurosuper.demo.write_allen import scene_onsets, trains, write_allen_ecephys, write_allen_ophys

N_SCENES, N_UNITS = 12, 6  # more than ten scenes: by name, the eleventh comes before the third
REPEATS = [5, 4, 6] * 4
RNG = np.random.default_rng(0)
FRAMES = RNG.permutation(np.concatenate([np.repeat(np.arange(N_SCENES), REPEATS), np.full(7, -1)]))
ONSETS = scene_onsets(len(FRAMES))
SCENES = [str(i) for i in range(N_SCENES)]

COUNTS = RNG.poisson(4.0, (N_SCENES, N_UNITS))  # (scene, unit)
SHOWN = np.vstack([COUNTS, np.full((1, N_UNITS), 40)])[FRAMES]  # the last row is what a blank evokes
AREAS = ["VISp", "VISl", "VISam", "LGd", "VISp", "LP"]
QUALITY = ["good"] * 5 + ["noise"]


def correlation(responses, planted, labels=SCENES):
    found = ns.average_repetitions(responses).sel(stimulus=labels)
    return np.corrcoef(found.values.ravel(), planted.ravel())[0, 1]


def ecephys(folder, frames=FRAMES, shown=SHOWN, **options):
    """Write a session at the path that the manifest names."""
    (folder / "sub-699733573").mkdir()
    path = folder / "sub-699733573" / "sub-699733573_ses-715093703.nwb"
    spikes = trains(shown, ONSETS, (0.0, 0.25))
    return write_allen_ecephys(path, spikes, frames, ONSETS, AREAS, **{"quality": QUALITY} | options)


def neuropixels(folder, **options):
    return ns.load("allen-neuropixels-natural-scenes", path=folder, **options)


def test_planted_spikes_come_back_by_scene_unit_and_area(tmp_path):
    ecephys(tmp_path)
    responses = neuropixels(tmp_path)
    assert correlation(responses, COUNTS[:, :5]) > 0.999
    assert responses.stimulus.values.tolist() == SCENES
    assert responses.notnull().all("unit").sum("repetition").values.tolist() == REPEATS
    assert responses.unit.values.tolist() == [str(950911000 + 7 * i) for i in range(5)]
    assert responses.area.values.tolist() == ["V1", "LM", "AM", "LGd", "V1"]
    np.testing.assert_allclose(ns.average_repetitions(responses).sel(stimulus=SCENES), COUNTS[:, :5] / 0.25, rtol=1e-5)
    assert responses.attrs["n_blanks"] == 7


@pytest.mark.parametrize("cached", [True, False])
def test_the_institutes_own_device_does_not_stop_the_reader(tmp_path, cached):
    ecephys(tmp_path, cache_extension=cached)
    responses = neuropixels(tmp_path)
    assert correlation(responses, COUNTS[:, :5]) > 0.999
    assert responses.attrs["reader"].startswith("pynwb" if cached else "h5py")


@pytest.mark.parametrize("how", ["invalid", "unobserved"])
def test_presentations_without_a_valid_recording_are_missing(tmp_path, how):
    lost = 17
    shown = SHOWN.copy()
    shown[lost] = 90
    start, stop = ONSETS[lost] - 0.0001, ONSETS[lost] + 0.2501
    gaps = {"invalid": [(start, stop)]} if how == "invalid" else {"observed": [(0.0, start), (stop, ONSETS[-1] + 9)]}
    ecephys(tmp_path, shown=shown, **gaps)
    responses = neuropixels(tmp_path)
    present = responses.notnull().all("unit").sum("repetition").values
    assert (np.array(REPEATS) - present).tolist() == [int(scene == FRAMES[lost]) for scene in range(N_SCENES)]
    assert correlation(responses, COUNTS[:, :5]) > 0.999


@pytest.mark.parametrize("fault", ["rows shifted", "off by one", "units shifted"])
def test_shifted_sessions_do_not_come_back(tmp_path, fault):
    frames, shown = FRAMES, SHOWN
    if fault == "rows shifted":
        frames = np.roll(frames, 1)
    elif fault == "off by one":
        frames = np.where(frames < 0, -1, (frames + 1) % N_SCENES)
    else:
        shown = np.roll(shown, 1, axis=1)
    ecephys(tmp_path, frames, shown)
    assert abs(correlation(neuropixels(tmp_path), COUNTS[:, :5])) < 0.5


PLANTED = RNG.gamma(1.0, 2.0, (N_SCENES, N_UNITS))  # (scene, ROI)
EVOKED = np.vstack([PLANTED, np.full((1, N_UNITS), 30.0)])[FRAMES]
NAMES = [f"NaturalScene{i}" for i in range(N_SCENES)]  # of the template
IMAGES = RNG.integers(0, 256, (N_SCENES, 9, 12), dtype=np.uint8)


def ophys(folder, scenes=FRAMES, evoked=EVOKED, **options):
    """Write a session at the path that the manifest names."""
    (folder / "sub-491604967").mkdir()
    path = folder / "sub-491604967" / "sub-491604967_ses-496908818-StimB_behavior+image+ophys.nwb"
    return write_allen_ophys(path, evoked, scenes, ONSETS, images=IMAGES, **options)


def two_photon(folder, **options):
    return ns.load("allen-2p-natural-scenes", path=folder, **options)


@pytest.mark.parametrize("clipped", [True, False], ids=["clipped", "wrapped"])
def test_planted_events_come_back_for_both_encodings_of_blanks(tmp_path, clipped):
    ophys(tmp_path, blanks_clipped=clipped)
    responses = two_photon(tmp_path)
    assert sorted(responses.stimulus.values) == sorted(NAMES[1:])
    assert correlation(responses, PLANTED[1:], NAMES[1:]) > 0.999
    responses = responses.sel(stimulus=NAMES[1:])
    assert responses.notnull().all("unit").sum("repetition").values.tolist() == REPEATS[1:]
    np.testing.assert_allclose(ns.average_repetitions(responses), 3 * PLANTED[1:], rtol=1e-4)
    dff = two_photon(tmp_path, series=["DfOverF"]).sel(stimulus=NAMES[1:])
    np.testing.assert_allclose(ns.average_repetitions(dff), PLANTED[1:], rtol=1e-4)


def test_blanks_that_became_0_spoil_scene_0(tmp_path):
    """Therefore the manifest leaves scene 0 out."""
    ophys(tmp_path)
    responses = two_photon(tmp_path, blanks=[]).sel(stimulus=NAMES)
    present = responses.notnull().all("unit").sum("repetition").values
    assert present.tolist() == [REPEATS[0] + 7, *REPEATS[1:]]
    assert ns.average_repetitions(responses).sel(stimulus=NAMES[0]).values.mean() > 3 * PLANTED[0].mean() + 10


def test_h5py_clips_minus_one_as_the_converter_did(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["frame"] = np.array([-1, 0, 117])
        assert np.array(file["frame"], dtype="uint32").tolist() == [0, 0, 117]


def test_images_have_the_names_of_the_responses(tmp_path):
    ophys(tmp_path)
    images = ns.load_stimuli("allen-2p-natural-scenes", path=tmp_path)
    np.testing.assert_array_equal(images.sel(stimulus=NAMES)[..., 0], IMAGES)
    assert ns.align(two_photon(tmp_path), images)[0].sizes["stimulus"] == N_SCENES - 1


@pytest.mark.parametrize("fault", ["rows shifted", "off by one", "ROIs shifted"])
def test_shifted_imaging_does_not_come_back(tmp_path, fault):
    scenes, evoked = FRAMES, EVOKED
    if fault == "rows shifted":
        scenes = np.roll(scenes, 1)
    elif fault == "off by one":
        scenes = np.where(scenes < 0, -1, (scenes + 1) % N_SCENES)
    else:
        evoked = np.roll(evoked, 1, axis=1)
    ophys(tmp_path, scenes, evoked)
    assert abs(correlation(two_photon(tmp_path), PLANTED[1:], NAMES[1:])) < 0.5
