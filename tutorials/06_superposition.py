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
# # Superposition, measured
#
# Why should directions be more interpretable than units? One answer is *superposition*: a population represents more
# features than it has units, on directions that are not orthogonal, so that each unit mixes several features. Klindt et
# al. 2023 (arXiv 2310.11431) support this by a series of analyses. Here we repeat them, each with the control that
# could contradict it, in three populations:
#
# - a toy world, whose features we know: does the measure find what is there?
# - macaque V4 (Cowley et al. 2023, session 201025: 89 units, 1,200 photographs);
# - SqueezeNet, layer fire8: 89 of its channels at the centre pixel, for every second of the same photographs.
#
# In the toy world the measures recover the features. In V4 and SqueezeNet most of the analyses do not come out on
# photographs that chose nothing, or come out for random directions as well; the last section lists which do. The page
# on [superposition](methods/superposition.md) describes what each measure assumes.
#
# The environment variable `NEUROSUPER_TEST_DATA` contains the path of the folder with the recordings and the networks'
# weights.

# %%
import os
from pathlib import Path

import networks
import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

import neurosuper as ns
from neurosuper.demo.superposed import superposed
from neurosuper.directions import recovery
from neurosuper.inference import compare_with_null
from neurosuper.interpretability import image_statistics, selectivity
from neurosuper.plot import (
    plot_disentanglement,
    plot_interference,
    plot_rotation,
    plot_sparseness,
    plot_spectrum,
    plot_synergy,
)
from neurosuper.superposition import (
    axis_alignment,
    between_directions,
    clustered_apart,
    count_features,
    disentanglement,
    interference,
    rotate_units,
    rotation_curve,
    sparseness,
    sparsity_curve,
    spectrum,
    synergy,
)

data = Path(os.environ["NEUROSUPER_TEST_DATA"])


def scalars(results, names):
    """Return a table of some scalar variables of several results."""
    return pd.DataFrame({key: {name: each[name].item() for name in names} for key, each in results.items()}).T


# %% [markdown]
# ## Three populations
#
# All distances between photographs are computed once (LPIPS, AlexNet). The index of an item, a unit or a direction, is
# minus the mean distance between the five photographs that drive it most.

# %%
images = ns.load_images(data / "v4" / "images_201025.zip")
v4 = ns.load_array(
    data / "v4" / "responses_avg_201025.npy", dims=("unit", "stimulus"), stimuli=images, measured_in="spike count"
)
lpips = ns.LPIPS("alex", weights=data / "nets" / "alexnet_features_fp16.npz")
distance = ns.Precomputed(ns.metrics.pairwise_distances(images, lpips))

# %% [markdown]
# Many measures depend on the number of units, so we take as many channels of the network as V4 has units, at random.

# %%
squeezenet = networks.squeezenet(data / "nets" / "squeezenet_v1_0_imagenet_fp16.npz")
layers = ns.activations(
    squeezenet,
    images[::2],
    ["fire8", "conv_final"],
    preprocess=networks.squeezenet_preprocess,
    batch_size=16,
)
layers = ns.by_layer(layers)
fire8 = ns.responses.drop_constant_units(layers["fire8"])
chosen = np.random.default_rng(0).choice(fire8.sizes["unit"], size=v4.sizes["unit"], replace=False)
fire8 = fire8[:, np.sort(chosen)]
systems = {"V4": v4, "SqueezeNet": fire8}
assert {name: responses.shape for name, responses in systems.items()} == {"V4": (1200, 89), "SqueezeNet": (600, 89)}

# %% [markdown]
# In the toy world, 40 features are in superposition in 20 units. Each stimulus has each feature with a probability of
# 5 %, independently; each feature has a random direction. The strongest feature of a stimulus is its category. The
# pictures are noise: two stimuli count as similar if they have the same category.

# %%
world = superposed(n_features=40, n_units=20, n_stimuli=2000, noise=0.02)
features = world.features.rename(feature="direction")
pixels = np.random.default_rng(0).integers(0, 256, (2000, 2, 2, 3), dtype=np.uint8)
noise = ns.load_images(pixels).assign_coords(stimulus=world.stimulus, category=world.category)
label = ns.Label()

