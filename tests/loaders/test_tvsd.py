"""Activity in the published layout of TVSD is recovered at the right image, repetition and channel."""

import h5py
import numpy as np
import pytest
import xarray as xr

from neurosuper import average_repetitions
from neurosuper.demo.write_tvsd import save_array, save_images, waves, write_tvsd
from neurosuper.loaders import load_tvsd

AREAS = {
    "F": {"V1": range(512), "IT": range(512, 832), "V4": range(832, 1024)},
    "N": {"V1": range(512), "V4": range(512, 768), "IT": range(768, 1024)},
}


@pytest.fixture(scope="module")
def tvsd(tmp_path_factory):
    """A folder with both monkeys, and the planted data of each."""
    folder = tmp_path_factory.mktemp("tvsd")
    return folder, {monkey: write_tvsd(folder, monkey=monkey, noise=0.3, seed=ord(monkey)) for monkey in "FN"}


@pytest.fixture
def fresh(tmp_path):
    """A folder whose files a test may damage."""
    write_tvsd(tmp_path)
    return tmp_path


def replace(folder, **arrays):
    """Replace arrays of monkey F, in the order of axes of MATLAB."""
    with h5py.File(folder / "monkeyF" / "THINGS_normMUA.mat", "r+") as file:
        for name, values in arrays.items():
            del file[name]
            if values is not None:
                save_array(file, name, values)


@pytest.mark.parametrize("monkey", ["F", "N"])
@pytest.mark.parametrize("area", ["V1", "V4", "IT"])
def test_every_repetition_comes_back_in_the_area_of_its_monkey(tvsd, monkey, area):
    folder, truth = tvsd[0], tvsd[1][monkey]
    responses = load_tvsd(folder, monkey=monkey, areas=area)
    assert responses.dims == ("stimulus", "repetition", "unit")
    assert responses.stimulus.values.tolist() == truth.test_images
    assert responses.channel.values.tolist() == list(AREAS[monkey][area])
    assert responses.unit.values.tolist() == [f"{channel:04d}" for channel in AREAS[monkey][area]]
    assert set(responses.area.values) == {area}
    np.testing.assert_allclose(responses, truth.repetitions[..., list(AREAS[monkey][area])], rtol=1e-6)
    assert responses.dtype == np.float32


def test_planted_responses_come_back_through_the_average(fresh):
    """Noise-free, all channels."""
    planted = waves(6, seed=2)
    averaged = average_repetitions(load_tvsd(fresh, monkey="F"))
    correlations = [np.corrcoef(averaged.sel(unit=f"{i:04d}"), planted[:, i])[0, 1] for i in range(1024)]
    assert min(correlations) > 0.999


def test_train_images_have_one_response(tvsd):
    folder, truth = tvsd
    responses = load_tvsd(folder, monkey="N", part="train")
    assert responses.dims == ("stimulus", "unit")
    assert responses.stimulus.values.tolist() == truth["N"].train_images
    np.testing.assert_allclose(responses, truth["N"].train, rtol=1e-6)


def test_areas_come_in_the_order_of_channels(tvsd):
    responses = load_tvsd(tvsd[0], monkey="F", areas=["V4", "V1"], part="train")
    assert responses.channel.values.tolist() == [*range(512), *range(832, 1024)]
    assert responses.area.values.tolist() == ["V1"] * 512 + ["V4"] * 192


def test_own_ranges_of_channels(tvsd):
    folder, truth = tvsd
    responses = load_tvsd(folder, monkey="F", area_map={"array 2": [64, 128], "array 1": [0, 64]}, part="train")
    assert responses.area.values.tolist() == ["array 1"] * 64 + ["array 2"] * 64
    np.testing.assert_allclose(responses, truth["F"].train[:, :128], rtol=1e-6)
    assert np.isnan(responses.window_start).all()


def test_category_is_the_concept(tvsd):
    responses = load_tvsd(tvsd[0], monkey="F", areas="IT")
    assert responses.category.values.tolist() == ["thing00", "thing00", "thing01", "thing01", "thing02", "thing02"]


def test_labels_may_contain_any_letter(tmp_path):
    paths = ["crème_brûlée\\crème_01b.jpg", "日本\\刀_02s.jpg", "a.b\\c.d.jpg", "plain.jpg"]
    write_tvsd(tmp_path, test_paths=paths)
    responses = load_tvsd(tmp_path, monkey="F", areas="IT")
    assert responses.stimulus.values.tolist() == ["crème_01b", "刀_02s", "c.d", "plain"]


