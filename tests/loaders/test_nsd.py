"""Betas in the published layout of NSD are recovered at the right image, repetition and voxel."""

import sys
import tracemalloc
from collections import defaultdict

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from neurosuper import average_repetitions
from neurosuper.demo.write_nsd import (
    PREPARATION,
    SPACE,
    TRIALS,
    make_atlas,
    make_design,
    save_betas,
    save_volume,
    write_nsd,
)
from neurosuper.loaders import load_nsd
from neurosuper.loaders.nsd import Voxels, place_trials

SHAPE = (6, 7, 5)
AREAS = np.array(["V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"])
ONE = {"subject": "subj01"}


def by_area(shape: tuple[int, int, int]):
    """Plant the same responses in all voxels of an area, and different ones in each area."""
    frequency = 0.7 + 0.31 * make_atlas(shape)
    return lambda ids: 3 * np.sin(np.asarray(ids)[:, None, None, None] * frequency)


def recovery(responses: xr.DataArray) -> float:
    """Return the lowest correlation of a voxel with the responses planted in its area."""
    averaged, ids = average_repetitions(responses), responses.stimulus.values.astype(int)
    numbers = 1 + np.argmax(averaged.area.values[:, None] == AREAS, axis=1)
    planted = np.sin(ids[:, None] * (0.7 + 0.31 * numbers))
    return min(np.corrcoef(a, b)[0, 1] for a, b in zip(averaged.values.T, planted.T, strict=True))


@pytest.fixture(scope="module")
def nsd(tmp_path_factory):
    """A folder with two sessions of subj01, and the planted data."""
    folder = tmp_path_factory.mktemp("nsd")
    return folder, write_nsd(folder, shape=SHAPE, respond=by_area(SHAPE))


@pytest.fixture
def fresh(tmp_path):
    """A folder whose files a test may damage."""
    write_nsd(tmp_path, shape=SHAPE, respond=by_area(SHAPE))
    return tmp_path


def files_of(folder, subject="subj01"):
    betas = folder / "nsddata_betas" / "ppdata" / subject / SPACE / PREPARATION
    return {
        "atlas": folder / "nsddata" / "ppdata" / subject / SPACE / "roi" / "prf-visualrois.nii.gz",
        "design": folder / "nsddata" / "experiments" / "nsd" / "nsd_expdesign.mat",
        "betas": betas / "betas_session01.hdf5",
        "ncsnr": betas / "ncsnr.nii.gz",
    }


def test_planted_responses_come_back(nsd):
    folder, truth = nsd
    responses = load_nsd(folder, **ONE, session=(1, 2))
    assert recovery(responses) > 0.999
    averaged = average_repetitions(responses)
    planted = truth.respond(averaged.stimulus.values.astype(int))[:, averaged.x, averaged.y, averaged.z]
    np.testing.assert_allclose(averaged, planted, atol=0.5 / 300 + 1e-5)
    assert responses.dtype == np.float32


def test_zscores_remove_drifts_between_sessions(nsd):
    folder, _ = nsd
    one = load_nsd(folder, **ONE, zscore=True)
    np.testing.assert_allclose(one.mean(["stimulus", "repetition"]), 0, atol=1e-5)
    np.testing.assert_allclose(one.std(["stimulus", "repetition"]), 1, rtol=1e-5)
    assert one.attrs["units"] == "s.d."
    before = load_nsd(folder, **ONE, session=(1, 2), zscore=True)
    with h5py.File(files_of(folder)["betas"].with_name("betas_session02.hdf5"), "r+") as file:
        betas = file["betas"][:]
        file["betas"][:] = np.where(betas.any(axis=0), 2 * betas + 100, 0)
    np.testing.assert_allclose(load_nsd(folder, **ONE, session=(1, 2), zscore=True), before, atol=1e-5)


def test_labels_and_coords_of_voxels(nsd):
    folder, truth = nsd
    voxels = load_nsd(folder, **ONE, roi="hV4")
    places = [tuple(map(int, unit.split("-"))) for unit in voxels.unit.values]
    assert set(places) == set(zip(*np.nonzero(truth.atlas == 7), strict=True))
    assert places == list(zip(voxels.x.values, voxels.y.values, voxels.z.values, strict=True))
    assert set(voxels.area.values) == {"hV4"}
    assert set(voxels.subject.values) == {"subj01"}