# %% [markdown]
# ## Do directions interfere?
#
# More than 20 directions in 20 dimensions cannot all be orthogonal: the largest cosine of any pair is at least the
# *Welch bound*. The known directions of the toy world are random, and the root mean square of their cosines is
# 1/√20 = 0.22.

# %%
known = interference(world.directions, codes=features)
print(f"root mean square cosine {known.rms:.3f}, largest {known.coherence:.3f}, Welch bound {known.welch:.3f}")
print(f"co-firing {known.cofiring:.2f} [{known.cofiring_low:.2f}, {known.cofiring_high:.2f}]")
assert abs(known.rms - 20**-0.5) < 0.01
assert known.coherence > known.welch
assert known.cofiring_low < 1 < known.cofiring_high  # features are independent

# %% [markdown]
# In V4 and SqueezeNet we ask K-means for twice as many directions as units, with the mean response subtracted: without
# `center=True` all directions are close to the mean response, and cosines say nothing else. Any finder returns as many
# directions as it is asked for, so their number is no evidence. The question is whether they interfere less than random
# directions do. `Random` directions ignore the responses. `CovarianceMatched` directions are random, too, but follow
# the covariance of the responses, which makes any directions more parallel.

# %%
N = 178  # twice as many as units


def in_covariance(directions, *, random_state):
    """Return as many random directions with the covariance of the responses."""
    n = directions.sizes["direction"]
    return ns.CovarianceMatched(n, center=True, random_state=random_state).fit(responses).directions_


found, tests = {}, {}
for name, responses in systems.items():
    fits = {
        "KMeans": ns.KMeans(N, center=True, random_state=0),
        "CovarianceMatched": ns.CovarianceMatched(N, center=True, random_state=0),
        "Random": ns.Random(N, random_state=0),
    }
    for finder, each in fits.items():
        found[name, finder] = interference(each.fit(responses).directions_)
    tests[name] = compare_with_null(
        lambda D: interference(D).rms,
        fits["KMeans"].directions_,
        in_covariance,
        alternative="two-sided",
        n_resamples=99,
    )
rms = pd.Series({key: each.rms.item() for key, each in found.items()}).unstack(sort=False)
rms["Welch bound"] = {name: found[name, "KMeans"].welch.item() for name in systems}
rms["p (covariance)"] = {name: test.p_value.item() for name, test in tests.items()}
rms.round(3)

# %%
plot_interference({" · ".join(key): each for key, each in found.items()})

# %% [markdown]
# In neither system are the directions nearly orthogonal: their cosines are above those of directions that ignore the
# responses, and far above the bound. Compared with random directions of the same covariance, those of V4 interfere
# slightly more, and those of SqueezeNet less.

# %%
assert (rms.KMeans > rms.Random).all()
assert (rms.Random > rms["Welch bound"]).all()
assert (rms["p (covariance)"] < 0.05).all()
assert rms.KMeans["V4"] > tests["V4"].null.max()
assert rms.KMeans["SqueezeNet"] < tests["SqueezeNet"].null.min()

# %% [markdown]
# ## How many dimensions are there?
#
# The eigenvalues of the covariance are the variances along its components. Their *participation ratio* is d if d of
# them are equal and all others are 0. We compare both systems for the same photographs.

# %%
spectra = {
    name: spectrum(responses.sel(stimulus=fire8.stimulus), fit=(1, 60), n_resamples=50)
    for name, responses in systems.items()
}
names = ["participation_ratio", "participation_ratio_low", "participation_ratio_high"]
names += ["alpha", "alpha_low", "alpha_high"]
scalars(spectra, names).round(2)

# %%
assert spectra["V4"].participation_ratio_high < spectra["SqueezeNet"].participation_ratio_low < 89 / 2
assert spectra["SqueezeNet"].alpha_high < spectra["V4"].alpha_low

