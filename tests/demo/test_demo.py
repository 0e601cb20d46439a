import io
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from pynwb import NWBHDF5IO

import neurosuper as ns
from neurosuper import average_repetitions, demo, load_images, load_nwb, reproduce
from neurosuper.demo import run_demo
from neurosuper.demo.gabor import GaborEnergy
from neurosuper.demo.simulate import (
    PEAK_RATE,
    WINDOW,
    image_features,
    plant_directions,
    record,
    save_photographs,
    sort_photographs,
)
from neurosuper.study import read_superposition


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "images"
    save_photographs(folder)
    return load_images(folder)


def test_photographs_are_884_patches(photographs):
    assert photographs.shape == (884, 32, 32, 3)


def test_features_are_sparse_and_outnumber_the_units(photographs):
    features = image_features(photographs)
    planted = plant_directions(features)
    assert ((features > 0).sum("feature") == 1).all()
    assert ((features > 0).sum("stimulus") >= 5).all()
    assert (features >= 0).all()
    assert planted.sizes["direction"] > planted.sizes["unit"]
    assert_allclose((planted**2).sum("unit"), 1)


def test_recording_gives_the_planted_rates_back(photographs, tmp_path):
    features = image_features(photographs)
    planted = plant_directions(features)
    record(features, planted, tmp_path / "population.nwb")
    responses = load_nwb(tmp_path / "population.nwb", stimulus_column="stimulus", window=WINDOW, area_column="location")
    assert dict(responses.sizes) == {"stimulus": 884, "repetition": 4, "unit": 16}
    assert set(responses.area.values) == {"simulated area"}
    expected = 1 + PEAK_RATE * features.sel(stimulus=responses.stimulus).values @ planted.values
    rates = average_repetitions(responses)
    assert_allclose(rates.mean(), expected.mean(), rtol=0.03)
    assert np.corrcoef(rates.values.ravel(), expected.ravel())[0, 1] > 0.85


def test_gabor_energy_prefers_its_own_orientation_and_ignores_uniform_light():
    bank = GaborEnergy()
    import torch

    rows = torch.arange(32.0)
    for i, angle in enumerate(torch.arange(8) * torch.pi / 8):
        phase = 2 * torch.pi / 8 * (rows[None] * torch.cos(angle) + rows[:, None] * torch.sin(angle))
        grating = (0.5 + 0.5 * torch.sin(phase)).expand(1, 3, 32, 32)
        assert bank(grating)[0, 8:].mean((1, 2)).argmax() == i
    assert bank(torch.full((1, 3, 32, 32), 0.7)).max() < 1e-4


def test_photographs_are_sorted_by_what_they_show(photographs, tmp_path):
    features = image_features(photographs)
    save_photographs(tmp_path)
    sort_photographs(tmp_path, features)
    sorted_images = load_images(tmp_path, category_from="folder")
    assert set(sorted_images.stimulus.values) == set(photographs.stimulus.values)
    for image in sorted_images[::50]:
        assert features.sel(stimulus=image.stimulus.item(), feature=image.category.item()) > 0
    hue = load_images(tmp_path / "hue 240°").mean(("stimulus", "row", "column"))
    assert hue.sel(channel="blue") > hue.sel(channel=["red", "green"]).max()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_test_of_the_report_finds_what_is_planted(photographs, tmp_path, seed):
    features = image_features(photographs)
    record(features, plant_directions(features, seed), tmp_path / "population.nwb", seed)
    responses = load_nwb(tmp_path / "population.nwb", stimulus_column="stimulus", window=WINDOW, area_column="location")
    shown = features.feature.values[features.argmax("feature").values]
    images = photographs.assign_coords(category=("stimulus", shown))
    finders = {"Units": ns.Units(), "Random": ns.Random(24), "KMeans": ns.KMeans(24)}
    table = ns.compare({"planted": average_repetitions(responses)}, images, finders, [ns.Label()], random_state=seed)
    tests = ns.contrast_finders(table).to_dataframe().query("finder == 'KMeans' and correction == 'hub'")
    assert set(tests.against) == {"Units", "CovarianceMatched"}
    assert (tests.difference > 0).all()
    assert (tests.p_adjusted < 0.05).all()


@pytest.mark.slow
def test_demo_shows_how_well_planted_directions_are_recovered(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no weights here"))
    comparison = run_demo(tmp_path / "demo", offline=True)
    recovery = {str(fit.fit_finder.item()): float(fit.median()) for fit in comparison.recovery}
    assert recovery["KMeans"] > 0.95
    assert recovery["KMeans"] > max(recovery[finder] for finder in ("Units", "Random", "PCA")) + 0.1
    above_units, above_baseline, *_ = ns.headline(comparison)
    assert above_units.startswith("KMeans above Units by planted feature (hub-corrected): Simulated population +")
    assert above_baseline.startswith("KMeans above its matched baseline by planted feature (hub-corrected): Simulated")
    assert "The population is simulated" in comparison.note
    assert "LPIPS was left out: its weights are not on this disk" in comparison.note
    assert comparison.metric.values.tolist() == ["planted feature", "color", "pixel", "Gabor energy"]
    assert "The population is simulated" in (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "demo" / "study.nc"), comparison)
    assert len(pd.read_csv(tmp_path / "demo" / "scores.csv")) == comparison.interpretability.size
    interfering = read_superposition(tmp_path / "demo" / "superposition.nc")["interference/Simulated population"]
    assert interfering["KMeans"].welch > 0  # 24 directions in 16 units
    with NWBHDF5IO(tmp_path / "demo" / "results.nwb") as file:
        assert len(file.read().processing["neurosuper"]["directions"]) == 24
    assert reproduce(tmp_path / "demo" / "study.nc").same


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no weights here"))
    return tmp_path


def test_without_a_connection_the_demo_leaves_lpips_out_in_one_sentence(no_weights, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("neurosuper.metrics.lpips.urlopen", unreachable)
    text = demo._study_text(None, offline=False)
    assert "LPIPS was left out: its weights are not on this disk and cannot be fetched; neurosuper demo --lpips" in text
    assert "[metrics.LPIPS]" not in text
    tomllib.loads(text)


def test_an_offline_demo_opens_no_connection(no_weights, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("neurosuper.metrics.lpips.urlopen", refuse)
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    assert "LPIPS was left out: its weights are not on this disk, and offline=True" in demo._study_text(None, True)


def test_the_demo_fetches_the_smallest_weights_of_lpips(no_weights, monkeypatch):
    fetched = []

    def fetch(url, path, hash_prefix):
        fetched.append((url.rpartition("/")[2], hash_prefix))
        Path(path).write_bytes(b"")

    monkeypatch.setattr("neurosuper.metrics.lpips.urlopen", lambda request, timeout: io.BytesIO())
    monkeypatch.setattr("torch.hub.download_url_to_file", fetch)
    metric = tomllib.loads(demo._study_text(None, offline=False))["metrics"]["LPIPS"]
    assert fetched == [("squeezenet1_1-b8a52dc0.pth", "b8a52dc0")]
    assert metric["net"] == "squeeze"
    assert Path(metric["weights"]).name == "squeezenet1_1-b8a52dc0.pth"


def test_demo_adds_lpips_where_its_weights_are(no_weights):
    weights = no_weights / "alexnet.npz"
    weights.touch()
    study = tomllib.loads(demo._study_text(weights, offline=True))
    assert study["metrics"]["LPIPS"] == {"net": "alex", "weights": str(weights)}
    assert "LPIPS was added" in study["note"]
