# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The same question in three brains
#
# Are the directions of a population more interpretable than its single units, in human fMRI, in macaque arrays and in
# mouse probes? The three laboratories publish entirely different files: HDF5 volumes and NIfTI masks (NSD), MATLAB 7.3
# (TVSD), NWB (Allen Institute). Here each becomes a labelled array of the same form, and the same call analyses each.
#
# We use small files with exactly the published layout and simulated responses (see the end). For the real files, only
# the lines with the comment "real data" change.

# %%
import tempfile

import numpy as np
import xarray as xr

import neurosuper as ns
from neurosuper.comparison import SharedSpace, transfer_top
from neurosuper.demo.brains import write_brains
from neurosuper.demo.gabor import GaborEnergy
from neurosuper.plot import plot_distributions, plot_reliability, plot_top_stimuli

folders = write_brains(tempfile.mkdtemp(), monkeys=["F", "N"])
gratings = ns.load_images(folders["nsd"].parent / "gratings")

# %% [markdown]
# ## Human: 7T fMRI (Natural Scenes Dataset, Allen et al. 2022)
#
# Voxels of early visual areas in two sessions; each image was shown three times.

# %%
human = ns.load("nsd", path=folders["nsd"], subset={"session": [1, 2]})
# real data: ns.load("nsd", subset={"subject": "subj01", "session": range(1, 41)}, roi=["V1", "V2", "V3", "hV4"])
human_images = ns.load_stimuli("nsd", path=folders["nsd"], stimuli=human)
# real data: ns.load_stimuli("nsd", stimuli=human, size=64)
human.coords

# %% [markdown]
# ## Macaque: Utah arrays in V1, V4 and IT (TVSD, Papale et al. 2025)
#
# Training images were shown once, test images thirty times. Reliability is measured on the test images; directions are
# found in the responses to the training images.

# %%
test = ns.load("tvsd", path=folders["tvsd"])  # real data: ns.load("tvsd")
macaque = ns.load("tvsd", path=folders["tvsd"], part="train")  # real data: ns.load("tvsd", part="train")
macaque = macaque.assign_coords(reliability=ns.reliability.split_half_reliability(test))
macaque_images = gratings  # real data: ns.load_images(the folder of THINGS images, size=64)

# %% [markdown]
# ## Mouse: Neuropixels in six visual areas (Allen Institute, Siegle et al. 2021)

# %%
MOUSE = "allen-neuropixels-natural-scenes"
mouse = ns.load(MOUSE, path=folders[MOUSE])  # real data: ns.load(MOUSE, stream=True)
mouse_images = ns.load_images(folders[MOUSE] / "scenes")

# %% [markdown]
# ## Reliable units
#
# We apply one rule to all three: a split-half reliability of the mean over repetitions of at least 0.3.

# %%
for recording in (human, test, mouse):
    assert recording.dims == ("stimulus", "repetition", "unit")
plot_reliability(ns.reliability.split_half_reliability(human), threshold=0.3)

# %%
plot_reliability(macaque.reliability, threshold=0.3)

# %%
plot_reliability(ns.reliability.split_half_reliability(mouse), threshold=0.3)

# %% [markdown]
# In the macaque files 1,008 channels are pure noise. With a hundred stimuli some of these reach 0.3 by chance, so we
# use a higher threshold there.

# %%
brains = {
    "human fMRI": ns.average_repetitions(ns.select_units(human, reliability=0.3)),
    "macaque arrays": ns.select_units(macaque, reliability=0.6),
    "mouse probes": ns.average_repetitions(ns.select_units(mouse, reliability=0.3)),
}
for name, responses in brains.items():
    n_stimuli, n_units = responses.shape
    print(f"{name:<15} {n_stimuli:4} stimuli × {n_units} units, {responses.attrs['units']}")
    assert n_units == 16, "the simulated units that respond to images, and no others"

