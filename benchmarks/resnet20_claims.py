"""Exemplars against K-means in ResNet-20, layer by layer: raw and hub-corrected, next to figures found before.

    NEUROSUPER_TEST_DATA=… python benchmarks/resnet20_claims.py [--seeds 10] [--settings 10000 untrained 50000 held-out]

CIFAR-10, centre pixel of the last map of each layer, LPIPS with AlexNet at 32 × 32 pixels, top 5. Every finder gives as
many directions as the layer has units. K-means is shown uncentred (the paper's default) and centred, each next to the
response vectors of random photographs (`Exemplars`) and Gaussian draws of the same mean and covariance
(`CovarianceMatched`) with the same preparation. `before` is what an earlier implementation of its own found; ± is the
standard deviation over seeds, and a difference has its 95 % interval for other photographs and directions, both
averaged over seeds.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

import neurosuper as ns
from neurosuper.comparison import fit_systems, score_fits
from neurosuper.networks import randomize
from neurosuper.superposition import sparseness, spectrum

TOP, EVERY = 5, 5  # top photographs; every fifth photograph gives 10,000, of all categories
LAYERS = ["layer1", "layer2", "layer3"]
UNCENTRED, CENTRED = {"normalize": True}, {"normalize": True, "center": True}
SEEDED = {
    "KMeans": ns.KMeans(),
    "Exemplars": ns.Exemplars(**UNCENTRED),
    "CovarianceMatched": ns.CovarianceMatched(**UNCENTRED),
    "KMeans, centred": ns.KMeans(center=True),
    "Exemplars, centred": ns.Exemplars(**CENTRED),
    "CovarianceMatched, centred": ns.CovarianceMatched(**CENTRED),
}
AGAINST = {
    "KMeans": ("Units", "Exemplars", "CovarianceMatched"),
    "KMeans, centred": ("Units", "Exemplars, centred", "CovarianceMatched, centred"),
}
ALL, SOME, UNTRAINED, OTHERS = "50000", "10000", "untrained", "held-out"
TITLES = {
    ALL: "50,000 photographs",
    SOME: "10,000 photographs",
    UNTRAINED: "10,000 photographs, untrained network",
    OTHERS: "fitted on 50,000 photographs, scored on 5,000 others",
}
BEFORE = {  # (setting, finder): the index in each layer
    (ALL, "Units"): (-0.2133, -0.2089, -0.1873),
    (ALL, "KMeans"): (-0.2081, -0.1988, -0.1821),
    (ALL, "Exemplars"): (-0.1955, -0.1951, -0.1769),
    (SOME, "Units"): (-0.2186, -0.2128, -0.1936),
    (SOME, "KMeans"): (-0.2005, -0.1948, -0.1701),
    (SOME, "Exemplars"): (-0.2029, -0.2000, -0.1806),
    (UNTRAINED, "Units"): (-0.2058, -0.1940, -0.1867),
    (UNTRAINED, "KMeans"): (-0.1834, -0.1986, -0.1924),
    (UNTRAINED, "Exemplars"): (-0.1896, -0.1939, -0.1868),
    (OTHERS, "Units"): (-0.2136, -0.2159, -0.2087),
    (OTHERS, "KMeans"): (-0.2162, -0.2016, -0.1848),
}

DIMENSIONS = (12.0, 23.0, 16.0)  # participation ratio of z-scored units in each layer, 50,000 photographs


class Setting(NamedTuple):
    """Responses of each layer, and the images to score on; `held_out`: the coord `split` marks what to fit on."""

    name: str
    systems: dict[str, xr.DataArray]
    images: xr.DataArray
    held_out: bool = False


def settings(data: Path, asked: set[str]) -> Iterator[Setting]:
    """Yield the settings that are asked for, those with few photographs first."""
    networks = runpy.run_path(str(Path(__file__).parents[1] / "tutorials" / "networks.py"))
    model = networks["resnet20"](data / "nets" / "resnet20-12fca82f.th")
    images = ns.load_images(data / "images" / "cifar10_train_50000_jpg.zip", category_from="folder")
    for name, network in ((SOME, model), (UNTRAINED, randomize(model))):
        if name in asked:
            yield Setting(name, responses_of(network, images[::EVERY], networks), images[::EVERY])
    if not asked & {ALL, OTHERS}:
        return
    train = responses_of(model, images, networks)
    if ALL in asked:
        yield Setting(ALL, train, images)
    if OTHERS in asked:
        others = ns.load_images(data / "images" / "cifar10_test_5000_jpg.zip", category_from="folder")
        others = others.assign_coords(stimulus=[f"test/{label}" for label in others.stimulus.values])
        test = responses_of(model, others, networks)
        pairs = {layer: (marked(train[layer], "fit"), marked(test[layer], "score")) for layer in LAYERS}
        both = {layer: xr.concat(parts, "stimulus") for layer, parts in pairs.items()}
        yield Setting(OTHERS, both, others, held_out=True)


def responses_of(model: object, images: xr.DataArray, networks: dict[str, Any]) -> dict[str, xr.DataArray]:
    """Return the responses of each layer, without units that never vary."""
    units = ns.activations(
        model, images, LAYERS, preprocess=networks["resnet20_preprocess"], batch_size=256, device="cpu"
    )
    return {layer: ns.responses.drop_constant_units(units[:, (units.layer == layer).values]) for layer in LAYERS}


def marked(responses: xr.DataArray, part: str) -> xr.DataArray:
    return responses.assign_coords(split=("stimulus", [part] * len(responses)))


def compare(setting: Setting, metric: ns.LPIPS, seeds: range) -> xr.Dataset:
    """Return the scores of all finders and seeds; the finders are named `name|seed`."""
    finders = {"Units": ns.Units()} | {
        f"{name}|{seed}": clone_with(finder, seed) for name, finder in SEEDED.items() for seed in seeds
    }
    score_on = "held-out" if setting.held_out else "all"
    fits = list(fit_systems(setting.systems, finders, top=TOP, score_on=score_on, baselines=False))
    return score_fits(fits, setting.images, [metric])


def clone_with(finder: ns.directions.DirectionFinder, seed: int) -> ns.directions.DirectionFinder:
    return type(finder)(**finder.get_params() | {"random_state": seed})


def print_indices(name: str, scores: xr.Dataset) -> None:
    """Print the mean index of each finder in each layer, over seeds."""
    print(f"\n### {TITLES[name]}\n\n| finder | layer | index | before | hub-corrected |\n|---|---|---|---|---|")
    own = np.array([finder.split("|")[0] for finder in scores.finder.values])
    for finder in ("Units", *SEEDED):
        for i, layer in enumerate(LAYERS):
            items = scores.isel(item=(own == finder) & (scores.system == layer).values, metric=0)
            cells = [over_seeds(items[variable]) for variable in ("interpretability", "corrected")]
            before = BEFORE.get((name, finder))
            print(
                f"| {finder} | {layer} | {cells[0]} | {f'{before[i]:.4f}' if before else ''} | {cells[1]} |", flush=True
            )


def over_seeds(values: xr.DataArray) -> str:
    means = values.groupby("finder").mean().values
    return f"{means.mean():.4f}" + (f" ± {means.std(ddof=1):.4f}" if len(means) > 1 else "")


def print_differences(scores: xr.Dataset, seeds: range) -> None:
    """Print the differences from units and from matched baselines, averaged over seeds."""
    print("\n| finder | against | layer | difference | 95 % interval | hub-corrected | 95 % interval |")
    print("|---|---|---|---|---|---|---|")
    for finder, baselines in AGAINST.items():
        for against in baselines:
            tests = [test_pair(scores, finder, against, seed) for seed in seeds]
            for layer in LAYERS:
                cells = []
                for correction in ("none", "hub"):
                    chosen = [t.isel(test=((t.system == layer) & (t.correction == correction)).values) for t in tests]
                    mean, low, high = (
                        float(np.mean([t[f"difference{side}"] for t in chosen])) for side in ("", "_low", "_high")
                    )
                    cells += [f"{mean:+.4f}", f"{low:+.4f} to {high:+.4f}"]
                print(f"| {finder} | {against} | {layer} | {' | '.join(cells)} |", flush=True)


def test_pair(scores: xr.Dataset, finder: str, against: str, seed: int) -> xr.Dataset:
    """Return the tests of one finder against another, with the same seed, in every layer."""
    pair = [f"{finder}|{seed}", against if against == "Units" else f"{against}|{seed}"]
    kept = scores.isel(item=np.isin(scores.finder.values, pair))
    return ns.contrast_finders(kept, against=pair[1], n_resamples=100)


def print_geometry(setting: Setting) -> None:
    """Print how many dimensions the z-scored units have, and how sparse units and codes of K-means are."""
    print("\n| layer | units | participation ratio | before | sparseness of units | of K-means codes |")
    print("|---|---|---|---|---|---|")
    for layer, before in zip(LAYERS, DIMENSIONS, strict=True):
        units = setting.systems[layer]
        found = spectrum(units, fit=(1, units.sizes["unit"] - 1), correlation=True, n_resamples=0)
        codes = SEEDED["KMeans"].fit(units).transform(units)
        sparse = " | ".join(f"{sparseness(each).mean().item():.2f}" for each in (units, codes))
        print(f"| {layer} | {units.sizes['unit']} | {found.participation_ratio.item():.1f} | {before} | {sparse} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--settings", nargs="+", choices=TITLES, default=list(TITLES))
    asked = parser.parse_args()
    if "NEUROSUPER_TEST_DATA" not in os.environ:
        sys.exit("set NEUROSUPER_TEST_DATA to the folder that contains the photographs (images/) and networks (nets/)")
    data, seeds = Path(os.environ["NEUROSUPER_TEST_DATA"]), range(asked.seeds)
    metric = ns.LPIPS("alex", weights=data / "nets" / "alexnet_features_fp16.npz", device="cpu")
    for setting in settings(data, set(asked.settings)):
        scores = compare(setting, metric, seeds)
        print_indices(setting.name, scores)
        print_differences(scores, seeds)
        if setting.name in (SOME, ALL):
            print_geometry(setting)


if __name__ == "__main__":
    main()