def test_every_trial_is_at_its_image_and_repetition(nsd, tmp_path):
    """Betas that differ from trial to trial, sessions given out of order, another subject."""
    truth = write_nsd(tmp_path, subject="subj03", sessions=(), shape=SHAPE)
    rng, trials = np.random.default_rng(5), {}
    for session in (2, 5):
        trials[session] = rng.integers(-3000, 3000, (TRIALS, *SHAPE)) / 300
        save_betas(files_of(tmp_path, "subj03")["betas"].with_name(f"betas_session{session:02d}.hdf5"), trials[session])
    responses = load_nsd(tmp_path, subject="subj03", session=(5, 2))
    shown = defaultdict(list)
    for session, betas in trials.items():
        for trial, beta in enumerate(betas):
            shown[f"{truth.order[TRIALS * (session - 1) + trial]:05d}"].append(
                beta[responses.x, responses.y, responses.z]
            )
    assert responses.stimulus.values.tolist() == sorted(shown)
    for label, betas in shown.items():
        found = responses.sel(stimulus=label).values
        np.testing.assert_allclose(found[: len(betas)], betas, rtol=1e-6)
        assert np.isnan(found[len(betas) :]).all()
    assert {len(betas) for betas in shown.values()} == {1, 2, 3}
    assert responses.attrs["session"] == [2, 5]
    assert responses.attrs["n_presentations"] == 1500


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60))
def test_bookkeeping_of_trials_equals_brute_force(images):
    ids, row, repetition = place_trials(np.array(images))
    assert ids.tolist() == sorted(set(images))
    assert row.tolist() == [sorted(set(images)).index(image) for image in images]
    assert repetition.tolist() == [images[:i].count(image) for i, image in enumerate(images)]


@given(arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=5)))
def test_runs_of_neighbours_cover_every_voxel_once(mask):
    if not mask.any():
        return
    z, y, x = np.nonzero(mask.T)
    volume = np.arange(mask.size).reshape(mask.shape)
    read = np.full(len(x), -1)
    for at_z, at_y, xs, some in Voxels(mask.shape, x, y, z, x).runs():
        assert (read[some] == -1).all()
        read[some] = volume.T[at_z, at_y, xs]
    np.testing.assert_array_equal(read, volume[x, y, z])


def test_only_the_requested_voxels_are_read(nsd, monkeypatch):
    read = []

    def spy(stored, key, **options):
        values = plain(stored, key, **options)
        read.append(np.size(values))
        return values

    plain = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)
    responses = load_nsd(nsd[0], **ONE, session=2, roi="V2")
    assert sum(read) == TRIALS * responses.sizes["unit"]
    assert len(read) < responses.sizes["unit"]


@pytest.mark.parametrize(
    ("roi", "areas"),
    [
        ("V1", {"V1v", "V1d"}),
        ("V1d", {"V1d"}),
        (["hV4", "V2"], {"hV4", "V2v", "V2d"}),
        (("V3", "V3v"), {"V3v", "V3d"}),
        (None, set(AREAS)),
    ],
)
def test_areas_are_chosen_by_name(nsd, roi, areas):
    folder, truth = nsd
    found = load_nsd(folder, **ONE, roi=roi)
    assert set(found.area.values) == areas
    assert found.sizes["unit"] == np.isin(truth.atlas, 1 + np.flatnonzero(np.isin(AREAS, list(areas)))).sum()


def test_area_map_may_merge_and_leave_out(nsd):
    found = load_nsd(nsd[0], **ONE, area_map={"1": "early", 2: "early", 7: "V4"})
    assert set(found.area.values) == {"early", "V4"}


@pytest.mark.parametrize(("atlas", "roi"), [("streams", "ventral"), ("floc-faces", "aTL-faces")])
def test_other_atlases_are_known(fresh, atlas, roi):
    """Both names have the number 5."""
    path = files_of(fresh)["atlas"]
    path.rename(path.with_name(f"{atlas}.nii.gz"))
    found = load_nsd(fresh, **ONE, atlas=atlas, roi=roi)
    expected = np.nonzero(make_atlas(SHAPE) == 5)
    assert set(zip(found.x.values, found.y.values, found.z.values, strict=True)) == set(zip(*expected, strict=True))