# %% [markdown]
# V4 has fewer dimensions than the network, and both have far fewer than units. Variances include noise. With repeated
# presentations, *cross-validated* PCA (Stringer et al. 2019) estimates the variance of the signal alone. The data of
# the second session of V4 (210325: 50 units, 640 grey photographs) contain each presentation. Noise spreads over all
# dimensions: without it the participation ratio is lower, and variance falls faster.
#
# If variances follow a power law, a smooth code of d-dimensional stimuli has an exponent `alpha` above 1 + 2/d, which
# is 1.00 for photographs. That of the signal is well above it for components 5 to 40, and about equal to it for
# components 1 to 30. A power law would have one exponent for both, so these 50 units do not decide the question.

# %%
second = ns.load_images(data / "v4" / "images_210325.zip")
dims = ("unit", "stimulus", "repetition")
trials = ns.load_array(data / "v4" / "responses_raw_210325.npy", dims=dims, stimuli=second, measured_in="spike count")
settings = {"stimulus_dim": 112 * 112, "n_splits": 4, "n_resamples": 20}
signal = {
    (method, f"components {fit[0]} to {fit[1]}"): spectrum(trials, method=method, fit=fit, **settings)
    for method in ("pca", "cvpca")
    for fit in ((1, 30), (5, 40))
}
by_range = scalars(signal, ["participation_ratio", "alpha", "alpha_low", "alpha_high", "alpha_critical"])
by_range.round(2)

# %%
plot_spectrum(spectra | {"V4, signal of 210325": signal["cvpca", "components 5 to 40"]})

# %%
assert (by_range.participation_ratio["cvpca"] < by_range.participation_ratio["pca"] - 1).all()
assert (by_range.alpha["cvpca"] > by_range.alpha["pca"]).all()
first, later = (by_range.loc["cvpca", f"components {part}"] for part in ("1 to 30", "5 to 40"))
assert first.alpha_low < first.alpha_critical < first.alpha_high
assert later.alpha_low > later.alpha_critical + 0.5

# %% [markdown]
# ## Are codes sparse, and are sparse items more interpretable?
#
# Features in superposition must be sparse, or they could not be separated. In the toy world the sparseness of a feature
# is 1 − 0.05/2, or 0.975. Units, each a sum of 40 features with positive and negative weights, are not sparse.
#
# Sparseness depends on where 0 is. Codes of `KMeans` are all positive, so all are measured above one `baseline`: the
# smallest code of each item.

# %%
toy = {
    "features": sparseness(features, baseline="min").mean().item(),
    "units": sparseness(world.response, baseline="min").mean().item(),
}
print(toy)
assert abs(toy["features"] - 0.975) < 0.005
assert toy["units"] < 0.1

# %% [markdown]
# In V4 and SqueezeNet, directions are found on one half of the photographs; sparseness and index are of the other half.
# The paper reports a correlation between sparse activation and interpretability. Is there one over units, or over
# directions? And is there one over random directions?


# %%
def on_the_other_half(responses):
    """Return codes of the photographs that directions were not found on."""
    marked = ns.split_stimuli(responses, random_state=0)
    fit, score = (marked[(marked.split == part).values].drop_vars("split") for part in ("fit", "score"))
    finders = {
        "Units": ns.Units(),
        "KMeans": ns.KMeans(center=True, random_state=0),
        "CovarianceMatched": ns.CovarianceMatched(center=True, random_state=0),
    }
    return {name: each.fit(fit).transform(score) for name, each in finders.items()}


items, rows = {}, []
for name, responses in systems.items():
    for finder, codes in on_the_other_half(responses).items():
        each = xr.Dataset({"sparseness": sparseness(codes, baseline="min")})
        for index, correction in {"interpretability": None, "corrected": "hub"}.items():
            each[index] = ns.interpretability_index(codes, images, distance, correction=correction)
        items[f"{name} · {finder}"] = each
        row = {"system": name, "finder": finder, "sparseness": each.sparseness.mean().item()}
        for index in ("interpretability", "corrected"):
            row[f"r with {index}"], row[f"p, {index}"] = stats.spearmanr(each.sparseness, each[index])
        rows.append(row)
