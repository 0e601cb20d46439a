"""Coverage of intervals, and errors of tests, of mean indices over stimuli, items and subjects, in simulated studies.

Two sets of items have the same mean index on average. A world is a kind of study: how stimuli and items are drawn.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from scipy.spatial import distance

import neurosuper as ns

N_FEATURES = 6
CONTRASTS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "equal": lambda rng, n: np.ones(n),
    "gamma(8)": lambda rng, n: rng.gamma(8, 1 / 8, n),
    "exponential": lambda rng, n: rng.gamma(1, 1, n),
    "lognormal .8": lambda rng, n: rng.lognormal(0, 0.8, n),
}


@dataclass(frozen=True)
class World:
    """Stimuli in a space of 6 features, and two sets of noisy items that are tuned there.

    Items of the first set have independent axes, those of the second share them in part (`correlated`). Distances are
    squared, or bounded as those of LPIPS are.
    """

    n_stimuli: int = 200
    n_items: int = 20
    top: int = 5
    bounded: bool = True
    contrast: str = "equal"
    correlated: bool = True
    clusters: int = 0  # of stimuli, around centres; 0: none
    zipf: bool = False  # cluster sizes as 1, 1/2, 1/3, …
    given: bool = True  # whether the method knows the clusters or subjects
    subjects: int = 0  # each with items of its own kind and noise; both sets are of the same subjects
    note: str = ""

    def draw(self, rng: np.random.Generator) -> tuple[list[xr.DataArray], xr.DataArray, ns.Precomputed]:
        """Return the codes of both sets, blank images, and the metric."""
        n, stimuli = self.n_stimuli, [f"s{i:04d}" for i in range(self.n_stimuli)]
        cluster = self._draw_clusters(rng)
        features = rng.normal(size=(n, N_FEATURES))
        if self.clusters:
            features = rng.normal(size=(self.clusters, N_FEATURES))[cluster] + 0.4 * features
        features *= CONTRASTS[self.contrast](rng, n)[:, None]
        squares = distance.squareform(distance.pdist(features, "sqeuclidean"))
        distances = 0.75 * (1 - np.exp(-squares / squares.mean())) if self.bounded else squares
        metric = ns.Precomputed(xr.DataArray(distances, {"stimulus": stimuli, "other": stimuli}, ("stimulus", "other")))
        blank = np.zeros((n, 1, 1, 3), np.uint8)
        images = xr.DataArray(blank, {"stimulus": stimuli}, ("stimulus", "row", "column", "channel"))
        sets = [self._draw_items(rng, features, shared) for shared in (False, self.correlated)]
        coords = {"stimulus": stimuli, "cluster": ("stimulus", cluster.astype(str))}
        return [codes.assign_coords(coords) for codes in sets], images, metric

    def _draw_clusters(self, rng: np.random.Generator) -> np.ndarray:
        if not self.clusters:
            return np.arange(self.n_stimuli) // 5  # labels without meaning
        weights = 1 / (1 + np.arange(self.clusters)) if self.zipf else np.ones(self.clusters)
        return rng.choice(self.clusters, self.n_stimuli, p=weights / weights.sum())

    def _draw_items(self, rng: np.random.Generator, features: np.ndarray, shared: bool) -> xr.DataArray:
        k = self.n_items
        axes, noise, subject = rng.normal(size=(N_FEATURES, k)), np.full(k, 0.5), np.arange(k) % max(1, self.subjects)
        if self.subjects:
            axes = rng.normal(size=(N_FEATURES, self.subjects))[:, subject] + 0.5 * axes
            noise = noise * np.exp(0.6 * rng.normal(size=self.subjects))[subject]
        elif shared:
            axes = rng.normal(size=(N_FEATURES, 1)) + 0.5 * axes
        codes = features @ (axes / np.linalg.norm(axes, axis=0)) + noise * rng.normal(size=(len(features), k))
        units = {"unit": [f"u{i}" for i in range(k)], "subject": ("unit", subject.astype(str))}
        return xr.DataArray(codes, dims=("stimulus", "unit"), coords=units)

    def settings(self) -> dict[str, object]:
        """Return the settings of the intervals."""
        groups = "cluster" if self.given and (self.clusters or self.note) else None
        subjects = "subject" if self.given and self.subjects else None
        return {"top": self.top, "stimulus_groups": groups, "subjects": subjects}

    def __str__(self) -> str:
        words = [f"{self.n_stimuli} stimuli, {self.n_items} items, top {self.top} ({self.top / self.n_stimuli:.2g})"]
        words += ["bounded" if self.bounded else "squared"]
        words += ["independent items"] * (not self.correlated)
        words += [f"{self.contrast} contrast"] * (self.contrast != "equal")
        words += [f"{self.clusters} clusters{' of Zipf sizes' * self.zipf}"] * bool(self.clusters)
        words += [f"{self.subjects} subjects"] * bool(self.subjects)
        words += ["unknown"] * (not self.given) + [self.note] * bool(self.note)
        return ", ".join(words)


BOUNDED = [
    World(),
    World(correlated=False),
    World(60, 10),
    World(80, 8),
    World(120, 12),
    World(600, 20, top=6),
    World(600, 40, top=20),
    World(200, 20, top=20),
    World(contrast="exponential"),
    World(contrast="lognormal .8"),
    World(clusters=10, given=False),
    World(clusters=10),
    World(clusters=30, zipf=True),
    World(note="groups of 5 without meaning"),
]
SUBJECTS = [World(n_items=40, subjects=n) for n in (2, 3, 4, 8)] + [World(n_items=40, subjects=4, given=False)]
UNBOUNDED = [
    World(bounded=False),
    World(bounded=False, contrast="gamma(8)"),
    World(bounded=False, contrast="exponential"),
    World(bounded=False, contrast="lognormal .8"),
]
BEYOND = [World(60, 10, top=12), World(60, 10, top=20), World(50, 20, top=20)]  # fewer than 8 stimuli per top stimulus


def study_world(world: World, study: int) -> dict[str, float]:
    """Return p of the difference, the interval of the second set, and its Monte Carlo error."""
    (a, b), images, metric = world.draw(np.random.default_rng([study, 2]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*fewer than 8 × top.*")
        mean = ns.interpretability.index_interval(b, images, metric, random_state=study, **world.settings())
        test = ns.interpretability.index_difference(a, b, images, metric, random_state=study, **world.settings())
    of_mean = ("interpretability", "interpretability_low", "interpretability_high")
    relative = (test.monte_carlo_error / test.standard_error).item()
    return {"p": test.p_value.item(), "by_draws": relative, **{name: mean[name].item() for name in of_mean}}


def row_of_world(world: World, studies: pd.DataFrame) -> str:
    """Return a row with coverage and the share of small p, each with its standard error; the truth is the mean."""
    truth, n = studies["interpretability"].mean(), len(studies)
    low = (studies["interpretability_high"] < truth).mean()
    high = (studies["interpretability_low"] > truth).mean()
    width = (studies["interpretability_high"] - studies["interpretability_low"]).median()
    in_sd = width / studies["interpretability"].std()
    covered, small = (
        f"{100 * share:.1f} ± {100 * np.sqrt(share * (1 - share) / n):.1f} %"
        for share in (1 - low - high, (studies["p"] <= 0.05).mean())
    )
    sides = f"{100 * low:.1f} % | {100 * high:.1f} %"
    return f"| {world} | {covered} | {sides} | {in_sd:.1f} | {small} | {100 * studies['by_draws'].median():.1f} % |"


def print_worlds(n_studies: int, run: Callable[..., Iterable[dict[str, float]]] = map) -> None:
    """Print one table for each kind of worlds; `run` is `map`, or that of a pool of processes."""
    tables = {
        "bounded metric": BOUNDED,
        "nested subjects": SUBJECTS,
        "unbounded metric": UNBOUNDED,
        "fewer than 8 stimuli for each top stimulus, which gives a warning": BEYOND,
    }
    for title, worlds in tables.items():
        print(f"\n| {title} | covers | too low | too high | width in true s.d. | p ≤ 0.05 | s.d. of s.e. over seeds |")
        print("|---|---|---|---|---|---|---|")
        for world in worlds:
            print(row_of_world(world, pd.DataFrame(run(partial(study_world, world), range(n_studies)))), flush=True)


if __name__ == "__main__":
    import sys

    print_worlds(int(sys.argv[1]) if len(sys.argv) > 1 else 250)
