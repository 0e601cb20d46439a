"""The README's notebook example, and what it shows of the results, run as written on a real recording and network."""

import importlib.util
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
import xarray as xr
from PIL import Image

from neurosuper.metrics.lpips import hub_file

ROOT = Path(__file__).parents[1]
CONVOLUTIONS = (0, 3, 6, 8, 10)  # of AlexNet's trunk


def code_of(heading: str) -> str:
    """Return the Python code of a section of the README."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"^```python\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL))


def save_trunk(path: Path) -> None:
    """Save AlexNet's real trunk where the example looks for its weights."""
    with np.load(path) as trunk:
        state = {
            f"features.{layer}.{kind}": torch.from_numpy(trunk[f"conv{i}.{kind}"]).float()
            for i, layer in enumerate(CONVOLUTIONS)
            for kind in ("weight", "bias")
        }
    hub_file("alex").parent.mkdir(parents=True)
    torch.save(state, hub_file("alex"))


def check_worked_example(v4: pd.DataFrame, tests: xr.Dataset) -> None:
    """Check the numbers of "Is −0.6 good?", from V4's rows of the summary and the tests."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("**Is −0.6 good?**")[2].partition("\n\n")[0]
    written = [float(number.replace("−", "-")) for number in re.findall(r"−?0\.\d{3}", text)]
    mean, corrected, chance = v4["mean"], v4["mean_corrected"], v4["chance_level"]["Units"]
    gains = [mean["Units"] - chance, mean["KMeans"] - chance, -chance]
    right = [chance, mean["Units"], mean["KMeans"], *gains]
    right += [corrected[name] for name in ("Units", "KMeans", "CovarianceMatched (normalize)")]
    np.testing.assert_allclose(written, right, rtol=0, atol=0.0015)
    is_told = (tests.system == "V4") & (tests.metric == "LPIPS-alex") & (tests.correction == "hub")
    is_told &= tests.finder.isin(["KMeans", "CovarianceMatched (normalize)"])
    is_told &= tests.against.isin(["Units", "CovarianceMatched (normalize)"])
    assert tests.detectable.values[is_told.values].tolist() == [False] * 3


def _instead(given: object, original: Callable, name: str, **settings: object) -> object:
    return given if name == "resnet18" else original(name, **settings)


@pytest.fixture
def session(real_data, tmp_path, monkeypatch) -> Path:
    """A folder with a V4 session under the names in the example, which takes ResNet-20 for ResNet-18."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    save_trunk(real_data / "nets/alexnet_features_fp16.npz")
    (tmp_path / "photographs.zip").symlink_to(real_data / "v4/images_210325.zip")
    (tmp_path / "responses.npy").symlink_to(real_data / "v4/responses_raw_210325.npy")
    spec = importlib.util.spec_from_file_location("networks", ROOT / "tutorials/networks.py")
    networks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(networks)
    model = networks.resnet20(real_data / "nets/resnet20-12fca82f.th")

    def transform(picture: Image.Image) -> torch.Tensor:
        return networks.resnet20_preprocess(torchvision.transforms.functional.to_tensor(picture)[None])[0]

    weights = SimpleNamespace(DEFAULT=SimpleNamespace(transforms=lambda: transform))
    # The same functions give the trunk of LPIPS.
    get_model, get_weights = torchvision.models.get_model, torchvision.models.get_model_weights
    for function, original, given in (("get_model", get_model, model), ("get_model_weights", get_weights, weights)):
        monkeypatch.setattr(torchvision.models, function, partial(_instead, given, original))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_notebook_example_runs_on_a_real_session(session, capsys):
    names: dict = {}
    for heading in ("In a notebook", "Results"):
        exec(compile(code_of(heading), "README.md", "exec"), names)
    table = names["table"]
    systems = names["systems"]
    assert list(systems) == ["V4", "layer2", "layer3"]
    assert names["images"].dims == ("stimulus", "row", "column", "channel")
    assert (systems["V4"] == names["responses"]).all()
    assert systems["V4"].reliability.min() >= 0.3
    assert table.interpretability.dims == ("item", "metric")
    assert table.metric.values.tolist() == ["LPIPS-alex", "color", "pixel"]
    assert table.interpretability.notnull().all()
    n_items = table.groupby(["system", "finder"]).count().interpretability.isel(metric=0)
    for name, responses in systems.items():
        assert responses.dims == ("stimulus", "unit")
        counts = n_items.sel(system=name).to_series().to_dict()
        n_units = responses.sizes["unit"]
        baselines = {f"CovarianceMatched ({prepared})": n_units for prepared in ("normalize", "center, normalize")}
        directions = dict.fromkeys(("Random", "KMeans", "KMeans centred"), 32)  # 640 photographs
        assert counts == {"Units": n_units} | directions | baselines
    summary = names["ns"].summarize(table)
    assert summary["mean"]["V4", "KMeans", "LPIPS-alex"] > summary["mean"]["V4", "Units", "LPIPS-alex"]
    check_worked_example(summary.xs("LPIPS-alex", level="metric").loc["V4"], names["finder_tests"])
    printed = capsys.readouterr().out.splitlines()
    header = next(line for line in printed if "mean_corrected" in line)
    assert header.split() == names["columns"]  # none is hidden
    against = names["finder_tests"].against.values.tolist()
    assert against.count("CovarianceMatched (center, normalize)") == 18  # three systems and metrics, raw and corrected
    assert sum("KMeans" in sentence for sentence in printed) >= 6
    assert (session / "comparison.nc").is_file()
    assert (session / "report.html").is_file()
