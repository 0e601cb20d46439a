"""What measures of superposition find in ResNet-20 where they choose, and on other photographs.

    NEUROSUPER_TEST_DATA=… python benchmarks/superposition_claims.py [--every 5] [--layers layer3]

CIFAR-10, centre pixel of the last map of each layer, LPIPS with AlexNet at 32 × 32 pixels, top 5. Every fifth
photograph gives 10,000, of all categories; every first all 50,000, whose distances are never all in memory: images are
embedded once, into a cache, and each measure computes the distances that it needs. `before` is what an earlier
implementation of its own found with all 50,000.
"""

from __future__ import annotations

import argparse
import os
import runpy
import tempfile
import time
from pathlib import Path

import xarray as xr

import neurosuper as ns
from neurosuper.metrics import ImageMetric, cached
from neurosuper.superposition import between_directions, clustered_apart, sparsity_curve, synergy

BEFORE = {  # layer1, layer2, layer3
    "halves of units, where chosen": (0.068, 0.066, 0.068),
    "halves of units, on other photographs": (-0.001, 0.018, 0.009),
    "best 5 % of pairs, where found": (0.096, 0.067, 0.067),
    "best 5 % of pairs, on other photographs": (0.016, -0.014, -0.007),
    "share of these above 0": (0.50, 0.36, 0.50),
    "r of synergy and the better unit's index, where found": (-0.46, -0.49, -0.46),
    "K-means between directions, ends": (-0.193, -0.213, -0.182),
    "K-means between directions, middle": (-0.192, -0.197, -0.202),
    "K-means, all weights": (-0.208, -0.199, -0.182),
    "K-means, a tenth of the weights": (-0.185, -0.200, -0.168),
}
LAYERS = ["layer1", "layer2", "layer3"]


def measure(responses: xr.DataArray, images: xr.DataArray, metric: ImageMetric) -> dict[str, float]:
    """Return the figures of one layer."""
    table = clustered_apart(responses, images, metric)
    units = table.isel(item=(table.finder == "Units").values, metric=0)
    means = units[["interpretability"]].assign(chosen=units.selection_index).groupby(units.system).mean()
    apart = means.sel(system="more") - means.sel(system="less")
    pairs = synergy(responses, images, metric)
    marked = ns.split_stimuli(responses)
    D = ns.KMeans().fit(marked[marked.split == "fit"]).directions_
    between = between_directions(D, D, images, metric, ns.normalize(marked, "unit_norm"))
    along = between.interpretability.mean("pair").values
    curve = sparsity_curve(ns.KMeans(), responses, images, metric, keep=[1, 0.1])
    figures = (apart.chosen, apart.interpretability, pairs.found_of_best, pairs.synergy_of_best)
    figures += (
        pairs.share_above_of_best,
        pairs.correlation_found,
        (along[0] + along[-1]) / 2,
        along[3],
        *curve["mean"],
    )
    return dict(zip(BEFORE, map(float, figures), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--layers", nargs="+", default=LAYERS)
    given = parser.parse_args()
    data = Path(os.environ["NEUROSUPER_TEST_DATA"])
    networks = runpy.run_path(str(Path(__file__).parents[1] / "tutorials" / "networks.py"))
    model = networks["resnet20"](data / "nets" / "resnet20-12fca82f.th")
    images = ns.load_images(data / "images" / "cifar10_train_50000_jpg.zip", category_from="folder")[:: given.every]
    units = ns.activations(
        model, images, given.layers, preprocess=networks["resnet20_preprocess"], batch_size=256, device="cpu"
    )
    lpips = ns.LPIPS("alex", weights=data / "nets" / "alexnet_features_fp16.npz", device="cpu")
    print(f"{len(images)} photographs\n\n| layer | figure | found | before |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        metric = cached(lpips, folder, dtype="float32")
        for layer, responses in ns.by_layer(units).items():
            start = time.perf_counter()
            found = measure(ns.responses.drop_constant_units(responses), images, metric)
            for name, value in found.items():
                print(f"| {layer} | {name} | {value:.3f} | {BEFORE[name][LAYERS.index(layer)]:.3f} |", flush=True)
            print(f"| {layer} | minutes | {(time.perf_counter() - start) / 60:.1f} | |", flush=True)


if __name__ == "__main__":
    main()
