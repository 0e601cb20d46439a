"""The real V4 session, and small folders laid out as the authors' repository and as the flat copy of it."""

import zipfile

import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict

from neurosuper import average_repetitions, load_images
from neurosuper.loaders import load_cowley

SUBJECTS = {"190923": "WE", "210325": "PE", "211022": "RA"}
N_UNITS, N_IMAGES, N_REPEATS = 5, 12, 4
PLANTED = np.random.default_rng(0).gamma(1.0, 4.0, (N_UNITS, N_IMAGES))
REPEATS = [4, 2, 3] * 4


def write_folder(folder, layout, planted=PLANTED):
    """Write a session: NaN after the last repeat of an image, images named from 1 in a folder of the zip file."""
    raw = np.repeat(planted[..., np.newaxis], N_REPEATS, axis=-1)
    for image, repeats in enumerate(REPEATS):
        raw[:, image, repeats:] = np.nan
    names = {
        "repository": [
            "responses_raw/responses_190923.npy",
            "responses_repeat_averaged/responses_190923.npy",
            "images/images_190923.zip",
        ],
        "flat": ["responses_raw_190923.npy", "responses_avg_190923.npy", "images_190923.zip"],
    }[layout]
    for name, content in zip(names, (raw, planted, None), strict=True):
        (folder / name).parent.mkdir(exist_ok=True)
        if content is not None:
            np.save(folder / name, content)
    with zipfile.ZipFile(folder / names[2], "w") as images:
        for i in np.random.default_rng(1).permutation(N_IMAGES):
            images.writestr(f"images_190923/image{i + 1:04d}.jpg", b"")
    return folder


@pytest.mark.parametrize("layout", ["repository", "flat"])
def test_both_layouts_give_the_planted_responses(tmp_path, layout):
    folder = write_folder(tmp_path, layout)
    raw = load_cowley(folder, session="190923", subjects=SUBJECTS)
    assert raw.dims == ("stimulus", "repetition", "unit")
    assert raw.stimulus.values.tolist() == [f"image{i + 1:04d}" for i in range(N_IMAGES)]
    assert raw.notnull().all("unit").sum("repetition").values.tolist() == REPEATS
    assert set(raw.subject.values) == {"WE"}
    assert set(raw.area.values) == {"V4"}
    averaged = load_cowley(folder, session=190923, part="averaged")
    np.testing.assert_array_equal(averaged, PLANTED.T)
    np.testing.assert_allclose(average_repetitions(raw), averaged)
    assert "subject" not in averaged.coords
    assert averaged.attrs["units"] == "spike count"


@pytest.mark.parametrize("axis", [0, 1])
def test_shifted_files_do_not_give_the_planted_responses(tmp_path, axis):
    folder = write_folder(tmp_path, "flat", np.roll(PLANTED, 1, axis=axis))
    found = average_repetitions(load_cowley(folder, session="190923")).values
    assert abs(np.corrcoef(found.ravel(), PLANTED.T.ravel())[0, 1]) < 0.5


def test_a_transposed_file_is_refused(tmp_path):
    folder = write_folder(tmp_path, "flat")
    np.save(folder / "responses_avg_190923.npy", PLANTED.T)
    with pytest.raises(ValueError, match=r"has length 5 along 'stimulus', but 12 labels were given"):
        load_cowley(folder, session="190923", part="averaged")


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (
            {"session": "190924"},
            FileNotFoundError,
            "no responses_raw/responses_190924.npy or responses_raw_190924.npy in",
        ),
        ({"part": "mean"}, ValueError, "part must be 'raw' or 'averaged', got 'mean'"),
        ({"subjects": {"210325": "PE"}}, ValueError, "subjects has no session 190923, it has '210325'; add it"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(tmp_path, wrong, error, message):
    with pytest.raises(error, match=message) as raised:
        load_cowley(write_folder(tmp_path, "flat"), **{"session": "190923"} | wrong)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"<html>"])
def test_broken_files_are_refused_in_one_line(tmp_path, content):
    folder = write_folder(tmp_path, "flat")
    (folder / "responses_raw_190923.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"responses_raw_190923\.npy.* fetch it again") as raised:
        load_cowley(folder, session="190923")
    assert "\n" not in str(raised.value)


def test_real_repeats_average_to_the_published_averages(real_data):
    raw = load_cowley(real_data / "v4", session=210325, subjects=SUBJECTS)
    averages = load_cowley(real_data / "v4", session=210325, part="averaged", subjects=SUBJECTS)
    averaged = average_repetitions(raw)
    assert averaged.shape == (640, 50)
    assert (averaged.n_repetitions.min(), averaged.n_repetitions.max()) == (6, 10)
    xr.testing.assert_equal(averaged.drop_vars("n_repetitions"), averages)
    counts = raw.values[~np.isnan(raw.values)]
    assert (counts == np.round(counts)).all()


def pooled_edges(images: xr.DataArray) -> np.ndarray:
    """Return mean color, and contrast in four orientations at three scales, in each of 4 × 4 patches of the images."""
    color = images.values.astype(np.float32) / 255
    grey = color.mean(axis=-1)
    maps = [*np.moveaxis(color, -1, 0)]
    for scale in (1, 2, 4):
        g = grey.reshape(len(grey), 112 // scale, scale, 112 // scale, scale).mean(axis=(2, 4))
        a, b, c, d = g[:, 1:, 1:], g[:, :-1, :-1], g[:, 1:, :-1], g[:, :-1, 1:]
        maps += [np.abs(a - b), np.abs(c - d), np.abs(a - c), np.abs(a - d)]
    parts = [m[:, : m.shape[1] // 4 * 4, : m.shape[2] // 4 * 4] for m in maps]
    pooled = [m.reshape(len(m), 4, m.shape[1] // 4, 4, -1).mean(axis=(2, 4)).reshape(len(m), -1) for m in parts]
    features = np.concatenate(pooled, axis=1)
    return (features - features.mean(axis=0)) / features.std(axis=0)


def test_real_responses_follow_the_images_and_a_shift_by_one_destroys_that(real_data):
    responses = average_repetitions(load_cowley(real_data / "v4", session=210325)).values
    features = pooled_edges(load_images(real_data / "v4/images_210325.zip"))

    def predicted(values: np.ndarray) -> float:
        folds = KFold(5, shuffle=True, random_state=0)
        guess = cross_val_predict(RidgeCV(np.logspace(2, 5, 4)), features, values, cv=folds)
        return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(guess.T, values.T, strict=True)])

    assert predicted(responses) > 0.4
    for shift in (-1, 1):
        assert abs(predicted(np.roll(responses, shift, axis=0))) < 0.1