def test_an_atlas_of_floats_is_read_as_numbers(fresh):
    save_volume(files_of(fresh)["atlas"], make_atlas(SHAPE).astype(np.float64))
    assert recovery(load_nsd(fresh, **ONE)) > 0.999


def test_shared_images_are_marked(nsd):
    folder, truth = nsd
    responses = load_nsd(folder, **ONE)
    ids = responses.stimulus.values.astype(int)
    assert responses.shared1000.values.tolist() == [i in set(truth.shared) for i in ids]
    assert 0 < responses.shared1000.sum() < len(ids)


def test_noise_ceiling_is_that_of_the_data_manual(nsd):
    """With A, B and C images shown three times, twice and once: s² / (s² + (A/3 + B/2 + C) / (A + B + C))."""
    folder, truth = nsd
    responses = load_nsd(folder, **ONE, session=(1, 2))
    shown = responses.notnull().sum("repetition").isel(unit=0).values
    a, b, c = ((shown == n).sum() for n in (3, 2, 1))
    assert min(a, b, c) > 0
    snr = truth.ncsnr[responses.x, responses.y, responses.z]
    np.testing.assert_allclose(responses.ncsnr, snr)
    np.testing.assert_allclose(
        responses.noise_ceiling, snr**2 / (snr**2 + (a / 3 + b / 2 + c) / (a + b + c)), rtol=1e-5
    )
    assert "ncsnr² / (ncsnr²" in responses.noise_ceiling.attrs["rule"]


def test_no_ceiling_without_the_file(fresh):
    files_of(fresh)["ncsnr"].unlink()
    assert not {"ncsnr", "noise_ceiling"} & set(load_nsd(fresh, **ONE).coords)


def test_attributes_survive_netcdf(nsd, tmp_path):
    responses = load_nsd(nsd[0], **ONE, session=(1, 2))
    assert responses.attrs == {
        "units": "% signal change",
        "modality": "fMRI",
        "session": [1, 2],
        "atlas": "prf-visualrois",
        "preparation": PREPARATION,
        "space": SPACE,
        "stimulus_label": "nsdId, counted from 0, in five digits",
        "n_presentations": 1500,
        "n_voxels_outside": 0,
        "n_voxels_constant": 0,
    }
    responses.to_netcdf(tmp_path / "betas.nc")
    xr.testing.assert_equal(xr.load_dataarray(tmp_path / "betas.nc"), responses)


def change_betas(path, change):
    with h5py.File(path, "r+") as file:
        betas = file["betas"][:]
        change(betas.transpose(0, 3, 2, 1))
        file["betas"][:] = betas


def test_voxels_without_data_are_left_out_and_counted(fresh):
    whole = load_nsd(fresh, **ONE, session=(1, 2))
    empty, flat, gone = (str(whole.unit.values[i]) for i in (1, 4, 20))
    at = {unit: tuple(map(int, unit.split("-"))) for unit in (empty, flat, gone)}

    def change(betas):
        betas[:, *at[empty]] = 0
        betas[:, *at[flat]] = 77

    first = files_of(fresh)["betas"]
    for path in (first, first.with_name("betas_session02.hdf5")):
        change_betas(path, change)
    change_betas(first, lambda betas: betas[:, *at[gone]].fill(0))
    responses = load_nsd(fresh, **ONE, session=(1, 2))
    assert (responses.attrs["n_voxels_outside"], responses.attrs["n_voxels_constant"]) == (1, 2)
    xr.testing.assert_equal(responses, whole.drop_sel(unit=[empty, flat, gone]))
    assert gone in load_nsd(fresh, **ONE, session=2).unit.values


def test_an_atlas_that_hardly_fits_the_betas_gives_a_warning(fresh):
    change_betas(files_of(fresh)["betas"], lambda betas: betas[:, :, 3:].fill(0))
    with pytest.warns(UserWarning, match=r"of 52 voxels, 3\d are 0 in every trial and 0 constant in a session; check"):
        load_nsd(fresh, **ONE)