sparse = pd.DataFrame(rows).set_index(["system", "finder"])
sparse.round(3)

# %%
plot_sparseness({name: each.assign(interpretability=each.corrected) for name, each in items.items()})

# %% [markdown]
# K-means directions are less sparse than units; those of V4 are as sparse as random directions of the same covariance.
# No correlation with the raw index is detectable, although these p-values are rather too small, as they treat items as
# independent. With the hub-corrected index the correlation is high for K-means directions of V4, but as high for random
# ones: it takes no features to have it.

# %%
r, p = sparse["r with corrected"], sparse["p, interpretability"]
for name in systems:
    assert sparse.sparseness[name, "KMeans"] < sparse.sparseness[name, "Units"]
assert (p > 0.05).all()
assert abs(sparse.sparseness["V4", "KMeans"] - sparse.sparseness["V4", "CovarianceMatched"]) < 0.01
assert r["V4", "KMeans"] > 0.6
assert r["V4", "CovarianceMatched"] > 0.6
assert (sparse["p, corrected"]["SqueezeNet"] > 0.05).all()

# %% [markdown]
# ## Are the units special?
#
# If single units encode features, turning the axes away from them by a random rotation must cost interpretability. If
# features are in superposition, units are axes like any others. The toy world shows both: its features, taken as units,
# and its units.

# %%
sources = {"features as units": world.features.rename(feature="unit"), "units": world.response}
curves = {
    f"toy world, {name}": rotation_curve(source, noise, label, amounts=(0, 0.5, 1), n_resamples=20)
    for name, source in sources.items()
}
curves |= {name: rotation_curve(responses, images, distance, n_resamples=50) for name, responses in systems.items()}
last = {name: curve.isel(amount=-1) for name, curve in curves.items()}
scalars(last, ["mean_difference", "mean_difference_low", "mean_difference_high", "p_value"]).round(3)

# %%
plot_rotation({name: curves[name] for name in systems})

# %% [markdown]
# In V4 the index falls as the axes turn: its units are more interpretable than their mixtures. In SqueezeNet it does
# not. But by the hub-corrected index V4's units score no higher than rotated axes: they respond to plain photographs,
# which are similar to all others.


# %%
def corrected_index(responses, amount, seed):
    """Return the mean hub-corrected index of axes that a rotation turns away from the units."""
    turned = rotate_units(ns.normalize(responses, "zscore"), amount, random_state=seed)
    return ns.interpretability_index(turned, images, distance, correction="hub").mean().item()


corrected = {
    name: [np.mean([corrected_index(responses, amount, seed) for seed in range(5)]) for amount in (0, 1)]
    for name, responses in systems.items()
}
print(pd.DataFrame(corrected, index=["units", "rotated"]).round(4))
assert last["toy world, features as units"].mean_difference_high < -0.3
assert last["V4"].mean_difference_high < 0
assert last["V4"].p_value == 0.05  # the smallest that 19 rotations allow
assert last["SqueezeNet"].mean_difference_high > 0
assert last["SqueezeNet"].p_value > 0.05
assert corrected["V4"][1] > corrected["V4"][0]

# %% [markdown]
# Directions, in turn, may be close to units. `n_units_needed` is 1 for a direction that is a unit, and 89 for one with
# equal weights on all. K-means directions need fewer units than random ones of the same covariance, most clearly in
# SqueezeNet, where a third of them have more than half of their squared length on one unit.

# %%
rows = {}
for name, responses in systems.items():
    for each in (ns.KMeans(center=True), ns.CovarianceMatched(center=True), ns.Random()):
        aligned = axis_alignment(each.set_params(random_state=0).fit(responses).directions_)
        values = {"n_units_needed": aligned.n_units_needed.mean().item(), "on one unit": aligned.share_on_units.item()}
        rows[name, type(each).__name__] = values
