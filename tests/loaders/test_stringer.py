"""Planted responses are recovered from a recording in the published layout, at the images that drove them."""

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from neurosuper import align, average_repetitions
from neurosuper.loaders import load_mat_images, load_stringer
from tests.loaders.faithful_stringer import present, write_images, write_recording

N_IMAGES, N_NEURONS, N_TIMES = 30, 7, 50
RNG = np.random.default_rng(0)
PLANTED = RNG.gamma(1.0, 2.0, (N_IMAGES, N_NEURONS))  # (image, neuron)
ISTIM = present(N_IMAGES, 6, RNG, missing=(4, 11))
RESPONSES = np.vstack([PLANTED, np.full((1, N_NEURONS), 90.0)])[ISTIM - 1]
SPONT = RNG.gamma(1.0, 3.0, (N_TIMES, N_NEURONS)) * (np.arange(N_NEURONS) != 2)  # one neuron is silent
RED = np.array([0, 1, 0, 0, 1, 0, 0], np.uint8)
NUMBERS = [str(i + 1) for i in range(N_IMAGES)]


@pytest.fixture
def recording(tmp_path):
    return write_recording(tmp_path / "natimg2800_M1_2017-09-14.mat", RESPONSES, ISTIM, SPONT, RED)


def recovered(path):
    found = average_repetitions(load_stringer(path)).sel(stimulus=NUMBERS)
    return np.corrcoef(found.values.ravel(), PLANTED.ravel())[0, 1]


def test_planted_responses_come_back_without_the_grey_screen(recording):
    responses = load_stringer(recording)
    assert recovered(recording) > 0.999
    assert responses.dims == ("stimulus", "repetition", "unit")
    assert responses.shape == (N_IMAGES, 2, N_NEURONS)
    assert responses.dtype == np.float32
    assert responses.stimulus.values.tolist() == NUMBERS
    assert np.flatnonzero(responses.isnull().any(("repetition", "unit"))).tolist() == [4, 11]
    assert responses.attrs == {
        "units": "a.u.",
        "modality": "calcium imaging",
        "source": "natimg2800_M1_2017-09-14.mat",
        "n_presentations": 2 * N_IMAGES - 2,
        "n_blanks": 6,
        "normalize_by_spont": 0,
    }


def test_neurons_keep_their_position_and_cell_type(recording, tmp_path):
    responses = load_stringer(recording)
    assert responses.unit.values.tolist() == list("0123456")
    assert responses.x.values.tolist() == list(range(7))
    assert responses.y.values.tolist() == list(range(100, 107))
    assert responses.z.values.tolist() == [-350] * 7
    assert responses.red_cell.values.tolist() == RED.astype(bool).tolist()
    without = load_stringer(write_recording(tmp_path / "no_red.mat", RESPONSES, ISTIM, SPONT))
    assert "red_cell" not in without.coords
    responses.to_netcdf(tmp_path / "r.nc")
    xr.testing.assert_equal(xr.load_dataarray(tmp_path / "r.nc"), responses)


def test_repetitions_are_in_order_of_time(tmp_path):
    numbered = np.arange(len(ISTIM), dtype=float)[:, np.newaxis]
    path = write_recording(tmp_path / "r.mat", numbered, ISTIM, SPONT[:, :1])
    for stimulus, row in load_stringer(path).squeeze("unit").groupby("stimulus"):
        when = np.flatnonzero(int(stimulus) == ISTIM)
        assert row.values.ravel()[: len(when)].tolist() == when.tolist()


def test_normalising_by_spontaneous_activity_equals_the_formula_of_the_authors(recording):
    """`(resp - mean(spont)) / (std(spont, 1) + 1e-6)`, before all other steps."""
    spont = SPONT.astype(np.float32)
    expected = (PLANTED - spont.mean(axis=0)) / (spont.std(axis=0) + 1e-6)
    normalized = load_stringer(recording, normalize_by_spont=True)
    np.testing.assert_allclose(average_repetitions(normalized).sel(stimulus=NUMBERS), expected, rtol=1e-4, atol=1e-5)
    assert normalized.attrs["units"] == "s.d."