# %% [markdown]
# ## The same call for each
#
# Directions are found on one half of the stimuli and scored on the other, by the mean color of the images that drive
# them and by the energy of local orientation. The three populations were shown different images, which are
# distinguished by their labels.
#
# K-means is run as in the paper, and with the mean response subtracted (`center=True`): see
# [K-means](methods/kmeans.md). For each of the two, `compare` adds a *matched baseline*: random vectors with the mean
# and the covariance of the same prepared responses. A gain over units that the baseline shares is no evidence that
# features were found.

# %%
images = xr.concat([human_images, macaque_images, mouse_images], dim="stimulus")
metrics = [ns.Color(), ns.Features(GaborEnergy(), "energy")]
finders = {
    "Units": ns.Units(),
    "Random": ns.Random("1x"),
    "KMeans": ns.KMeans("1x", random_state=0),
    "KMeans centred": ns.KMeans("1x", center=True, random_state=0),
}
comparison = ns.compare(brains, images, finders, metrics)
print("\n".join(ns.headline(comparison)))

# %%
plot_distributions(comparison, "color")

# %% [markdown]
# Raw means next to hub-corrected ones, which leave out what single images explain by being near to all others (chance
# is exactly 0):

# %%
table = ns.summarize(comparison)
table[["mean", "mean_corrected"]].unstack("finder", sort=False).round(3)

# %% [markdown]
# `contrast_finders` tests every finder against units and against its matched baseline, by both indices. Here are the
# tests of K-means, with p adjusted over the finders that are tested against the same kind of reference in one brain, by
# one metric and one index:

# %%
tests = ns.contrast_finders(comparison)
shown = (
    tests[["difference", "p_adjusted"]]
    .to_dataframe()
    .set_index(["system", "finder", "against", "metric", "correction"])
)
shown = shown[shown.index.get_level_values("finder").str.startswith("KMeans")]
shown.unstack("correction").round(3)

# %% [markdown]
# ## Images that drive a unit, and images that drive a direction
#
# For each brain, we show the unit and the K-means direction with the index by color nearest to the mean of their kind.
# They illustrate the scores; they are not findings about these items.


# %%
def typical(name, finder):
    """Return the item whose index is nearest to the mean of its kind."""
    index = comparison.interpretability.sel(metric="color")
    index = index[((comparison.system == name) & (comparison.finder == finder)).values]
    return int(np.abs(index - index.mean()).idxmin("item"))


chosen = [typical(name, finder) for name in brains for finder in ("Units", "KMeans")]
plot_top_stimuli(comparison.sel(item=chosen, metric=["color"]), images)

# %% [markdown]
# ## Two animals: what the directions of one are in the other
#
# A direction of one monkey is of interest if other monkeys have it, too. Both monkeys of TVSD saw the same images. With
# two of them in `subset`, `load` puts their units side by side, with the coord `subject`, by which `by_subject` divides
# them; `concatenate_systems` does the same for recordings that were loaded one by one.

# %%
two = {"monkey": ["F", "N"]}  # real data: without `path`
reliability = ns.reliability.split_half_reliability(ns.load("tvsd", path=folders["tvsd"], subset=two))
both = ns.load("tvsd", path=folders["tvsd"], subset=two, part="train").assign_coords(reliability=reliability)
both = ns.split_stimuli(ns.select_units(both, reliability=0.6))
monkeys = ns.by_subject(both)
assert {name: monkey.sizes["unit"] for name, monkey in monkeys.items()} == {"F": 16, "N": 16}

# %% [markdown]
# `transfer_top` leaves each animal out in turn. It finds directions in the others, predicts their codes from the units
# of the animal left out, by ridge regression, and scores this on other images: by the correlation `r`; by where the top
# images of the direction come among the predictions (`percentile`, chance is 50); and by how interpretable the top
# images of the predictions are. We do this for K-means, and for random directions as the baseline.

