# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which finder?
#
# We compare nine ways to find directions, on macaque V4 (Cowley et al. 2023, session 201025: 89 units, 1,200
# photographs) and on the last stage of ResNet-20 (64 channels at the centre pixel, 1,667 photographs of CIFAR-10). For
# each we measure how much variance of the responses its directions explain, how sparse its codes are, how much the
# directions depend on the seed, and how interpretable they are. [methods](methods/README.md) describes what each method
# assumes, what it costs, and when it fails.
#
# The environment variable `NEUROSUPER_TEST_DATA` contains the path of the folder with the recordings and the network's
# weights.

# %%
import os
from itertools import product
from pathlib import Path

import networks
import numpy as np
import xarray as xr
from sklearn.base import clone

import neurosuper as ns
from neurosuper.plot import plot_finders, plot_sweep

data = Path(os.environ["NEUROSUPER_TEST_DATA"])

# %% [markdown]
# ## Two systems

# %%
images = {
    "V4": ns.load_images(data / "v4" / "images_201025.zip"),
    "ResNet-20": ns.load_images(data / "images" / "cifar10_test_5000_jpg.zip", category_from="folder")[::3],
}
v4 = ns.load_array(
    data / "v4" / "responses_avg_201025.npy", dims=("unit", "stimulus"), stimuli=images["V4"], units="spike count"
)
resnet = ns.activations(
    networks.resnet20(data / "nets" / "resnet20-12fca82f.th"),
    images["ResNet-20"],
    "layer3",
    preprocess=networks.resnet20_preprocess,
)
systems = {"V4": v4, "ResNet-20": ns.responses.drop_constant_units(resnet)}
{name: dict(responses.sizes) for name, responses in systems.items()}

# %% [markdown]
# ## Nine finders
#
# Each finds as many directions as there are units, except PCA, ICA, NMF and Archetypal, which find a third as many: 89
# units or 64 channels do not have as many sources, non-negative directions or archetypes as units. K-means uses
# response vectors of unit length, as in the paper.

# %%
finders = {
    "Units": ns.Units(),
    "Random": ns.Random(),
    "PCA": ns.PCA("0.33x"),
    "ICA": ns.ICA("0.33x"),
    "NMF": ns.NMF("0.33x"),
    "K-means": ns.KMeans(),
    "Dictionary": ns.DictionaryLearning("1x"),
    "Autoencoder": ns.SparseAutoencoder("1x", n_active=8),
    "Archetypal": ns.Archetypal("0.33x", max_iter=20, tol=None),
}
SEEDS = [0, 1, 2]

# %% [markdown]
# `sweep` fits a finder with several seeds and evaluates every fit.


# %%
def measure(system, name):
    finder = finders[name]
    table = ns.sweep(finder, systems[system], n_directions=[finder.n_directions], seeds=SEEDS)
    table = table[["explained_variance", "sparsity", "stability"]].isel(n_directions=0, drop=True)
    return table.expand_dims(system=[system], finder=[name])


table = xr.combine_by_coords(
    [measure(system, name) for system in systems for name in finders], combine_attrs="override"
)
table = table.sel(system=list(systems), finder=list(finders))

# %% [markdown]
# The index of a direction is minus the mean LPIPS distance between the five photographs that drive it most. The codes
# of all finders and seeds are concatenated, so that each photograph is embedded only once.

# %%
lpips = ns.LPIPS("alex", weights=data / "nets" / "alexnet_features_fp16.npz")


def median_index(system):
    parts = []
    for name, seed in product(finders, SEEDS):
        codes = clone(finders[name]).set_params(random_state=seed).fit_transform(systems[system])
        used = (codes.max("stimulus") > codes.min("stimulus")).values  # a sparse finder may leave directions unused
        parts.append(codes[:, used].assign_coords(direction=[f"{name}|{seed}|{i}" for i in range(used.sum())]))
    index = ns.interpretability_index(xr.concat(parts, "direction"), images[system], lpips, top=5)
    fit = [label.rpartition("|")[0] for label in index.direction.values]
    median = index.to_series().groupby(fit).median()
    return [[median[f"{name}|{seed}"] for seed in SEEDS] for name in finders]


median = np.array([median_index(system) for system in systems])
table["index"] = ("system", "finder", "seed"), median, {"long_name": "median index (−LPIPS)"}
table.mean("seed").to_dataframe().unstack("system").loc[list(finders)].round(3)

# %% [markdown]
# Photographs of 112 pixels differ more from one another than those of 32 pixels. So we compare the two systems by how
# far the index of each finder is above that of the system's units.

# %%
above = (table["index"] - table["index"].sel(finder="Units")).assign_attrs(long_name="index above units (LPIPS)")
plot_finders(table.assign(index=above))

# %% [markdown]
# Some of this follows from mathematics. Units explain all variance. No linear method with the same number of directions
# explains more than PCA, which does not depend on the seed.

# %%
mean = table.mean("seed")
assert np.allclose(mean.explained_variance.sel(finder="Units"), 1)
for finder in ("ICA", "NMF", "Archetypal"):
    assert (mean.explained_variance.sel(finder=finder) <= mean.explained_variance.sel(finder="PCA") + 1e-3).all()
assert np.allclose(mean.stability.sel(finder="PCA"), 1, atol=1e-3)

# %% [markdown]
# ## How many directions?
#
# The number of directions is a choice. More K-means centres always explain more. To judge whether their stability
# across seeds is meaningful, compare it with the stability on `ns.interpretability.shuffle_units(v4)`, or use
# `KMeans(center=True)`.

# %%
sweep = ns.sweep(ns.KMeans(), v4, n_directions=[11, 22, 44, 89], seeds=SEEDS)
assert (sweep.explained_variance.mean("seed").diff("n_directions") > 0).all()
plot_sweep(sweep)

# %% [markdown]
# ## What this does not show
#
# These are medians of one session and one network layer; directions were found and scored on the same photographs, and
# nothing was tested against chance. The comparison shows how the methods differ, not which of them is right.
