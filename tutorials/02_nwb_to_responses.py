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
# # From an NWB file to reliable units
#
# A recording on DANDI is one NWB file a session: spikes, and a table that says which image was shown when. Here we go
# from such a file to responses `stimulus × repetition × unit` that can be trusted, and keep the reliable units.
#
# The file is a small one, laid out as the sessions of DANDI 000021 (Allen Institute, Visual Coding, Neuropixels:
# natural scenes; Siegle et al. 2021). Its responses are planted: 16 units respond to hue and orientation of colored
# gratings, 8 to nothing. So we know what must come out.

# %%
import tempfile
from pathlib import Path

import numpy as np

import neurosuper as ns
from neurosuper.demo.brains import write_brains
from neurosuper.plot import plot_reliability, plot_top_stimuli

DATASET = "allen-neuropixels-natural-scenes"
folder = write_brains(tempfile.mkdtemp())[DATASET]

# %% [markdown]
# ## What is known of the dataset
#
# A manifest says where the files lie, which column names the image, what a blank is, the window, the filters on units,
# and how to cite. `neurosuper info allen-neuropixels-natural-scenes` prints the same.

# %%
print(ns.datasets.info(DATASET))

# %%
ns.list_datasets()[["title", "species", "modality", "source"]]

# %% [markdown]
# ## What was shown
#
# 118 scenes, 20 times each, and 50 blanks (−1). `load_presentations` reads no spike.

# %%
(session,) = folder.glob("sub-*/*.nwb")
shown = ns.loaders.load_presentations(
    session, presentations="natural_scenes_presentations", stimulus_column="frame", blanks=-1
)
shown.to_dataframe().head()

# %%
assert shown.sizes["presentation"] == 118 * 20
assert shown.attrs["n_blanks"] == 50

# %% [markdown]
# ## Responses
#
# One call reads the session by its manifest. On the real data it is the same call without `path`: `ns.load(DATASET)`
# fetches 2.9 GB, once, and verifies them; `ns.load(DATASET, stream=True)` reads only the spikes that are needed.

# %%
responses = ns.load(DATASET, path=folder)  # the real ones: ns.load(DATASET, stream=True)
responses

# %%
assert responses.dims == ("stimulus", "repetition", "unit")
assert dict(responses.sizes) == {"stimulus": 118, "repetition": 20, "unit": 24}
assert set(responses.area.values) == {"V1", "LM", "RL", "AL"}

# %% [markdown]
# `attrs` say how the numbers came about, so that they can be checked and cited: who read the file, how many
# presentations were used, how many were blank, or fell where nothing was recorded (those are NaN).

# %%
{name: responses.attrs[name] for name in ("reader", "window", "n_presentations", "n_blanks", "n_invalid", "licence")}

# %% [markdown]
# ## Which units can be trusted
#
# A unit is reliable if it answers the same image alike every time: we correlate the means over random halves of the
# repetitions, and correct for the length of the halves (Spearman–Brown). The measure is a coord of the units.

# %%
responses = responses.assign_coords(reliability=ns.reliability.split_half_reliability(responses))
plot_reliability(responses.reliability, threshold=0.3)

# %% [markdown]
# Other measures agree on the order, and each says in its attrs by which rule it was computed:

# %%
from scipy.stats import spearmanr

oracle = ns.reliability.oracle_correlation(responses)
explainable = ns.reliability.explainable_variance(responses)
ceiling = ns.reliability.noise_ceiling(ns.reliability.ncsnr(responses), responses)
for measure in (oracle, explainable, ceiling):
    order = spearmanr(measure, responses.reliability).statistic
    print(f"{measure.attrs['rule'][:45]:<45}  median {float(measure.median()):.2f}  rank correlation {order:.2f}")
    assert order > 0.9

# %% [markdown]
# Units are chosen by reliability before any score is computed, never after. The planted ones are found, and no other:

# %%
reliable = ns.select_units(responses, reliability=0.3)
print(reliable.attrs["selected_units"])
planted = responses.unit.values[:16]
assert reliable.unit.values.tolist() == planted.tolist()

# %% [markdown]
# ## What drives them
#
# Means over repetitions are the responses that directions are found in. The five scenes that drive three units most:

# %%
mean = ns.average_repetitions(reliable)
images = ns.load_images(folder / "scenes")
plot_top_stimuli(ns.top_stimuli(mean, top=5).isel(unit=[0, 1, 2]), images)

# %% [markdown]
# ## A check that can fail
#
# If stimuli and responses were off by one, nothing would look wrong: same shapes, same numbers. So we test it. Two
# images of nearly the same color evoke responses that are alike; against images that are shifted, that is gone.

# %%
from scipy.spatial.distance import cdist

mean, images = ns.align(mean, images)
colors = images.mean(["row", "column"]).values
likeness = np.corrcoef(mean.values)


def relation(colors):
    """Return the mean correlation of the responses to each image and to the one nearest to it in color."""
    nearest = (cdist(colors, colors) + 1e9 * np.eye(len(colors))).argmin(axis=1)
    return likeness[np.arange(len(colors)), nearest].mean()


shifted = [relation(np.roll(colors, shift, axis=0)) for shift in range(1, 118)]
print(f"right: {relation(colors):.2f}   shifted by one: {shifted[0]:.2f}   by any number: at most {max(shifted):.2f}")
assert relation(colors) > 2 * max(np.abs(shifted))

# %% [markdown]
# ## Keep it
#
# Labels, coords and attrs survive a netCDF file.

# %%
file = Path(tempfile.mkdtemp(), "responses.nc")
mean.to_netcdf(file)
again = ns.load_array(file)
assert again.reliability.attrs["rule"] == mean.reliability.attrs["rule"]
again.reliability.to_series().round(2).head()