@pytest.mark.parametrize("blanks", [N_IMAGES + 1, [N_IMAGES + 1], np.array([N_IMAGES + 1])])
def test_blanks_may_be_named(recording, blanks):
    xr.testing.assert_identical(load_stringer(recording, blanks=blanks), load_stringer(recording))
    assert load_stringer(recording, blanks=[1, N_IMAGES + 1]).stimulus.values.tolist() == NUMBERS[1:]
    assert str(N_IMAGES + 1) in load_stringer(recording, blanks=[]).stimulus.values


def test_images_have_the_numbers_of_the_responses(recording, tmp_path):
    pixels = np.clip(PLANTED[:, :1, np.newaxis] * 20 + np.zeros((1, 5, 9)), 0, 255).astype(np.uint8)
    images = load_mat_images(write_images(tmp_path / "images.mat", pixels))
    assert images.dims == ("stimulus", "row", "column", "channel")
    assert images.shape == (N_IMAGES, 5, 9, 3)
    assert images.dtype == np.uint8
    responses, images = align(average_repetitions(load_stringer(recording)), images)
    assert responses.sizes["stimulus"] == N_IMAGES
    brightness = images.mean(("row", "column", "channel"))
    assert np.corrcoef(brightness, responses[:, 0])[0, 1] > 0.999
    assert abs(np.corrcoef(np.roll(brightness, 1), responses[:, 0])[0, 1]) < 0.5


def test_pixels_stay_where_they_are(tmp_path):
    pixels = np.arange(4 * 3 * 5, dtype=np.uint8).reshape(4, 3, 5)
    images = load_mat_images(write_images(tmp_path / "i.mat", pixels))
    for channel in range(3):
        np.testing.assert_array_equal(images[..., channel], pixels)
    assert load_mat_images(tmp_path / "i.mat", size=(6, 10)).shape == (4, 6, 10, 3)


def test_doubles_are_rounded_and_never_rescaled(tmp_path):
    pixels = np.linspace(3.4, 250.6, 24).reshape(2, 3, 4)
    images = load_mat_images(write_images(tmp_path / "i.mat", pixels))
    np.testing.assert_array_equal(images[..., 0], np.rint(pixels))


@pytest.mark.parametrize("pixels", [np.linspace(0, 1, 24), np.linspace(-3, 3, 24), np.linspace(0, 256, 24)])
def test_images_on_another_scale_are_refused(tmp_path, pixels):
    path = write_images(tmp_path / "i.mat", pixels.reshape(2, 3, 4))
    with pytest.raises(ValueError, match=r"'imgs' of .*i\.mat goes from .* must go from 0 \(black\) to 255 \(white\)"):
        load_mat_images(path)


@pytest.mark.parametrize("fault", ["shifted", "off by one", "neurons shifted"])
def test_shifted_files_do_not_give_the_planted_responses(tmp_path, fault):
    istim, responses = ISTIM, RESPONSES
    if fault == "shifted":
        responses = np.roll(responses, 1, axis=0)
    elif fault == "neurons shifted":
        responses = np.roll(responses, 1, axis=1)
    else:
        istim = np.where(ISTIM == N_IMAGES + 1, ISTIM, ISTIM % N_IMAGES + 1)
    assert abs(recovered(write_recording(tmp_path / "r.mat", responses, istim, SPONT))) < 0.5


def test_numbers_that_count_from_0_are_refused(tmp_path):
    path = write_recording(tmp_path / "r.mat", RESPONSES, ISTIM - 1, SPONT)
    with pytest.raises(ValueError, match=r"stim.istim of .*r\.mat must count images from 1, got '0', '1', '2'"):
        load_stringer(path)


def test_transposed_responses_are_refused(tmp_path):
    path = write_recording(tmp_path / "r.mat", RESPONSES.T, ISTIM, SPONT)
    with pytest.raises(ValueError, match=r"must be presentation × neuron, 64 × …, got \(7, 64\)"):
        load_stringer(path)


