"""Macaque free viewing in the layout of DANDI 000628: two files, no units, no electrodes, images stored elsewhere."""

import datetime
import hashlib

import h5py
import numpy as np
import pytest

import neurosuper as ns
from tests.loaders.faithful_free_viewing import rasters_of, write_free_viewing, write_rasters

N_IMAGES, WINDOW = 8, (0.05, 0.25)
NAMES = ["001_CIT", "004_CIT", "017_CIT", "032_CIT", "033_CIT"]
RNG = np.random.default_rng(0)
HASHES = [hashlib.md5(bytes([i]), usedforsecurity=False).hexdigest() for i in range(N_IMAGES)]
REPEATS = [4, 3] * 4
SHOWN = RNG.permutation(np.repeat(np.arange(N_IMAGES), REPEATS))
ONSETS = 2.561 + np.cumsum(RNG.integers(1800, 2600, len(SHOWN))) / 1000
COUNTS = RNG.poisson(12.0, (N_IMAGES, len(NAMES)))  # (image, unit)
RASTERS = rasters_of(COUNTS[SHOWN], ONSETS, WINDOW, round(1000 * (ONSETS[-1] + 3)))


def write(folder, images=SHOWN, rasters=RASTERS):
    """Write a session where the manifest looks for it."""
    (folder / "sub-Pa").mkdir()
    name = "sub-Pa_ses-20210120T163451"
    main, companion = folder / "sub-Pa" / f"{name}_image.nwb", folder / "sub-Pa" / f"{name}.nwb"
    files = [f"Stimuli/{label}.{'jpg' if i % 2 else 'png'}" for i, label in enumerate(HASHES)]
    write_free_viewing(main, companion, rasters=rasters, unit_names=NAMES, images=images, onsets=ONSETS, files=files)
    return main, companion


def load(folder, **options):
    return ns.load("macaque-free-viewing", path=folder, **options)


def correlation(responses):
    found = ns.average_repetitions(responses).sel(stimulus=HASHES)
    return np.corrcoef(found.values.ravel(), COUNTS.ravel())[0, 1]


def test_planted_spikes_come_back_by_name_of_image_and_unit(tmp_path):
    write(tmp_path)
    responses = load(tmp_path)
    assert correlation(responses) > 0.999
    assert sorted(responses.stimulus.values) == sorted(HASHES)
    assert responses.unit.values.tolist() == NAMES
    assert responses.sel(stimulus=HASHES).notnull().all("unit").sum("repetition").values.tolist() == REPEATS
    rates = ns.average_repetitions(responses).sel(stimulus=HASHES)
    np.testing.assert_allclose(rates, COUNTS / 0.2, rtol=1e-5)  # spikes just before and just after do not count
    assert responses.attrs["units"] == "spikes/s"


def test_units_keep_their_own_rasters(tmp_path):
    write(tmp_path)
    rates = ns.average_repetitions(load(tmp_path)).sel(stimulus=HASHES)
    for i, name in enumerate(NAMES):
        assert np.corrcoef(rates.sel(unit=name), COUNTS[:, i])[0, 1] > 0.999


@pytest.mark.parametrize("fault", ["rows shifted", "off by one", "units shifted"])
def test_shifted_sessions_do_not_come_back(tmp_path, fault):
    changed = {
        "rows shifted": {"images": np.roll(SHOWN, 1)},
        "off by one": {"images": (SHOWN + 1) % N_IMAGES},
        "units shifted": {"rasters": np.roll(RASTERS, 1, axis=1)},
    }[fault]
    write(tmp_path, **changed)
    assert abs(correlation(load(tmp_path))) < 0.5


def test_an_image_that_is_not_there_is_refused(tmp_path):
    write(tmp_path, images=SHOWN + 1)
    with pytest.raises(ValueError, match=str(N_IMAGES)) as raised:
        load(tmp_path)
    assert "\n" not in str(raised.value)


def test_the_companion_is_asked_for_by_name(tmp_path):
    _, companion = write(tmp_path)
    companion.unlink()
    with pytest.raises(FileNotFoundError, match=r"needs one sub-\*/sub-\*_ses-20210120T163451\.nwb in "):
        load(tmp_path)


def test_one_file_where_two_are_needed(tmp_path):
    main, companion = write(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=rf"needs two files, {main.name} and its companion sub-.*: pass path= the"
    ):
        ns.load("macaque-free-viewing", path=main)
    given = ns.load("macaque-free-viewing", path=main, companion=companion)
    assert given.identical(load(tmp_path))


def test_the_real_presentations_find_planted_rasters(real_data, tmp_path):
    """The published table of presentations of one session, with spikes that follow its 144 images."""
    main = real_data / "nwb" / "Pa210120-main.nwb"
    with h5py.File(main) as file:
        onsets, shown = (
            file["intervals/presentations/start_time"][:],
            file["stimulus/presentation/presentations/data"][:],
        )
        start = datetime.datetime.fromisoformat(file["session_start_time"][()].decode())
        names = [path.decode() for path in file["stimulus/templates/stimuli/external_file"][:]]
    counts = np.random.default_rng(0).poisson(12.0, (144, 3))
    rasters = rasters_of(counts[shown], onsets, WINDOW, round(1000 * (onsets[-1] + 3)))
    companion = write_rasters(tmp_path / "rasters.nwb", rasters, NAMES[:3], start)
    responses = ns.load_nwb(
        main,
        presentations="presentations",
        index_series="presentations",
        window=WINDOW,
        series="rasters",
        unit_names="unit_names/unit_name",
        companion=companion,
        measure="count",
    )
    found = ns.average_repetitions(responses).sel(stimulus=[name.split("/")[-1].split(".")[0] for name in names])
    np.testing.assert_allclose(found, counts, rtol=1e-5)
    assert responses.attrs["n_presentations"] == 1507
