"""Sets of items that only prefer certain images, and sets that follow features: how often each correction finds them.

Images have sparse features, a contrast s and a luminance; the less the contrast, the nearer an image is to all others.
A set is found by the raw or the hub-corrected index if it is above a set of random picks (p < 0.05), and by the
frequency floor if its interval is above it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from scipy.spatial import distance
from validation_tables import Mean, Run, Share, Target, print_table

import neurosuper as ns
from neurosuper.interpretability import frequency_floor, index_difference, index_interval

N_IMAGES, N_ITEMS, N_FEATURES, N_DIMS, N_UNITS = 300, 20, 15, 40, 60
N_TRADES = 40_000
NUISANCES = (
    "random picks",
    "plain images",
    "plain images, weakly",
    "unusual images",
    "gain",
    "luminance",
    "mean direction",
)
FEATURES = ("features", "features × contrast", "features, and plain images")


class World:
    """One sample of images, with sets of items."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng([seed, 4])
        directions = rng.normal(size=(N_FEATURES, N_DIMS))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        self.features = rng.exponential(size=(N_IMAGES, N_FEATURES)) * (rng.random((N_IMAGES, N_FEATURES)) < 0.12)
        self.contrast = rng.lognormal(0, 0.5, (N_IMAGES, 1))
        self.luminance = rng.normal(size=(N_IMAGES, 1))
        content = 1.2 * self.features @ directions + rng.normal(size=(N_IMAGES, N_DIMS)) / N_DIMS**0.5
        embedding = np.hstack([self.contrast * content, 0.5 * self.luminance])
        labels = [f"s{i:03d}" for i in range(N_IMAGES)]
        table = distance.squareform(distance.pdist(embedding, "sqeuclidean"))
        self.metric = ns.Precomputed(xr.DataArray(table, {"stimulus": labels, "other": labels}, ("stimulus", "other")))
        blank = np.zeros((N_IMAGES, 1, 1, 3), np.uint8)
        self.images = xr.DataArray(blank, {"stimulus": labels}, ("stimulus", "row", "column", "channel"))

    def draw_set(self, name: str) -> xr.DataArray:
        """Return the codes of a set of items."""
        plain, noise = -np.log(self.contrast), self.rng.normal(size=(N_IMAGES, N_ITEMS))
        own = self.features[:, np.arange(N_ITEMS) % N_FEATURES]
        values = {
            "random picks": lambda: noise,
            "plain images": lambda: zscore(plain) + 0.4 * noise,
            "plain images, weakly": lambda: zscore(plain) + 2 * noise,
            "unusual images": lambda: -zscore(plain) + 0.4 * noise,
            # positive responses to nothing, times a gain that is large for plain images
            "gain": lambda: self.rng.exponential(size=noise.shape) / self.contrast,
            "luminance": lambda: zscore(self.luminance) + 0.4 * noise,
            "mean direction": lambda: self.near_mean_direction(),
            "features": lambda: zscore(own) + 0.4 * noise,
            "features × contrast": lambda: zscore(own * self.contrast) + 0.4 * noise,
            "features, and plain images": lambda: zscore(zscore(own) + zscore(plain)) + 0.4 * noise,
        }[name]()
        coords = {"stimulus": self.images.stimulus.values, "unit": [f"u{i:02d}" for i in range(N_ITEMS)]}
        return xr.DataArray(values, coords, ("stimulus", "unit"))

    def near_mean_direction(self) -> np.ndarray:
        """Return codes of directions near the mean response of units that all prefer plain images, and no feature."""
        R = 3 - np.log(self.contrast) + self.rng.normal(size=(N_IMAGES, N_UNITS))
        R /= np.linalg.norm(R, axis=1, keepdims=True)
        mean = R.mean(0) / np.linalg.norm(R.mean(0))
        D = mean + 0.25 * self.rng.normal(size=(N_ITEMS, N_UNITS)) / N_UNITS**0.5  # a cosine of 0.97 with the mean
        return R @ (D / np.linalg.norm(D, axis=1, keepdims=True)).T


def zscore(values: np.ndarray) -> np.ndarray:
    """Return values with mean 0 and variance 1 over images."""
    return (values - values.mean(0)) / values.std(0)


