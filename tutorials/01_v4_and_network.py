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
# Macaque V4 saw 1,200 photographs (Cowley et al. 2023, session 201025). We ask whether *directions* of that
# population are more interpretable than its single units, and whether two networks, shown the very same
# photographs, give the same answer. The method is that of Klindt et al. 2023 (arXiv 2310.11431).
#
# The folder with the recordings and the networks' weights is named by the environment variable
# `NEUROSUPER_TEST_DATA`.

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
# ## Responses and images meet on their labels
#
# Responses are an xarray array `stimulus × unit`; images are labelled by their file names. Nothing is matched by
# position once both are loaded.

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
# ## What drives a unit
#
# The five photographs that drive each of three units most:

# %%
top = top_stimuli(responses, top=5)
plot_top_stimuli(top.isel(unit=[0, 1, 2]), images)

# %% [markdown]
# ## How interpretable is a unit
#
# The index is minus the mean perceptual distance (LPIPS) between the top photographs. Higher is more
# interpretable. The mean over the 89 units is about −0.648.

# %%
lpips = LPIPS("alex", weights=data / "nets" / "alexnet_features_fp16.npz")
units = interpretability_index(responses, images, lpips, top=5)
assert abs(float(units.mean()) + 0.648) < 0.003

# %% [markdown]
# ## And a direction
#
# K-means directions are the centres of clusters of response vectors of unit length. As many of them as there are
# units, found and scored on all photographs, have a higher index.

# %%
kmeans = KMeans(random_state=0).fit(responses)
codes = kmeans.transform(responses)
directions = interpretability_index(codes, images, lpips, top=5)
assert directions.mean() > units.mean()

# %% [markdown]
# Is it the scaling? K-means sees response vectors of unit length, and units are scored on the responses as they
# are. Units of scaled responses are no more interpretable, so it is not:

# %%
scaled_units = interpretability_index(normalize(responses, "unit_norm"), images, lpips, top=5)
assert scaled_units.mean() < units.mean()

# %% [markdown]
# The photographs that drive the three most interpretable units, then those of the three most interpretable directions:

# %%
best = units.unit[np.argsort(-units.values)[:3]]
plot_top_stimuli(top_stimuli(responses.sel(unit=best), top=5), images)

# %%
best = directions.direction[np.argsort(-directions.values)[:3]]
plot_top_stimuli(top_stimuli(codes.sel(direction=best), top=5), images)

# %% [markdown]
# ## Held-out photographs, three metrics, two networks
#
# Directions found and scored on the same photographs may flatter themselves. The study file `v4_squeezenet.toml`
# finds them on one half and scores them on the other, in V4, in three layers of SqueezeNet and in two of
# ResNet-20, by LPIPS, color and pixels. It writes `study.nc` and a report; the same is done by `neurosuper run
# tutorials/v4_squeezenet.toml`.

# %%
comparison = neurosuper.run_study("v4_squeezenet.toml")
print("\n".join(headline(comparison)))

# %%
median = summarize(comparison)["median"]
median.unstack("finder", sort=False).round(3)

# %%
plot_distributions(comparison, "LPIPS")

# %% [markdown]
# On held-out photographs too, V4's K-means directions are above its units, and these are above random rotations:

# %%
assert median["V4", "KMeans", "LPIPS"] > median["V4", "Units", "LPIPS"] > median["V4", "Random", "LPIPS"]

# %% [markdown]
# Color and pixels agree on K-means against units in V4:

# %%
for metric in ("color", "pixel"):
    assert median["V4", "KMeans", metric] > median["V4", "Units", metric]

# %% [markdown]
# Does the network give the same answer? Over the layers of SqueezeNet that we looked at, K-means directions are above
# units on average as well, but by less than in V4; in ResNet-20 the gain is small too.

# %%
by_lpips = median.xs("LPIPS", level="metric").unstack("finder", sort=False)
gain = by_lpips["KMeans"] - by_lpips["Units"]
squeezenet = gain[["SqueezeNet fire4", "SqueezeNet fire8", "SqueezeNet conv_final"]]
assert 0 < squeezenet.mean() < squeezenet.max() < gain["V4"]
gain.round(3)

# %% [markdown]
# ## Every number is in the file
#
# `study.nc` holds index, top stimuli and directions of every unit and direction, and where they come from.

# %%
saved = xr.load_dataset(comparison.encoding["source"])
xr.testing.assert_identical(saved, comparison)
with xr.open_dataarray(comparison.encoding["source"], group="directions/V4/KMeans") as found:
    assert np.allclose((found**2).sum("unit"), 1, atol=1e-5)

# %% [markdown]
# ## What this does not show
#
# One session, one split, no test against chance: that V4's directions come out above its units is what the
# paper's claim predicts, not a proof of it. Medians differ by a few hundredths of an LPIPS distance, and the
# distributions overlap. Tutorial 04 asks whether it is real.