def test_properties_of_channels_are_read(tvsd):
    folder, truth = tvsd
    responses = load_tvsd(folder, monkey="F", areas="V4")
    quality = {name: values[832:] for name, values in truth["F"].quality.items()}
    np.testing.assert_allclose(responses.snr_max, quality["SNR_max"], rtol=1e-6)
    np.testing.assert_allclose(responses.noise_ceiling, quality["oracle"], rtol=1e-6)
    np.testing.assert_allclose(responses.reliability, quality["reliab"].mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(responses.latency, quality["lats"].mean(axis=1), rtol=1e-6)
    assert responses.noise_ceiling.attrs["rule"].startswith("provided: correlation over test images")
    assert responses.latency.attrs["units"] == "ms"


def test_days_without_latency_are_left_out_of_the_mean(fresh):
    latency = np.full((1024, 4), 50.0)
    latency[0], latency[1, :3] = np.nan, np.nan
    replace(fresh, lats=latency, oracle=None)
    responses = load_tvsd(fresh, monkey="F", areas="V1")
    np.testing.assert_array_equal(responses.latency[:3], [np.nan, 50, 50])
    assert "noise_ceiling" not in responses.coords


def test_windows_and_attributes_survive_netcdf(tvsd, tmp_path):
    responses = load_tvsd(tvsd[0], monkey="N", areas=["V4", "IT"])
    first, last = responses.isel(unit=0), responses.isel(unit=-1)
    assert (first.area, first.window_start, first.window_stop) == ("V4", 0.05, 0.15)
    assert (last.area, last.window_start, last.window_stop) == ("IT", 0.075, 0.175)
    assert responses.attrs == {
        "units": "s.d.",
        "modality": "multi-unit activity",
        "part": "test",
        "n_channels_without_data": 0,
    }
    assert load_tvsd(tvsd[0], monkey="N", areas="IT").attrs["window"] == [0.075, 0.175]
    responses.to_netcdf(tmp_path / "mua.nc")
    xr.testing.assert_equal(xr.load_dataarray(tmp_path / "mua.nc"), responses)


def test_only_the_channels_of_the_areas_are_read(tvsd, monkeypatch):
    read = {}

    def spy(stored, key, **options):
        values = plain(stored, key, **options)
        read[stored.name] = read.get(stored.name, 0) + np.size(values)
        return values

    plain = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)
    load_tvsd(tvsd[0], monkey="F", areas=["IT", "V4"])
    assert read["/test_MUA_reps"] == 6 * 4 * 512
    assert not {"/train_MUA", "/test_MUA", "/tb"} & set(read)


def test_missing_repetitions_are_nan_not_zero(fresh):
    """MATLAB filled the array with 0 if an image was shown less often."""
    repetitions = np.repeat(waves(6, seed=2)[:, None], 4, axis=1)
    repetitions[2, 3] = 0
    repetitions[4, 0, 7] = 0
    replace(fresh, test_MUA_reps=repetitions.transpose(2, 0, 1))
    responses = load_tvsd(fresh, monkey="F", areas="V1")
    assert responses.isnull().sum() == 512
    assert responses[2, 3].isnull().all()
    assert responses[4, 0, 7] == 0
    assert average_repetitions(responses).n_repetitions.values.tolist() == [4, 4, 3, 4, 4, 4]


@pytest.mark.parametrize(("part", "name"), [("train", "train_MUA"), ("test", "test_MUA_reps")])
def test_dead_channels_are_left_out_and_counted(fresh, part, name):
    train, repetitions = waves(9, seed=1), np.repeat(waves(6, seed=2)[:, None], 4, axis=1)
    train[:, 5], train[3, 9] = np.nan, np.nan
    repetitions[..., 5], repetitions[3, :, 9], repetitions[3, 1, 11] = np.nan, np.nan, np.nan
    replace(fresh, **{name: {"train": train.T, "test": repetitions.transpose(2, 0, 1)}[part]})
    responses = load_tvsd(fresh, monkey="F", areas="V1", part=part)
    assert responses.attrs["n_channels_without_data"] == 2
    assert responses.channel.values.tolist() == [i for i in range(512) if i not in (5, 9)]
    assert average_repetitions(responses).notnull().all()


@pytest.mark.parametrize(
    ("part", "arrays", "message"),
    [
        (
            "train",
            {"train_MUA": waves(9, 1)},
            r"train_MUA of shape \(1024, 9\), .* 9 images and at least 1024 channels",
        ),
        ("train", {"train_MUA": waves(8, 1).T}, r"\(8, 1024\)"),
        ("train", {"train_MUA": np.ones((1023, 9))}, r"\(9, 1023\)"),
        ("test", {"test_MUA_reps": np.ones((6, 1024, 4))}, r"test_MUA_reps of shape \(4, 1024, 6\)"),
        ("test", {"test_MUA_reps": np.ones((1024, 4, 6))}, r"test_MUA_reps of shape \(6, 4, 1024\)"),
        ("test", {"test_MUA_reps": waves(6, 1).T}, r"test_MUA_reps of shape \(6, 1024\)"),
    ],
)
def test_axes_in_another_order_are_refused(fresh, part, arrays, message):
    replace(fresh, **arrays)
    with pytest.raises(ValueError, match=message):
        load_tvsd(fresh, monkey="F", part=part)


