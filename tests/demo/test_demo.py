import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

from neurosuper import average_repetitions, load_images, load_nwb, reproduce
from neurosuper.demo import run_demo
from neurosuper.demo.gabor import GaborEnergy
from neurosuper.demo.simulate import PEAK_RATE, WINDOW, image_features, plant_directions, record, save_photographs


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "images"
    save_photographs(folder)
    return load_images(folder)


def test_photographs_are_520_patches(photographs):
    assert photographs.shape == (520, 32, 32, 3)


def test_features_are_sparse_and_outnumber_the_units(photographs):
    features = image_features(photographs)
    planted = plant_directions(features)
    assert ((features > 0).sum("feature") <= 2).all()
    assert (features >= 0).all()
    assert planted.sizes["direction"] > planted.sizes["unit"]
    assert_allclose((planted**2).sum("unit"), 1)


def test_recording_gives_the_planted_rates_back(photographs, tmp_path):
    features = image_features(photographs)
    planted = plant_directions(features)
    record(features, planted, tmp_path / "population.nwb")
    responses = load_nwb(tmp_path / "population.nwb", stimulus_column="stimulus", window=WINDOW, area_column="location")
    assert dict(responses.sizes) == {"stimulus": 520, "repetition": 4, "unit": 16}
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


@pytest.mark.slow
def test_demo_shows_how_well_planted_directions_are_recovered(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no weights here"))
    comparison = run_demo(tmp_path / "demo")
    recovery = {str(fit.fit_finder.item()): float(fit.median()) for fit in comparison.recovery}
    assert recovery["KMeans"] > 0.8
    assert recovery["KMeans"] > max(recovery[finder] for finder in ("Units", "Random", "PCA")) + 0.1
    assert "The population is simulated" in comparison.note
    assert "LPIPS was left out" in comparison.note
    assert "The population is simulated" in (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "demo" / "study.nc"), comparison)
    assert reproduce(tmp_path / "demo" / "study.nc").same


@pytest.mark.slow
def test_demo_adds_lpips_where_its_weights_are(tmp_path, real_data):
    comparison = run_demo(tmp_path, real_data / "nets" / "alexnet_features_fp16.npz")
    assert "LPIPS" in comparison.metric.values
    assert "LPIPS was added" in comparison.note
