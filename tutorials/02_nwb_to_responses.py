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
# A recording on DANDI is one NWB file per session, which contains spikes and a table that lists which image was shown
# when. Here we go from such a file to responses `stimulus × repetition × unit`, check them, and keep the reliable
# units.
#
# The file is a small one with the layout of the sessions of DANDI 000021 (Allen Institute, Visual Coding, Neuropixels:
# natural scenes; Siegle et al. 2021). Its responses are simulated: 16 units respond to hue and orientation of colored
# gratings, 8 to nothing. So we know what the result should be.

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
# ## What is known about the dataset
#
# A manifest contains the address of the files, the column that names the image, the value that marks a blank, the time
# window, filters on units, and the citation. `neurosuper info allen-neuropixels-natural-scenes` prints the same.

# %%
print(ns.datasets.info(DATASET))

# %%
ns.list_datasets()[["title", "species", "modality", "source"]]

# %% [markdown]
# ## What was shown
#
# 118 scenes were shown 20 times each, and 50 blanks (−1). `load_presentations` lists the presentations without reading
# spikes.

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
# One call reads the session as its manifest describes. For the real data it is the same call without `path`:
# `ns.load(DATASET)` downloads 2.9 GB once and verifies them; `ns.load(DATASET, stream=True)` reads only the spikes that
# are needed.

# %%
responses = ns.load(DATASET, path=folder)  # real data: ns.load(DATASET, stream=True)
responses

# %%
assert responses.dims == ("stimulus", "repetition", "unit")
assert dict(responses.sizes) == {"stimulus": 118, "repetition": 20, "unit": 24}
assert set(responses.area.values) == {"V1", "LM", "RL", "AL"}

# %% [markdown]
# `attrs` record how the numbers were obtained, so that they can be checked and cited: the library that read the file,
# the number of presentations used, the number of blanks, and the number of presentations during which nothing was
# recorded (their responses are NaN).

# %%
{name: responses.attrs[name] for name in ("reader", "window", "n_presentations", "n_blanks", "n_invalid", "licence")}

# %% [markdown]
# ## Which units are reliable?
#
# A unit is reliable if it responds consistently to repeats of the same image. We correlate the means over random halves
# of the repetitions, and correct for the number of repetitions in a half (Spearman–Brown). We store the result as a
# coord of the units.

# %%
responses = responses.assign_coords(reliability=ns.reliability.split_half_reliability(responses))
plot_reliability(responses.reliability, threshold=0.3)

# %% [markdown]
# Other measures order the units in nearly the same way; the formula of each is recorded in `.attrs["rule"]`:

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
# Units are selected by reliability before any score is computed, never after. Exactly the simulated units that respond
# to images are selected:

# %%
reliable = ns.select_units(responses, reliability=0.3)
print(reliable.attrs["selected_units"])
planted = responses.unit.values[:16]
assert reliable.unit.values.tolist() == planted.tolist()

# %% [markdown]
# ## Which images drive them?
#
# Directions are found in responses averaged over repetitions. The five scenes that drive each of three units most
# strongly:

# %%
mean = ns.average_repetitions(reliable)
images = ns.load_images(folder / "scenes")
plot_top_stimuli(mean, images, mean.unit[:3])

# %% [markdown]
# ## A check that can fail
#
# If stimuli and responses were misaligned by one, nothing would look wrong: the shapes and the numbers would be the
# same. So we test the alignment. Two images of nearly the same color evoke correlated responses; if the images are
# shifted against the responses, the correlation disappears.

# %%
from scipy.spatial.distance import cdist

mean, images = ns.align(mean, images)
colors = images.mean(["row", "column"]).values
correlation = np.corrcoef(mean.values)


def relation(colors):
    """Return the mean correlation of the responses to each image and to the one nearest to it in color."""
    nearest = (cdist(colors, colors) + 1e9 * np.eye(len(colors))).argmin(axis=1)
    return correlation[np.arange(len(colors)), nearest].mean()


shifted = [relation(np.roll(colors, shift, axis=0)) for shift in range(1, 118)]
print(f"right: {relation(colors):.2f}   shifted by one: {shifted[0]:.2f}   by any number: at most {max(shifted):.2f}")
assert relation(colors) > 2 * max(np.abs(shifted))

# %% [markdown]
# ## Save the responses
#
# Labels, coords and attrs are preserved in a netCDF file.

# %%
file = Path(tempfile.mkdtemp(), "responses.nc")
mean.to_netcdf(file)
again = ns.load_array(file)
assert again.reliability.attrs["rule"] == mean.reliability.attrs["rule"]
again.reliability.to_series().round(2).head()