alignment = pd.DataFrame(rows).T
print(alignment.round(2))
needed = alignment.n_units_needed.unstack(sort=False)
assert (needed.KMeans < needed.CovarianceMatched).all()
assert (needed.CovarianceMatched < needed.Random).all()
assert 0.25 < alignment["on one unit"]["SqueezeNet", "KMeans"] < 0.45

# %% [markdown]
# ## Do two units together encode what neither does alone?
#
# The paper reports *synergy*: "pairs of uninterpretable neurons work together to encode interpretable features". First
# a population in which this is so by construction: each of 40 units responds to two features, and each feature drives
# two units. Two units that share a feature are rarely both active without it. Each pair is scored with the smaller of
# its two responses ("and").

# %%
sparse_features = superposed(n_features=40, n_stimuli=4000, random_state=1)
one = sparse_features.features.rename(feature="unit")
mixed = one + one.roll(unit=-1, roll_coords=False)  # unit k responds to features k and k + 1
pixels = np.random.default_rng(1).integers(0, 256, (4000, 2, 2, 3), dtype=np.uint8)
shown = ns.load_images(pixels).assign_coords(stimulus=one.stimulus, category=sparse_features.category)
pairs = {"toy world": synergy(mixed, shown, label, combine="and", n_resamples=999)}
neighbors = [f"{a} & {b}" for a, b in zip(mixed.unit.values, mixed.unit.values[1:], strict=False)]
together = pairs["toy world"].sel(pair=neighbors)
alone, joint = together.interpretability_a.mean().item(), together.interpretability.mean().item()
print(f"index of units that share a feature: {alone:.2f} alone, {joint:.2f} together")
assert joint > alone + 0.3

# %% [markdown]
# In V4 and SqueezeNet we look at all pairs of units. Synergy is found on one half of the photographs, and scored on the
# other. The pair is scored with the sum of its two responses, and again with the smaller one. `found_of_best` is the
# mean of the best 5 % of pairs where they were found, and `synergy_of_best` that of the same pairs on other
# photographs.

# %%
for name, responses in systems.items():
    for combine in ("sum", "and"):
        pairs[f"{name}, {combine}"] = synergy(responses, images, distance, combine=combine, n_resamples=999)
names = ["found_of_best", "synergy_of_best", "synergy_of_best_low", "synergy_of_best_high", "share_above_of_best"]
names += ["share_above", "share_above_null", "correlation_found"]
best = scalars(pairs, names)
best.round(3)

# %%
plot_synergy({name: pairs[f"{name}, sum"] for name in systems})

# %% [markdown]
# Where they are found, the best pairs have synergy, as the paper reports for a minority of pairs. On other photographs
# it is below 0: they are *less* interpretable than the better of their units, like most pairs. The negative correlation
# with the index of the units, which the paper also reports, comes out as well. It follows from arithmetic: an index
# that is low by chance is subtracted.

# %%
assert best.synergy_of_best_low["toy world"] > 0
on_photographs = best.drop("toy world")
assert (on_photographs.found_of_best > 0.03).all()
assert (on_photographs.synergy_of_best_high < 0).all()
assert (on_photographs.share_above_of_best < 0.5).all()
assert (on_photographs.correlation_found < -0.25).all()
for name in on_photographs.index:
    assert not ((pairs[name].p_adjusted < 0.05) & (pairs[name].synergy > 0)).any()

# %% [markdown]
# ## Are some units more interpretable than others?
#
# The paper splits units by their index, and clusters each part alone. Here units are split on one half of the
# photographs, and scored on the other, for four random halves.

# %%
rows = []
for name, responses in systems.items():
    for seed in range(4):
        table = clustered_apart(responses, images, distance, random_state=seed)
        units = table.isel(item=(table.finder == "Units").values, metric=0)
        means = xr.Dataset({"where split": units.selection_index, "elsewhere": units.interpretability})
        apart = means.groupby(units.system).mean()
        apart = apart.sel(system="more") - apart.sel(system="less")
        contrast = ns.contrast_systems(table).to_dataframe()
        contrast = contrast[contrast.finder == "Units"].set_index("correction").p_value
        rows.append({"system": name, "split": seed} | {key: value.item() for key, value in apart.data_vars.items()})
        rows[-1] |= {"p": contrast["none"], "p (corrected)": contrast["hub"]}
