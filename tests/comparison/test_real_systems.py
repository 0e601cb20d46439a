"""The README's finders on a real recording and all layers of two real networks, in one call."""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

import neurosuper as ns
from neurosuper import Color, KMeans, Random, Units, align, by_layer, compare
from neurosuper.comparison.splits import split_systems

SOURCE = Path(__file__).parents[2] / "tutorials" / "networks.py"
FINDERS = {
    "Units": Units(),
    "Random": Random("2x"),
    "KMeans": KMeans("2x"),
    "KMeans centred": KMeans("2x", center=True),
}


@pytest.fixture
def systems(real_data):
    """V4, layers of SqueezeNet and ResNet-20 with a unit per channel, and images, half of which the networks see."""
    spec = importlib.util.spec_from_file_location("networks", SOURCE)
    networks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(networks)
    images = ns.load_images(real_data / "v4/images_201025.zip")
    v4 = ns.load_array(real_data / "v4/responses_avg_201025.npy", ("unit", "stimulus"), stimuli=images)
    of_layers = {}
    for prefix, model, layers, preprocess in (
        (
            "SqueezeNet",
            networks.squeezenet(real_data / "nets/squeezenet_v1_0_imagenet_fp16.npz"),
            ["fire4", "fire8"],
            networks.squeezenet_preprocess,
        ),
        (
            "ResNet-20",
            networks.resnet20(real_data / "nets/resnet20-12fca82f.th"),
            ["layer2", "layer3"],
            networks.resnet20_preprocess,
        ),
    ):
        responses = ns.activations(model, images[::2], layers, preprocess=preprocess, position="center")
        of_layers |= by_layer(responses, prefix=prefix)
    return {"V4": v4} | of_layers, images


def count_silent(responses):
    """Return the number of units that give all stimuli of one half the same response."""
    halves = [responses.values[(responses.split == half).values] for half in ("fit", "score")]
    return sum(any(len(set(half[:, unit])) == 1 for half in halves) for unit in range(responses.shape[1]))


@pytest.mark.slow
def test_one_call_compares_v4_and_two_networks_and_says_what_it_left_out(systems):
    """Half of 600 stimuli to fit the networks on are enough for some 150 clusters: two layers have more channels."""
    systems, images = systems
    marked = split_systems({name: align(responses, images)[0] for name, responses in systems.items()}, 0)
    most = int((marked["SqueezeNet fire4"].split == "fit").sum()) // 2
    with pytest.warns(UserWarning, match="KMeans finds|were left out") as caught:
        table = compare(systems, images, FINDERS, [Color()])
    *capped, left_out = [str(warning.message) for warning in caught]
    n_units = {name: responses.sizes["unit"] for name, responses in systems.items()}
    assert n_units == {
        "V4": 89,
        "SqueezeNet fire4": 256,
        "SqueezeNet fire8": 512,
        "ResNet-20 layer2": 32,
        "ResNet-20 layer3": 64,
    }
    silent = dict(zip(n_units, table.n_units_left_out, strict=True))
    assert silent == {name: count_silent(responses) for name, responses in marked.items()}
    assert silent["SqueezeNet fire8"] > 0
    parts = [f"{silent[name]} of {n} of {name!r}" for name, n in n_units.items() if silent[name]]
    assert f"were left out: {', '.join(parts)}; attrs" in left_out
    kept = {name: n - silent[name] for name, n in n_units.items()}
    assert [message[: message.index(" (")] for message in capped] == [
        f"{finder!r} in {name!r}: KMeans finds {most} directions, not {2 * kept[name]}"
        for name in ("SqueezeNet fire4", "SqueezeNet fire8")
        for finder in ("KMeans", "KMeans centred")
    ]
    counts = Counter(zip(table.system.values.tolist(), table.finder.values.tolist(), strict=True))
    for name, n in kept.items():
        n_clusters = min(2 * n, most) if name != "V4" else 2 * n
        assert {finder: counts[name, finder] for finder in dict.fromkeys(table.finder.values.tolist())} == {
            "Units": n,
            "Random": 2 * n,
            "KMeans": n_clusters,
            "KMeans centred": n_clusters,
            "CovarianceMatched (normalize)": n,
            "CovarianceMatched (center, normalize)": n,
        }
    assert bool(table.interpretability.notnull().all())
    means = table.interpretability[:, 0].groupby(["system", "finder"]).mean().to_series().unstack()
    assert means.loc["V4", "KMeans"] > means.loc["V4", "Units"] + 0.01