def broken(**changes):
    """Return the variables of a small recording, some of them changed."""
    stim = {"resp": np.ones((4, 2)), "istim": [[1], [2], [1], [3]], "spont": np.ones((3, 2))}
    return {"stim": stim | changes.pop("stim", {}), "med": np.ones((2, 3))} | changes


@pytest.mark.parametrize(
    ("variables", "options", "message"),
    [
        ({"imgs": np.ones((2, 2, 2))}, {}, "has no stim.resp, there is no struct 'stim'"),
        ({"stim": {"resp": np.ones((4, 2))}}, {}, "has no stim.istim, it has 'resp'"),
        (broken(med=np.ones((3, 2))), {}, r"med of .* must be the positions of 2 neurons, 2 × 3, got \(3, 2\)"),
        (broken(stim={"istim": [[1.5], [2], [1], [3]]}), {}, "must count images from 1"),
        (broken(stim={"spont": np.ones((0, 2))}), {"normalize_by_spont": True}, "stim.spont of .* is empty"),
        (broken(), {"blanks": [1, 2, 3]}, r"all 4 presentations of .* are blank"),
        (broken(stat=np.zeros((1, 3), [("redcell", object)])), {}, "describes 3 neurons, but stim.resp has 2"),
    ],
)
def test_other_layouts_are_refused_in_one_line(tmp_path, variables, options, message):
    savemat(tmp_path / "r.mat", variables)
    with pytest.raises(ValueError, match=message) as raised:
        load_stringer(tmp_path / "r.mat", **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("load", [load_stringer, load_mat_images])
def test_broken_files_are_refused_in_one_line(recording, tmp_path, load):
    whole = recording.read_bytes()
    damaged = bytearray(whole)
    damaged[200:400] = b"\xff" * 200
    contents = {"empty": b"", "pointer": b"version https://git-lfs", "page": b"<html>", "cut": whole[:-100]}
    for name, content in (contents | {"damaged": bytes(damaged)}).items():
        (tmp_path / f"{name}.mat").write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}.mat cannot be read as MATLAB: .*(fetch|git lfs)") as raised:
            load(tmp_path / f"{name}.mat")
        assert "\n" not in str(raised.value)
    with pytest.raises(FileNotFoundError, match=r"gone\.mat"):
        load(tmp_path / "gone.mat")


def test_the_error_for_matlab_7_3_names_the_remedy(tmp_path):
    with h5py.File(tmp_path / "r.mat", "w", userblock_size=512) as file:
        file["imgs"] = np.ones((2, 2, 2))
    with (tmp_path / "r.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    with pytest.raises(ValueError, match=r"r\.mat is of MATLAB 7\.3; save it again with `save\(…, '-v7'\)`"):
        load_mat_images(tmp_path / "r.mat")


@pytest.mark.parametrize(
    ("stack", "message"), [({"x": np.ones(3)}, "is missing"), ({"imgs": np.ones((2, 2))}, r"\(2, 2\)")]
)
def test_images_that_are_not_a_stack(tmp_path, stack, message):
    savemat(tmp_path / "i.mat", stack)
    with pytest.raises(ValueError, match=f"needs 'imgs', row × column × image, but it .*{message}; pass variable="):
        load_mat_images(tmp_path / "i.mat")


@given(st.lists(st.integers(1, 5), min_size=3, max_size=20).filter(lambda shown: len(set(shown)) > 2))
def test_every_presentation_comes_back_once_but_for_the_largest_number(tmp_path_factory, shown):
    path = tmp_path_factory.mktemp("h") / "r.mat"
    values = np.arange(1.0, len(shown) + 1)[:, np.newaxis]
    responses = load_stringer(write_recording(path, values, np.array(shown), np.ones((2, 1))))
    assert responses.stimulus.values.tolist() == [str(i) for i in sorted(set(shown))[:-1]]
    for stimulus, row in responses.groupby("stimulus"):
        found = row.values.ravel()
        assert found[~np.isnan(found)].tolist() == [i + 1 for i, number in enumerate(shown) if number == int(stimulus)]
