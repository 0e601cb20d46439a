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
# # Are directions more interpretable than units, in V4 and in a network?
#
# A macaque saw 1,200 photographs while units in V4 were recorded (Cowley et al. 2023, session 201025). We ask whether
# *directions* of that population are more interpretable than its single units, and whether two networks that were shown
# the same photographs give the same answer. A direction is a weighted sum of units; a unit is the special case with a
# single non-zero weight. The method is that of Klindt et al. 2023 (arXiv 2310.11431).
#
# The environment variable `NEUROSUPER_TEST_DATA` contains the path of the folder with the recordings and the networks'
# weights.

# %%
import os
from pathlib import Path

import numpy as np
import xarray as xr

import neurosuper
from neurosuper import LPIPS, KMeans, interpretability_index, load_array, load_images, normalize, top_stimuli
from neurosuper.comparison import headline, summarize
from neurosuper.plot import plot_distributions, plot_top_stimuli

data = Path(os.environ["NEUROSUPER_TEST_DATA"])

# %% [markdown]
# ## Responses and images are joined by label
#
# Responses are an xarray array `stimulus × unit`; images are labelled by their file names. Once both are loaded,
# nothing is matched by position.

# %%
images = load_images(data / "v4" / "images_201025.zip")
responses = load_array(
    data / "v4" / "responses_avg_201025.npy", dims=("unit", "stimulus"), stimuli=images, units="spike count"
)
responses

# %%
assert responses.shape == (1200, 89)
assert images.shape == (1200, 112, 112, 3)

# %% [markdown]
# ## Which photographs drive a unit?
#
# The five photographs that drive each of three units most strongly:

# %%
top = top_stimuli(responses, top=5)
plot_top_stimuli(top.isel(unit=[0, 1, 2]), images)

# %% [markdown]
# ## How interpretable is a unit?
#
# The index is minus the mean perceptual distance (LPIPS) between the top photographs. A higher index means more similar
# photographs. The mean over the 89 units is about −0.648.

# %%
lpips = LPIPS("alex", weights=data / "nets" / "alexnet_features_fp16.npz")
units = interpretability_index(responses, images, lpips, top=5)
assert abs(float(units.mean()) + 0.648) < 0.003

# %% [markdown]
# ## How interpretable is a direction?
#
# K-means directions point to the centres of clusters of response vectors, each scaled to unit length. We find as many
# directions as there are units. Found and scored on all photographs, they have a higher index than the units.

# %%
kmeans = KMeans(random_state=0).fit(responses)
codes = kmeans.transform(responses)
directions = interpretability_index(codes, images, lpips, top=5)
assert directions.mean() > units.mean()

# %% [markdown]
# Is scaling the reason? K-means uses response vectors of unit length, whereas units are scored on unscaled responses.
# It is not: units of scaled responses are no more interpretable.

# %%
scaled_units = interpretability_index(normalize(responses, "unit_norm"), images, lpips, top=5)
assert scaled_units.mean() < units.mean()

# %% [markdown]
# First the photographs that drive the three most interpretable units, then those that drive the three most
# interpretable directions:

# %%
best = units.unit[np.argsort(-units.values)[:3]]
plot_top_stimuli(top_stimuli(responses.sel(unit=best), top=5), images)

# %%
best = directions.direction[np.argsort(-directions.values)[:3]]
plot_top_stimuli(top_stimuli(codes.sel(direction=best), top=5), images)

# %% [markdown]
# ## Held-out photographs, three metrics, two networks
#
# Directions that are found and scored on the same photographs are scored optimistically. The study file
# `v4_squeezenet.toml` finds them on one half and scores them on the other, in V4, in three layers of SqueezeNet and in
# two of ResNet-20, by LPIPS, color and pixels. `run_study` writes `study.nc` and a report, and so does the command
# `neurosuper run tutorials/v4_squeezenet.toml`.

# %%
comparison = neurosuper.run_study("v4_squeezenet.toml")
print("\n".join(headline(comparison)))

# %%
median = summarize(comparison)["median"]
median.unstack("finder", sort=False).round(3)

# %%
plot_distributions(comparison, "LPIPS")

# %% [markdown]
# On held-out photographs, too, K-means directions of V4 have a higher median index than its units, and units than
# random rotations:

# %%
assert median["V4", "KMeans", "LPIPS"] > median["V4", "Units", "LPIPS"] > median["V4", "Random", "LPIPS"]

# %% [markdown]
# In V4, color and pixels also rank K-means directions above units:

# %%
for metric in ("color", "pixel"):
    assert median["V4", "KMeans", metric] > median["V4", "Units", metric]

# %% [markdown]
# Do the networks give the same answer? On average over the three layers of SqueezeNet, K-means directions are above
# units as well, but by less than in V4. In ResNet-20 the difference is small and not consistent (layer2 −0.008, layer3
# +0.026).

# %%
by_lpips = median.xs("LPIPS", level="metric").unstack("finder", sort=False)
gain = by_lpips["KMeans"] - by_lpips["Units"]
squeezenet = gain[["SqueezeNet fire4", "SqueezeNet fire8", "SqueezeNet conv_final"]]
assert 0 < squeezenet.mean() < squeezenet.max() < gain["V4"]
assert gain[["ResNet-20 layer2", "ResNet-20 layer3"]].abs().max() < gain["V4"]
gain.round(3)

# %% [markdown]
# ## Every number is in the file
#
# `study.nc` contains the index, top stimuli and weights of every unit and direction, and records how they were
# obtained.

# %%
saved = xr.load_dataset(comparison.encoding["source"])
xr.testing.assert_identical(saved, comparison)
with xr.open_dataarray(comparison.encoding["source"], group="directions/V4/KMeans") as found:
    assert np.allclose((found**2).sum("unit"), 1, atol=1e-5)

# %% [markdown]
# ## What this does not show
#
# This is one session and one split, without a test against chance. That V4's directions are above its units is what the
# paper's claim predicts, not a proof of it. Medians differ by a few hundredths of an LPIPS distance, and the
# distributions overlap. Tutorial 04 asks whether the difference is real.
