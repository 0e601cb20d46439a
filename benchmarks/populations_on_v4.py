"""Macaque V4 against layers of two networks: similarity of units, rotations and directions, trained and untrained.

    NEUROSUPER_TEST_DATA=… python benchmarks/populations_on_v4.py [--sessions 201025] [--part table] [--position center]

Sessions 201025 and 210325 of Cowley et al. 2023; the mean over its map of each channel of SqueezeNet and ResNet-20, for
the same photographs, and both networks with random weights. Of a layer with more units than V4, as many as V4 has are
drawn (`subsample_units`). Directions are found, and partners of twins chosen, on one half of the photographs; every
measure is of the other. Each cell is an estimate with its 95 % interval, and * if the adjusted p is below .05; those of
finders add the gain over units, with the interval of the difference (other photographs, the same directions).

"repro" prints the twins of V4 in SqueezeNet, with all units and without taking off what all items share, next to what
was found before (`before`), and with it taken off.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import xarray as xr
from sklearn.base import clone

import neurosuper as ns
from neurosuper.comparison import compare_populations, twins
from neurosuper.networks import randomize

SESSIONS = {"201025": 1200, "210325": 640}
LAYERS = {"SqueezeNet": ["fire4", "fire8", "conv_final"], "ResNet-20": ["layer1", "layer2", "layer3"]}
FINDERS = {"K-means": ns.KMeans(), "PCA": ns.PCA(), "exemplars": ns.Exemplars(normalize=True)}
MEASURES = ["cka", "rsa", "encoding", "encoding back", "twins"]
BEFORE = {  # median r of V4's items in SqueezeNet, and the share with adjusted p below .05
    ("fire8", "units"): (0.37, 0.96),
    ("fire8", "K-means"): (0.54, 1.00),
    ("fire8", "random"): (0.30, 1.00),
    ("fire8", "PCA"): (0.04, 0.27),
    ("fire8", "ICA"): (0.06, 0.34),
    ("fire4", "units"): (0.33, None),
    ("fire4", "K-means"): (0.41, None),
    ("fire4", "random"): (0.27, None),
    ("fire4", "PCA"): (0.06, None),
    ("fire4", "ICA"): (0.08, None),
}


def load(data: Path, session: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the responses of a session, and its photographs."""
    images = ns.load_images(data / "v4" / f"images_{session}.zip")
    file = data / "v4" / f"responses_avg_{session}.npy"
    v4 = ns.load_array(file, dims=("unit", "stimulus"), stimuli=images, measured_in="spike count")
    assert len(images) == SESSIONS[session]
    return v4, images


def layers_of(
    data: Path, images: xr.DataArray, networks: dict[str, Any], position: str, untrained: bool = False
) -> dict[str, xr.DataArray]:
    """Return the layers of both networks, trained or not, without units that never vary."""
    models = {
        "SqueezeNet": networks["squeezenet"](data / "nets" / "squeezenet_v1_0_imagenet_fp16.npz"),
        "ResNet-20": networks["resnet20"](data / "nets" / "resnet20-12fca82f.th"),
    }
    found = {}
    for name, model in models.items():
        preprocess = networks[f"{name.replace('-', '').lower()}_preprocess"]
        units = ns.activations(
            randomize(model) if untrained else model,
            images,
            LAYERS[name],
            preprocess=preprocess,
            position=position,
            batch_size=16,
        )
        by_layer = ns.by_layer(units, prefix="untrained" if untrained else None)
        found |= {layer: ns.responses.drop_constant_units(each) for layer, each in by_layer.items()}
    return found