def test_betas_without_any_data(fresh):
    change_betas(files_of(fresh)["betas"], lambda betas: betas.fill(0))
    with pytest.raises(ValueError, match=r"of 52 voxels, 52 are 0 in every trial .* none is left; atlas and betas"):
        load_nsd(fresh, **ONE)


def test_betas_with_axes_in_the_order_of_matlab_are_refused(fresh):
    path = files_of(fresh)["betas"]
    with h5py.File(path, "r+") as file:
        betas = file["betas"][:]
        del file["betas"]
        file["betas"] = betas.transpose(0, 3, 2, 1)
    with pytest.raises(ValueError, match=r"shape \(750, 6, 7, 5\).* needs \(750, 5, 7, 6\) \(trial, z, y, x\)"):
        load_nsd(fresh, **ONE)


def test_betas_of_another_dtype_are_refused(fresh):
    path = files_of(fresh)["betas"]
    with h5py.File(path, "r+") as file:
        betas = file["betas"][:] / 300
        del file["betas"]
        file["betas"] = betas
    with pytest.raises(ValueError, match=r"dtype float64.* int16"):
        load_nsd(fresh, **ONE)


def transpose_betas(folder):
    path = files_of(folder)["betas"]
    with h5py.File(path, "r+") as file:
        file["betas"][:] = file["betas"][:].transpose(0, 3, 2, 1)


def shift_atlas(folder):
    save_volume(files_of(folder)["atlas"], np.roll(make_atlas((6, 7, 6)), 1, axis=1))


def shift_trials(folder):
    path = files_of(folder)["design"]
    design = make_design()
    scipy.io.savemat(path, design | {"masterordering": np.roll(design["masterordering"], 1)})


def count_images_from_2(folder):
    path = files_of(folder)["design"]
    design = make_design()
    scipy.io.savemat(path, design | {"subjectim": design["subjectim"] + 1})


@pytest.mark.parametrize("damage", [None, transpose_betas, shift_atlas, shift_trials, count_images_from_2])
@pytest.mark.filterwarnings("ignore:of .* voxels")
def test_the_planted_responses_catch_what_shapes_cannot(tmp_path, damage):
    """Sides are equal along x and z, so that the shape does not reveal a transposed file."""
    write_nsd(tmp_path, sessions=(1,), shape=(6, 7, 6), respond=by_area((6, 7, 6)))
    if damage:
        damage(tmp_path)
    found = recovery(load_nsd(tmp_path, **ONE))
    assert found < 0.5 if damage else found > 0.999


def test_a_design_counted_from_0_is_refused(fresh):
    design = make_design()
    scipy.io.savemat(files_of(fresh)["design"], design | {"masterordering": design["masterordering"] - 1})
    with pytest.raises(ValueError, match=r"30000 trials, 0 to 9999, .* must count the images of 8 subjects from 1"):
        load_nsd(fresh, **ONE)


def test_a_design_with_subjects_along_the_wrong_axis_is_refused(fresh):
    design = make_design()
    scipy.io.savemat(files_of(fresh)["design"], design | {"subjectim": design["subjectim"].T})
    with pytest.raises(ValueError, match=r"subjectim of shape \(10000, 8\)"):
        load_nsd(fresh, **ONE)


def test_a_design_without_order_is_refused(fresh):
    scipy.io.savemat(files_of(fresh)["design"], {"subjectim": [1], "sharedix": [1]})
    with pytest.raises(ValueError, match=r"nsd_expdesign\.mat has no 'masterordering'"):
        load_nsd(fresh, **ONE)