split = pd.DataFrame(rows).set_index(["system", "split"])
split.round(3)

# %% [markdown]
# At least two thirds of the difference are gone on other photographs. A small difference remains in V4, with p below
# 0.05 in most of the splits, but none by the corrected index: the "more interpretable" units prefer plain photographs.

# %%
by_system = split.groupby("system").mean()
assert (by_system["where split"] > 0.06).all()
assert (by_system["elsewhere"] < by_system["where split"] / 3).all()
assert (split.p["V4"] < 0.05).sum() >= 2
assert (split["p (corrected)"] > 0.05).all()

# %% [markdown]
# ## How few units does a direction need?
#
# `sparsity_curve` keeps only the largest weights of each direction, found on one half of the photographs, and scores
# the other. `change` is the mean index minus that of whole directions; `above_random` is by how much the largest
# weights are better than as many of random units.

# %%
keep = (1, 0.5, 0.1)
names = ["mean", "change", "change_low", "change_high", "above_random", "same_cluster"]
thinned = {}
for name, responses in systems.items():
    for center in (False, True):
        curve = sparsity_curve(ns.KMeans(center=center), responses, images, distance, keep=keep, n_resamples=100)
        thinned[name, "centred" if center else "default"] = curve[names].to_dataframe()[names]
thinned = pd.concat(thinned, names=["system", "K-means"])
thinned.round(3)

# %% [markdown]
# With a tenth of their weights, 9 of 89, K-means directions of SqueezeNet keep their index, and most of their clusters,
# as in the paper. In V4 directions by the default lose more than they are above units: what they gain, they owe to the
# sum of many units. Centred ones lose nothing, but their raw index is not above that of units either.

# %%
tenth = thinned.xs(0.1, level="keep")
assert tenth.change_high["V4", "default"] < -0.03
for key in (("V4", "centred"), ("SqueezeNet", "default"), ("SqueezeNet", "centred")):
    assert tenth.change_low[key] > -0.02 < 0 < tenth.change_high[key]
assert tenth.same_cluster["SqueezeNet"].min() > 0.7
assert tenth.same_cluster["V4"].max() < 0.5

# %% [markdown]
# ## Are two directions two features?
#
# Between the directions of two features there should be directions that encode neither: the index dips in the middle.
# In the toy world it does. Between random directions at the same angle it does not.

# %%
names = ["mean_dip", "mean_dip_low", "mean_dip_high", "mean_dip_random", "dip_above_turned", "p_value"]
dips = {
    "toy world": between_directions(world.directions, world.directions, noise, label, world.response, n_resamples=50)
}
for name, responses in systems.items():
    marked = ns.split_stimuli(responses, random_state=0)
    fit = marked[(marked.split == "fit").values].drop_vars("split")
    D = ns.KMeans(center=True, random_state=0).fit(fit).directions_
    dips[name] = between_directions(D, D, images, distance, marked - fit.mean("stimulus"), n_resamples=50)
dips = scalars(dips, names)
dips.round(3)

# %% [markdown]
# In V4 and SqueezeNet no dip is detectable between K-means directions.

# %%
assert dips.mean_dip_low["toy world"] > 0.1 > abs(dips.mean_dip_random["toy world"])
for name in systems:
    assert dips.mean_dip_low[name] < 0 < dips.mean_dip_high[name]
    assert dips.p_value[name] > 0.05

# %% [markdown]
# ## How many features are there?
#
# "More features than units" needs more directions that are found again in other stimuli than there are dimensions.
# `count_features` fits a finder on two halves, matches directions one to one, and subtracts the matches in responses
# whose units are shuffled. Dictionary learning finds nearly all of the 40 features of the toy world in 20 units, if it
# is asked for 40.