def shift_images(folder):
    paths = [f"thing\\{i}.jpg" for i in range(6)]
    save_images(folder / "monkeyF", ["a\\a.jpg"], [*paths[1:], paths[0]])


def shift_channels(folder):
    replace(folder, test_MUA_reps=np.roll(np.repeat(waves(6, 2)[:, None], 4, 1), 1, axis=2).transpose(2, 0, 1))


def use_the_other_monkey(folder):
    write_tvsd(folder, monkey="N")
    (folder / "monkeyN").rename(folder / "other")
    (folder / "monkeyF").rename(folder / "monkeyN")


@pytest.mark.parametrize("damage", [None, shift_images, shift_channels, use_the_other_monkey])
def test_the_planted_responses_catch_what_shapes_cannot(tmp_path, damage):
    """The first channel of F's area V4 and image 0 to 5: images moved by one, channels by one, areas of monkey N."""
    write_tvsd(tmp_path, test_paths=[f"thing\\{i}.jpg" for i in range(6)])
    if damage:
        damage(tmp_path)
    monkey = "N" if damage is use_the_other_monkey else "F"
    averaged = average_repetitions(load_tvsd(tmp_path, monkey=monkey, areas="V4")).isel(unit=0)
    planted = waves(6, seed=2)[averaged.stimulus.values.astype(int), AREAS["F"]["V4"][0]]
    found = np.corrcoef(averaged, planted)[0, 1]
    assert found < 0.9 if damage else found > 0.999


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"monkey": "A"}, "monkey must be 'F' or 'N' and part 'train' or 'test', got 'A' and 'test'"),
        ({"part": "all"}, "got 'F' and 'all'"),
        ({"areas": "V2"}, "no area 'V2'; there are V1, IT, V4"),
        ({"areas": []}, "areas is empty; name at least one of V1, IT, V4"),
        ({"area_map": {"V1": [5, 5]}}, r"area_map must give \(first, stop\) of the channels of V1, got \[5, 5\]"),
        ({"area_map": {"V1": [0]}}, r"area_map must give \(first, stop\)"),
        ({"area_map": {"V1": [0, 2000]}}, "at least 2000 channels"),
        ({"area_map": {"V1": [0, 9], "V4": [5, 12]}}, "duplicate unit labels '0005'"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(tvsd, wrong, message):
    with pytest.raises(ValueError, match=message) as raised:
        load_tvsd(tvsd[0], **{"monkey": "F"} | wrong)
    assert "\n" not in str(raised.value)


FILES = ["THINGS_normMUA.mat", "_logs/things_imgs.mat"]


@pytest.mark.parametrize("name", FILES)
def test_missing_files_are_named(fresh, name):
    (fresh / "monkeyF" / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name}.*check the path"):
        load_tvsd(fresh, monkey="F")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"/annex/objects/MD5-s5--0123\n",
        lambda whole: b"<!DOCTYPE html><html>Sign in</html>",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: bytes(byte ^ 0x5A if i % 7 == 0 else byte for i, byte in enumerate(whole)),
    ],
    ids=["empty", "pointer", "page", "cut", "fuzzed"],
)
def test_broken_files_are_named_with_the_remedy(fresh, name, damage):
    path = fresh / "monkeyF" / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{path.name} cannot be read as .*fetch") as raised:
        load_tvsd(fresh, monkey="F")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("gone", ["train_imgs", "train_imgs/things_path"])
def test_a_file_without_image_names(fresh, gone):
    with h5py.File(fresh / "monkeyF" / FILES[1], "r+") as file:
        del file[gone]
    with pytest.raises(ValueError, match="things_imgs.mat cannot be read as "):
        load_tvsd(fresh, monkey="F", part="train")


def test_a_file_without_responses(fresh):
    replace(fresh, test_MUA_reps=None)
    with pytest.raises(ValueError, match=r"THINGS_normMUA\.mat cannot be read as .*test_MUA_reps"):
        load_tvsd(fresh, monkey="F")


def test_image_names_that_are_not_references(fresh):
    with h5py.File(fresh / "monkeyF" / FILES[1], "r+") as file:
        del file["test_imgs/class"]
        file["test_imgs/class"] = np.arange(6.0)[:, None]
    with pytest.raises(ValueError, match=r"class of .*things_imgs\.mat is not a list of texts"):
        load_tvsd(fresh, monkey="F")