def test_ncsnr_of_another_volume_is_refused(fresh):
    save_volume(files_of(fresh)["ncsnr"], np.ones((5, 7, 6), np.float32))
    with pytest.raises(ValueError, match=r"ncsnr\.nii\.gz has shape \(5, 7, 6\), but the atlas has \(6, 7, 5\)"):
        load_nsd(fresh, **ONE)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"subject": "subj09"}, "subject must be one of 'subj01' to 'subj08', got 'subj09'"),
        ({"subject": 1}, "got 1"),
        ({"session": 0}, r"session must be numbers from 1 to 40, each once, got 0"),
        ({"session": [1, 1]}, "each once"),
        ({"session": []}, "each once"),
        ({"session": "1"}, "numbers from 1"),
        ({"roi": "V4"}, "prf-visualrois has no area 'V4'; it has V1v, V1d, V2v, V2d, V3v, V3d, hV4"),
        (
            {"atlas": "Kastner2015"},
            r"'Kastner2015' have no built-in names; pass area_map=\{1: 'name', …\}, or use",
        ),
        ({"area_map": {"V1": "V1v"}}, r"area_map must name the numbers of prf-visualrois, .* got 'V1'"),
        ({"area_map": {9: "MT"}}, "prf-visualrois of subj01 has no voxel of 'MT'; choose another roi"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(nsd, wrong, message):
    with pytest.raises(ValueError, match=message) as raised:
        load_nsd(nsd[0], **ONE | wrong)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["atlas", "design", "betas"])
def test_missing_files_are_named(fresh, name):
    path = files_of(fresh)[name]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"{path.name}.*check the path"):
        load_nsd(fresh, **ONE)


DAMAGES = {
    "empty": lambda whole: b"",
    "pointer": lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "page": lambda whole: b"<!DOCTYPE html><html>Access denied</html>",
    "cut": lambda whole: whole[: len(whole) // 2],
    "fuzzed": lambda whole: bytes(byte ^ 0x5A if i % 7 == 0 else byte for i, byte in enumerate(whole)),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["atlas", "design", "betas", "ncsnr"])
def test_broken_files_are_named_with_the_remedy(fresh, name, damage):
    path = files_of(fresh)[name]
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(ValueError, match=f"{path.name} cannot be read as .*(fetch|check the path)") as raised:
        load_nsd(fresh, **ONE)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["design", "atlas"])
@pytest.mark.parametrize("at", [130, 150, 200, 340, 400])
def test_a_few_flipped_bytes_never_end_in_a_traceback(fresh, name, at):
    """Files without compression have no checksum; they may still be read if they are readable."""
    path = files_of(fresh)[name]
    if name == "atlas":
        nibabel.save(nibabel.load(path), path.with_suffix(""))
        whole = path.with_suffix("").read_bytes()
    else:
        whole = path.read_bytes()
    path.write_bytes(whole[:at] + bytes(255 - byte for byte in whole[at : at + 6]) + whole[at + 6 :])
    message = ""
    try:
        load_nsd(fresh, **ONE)
    except ValueError as error:
        message = str(error)
    assert "\n" not in message


def test_a_folder_in_place_of_betas_is_refused(fresh):
    with h5py.File(files_of(fresh)["betas"], "w") as file:
        file.create_group("betas")
    with pytest.raises(ValueError, match="contains betas of shape None"):
        load_nsd(fresh, **ONE)


def test_hdf5_without_betas_is_refused(fresh):
    with h5py.File(files_of(fresh)["betas"], "w") as file:
        file["other"] = 1
    with pytest.raises(ValueError, match=r"betas_session01\.hdf5 cannot be read as .*'betas'"):
        load_nsd(fresh, **ONE)


def test_a_volume_of_four_axes_is_refused(fresh):
    save_volume(files_of(fresh)["atlas"], np.ones((*SHAPE, 2), np.int16))
    with pytest.raises(ValueError, match=r"has shape \(6, 7, 5, 2\), but a volume has three axes"):
        load_nsd(fresh, **ONE)


def test_without_nibabel_the_extra_is_named(nsd, monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ImportError, match=r"pip install 'neurosuper\[fmri\]'"):
        load_nsd(nsd[0], **ONE)


def test_memory_stays_below_twice_the_result_and_a_session(tmp_path):
    shape = (14, 13, 12)
    write_nsd(tmp_path, shape=shape)
    for session in (1, 2):
        path = files_of(tmp_path)["betas"].with_name(f"betas_session{session:02d}.hdf5")
        change_betas(path, lambda betas: betas[:, 2, 3].fill(0))
    load_nsd(tmp_path, **ONE)  # imports
    tracemalloc.start()
    responses = load_nsd(tmp_path, **ONE, session=(1, 2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert responses.attrs["n_voxels_outside"] > 0
    chunk = TRIALS * responses.sizes["unit"] * 4
    assert peak < 2 * responses.nbytes + chunk