# %%
counted = count_features(ns.DictionaryLearning(random_state=0), world.response, n_directions=[20, 40], n_resamples=2)
print(counted[["n_stable", "held_out_variance", "overcompleteness"]].to_dataframe().round(2))
assert counted.held_out_variance[1] > counted.held_out_variance[0]  # so 40 is the better number
assert 36 <= counted.n_stable[1] <= 40
assert counted.overcompleteness[1] > 2

# %%
counts = {}
for name, responses in systems.items():
    scaled = ns.normalize(responses, "zscore")
    for finder in (ns.KMeans(center=True), ns.DictionaryLearning(random_state=0, dtype="float64")):
        one_each = count_features(finder, scaled, n_directions="1x", n_resamples=2)
        counts[name, type(finder).__name__] = one_each.isel(n_directions=0)
counts = scalars(counts, ["n_stable", "n_matched", "n_matched_null", "held_out_variance", "overcompleteness"])
counts.round(2)

# %% [markdown]
# Responses are z-scored: without this, all directions of dictionary learning in V4 are close to the mean response, and
# count as one. Of 89 directions, few are found again in other photographs, fewer than there are
# dimensions. From this number of photographs it does not follow that there are no more; but nothing shows that there
# are.

# %%
assert (counts.n_stable < 0.2 * v4.sizes["unit"]).all()
assert (counts.overcompleteness < 1).all()

# %% [markdown]
# ## Are directions more disentangled than units?
#
# A code is *disentangled* if each item encodes one factor of the stimuli, and each factor is encoded by one item. If
# directions undo superposition, they should be more disentangled than units. In the toy world, factors are whether a
# stimulus has each of eight features. The mutual information gap (`mig`) is high if a single item has information about
# a factor; `modularity` is high if an item has information about a single factor. Each is compared with its mean for
# factors that are permuted over stimuli (`null`).

# %%
score = world.response[1000:].drop_vars("category")
dictionary = ns.DictionaryLearning(40, random_state=0).fit(world.response[:1000])
present = (world.features.sel(stimulus=score.stimulus) > 0).astype(str).drop_vars("category")
eight = xr.Dataset({name: present.sel(feature=name, drop=True) for name in world.feature.values[:8]})
codes = {
    "features": features.sel(stimulus=score.stimulus).drop_vars("category"),
    "units": score,
    "dictionary": dictionary.transform(score),
}
few = {"n_permutations": 2, "n_resamples": 20}  # enough for means; the default is 10 and 100
toy_factors = {name: disentanglement(each, eight, **few) for name, each in codes.items()}
names = ["mig", "mig_low", "mig_high", "mig_null", "modularity", "modularity_null", "infom", "infom_null"]
entangled = scalars(toy_factors, names)
entangled.round(3)

# %%
assert entangled.mig_low["features"] > 0.5
assert entangled.mig_low["dictionary"] > 0.4
assert entangled.mig_high["units"] < 0.1
assert (entangled.modularity["dictionary"] - entangled.modularity["units"]) > 0.04

# %% [markdown]
# For the photographs of V4 we know no factors but those that can be measured: luminance, contrast, saturation, edges,
# and the slope of the spectrum. Codes are of the half of the photographs that directions were not found on.

# %%
codes = on_the_other_half(v4)
measured = image_statistics(images.sel(stimulus=codes["Units"].stimulus.values))
measured = measured[["luminance", "rms_contrast", "saturation", "edge_energy", "spectral_slope"]]
v4_factors = {f"V4 · {name}": disentanglement(each, measured, bins=10, **few) for name, each in codes.items()}
entangled = scalars(v4_factors, [*names, "modularity_low", "modularity_high"])
entangled.round(3)

# %%
plot_disentanglement(v4_factors)

# %% [markdown]
# Units and directions of V4 have information about these factors: modularity is above its null mean. K-means directions
# are slightly more modular than units, but so are random directions of the same covariance. No gap is detectable, so no
# factor has an item of its own. The paper's link with disentanglement comes out in the toy world, and not in V4 with
# these factors.

