"""The code of every page in docs/how-to runs as it is written, on small generated data."""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from pynwb import NWBHDF5IO, NWBFile
from pynwb.base import Images
from pynwb.image import RGBImage

ROOT = Path(__file__).parents[1]
WITH_THEIR_OWN_TESTS = ("export", "reproduce")  # in tests/export and tests/study
PAGES = sorted(page for page in (ROOT / "docs/how-to").glob("*.md") if page.stem not in WITH_THEIR_OWN_TESTS)
N_STIMULI, N_UNITS, N_REPETITIONS = 100, 12, 4
LONGEST = 15  # lines of code in a block


def blocks_of(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def draw_responses(seed: int, colors: np.ndarray) -> np.ndarray:
    """Return spike counts (unit, stimulus, repetition) of units that prefer mixtures of colors."""
    rng = np.random.default_rng(seed)
    rates = 20 * rng.exponential(size=(N_UNITS, 3)) @ colors.T / 255 + 1
    return rng.poisson(rates[:, :, None], (*rates.shape, N_REPETITIONS))


def write_session(path: Path, pictures: list[np.ndarray], counts: np.ndarray) -> None:
    """Write an NWB file with the images inside, and trials whose column `image_id` gives their number."""
    rng = np.random.default_rng(0)
    nwb = NWBFile("generated", "how-to", datetime(2024, 1, 1, tzinfo=UTC))
    nwb.add_stimulus_template(
        Images(
            name="photographs",
            description="generated",
            images=[RGBImage(name=f"image{i}", data=picture) for i, picture in enumerate(pictures)],
        )
    )
    nwb.add_trial_column("image_id", "number of the image")
    shown = np.concatenate([rng.permutation(N_STIMULI) for _ in range(N_REPETITIONS)])
    onsets = 1 + 0.5 * np.arange(len(shown))
    for image, onset in zip(shown, onsets, strict=True):
        nwb.add_trial(start_time=onset, stop_time=onset + 0.25, image_id=int(image))
    for unit in counts[:, shown, 0]:
        times = np.repeat(onsets, unit) + rng.uniform(0.05, 0.25, unit.sum())
        nwb.add_unit(spike_times=np.sort(times))
    with NWBHDF5IO(path, "w") as file:
        file.write(nwb)


def write_own_data(folder: Path, counts: np.ndarray) -> None:
    """Write trials × units, spike times, and the folders of phy and suite2p, of the same session."""
    rng = np.random.default_rng(0)
    shown = np.concatenate([rng.permutation(N_STIMULI) for _ in range(2)])[:-10]  # ten images are shown once
    onsets = 1 + 0.5 * np.arange(len(shown))
    table = {"image": [f"img{i:02d}" for i in shown], "onset": onsets}
    pd.DataFrame(table).to_csv(folder / "presentations.csv", index=False)
    np.save(folder / "trials.npy", counts[:, shown, 0].T)
    spikes = [np.sort(np.repeat(onsets, n) + rng.uniform(0.05, 0.25, n.sum())) for n in counts[:, shown, 0]]
    np.savez(folder / "spikes.npz", **{f"unit {i}": times for i, times in enumerate(spikes)})
    (folder / "phy").mkdir()
    clusters = np.repeat(np.arange(N_UNITS), [len(times) for times in spikes])
    samples, order = np.concatenate(spikes) * 30_000, np.argsort(np.concatenate(spikes))
    np.save(folder / "phy" / "spike_times.npy", samples[order].astype(np.uint64))
    np.save(folder / "phy" / "spike_clusters.npy", clusters[order])
    (folder / "phy" / "params.py").write_text("sample_rate = 30000.0\n")
    groups = pd.DataFrame({"cluster_id": range(N_UNITS), "group": "good"})
    groups.to_csv(folder / "phy" / "cluster_group.tsv", sep="\t", index=False)
    (folder / "suite2p").mkdir()
    frame_times = np.arange(0, onsets[-1] + 1, 0.125)
    np.save(folder / "suite2p" / "frame_times.npy", frame_times)
    np.save(folder / "suite2p" / "spks.npy", rng.random((N_UNITS, len(frame_times)), np.float32))
    np.save(folder / "suite2p" / "iscell.npy", np.column_stack([np.arange(N_UNITS) % 4 > 0, np.full(N_UNITS, 0.9)]))


@pytest.fixture(scope="session")
def recordings(tmp_path_factory) -> Path:
    """A folder with all files that the pages name: every image is one color with a little texture."""
    folder = tmp_path_factory.mktemp("how_to")
    rng = np.random.default_rng(0)
    colors = rng.uniform(20, 235, (N_STIMULI, 3))
    textures = rng.normal(0, 10, (N_STIMULI, 32, 32, 3))
    pictures = [np.clip(color + texture, 0, 255).astype(np.uint8) for color, texture in zip(colors, textures)]  # noqa: B905
    (folder / "photographs").mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / "photographs" / f"img{i:02d}.png")
    counts = draw_responses(0, colors)
    for seed, name in enumerate(("responses", "session_1", "session_2")):
        np.save(folder / f"{name}.npy", draw_responses(seed, colors))
    write_session(folder / "session.nwb", pictures, counts)
    write_own_data(folder, counts)
    unit, stimulus, _ = (axis.ravel() for axis in np.indices(counts.shape))
    trials = {"image": [f"img{i:02d}" for i in stimulus], "unit": unit, "rate": counts.ravel()}
    pd.DataFrame(trials).to_csv(folder / "trials.csv", index=False)
    return folder