def print_table(session: str, v4: xr.DataArray, layers: dict[str, xr.DataArray]) -> None:
    """Print the similarity of V4 with each layer, by each kind of items and each measure."""
    n = v4.sizes["unit"]
    systems = {"V4": v4} | {name: ns.subsample_units(each, min(n, each.sizes["unit"])) for name, each in layers.items()}
    table = compare_populations(systems, FINDERS, measures=MEASURES, pairs=[("V4", name) for name in layers])
    print(f"\n### V4 {session}: {table.attrs['n_stimuli']} photographs to score, {n} units\n")
    print("| layer | items | n | " + " | ".join(MEASURES) + " |\n|---|---|---|" + "---|" * len(MEASURES))
    for pair in table.pair.values:
        for items in table["items"].values:
            row = table.sel(pair=pair, items=items)
            cells = [cell(row.sel(measure=measure), items) for measure in MEASURES]
            layer = str(row.system_b.values)
            print(
                f"| {layer} | {items} | {int(row.n_items_a)}, {int(row.n_items_b)} | {' | '.join(cells)} |", flush=True
            )


def cell(one: xr.Dataset, items: str) -> str:
    text = f"{one.estimate:.2f} ({one.estimate_low:.2f}, {one.estimate_high:.2f})" + "*" * int(one.p_adjusted < 0.05)
    if items != "units":
        text += f"; {one.gain:+.2f} ({one.gain_low:+.2f}, {one.gain_high:+.2f})"
    return text.replace("-", "−").replace("+0.00", "0.00").replace("−0.00", "0.00")


def print_repro(v4: xr.DataArray, layers: dict[str, xr.DataArray]) -> None:
    """Print V4's twins in two layers, next to what was found before."""
    finders = {
        "units": ns.Units(),
        "K-means": ns.KMeans(),
        "random": ns.Random(),
        "PCA": ns.PCA(),
        "ICA": ns.ICA(),
    }
    print("\n### Twins of V4 201025 in SqueezeNet, all units: median r held out (share with adjusted p < .05)\n")
    print("| layer | items | before | remove='none' | rotations | remove='common' | rotations |\n" + "|---" * 7 + "|")
    marked = ns.split_stimuli(v4, random_state=0)
    is_fit = (marked.split == "fit").values
    for layer in ("fire8", "fire4"):
        network = ns.responses.drop_constant_units(layers[layer].assign_coords(split=marked.split))
        for name, finder in finders.items():
            a, b = (clone(finder).fit(each[is_fit]).transform(each) for each in (marked, network))
            b = ns.responses.drop_constant_units(b.rename(direction="unit"))
            cells = []
            for remove in ("none", "common"):
                found = twins(a, b, remove=remove)
                share = float((found.p_adjusted < 0.05).mean())
                cells += [f"{float(found.median_r):.2f} ({share:.2f})", f"{float(found.rotated.median()):.2f}"]
            r, share = BEFORE[layer, name]
            print(
                f"| {layer} | {name} | {r:.2f}" + (f" ({share:.2f})" if share else "") + f" | {' | '.join(cells)} |",
                flush=True,
            )


def main() -> None:
    """Print both tables and the time that they took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", nargs="+", default=list(SESSIONS), choices=list(SESSIONS))
    parser.add_argument("--part", nargs="+", default=["table", "repro"], choices=["table", "repro"])
    parser.add_argument("--position", default="mean", choices=["mean", "center"], help="of a map, by `activations`")
    options = parser.parse_args()
    if "NEUROSUPER_TEST_DATA" not in os.environ:
        sys.exit("set NEUROSUPER_TEST_DATA to the folder that contains the recordings (v4/) and networks (nets/)")
    data, start = Path(os.environ["NEUROSUPER_TEST_DATA"]), time.perf_counter()
    networks = runpy.run_path(str(Path(__file__).parents[1] / "tutorials" / "networks.py"))
    for session in options.sessions:
        v4, images = load(data, session)
        layers = layers_of(data, images, networks, options.position)
        print(f"{time.perf_counter() - start:.0f} s: activations of {session}", file=sys.stderr)
        if "table" in options.part:
            print_table(session, v4, layers | layers_of(data, images, networks, options.position, untrained=True))
            print(f"{time.perf_counter() - start:.0f} s: table of {session}", file=sys.stderr)
        if "repro" in options.part and session == "201025":
            print_repro(v4, layers)
    print(f"\n{time.perf_counter() - start:.0f} s in all, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