# %%
units, kmeans, random = (entangled.loc[f"V4 · {name}"] for name in codes)
assert (entangled.modularity_low > entangled.modularity_null).all()
assert units.modularity < kmeans.modularity
assert abs(kmeans.modularity - random.modularity) < 0.02
assert (entangled.mig_low < entangled.mig_null).all()
assert (entangled.mig_high < 0.02).all()

# %% [markdown]
# ## Can directions be named?
#
# A name is the category that an item responds to most. `selectivity` chooses it on one half of the stimuli, by the area
# under the ROC curve (AUC: 0.5 is chance), and tests it on the other. In the toy world we know which feature each
# direction of dictionary learning matches: four of five get the right name of 40. Others are named after a feature that
# happened to occur with theirs, as each category has about 12 stimuli in the half that chooses.

# %%
matched = recovery(dictionary.directions_, world.directions)
named = selectivity(dictionary.transform(score), world.category[1000:])
right = named.best.sel(direction=matched.match.values).values == matched.planted.values
print(f"cosine with the known direction {matched.median():.3f}; right names: {right.mean():.0%}")
assert matched.median() > 0.99
assert right.mean() > 0.75

# %% [markdown]
# No one has labelled the photographs of V4. SqueezeNet guesses one of 1,000 categories for each; the first 398 are
# animals. Which units and directions distinguish the photographs with animals?

# %%
guess = layers["conv_final"].argmax("unit").values
animal = xr.DataArray(np.where(guess < 398, "animal", "other"), {"stimulus": fire8.stimulus}, name="content")
rows = {}
for name, responses in systems.items():
    codes = {"Units": responses.sel(stimulus=fire8.stimulus)}
    codes["KMeans"] = on_the_other_half(codes["Units"])["KMeans"]
    for finder, each in codes.items():
        test = selectivity(each, animal.sel(stimulus=each.stimulus))
        share = (test.best_p_adjusted < 0.05).mean().item()
        rows[name, finder] = {"mean AUC": test.best_auc.mean().item(), "share of items with p < 0.05": share}
selective = pd.DataFrame(rows).T
selective.round(3)

# %% [markdown]
# A tenth of the units of SqueezeNet do, whose own guess this is, and 3 of 89 units of V4. The directions, which are
# tested on half of the photographs, do not. So hardly any item of V4 gets a name here. Better names need labels by
# people, or the affinities of a network for images and texts.

# %%
share = selective["share of items with p < 0.05"]
assert 0.05 < share["SqueezeNet", "Units"] < 0.3
assert share["V4"].max() < 0.05

# %% [markdown]
# ## What of the paper comes out here?
#
# | analysis (in brackets: not in the paper) | V4 | SqueezeNet, fire8 |
# |---|---|---|
# | (directions are nearly orthogonal) | no: less than random ones in the covariance | no: less than `Random` |
# | variance follows a power law near the critical exponent | undecided: the exponent depends on the range | – |
# | sparse items are more interpretable | raw index: no; corrected: random directions, too | no |
# | (units are better than rotated axes) | raw index: yes; corrected: no | no |
# | pairs of units have synergy | where found; not on other photographs | the same |
# | synergy correlates negatively with the index of units | yes, by arithmetic | yes, by arithmetic |
# | some units are more interpretable | a quarter of the difference remains; corrected: none | hardly |
# | directions need few units | no by the default of K-means | yes |
# | the index dips between directions | not detectable | not detectable |
# | there are more features than units | not shown: fewer stable directions than dimensions | the same |
# | directions are more disentangled | not more than random ones in the covariance | not measured |
#
# "No" means that the control explains the result, or that it is not there on other photographs. It does not mean that
# these populations have no superposition: with 1,200 photographs, or 600, and the index of five photographs, small
# effects are not detectable. In the toy world the same measures find it with 2,000 to 4,000 stimuli, more than there
# are here, and nearly without noise.
#
# This is one session, one layer with a sixth of its channels, and one metric. For a study file, the table
# `[superposition]` computes these measures and adds them to the report. The paper's network was ResNet-50; on three
# layers of ResNet-20, [superposition](methods/superposition.md) lists the same measures.
