"""A check reads all of a study, runs nothing, and scales timings to an estimate."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image

from neurosuper import PCA, KMeans, Units, run_study
from neurosuper.study import check_study, estimate, read_study
from neurosuper.study.plan import describe_steps, describe_time, read_durations
from neurosuper.study.timings import Line, Timing, grow, report_seconds, time_fit


@pytest.fixture
def check(study):
    return check_study(study)


def test_systems_directions_and_metrics_are_those_that_a_run_has(study, check):
    assert check.systems.n_units.to_dict() == {"brain": 5, "net first": 6, "net second": 6}
    assert check.systems.n_stimuli.tolist() == [40, 40, 40]
    assert check.directions.loc["brain"].to_dict() == {"Units": 5, "KMeans 4": 4, "CovarianceMatched": 5}
    assert check.metrics == {"color": "ready", "Pixel": "ready"}
    result = run_study(study)
    assert set(check.directions.columns) == set(result.finder.values)
    assert set(check.systems.index) == set(result.system.values)


def test_nothing_is_written(study):
    before = sorted(path.name for path in study.parent.rglob("*"))
    check_study(study)
    assert sorted(path.name for path in study.parent.rglob("*")) == before


def test_the_text_states_the_estimate_and_its_basis(check):
    text = str(check)
    assert "study.toml can be run." in text
    assert f"about {describe_time(check.total)} (images " in text
    assert "Basis: a small part of each step" in text
    assert f"possible: {describe_time(check.total / 3)} to {describe_time(check.total * 3)}." in text
    assert "The last run took" not in text


def test_the_last_run_is_quoted(study):
    result = run_study(study)
    seconds = json.loads(result.provenance)["seconds"]
    assert list(seconds) == ["images", "systems", "fits", "metrics"]
    assert all(length > 0 for length in seconds.values())
    assert read_durations(study.parent / "study_output") == seconds
    check = check_study(study)
    assert check.last_run == seconds
    assert (
        f"The last run took {describe_time(sum(seconds.values()))} before its report ({describe_steps(seconds)})"
        in str(check)
    )


def test_color_of_grey_images_is_said_to_be_brightness(study):
    assert check_study(study).metrics["color"] == "ready"
    for path in (study.parent / "images").iterdir():
        Image.open(path).convert("L").save(path)
    states = check_study(study).metrics
    assert states["color"] == "ready; the images are grey, so it compares their brightness and nothing else"
    assert states["Pixel"] == "ready"


def test_stimuli_without_an_image_and_constant_units_are_counted(study):
    brain = np.load(study.parent / "brain.npy")
    brain[2] = 1
    labels = [f"photo{i:02d}" for i in range(40)]
    labels[0] = "unknown"
    array = xr.DataArray(brain, dims=("unit", "stimulus"), coords={"stimulus": labels, "unit": list("01234")})
    array.to_netcdf(study.parent / "brain.nc")
    text = study.read_text().replace("brain.npy", "brain.nc").replace('dims = ["unit", "stimulus"]', "")
    study.write_text(text.replace('stimuli = "images"', "").replace('truth = "planted.nc"', ""))
    with pytest.warns(UserWarning, match="unknown"):
        check = check_study(study)
    sizes = {"n_stimuli": 39, "n_left_out": 1, "n_fit": 19, "n_units": 4, "n_constant": 1}
    assert check.systems.loc["brain"].to_dict() == sizes


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('path = "images"', 'path = "nowhere"', "nowhere"),
        ("brain.npy", "absent.npy", "absent.npy"),
        ('layers = ["first", "second"]', 'layers = ["third"]', "third"),
        ("n_directions = 4", "n_direction = 4", "n_direction"),
        ('loader = "load_array"\npath = "brain.npy"', 'loader = "load"\ndataset = "nsd"', "neurosuper fetch nsd"),
    ],
)
def test_errors_of_a_run_are_found(study, old, new, error, monkeypatch, tmp_path):
    monkeypatch.setenv("NEUROSUPER_CACHE", str(tmp_path / "no cache"))
    study.write_text(study.read_text().replace(old, new))
    with pytest.raises((ValueError, FileNotFoundError), match=error):
        check_study(study)


def test_weights_that_would_be_downloaded_are_named_and_not_needed(study, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "hub_file", lambda net: tmp_path / "absent.pth")
    study.write_text(study.read_text() + "\n[metrics.LPIPS]\n")
    assert "downloads its weights" in check_study(study).metrics["LPIPS"]


def test_a_timing_grows_until_it_is_long_enough_and_the_first_call_is_not_counted():
    calls = []

    def measure(n):
        calls.append(n)
        return Timing(0.005 * n if len(calls) > 1 else 100.0, n)

    assert grow(measure, 1000) == Line(Timing(0.16, 32), Timing(0.64, 128))
    assert calls == [32, 32, 64, 128]


def test_a_slow_step_is_timed_on_two_sizes_to_know_its_slope():
    assert grow(lambda n: Timing(float(n), n), 1000) == Line(Timing(32.0, 32), Timing(64.0, 64))


def test_a_timing_uses_all_stimuli_if_they_are_few_and_raises_only_their_error():
    def fit(n):
        if n < 100:
            raise ValueError("too few")
        return Timing(0.0, n)

    assert grow(fit, 100) == Line(Timing(0.0, 100), Timing(0.0, 100))
    with pytest.raises(ValueError, match="too few"):
        grow(fit, 99)


def test_a_line_through_two_timings_has_the_cost_of_a_call_and_a_cost_per_size():
    line = Line(Timing(1.5, 10), Timing(2.5, 30))
    assert line.at(10) == 1.5
    assert line.at(110) == 6.5
    assert line.at(1) == 1.5  # a call takes as long for less
    assert Line(Timing(2.0, 10), Timing(1.0, 30)).at(1000) == 2.0  # the machine was busy
    once = Line(Timing(2.0, 10), Timing(2.0, 10))
    assert (once.at(5), once.at(50)) == (2.0, 10.0)


def test_metrics_take_images_and_the_sets_of_all_systems(study, monkeypatch):
    monkeypatch.setattr(estimate, "grow", lambda measure, n_all: Line(Timing(1.0, 32), Timing(2.0, 132)))
    monkeypatch.setattr(estimate, "time_metric", lambda study, metric, images, n_items, n_images: Timing(3.0, n_images))
    # two metrics; 1 s for 32 images and 0.01 s for each of 200 others;
    # 2 s for 400 items: for 950 items more than 50, and 400 random sets of two other systems
    got = estimate._estimate_scores(read_study(study), {"a": None, "b": None}, None, 232, 1000, 3)
    assert got == pytest.approx(dict.fromkeys("ab", 3.0 + 1350 * 2 / 400))


def test_fits_take_stimuli_times_units_times_directions_for_every_system_and_seed(study, monkeypatch):
    """With a rate of one second per 1000 products, the estimate is the sum that a loop over all fits gives."""
    monkeypatch.setattr(estimate, "grow", lambda measure, n_all: Line(Timing(0.0, 0), Timing(1.0, 1000)))
    settings = read_study(study)  # held-out, two seeds
    finders = {"Units": Units(), "KMeans": KMeans(4), "PCA": PCA()}
    sizes = {"a": (40, 5), "b": (60, 7)}
    systems = pd.DataFrame.from_dict(sizes, orient="index", columns=["n_stimuli", "n_units"])
    systems["n_fit"] = systems.n_stimuli // 2
    systems["n_constant"] = pd.array([0, pd.NA], dtype="Int64")
    directions = pd.DataFrame({"Units": [5, 7], "KMeans": [4, 4], "PCA": [5, 7]}, index=["a", "b"])
    recording = xr.DataArray(np.random.default_rng(0).normal(size=(40, 5)), dims=("stimulus", "unit"))
    expected = 0.0
    for _seed in settings.seeds:
        for name, (n_stimuli, n_units) in sizes.items():
            for n_directions in directions.loc[name]:
                expected += (n_stimuli // 2) * n_units * n_directions / 1000
    got = estimate._estimate_fits(settings, finders, systems, recording, directions)
    assert got == pytest.approx(expected)
    on_all = settings.model_copy(update={"score_on": "all"})  # units and PCA are found with one seed only
    systems["n_fit"] = systems.n_stimuli
    once = sum(n * u * (4 * 2 + u + u) / 1000 for n, u in sizes.values())
    assert estimate._estimate_fits(on_all, finders, systems, recording, directions) == pytest.approx(once)


def test_disk_contains_directions_activations_and_embeddings(study):
    shutil.copy(study, study.with_name("more.toml"))
    more = study.with_name("more.toml")
    more.write_text(more.read_text().replace("n_directions = 4", "n_directions = 14"))
    # 10 more directions, in 3 systems of 5 + 6 + 6 units, with 2 seeds, in float32
    assert check_study(more).disk - check_study(study).disk == pytest.approx(10 * 17 * 2 * 4)


def test_a_timed_fit_is_one_of_a_run(study):
    """Held-out: as many stimuli again are ranked."""
    values = np.random.default_rng(0).gamma(1, 1, (40, 5))
    timing = time_fit(read_study(study), KMeans("0.8x"), values, 16)
    assert timing.size == 16 * 5 * 4
    assert timing.seconds > 0


def test_a_report_takes_longer_with_more_columns_items_and_metrics(check):
    """3 systems × 3 finders with (5 + 4 + 5) + 2 (6 + 4 + 6) directions, by 2 metrics, for 2 seeds."""
    assert check.directions.size == 9
    assert check.seconds["report"] == pytest.approx(0.5 + 2 * (0.06 * 9 + 5e-4 * 2 * 46))
    assert report_seconds(32, 3200, 3) == pytest.approx(9.98, rel=1 / 3)  # measured, as two below
    assert report_seconds(2, 4000, 1) == pytest.approx(2.51, rel=1 / 3)
    assert report_seconds(2, 40, 1) == pytest.approx(0.53, rel=1 / 3)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (99, "99 s"), (100, "1.7 min"), (3000, "50 min"), (7000, "1.9 h"), (1e6, "278 h")],
)
def test_times_have_two_digits(seconds, text):
    assert describe_time(seconds) == text
