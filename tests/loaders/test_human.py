"""Single neurons of the human medial temporal lobe, with the images in the files, are read by id."""

import numpy as np
import pytest

import neurosuper as ns
from neurosuper.demo.write_allen import trains
from tests.loaders.faithful_human import write_recognition, write_working_memory

N_IMAGES, N_UNITS = 6, 3
RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(8.0, (N_IMAGES, N_UNITS))  # (image, unit)
PIXELS = RNG.integers(0, 256, (N_IMAGES, 8, 6, 3), dtype=np.uint8)  # (image, row, column, channel), RGB
AREAS = ["Right Hippocampus", "Left Amygdala", "Right Hippocampus"]

FILES = [f"newolddelay\\animals\\{i}.jpg" for i in range(N_IMAGES)]
SHOWN = np.concatenate([RNG.permutation(4), RNG.permutation(N_IMAGES)])  # four are learned, and seen again
PHASES = ["learn"] * 4 + ["recog"] * N_IMAGES
ONSETS = 3.0 + 4.0 * np.arange(len(SHOWN)) + RNG.random(len(SHOWN))


def write_memory(folder, shown=SHOWN, frames=None):
    """Write a session of the recognition task where the manifest looks for it; frames are stored as BGR."""
    return write_recognition(
        folder / "sub-TWH098" / "sub-TWH098_ses-20180901_ecephys+image.nwb",
        trains(COUNTS[SHOWN], ONSETS, (0.2, 1.7)),
        files=[FILES[i] for i in shown],
        phases=PHASES,
        frames=PIXELS[shown][..., ::-1] if frames is None else frames,
        onsets=ONSETS,
        areas=AREAS,
    )


def memory(folder, **options):
    return ns.load("human-recognition-memory", path=folder, **options)


def test_planted_spikes_of_the_recognition_task_come_back_by_image_file_and_area(tmp_path):
    write_memory(tmp_path)
    responses = memory(tmp_path)
    rates = ns.average_repetitions(responses).sel(stimulus=FILES)
    np.testing.assert_allclose(rates, COUNTS / 1.5, rtol=1e-5)
    assert rates.n_repetitions.values.tolist() == [2, 2, 2, 2, 1, 1]
    assert responses.area.values.tolist() == AREAS
    again = memory(tmp_path, presentations_where={"stim_phase": "recog"})
    assert (again.sizes["repetition"], again.attrs["n_excluded"]) == (1, 4)
    np.testing.assert_allclose(ns.average_repetitions(again).sel(stimulus=FILES), COUNTS / 1.5, rtol=1e-5)


def test_images_shown_twice_are_returned_once_as_rgb(tmp_path):
    write_memory(tmp_path)
    images = ns.load_stimuli("human-recognition-memory", path=tmp_path)
    assert images.sizes["stimulus"] == N_IMAGES
    np.testing.assert_array_equal(images.sel(stimulus=FILES), PIXELS)
    assert ns.align(memory(tmp_path), images)[0].sizes["stimulus"] == N_IMAGES


def test_two_images_with_one_name_are_refused(tmp_path):
    frames = PIXELS[SHOWN].copy()
    frames[-1] += 1
    path = write_memory(tmp_path, frames=frames)
    with pytest.raises(ValueError, match="two different images of template 'StimulusPresentation' .* are named"):
        ns.loaders.load_nwb_images(path, stimulus_column="external_image_file")


@pytest.mark.parametrize("shift", [np.roll(SHOWN, 1), (SHOWN + 1) % N_IMAGES], ids=["rows", "images"])
def test_shifted_sessions_of_the_recognition_task_do_not_come_back(tmp_path, shift):
    write_memory(tmp_path, shift)
    found = ns.average_repetitions(memory(tmp_path)).sel(stimulus=FILES)
    assert np.corrcoef(found.values.ravel(), COUNTS.ravel())[0, 1] < 0.9


NAMES = [f"image_{i}" for i in (9, 22, 1, 44, 53)] + ["image_999"]  # in the order of their indices, not by number


def write_sternberg(folder, session):
    """Write 12 trials of a task: one image each in session 1; up to three and a probe in session 2."""
    per_trial = {"1": 1, "2": 4}[session]
    shown = RNG.permutation(np.repeat(np.arange(5), 12 * per_trial // 5 + 1))[: 12 * per_trial]
    onsets = 5.0 + np.repeat(12.0 * np.arange(12), per_trial) + np.tile(2.0 * np.arange(per_trial), 12)
    if per_trial == 4:
        shown.reshape(-1, 4)[::3, 1:3] = 5  # a third of the trials have one image to remember
    spikes = trains(np.vstack([COUNTS[:5], np.full((1, N_UNITS), 50)])[shown], onsets, (0.2, 1.0))
    if per_trial == 4:
        onsets.reshape(-1, 4)[::3, 1:3] = np.nan
    path = folder / "sub-1" / f"sub-1_ses-{session}_ecephys+image.nwb"
    images = dict(zip(NAMES, PIXELS.swapaxes(1, 2), strict=True))  # columns first, as MATLAB writes them
    areas = ["hippocampus_left", "amygdala_right", "hippocampus_left"]
    write_working_memory(path, spikes, images=images, shown=shown, onsets=onsets, areas=areas, per_trial=per_trial)
    return np.bincount(shown, minlength=6)[:5]


@pytest.mark.parametrize("session", ["1", "2"])
def test_planted_spikes_of_the_working_memory_task_come_back_by_image(tmp_path, session):
    repeats = write_sternberg(tmp_path, session)
    responses = ns.load("human-working-memory", path=tmp_path, subset={"session": session})
    rates = ns.average_repetitions(responses).sel(stimulus=NAMES[:5])
    np.testing.assert_allclose(rates, COUNTS[:5] / 0.8, rtol=1e-5)
    assert rates.n_repetitions.values.tolist() == repeats.tolist()
    assert responses.area.values.tolist() == ["hippocampus_left", "amygdala_right", "hippocampus_left"]
    images = ns.load_stimuli("human-working-memory", path=tmp_path, subset={"session": session})
    np.testing.assert_array_equal(images.sel(stimulus=NAMES), PIXELS)
    assert ns.align(responses, images)[0].sizes["stimulus"] == 5