@pytest.fixture
def encoders(monkeypatch):
    """Small networks, or random weights, in place of those that would have to be downloaded."""
    visual = torch.nn.Sequential(torch.nn.AvgPool2d(56), torch.nn.Flatten())
    resize = torchvision.transforms.Compose(
        [torchvision.transforms.Resize((224, 224)), torchvision.transforms.ToTensor()]
    )
    clip, similarity = ModuleType("open_clip"), ModuleType("dreamsim")
    weights = {"ViT-B-32": ["laion2b_s34b_b79k"], "ViT-B-16-SigLIP": ["webli"]}
    clip.list_models, clip.list_pretrained_tags_by_model = lambda: list(weights), weights.__getitem__
    clip.get_pretrained_cfg = lambda model, tag: {}
    clip.create_model_and_transforms = lambda name, **settings: (SimpleNamespace(visual=visual), None, resize)
    texts = torch.nn.EmbeddingBag(100, 48)  # as many features as `visual` has
    texts.encode_text = texts.forward
    clip.create_model = lambda name, pretrained: texts if pretrained in weights[name] else None
    clip.get_tokenizer = lambda name: (
        lambda texts: torch.tensor([[ord(letter) % 100 for letter in t[-6:]] for t in texts])
    )
    model = torch.nn.Module()
    model.embed = visual.forward
    similarity.dreamsim = lambda pretrained: (model, None)
    random = torchvision.models.squeezenet1_1().state_dict()
    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", lambda *args, **settings: random)
    monkeypatch.setitem(sys.modules, "open_clip", clip)
    monkeypatch.setitem(sys.modules, "dreamsim", similarity)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, recordings, encoders, tmp_path, monkeypatch):
    for path in recordings.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks_of(page):
        exec(compile(block, page.name, "exec"), names)
    plt.close("all")
    if page.stem == "clip-and-dreamsim":
        images = names["ns"].load_images("photographs")
        distances = names["ns"].metrics.pairwise_distances(images[:3], names["metric"])
        assert (distances.values[np.triu_indices(3, 1)] > 0).all()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_a_problem_short_code_what_to_look_at_and_errors(page):
    blocks = blocks_of(page)
    assert blocks
    assert all(len([line for line in block.splitlines() if line.strip()]) <= LONGEST for block in blocks)
    text = page.read_text(encoding="utf-8")
    assert "## What to look at\n" in text
    assert "## Common errors\n" in text