def study_sets(seed: int) -> dict[str, dict[str, float]]:
    """Return for each set whether it is found, and how far it is above, in standard errors."""
    world, found = World(seed), {}
    for name in (*NUISANCES, *FEATURES):
        codes, noise = world.draw_set(name), world.draw_set("random picks")
        of_set = {}
        for correction in (None, "hub"):
            test = index_difference(codes, noise, world.images, world.metric, correction=correction)
            of_set[correction or "raw"] = bool(test.p_value < 0.05 and test.difference > 0)
            of_set[f"z_{correction or 'raw'}"] = float(test.difference / test.standard_error)
        interval = index_interval(codes, world.images, world.metric, correction="floor")
        of_set["floor"] = bool(interval.interpretability_low > 0)
        of_set["z_floor"] = float(interval.interpretability / interval.standard_error)
        found[name] = of_set | {"both": of_set["hub"] and of_set["floor"]}
    return found


def print_tables(n_studies: int, run: Run = map) -> None:
    """Print the shares of worlds in which nuisances and features are found."""
    worlds = list(run(study_sets, range(n_studies)))
    rows = {}
    for name in (*NUISANCES, *FEATURES):
        studies = pd.DataFrame([world[name] for world in worlds])
        shares = [Share.of(studies[column]) for column in ("raw", "hub", "floor", "both")]
        rows[name] = shares + [Mean.of(studies[f"z_{column}"], 1) for column in ("raw", "hub", "floor")]
    print_table(
        "Sets that prefer certain images, and sets of features",
        f"{n_studies} worlds of {N_IMAGES} images, {N_ITEMS} items in each set, top 5. Found: the raw or the "
        "hub-corrected index (II_c) is above that of random picks (p < 0.05), or the set above its frequency floor "
        '(95 % interval of `index_interval(…, correction="floor")`), or both of the corrections find it. z: the mean '
        "distance in standard errors.",
        ("set", "raw", "II_c", "floor", "II_c and floor", "z raw", "z II_c", "z floor"),
        rows,
        [
            Target("II_c and floor", 0, 0.06, lambda name: name in NUISANCES),
            Target("II_c and floor", 0.95, 1, lambda name: name in FEATURES),
        ],
    )


def floors_of_trades(study: tuple[float, int]) -> tuple[float, float, float]:
    """Return the mean index of random sets that keep all frequencies, the frequency floor, and that with f for x.

    Two random sets trade the images that only one of them has, again and again (Strona et al. 2014).
    """
    noise, seed = study
    world = World(seed)
    rng, k, top = np.random.default_rng([seed, 14]), 40, 5
    values = zscore(-np.log(world.contrast)) + noise * rng.normal(size=(N_IMAGES, k))
    labels = world.images.stimulus.values
    codes = xr.DataArray(values, {"stimulus": labels, "unit": np.arange(k).astype(str)}, ("stimulus", "unit"))
    d = ns.metrics.pairwise_distances(world.images, world.metric).values.astype(float)
    places = world.images.get_index("stimulus").get_indexer(ns.top_stimuli(codes, top=top).values.T.ravel())
    f = np.bincount(places, minlength=N_IMAGES)
    sets, means = [set(row) for row in places.reshape(k, top).tolist()], []
    for step in range(N_TRADES):
        a, b = rng.choice(k, 2, replace=False)
        own = rng.permutation(sorted(sets[a] ^ sets[b])).tolist()
        common, n = sets[a] & sets[b], len(sets[a] - sets[b])
        sets[a], sets[b] = common | set(own[:n]), common | set(own[n:])
        if step > N_TRADES // 20 and step % 20 == 0:
            at = np.array([sorted(each) for each in sets])
            means.append(-d[at[:, :, None], at[:, None, :]].sum() / (k * top * (top - 1)))
    plain = -(f @ d @ f) / (f.sum() ** 2 - (f**2).sum())
    return float(np.mean(means)), float(frequency_floor(codes, world.images, world.metric, top=top)), float(plain)


def print_floors(n_studies: int, run: Run = map) -> None:
    """Print how far the closed forms of the frequency floor are from the mean of random sets."""
    rows = {}
    for noise, what in ((0.4, "some images are in most sets"), (2.0, "images are in few sets")):
        mean, x, f = np.array(list(run(floors_of_trades, [(noise, i) for i in range(n_studies)]))).T
        rows[what] = [Mean.of(100 * np.abs(each - mean) / -mean, 2) for each in (x, f)]
    print_table(
        "Frequency floor: closed form and random sets",
        f"{n_studies} sets of 40 items that prefer plain images in each row, {N_TRADES} trades. Mean distance from the "
        "mean index of random sets that keep how often each image is picked, in %.",
        ("frequencies", "`frequency_floor`", "with counts f in place of x"),
        rows,
    )