# %%
found = {
    name: transfer_top(monkeys, finder, gratings, ns.Color())
    for name, finder in {"KMeans": ns.KMeans(16, random_state=0), "Random": ns.Random(16)}.items()
}
transfer = xr.concat(found.values(), "finder", combine_attrs="drop_conflicts").assign_coords(finder=list(found))
medians = transfer[["r", "percentile", "interpretability", "interpretability_others"]].median("item")
medians.to_dataframe().round(2)

# %% [markdown]
# All directions of one monkey are predicted in the other, but so are random ones, with the same r: this alone says that
# the monkeys share the *space* of their responses. The directions of K-means differ from random ones by what drives
# them: their top images come nearer to the top in the other monkey. But images at the very top of the predictions have
# no more similar colors than random ones (`chance_level`), unlike those of the directions themselves: each image was
# shown once, and with 24 features in 16 units, no linear map of the units of one monkey is a feature of the other.
# There is no p over animals: two of them are a replication, not a sample.

# %%
assert (transfer.p_adjusted < 0.05).all()
assert (medians.percentile.sel(finder="KMeans") > medians.percentile.sel(finder="Random")).all()
assert (medians.interpretability_others.sel(finder="KMeans") > transfer.chance_level + 0.2).all()
assert (medians.interpretability < transfer.chance_level + 0.1).all()
assert abs(medians.r.sel(finder="KMeans") - medians.r.sel(finder="Random")).max() < 0.1

# %% [markdown]
# If the images of one monkey are shuffled, nothing is left:

# %%
shuffled = monkeys | {"N": monkeys["N"].copy(data=np.random.default_rng(0).permutation(monkeys["N"].values))}
control = transfer_top(shuffled, ns.Random(16), gratings, ns.Color())
assert (control.p_adjusted > 0.05).mean() > 0.9

# %% [markdown]
# `SharedSpace` finds directions of both at once: a map from the units of each to codes that they share. Whether they do
# is seen on images that the maps were not fitted to, where the codes of a monkey come from its own units only:

# %%
space = SharedSpace(4, method="srm").fit(both.isel(stimulus=(both.split == "fit").values))
held_out = both.isel(stimulus=(both.split == "score").values)
codes = {name: space.transform(part) for name, part in ns.by_subject(held_out).items()}
agreement = xr.corr(codes["F"], codes["N"], dim="stimulus")
print(agreement.round(2).values)
assert (agreement > 0.15).all(), "0.14 is two standard errors of a correlation of 0 over 210 images"

# %% [markdown]
# ## How the responses were simulated, and what this shows
#
# Every population represents the same 24 features in superposition in 16 units. Each feature is a hue and an
# orientation. So directions should be more interpretable than units, and K-means should find such directions. In the
# human and the macaque data, with 250 and 210 stimuli to score on, it does: both versions of K-means are above their
# matched baselines, raw and corrected, by both metrics.

# %%
p = shown.p_adjusted.reset_index()
against_baseline = p[p.against != "Units"].set_index("system").p_adjusted
assert (against_baseline[["human fMRI", "macaque arrays"]] < 0.05).all()

# %% [markdown]
# In the mouse data the same features are planted, and means of K-means are above those of units. But 59 stimuli to
# find directions on, and 59 to score them on, are few: by the corrected index, neither version is detectably above
# units, and of the four differences from matched baselines only that of the centred version by color is detectable.
# That a difference is not shown does not mean that there is none.

# %%
means = table["mean"].unstack("finder", sort=False)
assert (means["KMeans"] > means["Units"]).all()
of_mouse = p[(p.system == "mouse probes") & (p.correction == "hub")]
(found,) = of_mouse[of_mouse.p_adjusted < 0.05].itertuples()
assert (found.finder, found.metric) == ("KMeans centred", "color")
assert found.against != "Units"

# %% [markdown]
# This shows that the files are read correctly, that the steps work together, and that they find what was planted if
# there are enough stimuli. It shows nothing about brains: for that, change the marked lines. Tutorials 01 and 04
# discuss what real recordings can and cannot show.
