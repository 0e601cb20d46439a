"""Three small datasets in the layout of published ones, with planted responses, to try before a download.

Each encodes the same sparse features of the same images in superposition: more features than units. Only the file
formats differ.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from PIL import Image

from neurosuper._checks import Seed, check_one_of, make_rng
from neurosuper.demo.simulate import plant_directions
from neurosuper.demo.write_allen import scene_onsets, trains, write_allen_ecephys
from neurosuper.demo.write_nsd import make_design, write_nsd, write_nsd_images
from neurosuper.demo.write_tvsd import N_CHANNELS, write_tvsd

__all__ = ["write_brains"]

N_IMAGES = 520
SIDE = 32  # pixels
HUES, ANGLES = 8, 3  # one feature per pair
N_NOISY = 8  # units that respond to nothing, in addition to 16 that respond to features
REPETITIONS = 3
MOUSE = "allen-neuropixels-natural-scenes"
N_SCENES = 118  # natural scenes in the Allen recordings
MOUSE_AREAS = ("VISp", "VISl", "VISrl", "VISal")
SEEDS_OF_MONKEYS = {"F": 1, "N": 3}


def write_brains(folder: str | Path, *, monkeys: Sequence[str] = ("F",)) -> dict[str, Path]:
    """Return the folders of a small human, macaque and mouse dataset, after writing them.

    They are read with `neurosuper.load(id, path=…)`, like the datasets whose layout they copy.

    Parameters
    ----------
    folder : path
        Created if it does not exist. The images, colored gratings, are in its folder `gratings`.
    monkeys : sequence of {"F", "N"}, optional
        Which monkeys to write. They saw the same images, and their units encode the same features on other directions.

    Returns
    -------
    dict of str to Path
        The folder of each dataset by its id: "nsd" (fMRI, 2 sessions), "tvsd" (arrays in monkeys), and
        "allen-neuropixels-natural-scenes" (probes, one session, 118 scenes, with images in its folder `scenes`).

    Raises
    ------
    ValueError
        Another monkey.

    See Also
    --------
    load : Load the responses of a dataset.
    load_stimuli : Load its images.

    Notes
    -----
    Each of 24 features (hue and orientation of the grating) drives several of 16 units; 8 more units respond to
    nothing. All data are simulated.

    Examples
    --------
    >>> import neurosuper, tempfile
    >>> brains = write_brains(tempfile.mkdtemp())
    >>> neurosuper.load("nsd", path=brains["nsd"], subset={"session": [1, 2]}, roi="V1").dims
    ('stimulus', 'repetition', 'unit')
    """
    for monkey in monkeys:
        check_one_of("monkeys", monkey, SEEDS_OF_MONKEYS)
    folder = Path(folder)
    images, features = draw_gratings()
    (folder / "gratings").mkdir(parents=True, exist_ok=True)
    for image in images:
        Image.fromarray(image.values).save(folder / "gratings" / f"{image.stimulus.item()}.png")
    _write_human(folder / "nsd", images, planted_drives(features, 0), 0)
    for monkey in monkeys:
        _write_macaque(folder / "tvsd", images, planted_drives(features, SEEDS_OF_MONKEYS[monkey]), monkey)
    _write_mouse(folder / MOUSE, images, planted_drives(features, 2), 2)
    return {name: folder / name for name in ("nsd", "tvsd", MOUSE)}


def draw_gratings(random_state: Seed = 0) -> tuple[xr.DataArray, xr.DataArray]:
    """Return colored gratings (stimulus, row, column, channel) and their features (stimulus, feature).

    Each grating has one feature, its hue and orientation, with its contrast as strength; all others are 0.
    """
    rng = make_rng(random_state)
    feature = rng.permutation(np.arange(N_IMAGES) % (HUES * ANGLES))
    hue, angle = feature // ANGLES / HUES, np.pi * (feature % ANGLES) / ANGLES
    contrast, phase = rng.uniform(0.4, 1, N_IMAGES), rng.uniform(0, 2 * np.pi, N_IMAGES)
    y, x = np.mgrid[:SIDE, :SIDE] * 2 * np.pi / 8
    wave = np.sin(np.multiply.outer(np.cos(angle), x) + np.multiply.outer(np.sin(angle), y) + phase[:, None, None])
    color = np.array([colorsys.hsv_to_rgb(h, c, 0.8) for h, c in zip(hue, contrast, strict=True)])
    pixels = 255 * color[:, None, None] * (0.7 + 0.3 * contrast[:, None, None] * wave)[..., None]
    stimuli = [f"grating_{i:03d}" for i in range(N_IMAGES)]
    names = [f"hue {360 * h // HUES}°, {180 * a // ANGLES}°" for h in range(HUES) for a in range(ANGLES)]
    images = xr.DataArray(
        pixels.round().astype(np.uint8),
        dims=("stimulus", "row", "column", "channel"),
        coords={"stimulus": stimuli, "channel": ["red", "green", "blue"]},
        name="image",
    )
    strengths = contrast[:, None] * np.eye(len(names))[feature]
    return images, xr.DataArray(strengths, {"stimulus": stimuli, "feature": names}, ("stimulus", "feature"))


def planted_drives(features: xr.DataArray, seed: int) -> np.ndarray:
    """Return the noiseless response of each unit (stimulus, unit), from 0 to 1; 0 for the last `N_NOISY` units."""
    driven = features.values @ plant_directions(features, seed).values
    return np.hstack([driven / driven.max(), np.zeros((len(driven), N_NOISY))])


def _write_human(folder: Path, images: xr.DataArray, drives: np.ndarray, seed: int) -> None:
    """Write units as voxels of seven areas; 500 gratings, three times each, in two sessions."""
    rng = np.random.default_rng(seed)
    design, shown = make_design(seed), np.repeat(np.arange(500), REPETITIONS)
    design["masterordering"][0, : len(shown)] = 1 + rng.permutation(shown)
    grating_of = {int(nsd_id) - 1: i for i, nsd_id in enumerate(design["subjectim"][0, :500])}
    places = np.pad(np.arange(drives.shape[1]).reshape(6, 4, 1), 1, constant_values=-1)  # a shell outside the cortex

    def respond(ids: np.ndarray) -> np.ndarray:
        rows = [grating_of.get(int(nsd_id), 0) for nsd_id in ids]
        return 3 * drives[rows][:, places]

    atlas = np.where(places < 0, -1, 1 + places % 7).astype(np.int16)
    write_nsd(folder, shape=places.shape, respond=respond, noise=0.5, seed=seed, design=design, atlas=atlas)
    write_nsd_images(folder, {nsd_id: images.values[i] for nsd_id, i in grating_of.items()}, SIDE)


def _write_macaque(folder: Path, images: xr.DataArray, drives: np.ndarray, monkey: str) -> None:
    """Write units as channels among channels of noise; 420 gratings once for training, 100 thirty times for test."""
    seed = SEEDS_OF_MONKEYS[monkey]
    rng, shown = np.random.default_rng(seed), np.random.default_rng(SEEDS_OF_MONKEYS["F"])
    channels = rng.permutation(N_CHANNELS)[: drives.shape[1]]
    responses = np.zeros((len(drives), N_CHANNELS))
    responses[:, channels] = 10 * drives
    noisy = responses + rng.normal(size=responses.shape)
    paths = [f"grating\\{label}.png" for label in images.stimulus.values]
    # The test images are those of the first monkey, which its generator draws after channels and noise.
    shown.permutation(N_CHANNELS), shown.normal(size=responses.shape)
    is_test = shown.permutation(len(drives)) < 100
    write_tvsd(
        folder,
        monkey=monkey,
        train=noisy[~is_test],
        test=responses[is_test],
        train_paths=[path for path, test in zip(paths, is_test, strict=True) if not test],
        test_paths=[path for path, test in zip(paths, is_test, strict=True) if test],
        n_repetitions=30,
        noise=1.0,
        seed=seed,
    )


def _write_mouse(folder: Path, images: xr.DataArray, drives: np.ndarray, seed: int) -> None:
    """Write units as spike trains; 118 gratings in place of the 118 natural scenes, 20 times each."""
    rng = np.random.default_rng(seed)
    scenes = rng.permutation(len(drives))[:N_SCENES]
    frames = rng.permutation(np.append(np.repeat(np.arange(N_SCENES), 20), np.full(50, -1)))
    rates = np.vstack([2 + 30 * drives[scenes], np.full(drives.shape[1], 2.0)])[frames]  # the last row: a blank
    onsets = scene_onsets(len(frames))
    areas = [MOUSE_AREAS[i % len(MOUSE_AREAS)] for i in range(drives.shape[1])]
    path = folder / "sub-699733573" / "sub-699733573_ses-715093703.nwb"
    path.parent.mkdir(parents=True)
    write_allen_ecephys(path, trains(rng.poisson(rates / 4), onsets, (0.0, 0.25)), frames, onsets, areas)
    (folder / "scenes").mkdir()
    for number, scene in enumerate(scenes):
        Image.fromarray(images.values[scene]).save(folder / "scenes" / f"{number}.png")
