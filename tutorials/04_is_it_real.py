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
# # Is it real?
#
# Tutorial 01 shows a difference: in macaque V4, K-means directions have a higher interpretability index than single
# units. Would a reviewer believe it? Here we ask what a reviewer would ask: above what chance level, by how much, with
# what uncertainty, also by another measure, for what other reason, compared with which baseline, and again in another
# recording? The answer is not the one of tutorial 01. [methods](methods/README.md) has a page on each step.
#
# Recordings: Cowley et al. 2023, sessions 201025 (89 units, 1,200 photographs) and 210325 (50 units, 640 photographs,
# each shown 6 to 10 times, all grey). Method: Klindt et al. 2023 (arXiv 2310.11431). The environment variable
# `NEUROSUPER_TEST_DATA` contains the path of the folder with the recordings.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import clone

import neurosuper as ns
from neurosuper.plot import plot_difficulty, plot_distributions, plot_reliability
from neurosuper.plot.style import finder_looks

data = Path(os.environ["NEUROSUPER_TEST_DATA"])

# %% [markdown]
# ## Fix the analysis first
#
# Fix the analysis before looking at scores. The main comparison is K-means against units, by the mean over items (units
# or directions), with 5 top photographs, two-sided, at 5 %. The other finders are shown for context only. We use ten
# splits of the photographs, and report all of them, not the best.

# %%
TOP = 5
SPLITS = range(10)
FINDERS = {
    "Units": ns.Units(),
    "Random": ns.Random(),
    "PCA": ns.PCA(),
    "KMeans": ns.KMeans(),
}
MAIN = ["Units", "Random", "KMeans"]
LOOKS = finder_looks(FINDERS)

# %% [markdown]
# ## Compute all distances once
#
# Everything below depends on distances between photographs. There are few enough photographs to store all distances
# (LPIPS, AlexNet); a matrix of distances can be used as a metric.

# %%
lpips = ns.LPIPS("alex", weights=data / "nets" / "alexnet_features_fp16.npz")


def load(session, file, dims):
    """Return responses, photographs, and all distances between the photographs."""
    images = ns.load_images(data / "v4" / f"images_{session}.zip")
    responses = ns.load_array(data / "v4" / file, dims=dims, stimuli=images, measured_in="spike count")
    return responses, images, ns.Precomputed(ns.metrics.pairwise_distances(images, lpips))


v4, images, distance = load("201025", "responses_avg_201025.npy", ("unit", "stimulus"))
assert v4.shape == (1200, 89)

# %% [markdown]
# ## Find on one half, score on the other
#
# A direction that is found and scored on the same photographs is scored optimistically. Units are scored on the same
# half as directions, so that all are compared on the same photographs.


# %%
def held_out_codes(responses, seed, finders=FINDERS):
    """Return the codes of every finder on the half of the stimuli that it was not fitted on."""
    marked = ns.split_stimuli(responses, random_state=seed)
    fit, score = (marked.sel(stimulus=(marked.split == part).values) for part in ("fit", "score"))
    return {name: clone(f).set_params(random_state=seed).fit(fit).transform(score) for name, f in finders.items()}


codes = held_out_codes(v4, seed=0)
pd.DataFrame({name: dict(z.sizes) for name, z in codes.items()})

# %% [markdown]
# ## The index, at several numbers of top photographs
#
# One call computes the index for each number. `spread=True` adds a standard error (jackknife): how much an item's index
# depends on single photographs.

# %%
SIZES = [3, 5, 10, 20]
by_size = {name: ns.interpretability_index(z, images, distance, top=SIZES, spread=True) for name, z in codes.items()}

figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
for i, (name, values) in enumerate(by_size.items()):
    mean = ns.inference.bootstrap_interval(values, "direction")
    bars = [mean.estimate - mean.estimate_low, mean.estimate_high - mean.estimate]
    x = np.arange(len(SIZES)) + 0.08 * (i - 1.5)
    axes.errorbar(x, mean.estimate, bars, marker=LOOKS[name].marker, color=LOOKS[name].color, label=name, capsize=2)
axes.set_xticks(range(len(SIZES)), SIZES)
axes.set(xlabel="number of top photographs", ylabel="mean index (−LPIPS)\nwith 95 % interval over items")
figure.legend(loc="outside right upper", frameon=False)
plt.show()

# %% [markdown]
# The order of K-means and units does not depend on the number that we chose:

# %%
assert (by_size["KMeans"].mean("direction") > by_size["Units"].mean("direction")).all()

# %% [markdown]
# But the index of *one* unit depends on only five photographs, and its standard error is more than half as large as the
# standard deviation over units:

# %%
unit_index = by_size["Units"].sel(top=TOP)
standard_error, scatter = unit_index.spread.median().item(), unit_index.std(ddof=1).item()
print(f"standard error of one unit {standard_error:.3f}; units differ by (s.d.) {scatter:.3f}")
assert standard_error > scatter / 2

# %% [markdown]
# Would a unit with a high index have a high one on other photographs? `index_reliability` scores all units on two
# random sets of photographs that share none, correlates the two over units, and extends the result to all photographs
# (Spearman–Brown). Below 0.5, more than half of the variance between units is due to the photographs that happened to
# be shown. That is so here: do not interpret single units, compare sets of them. (All 1,200 photographs are used for
# units; K-means directions can be scored only on the half that they were not found on.)


# %%
def reliability_of(codes, images, distance):
    """Return the reliability of the index of single items on all photographs that have codes."""
    largest = ns.interpretability.index_reliability(codes, images, distance, top=TOP).isel(size=-1)
    print(f"{largest.n_items} items, {largest.n_stimuli} photographs: reliability {largest.spearman_brown:.2f}")
    return float(largest.spearman_brown)


assert reliability_of(v4, images, distance) < 0.5
assert reliability_of(codes["KMeans"], images, distance) > reliability_of(codes["Units"], images, distance)

# %% [markdown]
# ## Chance level
#
# What is the score of a unit that ignores the images? There are three answers. `chance_level` takes random sets of
# photographs. `shuffle_stimuli` keeps the population and reassigns photographs at random. `Random` keeps responses and
# photographs and uses random directions. (Marks in the figure are means.)

# %%
scored = images.sel(stimulus=codes["Units"].stimulus.values)
chance = ns.interpretability.chance_level(scored, distance, top=TOP)
index = {name: by_size[name].sel(top=TOP) for name in MAIN}
shuffled = ns.interpretability.shuffle_stimuli(codes["Units"], random_state=0)
shown = {"Units, shuffled": ns.interpretability_index(shuffled, images, distance, top=TOP)} | index

values = xr.DataArray(np.concatenate(list(shown.values()))[:, None], dims=("item", "metric"))
low, high = chance.interpretability_low, chance.interpretability_high
levels = {"chance_level": chance.interpretability, "chance_level_low": low, "chance_level_high": high}
sets = xr.Dataset(
    {"interpretability": values} | {name: xr.full_like(values, level) for name, level in levels.items()},
    {
        "system": ("item", np.full(len(values), "V4")),
        "finder": ("item", np.repeat(list(shown), [len(of_set) for of_set in shown.values()])),
        "metric": ["LPIPS"],
        "quantity": ("metric", ["−LPIPS, top 5 photographs"]),
    },
)
plot_distributions(sets, "LPIPS")

# %% [markdown]
# Most units are within the band: one by one, few can be distinguished from random sets. As a set, units are above
# chance level, and K-means directions are further above it.

# %%
within = {name: float(((values > low) & (values < high)).mean()) for name, values in index.items()}
print("share within the band:", {name: round(share, 2) for name, share in within.items()})
assert within["Units"] > 0.5
assert chance.interpretability < index["Units"].mean() < index["KMeans"].mean()

# %% [markdown]
# ## Another measure: can the photographs be discriminated?
#
# This is machine psychophysics. The observer (LPIPS, in place of a person) is shown photographs that drive an item
# strongly, and chooses which of two others drives it more; chance level is ½. Leaving out the extremes makes the task
# harder. We use three designs:
#
# - "paper": the references are the top photographs alone, the same in all trials.
# - "mis": references from the top and the bottom, redrawn in each trial; the query is the *least* extreme of its draw.
# - "mis" with the *most* extreme as the query, to see which of the two differences matters.
#
# How many trials do 600 photographs allow? "mis" makes any number of trials. But trials are nearly independent only if
# no two share a photograph, which is what design "imi" guarantees:

# %%
QUANTILES = [0, 0.1, 0.2, 0.3, 0.4]
TRIALS = 20
one = codes["Units"].isel(direction=[0])
allowed = {
    design: ns.interpretability.make_trials(one, design=design, quantiles=QUANTILES, n_trials=1000).n_trials.values
    for design in ("imi", "paper")
}
pd.DataFrame(allowed, index=pd.Index(QUANTILES, name="share left out at top and bottom"))

# %% [markdown]
# So we use 20. The interval of a single item is then wide (exact, Clopper and Pearson). Here is the item with the
# median accuracy of each finder, in design "paper":

# %%
DESIGNS = {
    "paper": {"design": "paper"},
    "mis": {"design": "mis"},
    "mis, extreme query": {"design": "mis", "query": "extreme"},
}
answers = {
    (design, name): ns.psychophysics(codes[name], images, distance, quantiles=QUANTILES, n_trials=TRIALS, **options)
    for design, options in DESIGNS.items()
    for name in MAIN
}

figure, panels = plt.subplots(1, 3, figsize=(9, 3.4), sharey=True, layout="constrained")
for axes, name in zip(panels, MAIN, strict=True):
    tried = answers["paper", name]
    order = tried.accuracy.sel(quantile=0).argsort().values
    median = tried.isel(direction=order[len(order) // 2])
    bars = [median.accuracy - median.accuracy_low, median.accuracy_high - median.accuracy]
    axes.errorbar(QUANTILES, median.accuracy, bars, marker=LOOKS[name].marker, color=LOOKS[name].color, capsize=3)
    axes.axhline(0.5, color="0.6", linestyle=":")
    axes.set(title=f"{name}: the median item", xlabel="share left out at top and bottom", ylim=(0, 1.02))
panels[0].set_ylabel("share of 20 trials answered correctly\nwith exact 95 % interval")
plt.show()

# %% [markdown]
# The mean over items is estimated more precisely. (For one design, `plot_difficulty` makes the figure in one call.)

# %%
figure, panels = plt.subplots(1, 3, figsize=(9.5, 3.6), sharey=True, layout="constrained")
for axes, design in zip(panels, DESIGNS, strict=True):
    plot_difficulty({name: answers[design, name] for name in MAIN}, ax=axes)
    axes.set(title=design, xlabel="share left out at top and bottom")
    axes.label_outer()
plt.show()

# %% [markdown]
# K-means directions are easier than units in both designs with extreme queries. "mis" as published hardly distinguishes
# any two sets: with 20 trials it draws from the top and bottom 200 of 600 photographs, and the least extreme of ten of
# these is not far from the middle. It was designed for many more photographs.

# %%
easy = {pair: float(answers[pair].accuracy.sel(quantile=0).mean()) for pair in answers}
gain = {design: easy[design, "KMeans"] - easy[design, "Units"] for design in DESIGNS}
print({design: round(value, 3) for design, value in gain.items()})
assert min(gain["paper"], gain["mis, extreme query"]) > 1.5 * gain["mis"]

# %% [markdown]
# ## How certain? The sentence for the paper
#
# Permutation test: reassign the scores to the two sets at random. How often is the difference at least as large?

# %%
test = ns.inference.permutation_test(index["KMeans"], index["Units"])
print(ns.inference.test_sentence(test, "K-means directions", "units", "the index (−LPIPS)"))

# %% [markdown]
# ### Items are not independent
#
# The test assumes that they are. But all have the same 600 photographs to choose from, and many K-means directions have
# correlated codes:

# %%
correlation = {name: np.abs(np.corrcoef(codes[name].values.T))[np.triu_indices(89, 1)].mean() for name in MAIN}
print("mean |correlation| between the codes of two items:", {name: f"{r:.2f}" for name, r in correlation.items()})
assert correlation["KMeans"] > 2 * correlation["Units"]

# %% [markdown]
# `index_difference` treats photographs, too, as a random sample: how large would the difference be on other
# photographs? This is estimated from random halves of the photographs, which share none.

# %%
apart = ns.interpretability.index_difference(codes["KMeans"], codes["Units"], images, distance, top=TOP)
print(ns.inference.test_sentence(apart, "K-means directions", "units", "the index (−LPIPS)"))

as_if_independent = np.sqrt(index["KMeans"].var(ddof=1) / 89 + index["Units"].var(ddof=1) / 89).item()
error = apart.standard_error.item()
print(f"standard error: {as_if_independent:.4f} as if independent, {error:.4f} with photographs as a sample, too")
assert error > 1.3 * as_if_independent
assert apart.difference_low > 0

# %% [markdown]
# The difference remains, but the permutation test understated the uncertainty. Are units above chance level at all? To
# preserve the correlations between units, we shuffle the photographs for all units at once:

# %%
chance_test = ns.interpretability.null_test(
    codes["Units"], images, distance, null=ns.interpretability.shuffle_stimuli, top=TOP, n_resamples=299
)
shuffled_mean, p_chance = chance_test.null.mean().item(), chance_test.p_value.item()
print(f"units {chance_test.interpretability:.3f}, shuffled {shuffled_mean:.3f}, p = {p_chance:.3f} (one-sided)")
assert p_chance < 0.05

# %% [markdown]
# ### Several splits, several finders
#
# Ten splits are not ten experiments: they share units and photographs. If each of their p-values is valid, so is twice
# their median (Meinshausen, Meier and Bühlmann 2009). It is then adjusted for the number of finders.


# %%
def index_of(codes, images, distance):
    return {name: ns.interpretability_index(z, images, distance, top=TOP) for name, z in codes.items()}


def corrected_index_of(codes, images, distance):
    """Return the index after the correction of the section on plain photographs."""
    return {
        name: ns.interpretability_index(z, images, distance, top=TOP, correction="hub") for name, z in codes.items()
    }


CORRECTIONS = {index_of: None, corrected_index_of: "hub"}


def against_units(score, codes, images, distance):
    """Return tests of every finder against units: Dataset (finder,). For an index, photographs are a sample, too."""
    scores = score(codes, images, distance)
    others, tests = [name for name in scores if name != "Units"], []
    for name in others:
        test = ns.inference.permutation_test(scores[name], scores["Units"], n_resamples=1999)
        if score in CORRECTIONS:
            apart = ns.interpretability.index_difference(
                codes[name], codes["Units"], images, distance, top=TOP, correction=CORRECTIONS[score]
            )
            test = test.assign(apart[["p_value", "standard_error"]])
        tests.append(test)
    return xr.concat(tests, pd.Index(others, name="finder"), combine_attrs="drop_conflicts")


def over_splits(split_codes, score, images, distance):
    tests = [against_units(score, codes, images, distance) for codes in split_codes]
    return xr.concat(tests, pd.Index(SPLITS, name="split"))


def summarize(tests):
    p = (2 * tests.p_value.median("split")).clip(max=1)
    table = tests[["difference", "cohens_d", "superiority"]].mean("split")
    table["lowest"], table["highest"] = tests.difference.min("split"), tests.difference.max("split")
    table["adjusted_p"] = ns.inference.adjust_p_values(p)
    return table.to_dataframe()


split_codes = [held_out_codes(v4, seed) for seed in SPLITS]
tests = over_splits(split_codes, index_of, images, distance)
table = summarize(tests)
table.round(3)


# %%
def draw_splits(axes, tests, title=""):
    for i, name in enumerate(tests.finder.values):
        values = tests.difference.sel(finder=name)
        x = i + np.linspace(-0.2, 0.2, len(values))
        bars = 1.96 * tests.standard_error.sel(finder=name) if "standard_error" in tests else None
        looks = {"marker": LOOKS[name].marker, "color": LOOKS[name].color}
        axes.errorbar(x, values, bars, linestyle="", markersize=4, alpha=0.7, linewidth=0.7, **looks)
        axes.hlines(values.mean(), i - 0.3, i + 0.3, color=LOOKS[name].color)
    axes.axhline(0, color="0.4", linestyle="--")
    axes.set_xticks(range(tests.sizes["finder"]), tests.finder.values)
    axes.set_title(title, fontsize=10)


figure, axes = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
draw_splits(axes, tests, "each point is a split, with its 95 % interval;\nthe line is their mean")
axes.set_ylabel("difference of the mean index from units (LPIPS)")
plt.show()

# %% [markdown]
# K-means directions are above units in all ten splits, by more than half a standard deviation of the items
# (`cohens_d`).
# No other finder is; random and PCA directions are, if anything, below units.

# %%
assert (tests.difference.sel(finder="KMeans") > 0).all()
assert table.adjusted_p["KMeans"] < 0.05
assert table.cohens_d["KMeans"] > 0.5
assert (table.difference.drop("KMeans") < 0.01).all()

# %% [markdown]
# ## Another reason? Plain photographs
#
# Some plain photographs, such as open skies, are close to *every* other photograph (they are hubs). An item that they
# drive has a high index even if they have nothing else in common. `correction="hub"` subtracts from each distance what
# the mean distances of its two photographs to all others explain; random sets of photographs then score exactly 0.
#
# We had the idea for this check after we had seen the scores. It can raise doubts, but it cannot prove anything.

# %%
own = over_splits(split_codes, corrected_index_of, images, distance)
own_table = summarize(own)
own_table.round(3)

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
draw_splits(panels[0], tests, "index")
draw_splits(panels[1], own, "hub-corrected index")
panels[0].set_ylabel("difference from units (LPIPS)")
plt.show()

# %% [markdown]
# More than half of the gain of K-means disappears, and random directions, whose photographs are unusual ones, are now
# as good. That K-means directions are above *random* directions depends on plainness.

# %%
remaining = own_table.difference["KMeans"] / table.difference["KMeans"]
print(f"{remaining:.0%} of the difference between K-means and units remains")
assert 0 < remaining < 0.5
assert abs(own_table.difference["KMeans"] - own_table.difference["Random"]) < 0.015

# %% [markdown]
# The task with references from top and bottom is not affected by plainness. In its evidence,
# s(q⁺, E⁺) − s(q⁺, E⁻) − s(q⁻, E⁺) + s(q⁻, E⁻), every h cancels. In this task K-means directions are above units, and
# random directions are not. (Here, too, p treats items as independent.)


# %%
def task(codes, images, distance):
    options = DESIGNS["mis, extreme query"] | {"quantiles": [0], "n_trials": TRIALS}
    return {name: ns.psychophysics(codes[name], images, distance, **options).accuracy.isel(quantile=0) for name in MAIN}


task_tests = over_splits(split_codes, task, images, distance)
task_table = summarize(task_tests)
assert (task_tests.difference.sel(finder="KMeans") > 0).all()
assert abs(task_table.difference["Random"]) < 0.03
task_table.round(3)

# %% [markdown]
# ## How many units, and how many photographs, would it take?
#
# How many items per set are needed for a power of 80 % if photographs are fixed? We ask this for the difference found,
# for half of it (first studies tend to overestimate), and for the difference that remains beyond plainness.


# %%
def difference_and_sd(row):
    return row.difference, row.difference / row.cohens_d


found, sd = difference_and_sd(table.loc["KMeans"])
asked = {
    "found": (found, sd),
    "half of it": (found / 2, sd),
    "beyond plainness": difference_and_sd(own_table.loc["KMeans"]),
}
needed = {name: ns.inference.items_needed(difference, sd=sd) for name, (difference, sd) in asked.items()}

n = np.arange(5, 201)
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
for (name, (difference, sd)), style in zip(asked.items(), ("-", "--", ":"), strict=True):
    label = f"{difference:.3f} ({name}): {needed[name]}"
    axes.plot(n, ns.inference.statistical_power(difference, sd=sd, n=n), style, color="black", label=label)
axes.axhline(0.8, color="0.7", linewidth=0.8)
axes.axvline(89, color="0.7", linewidth=0.8)
axes.annotate("89 units", (89, 0.03), (-4, 0), textcoords="offset points", color="0.4", ha="right")
axes.set(xlabel="units, and as many directions", ylabel="power (two-sided, 5 %)", ylim=(0, 1.02))
axes.legend(title="difference (LPIPS): items needed", frameon=False, loc="lower right")
plt.show()

# %% [markdown]
# 89 units are enough for the difference found. But this calculation treats items as independent. `index_power` takes
# into account how much of the variance is due to photographs, and how it decreases with their number. Here is the power
# to detect half the difference:

# %%
power = ns.interpretability.index_power(
    apart,
    difference=found / 2,
    n_stimuli=[300, 600, 1200, 2400, 4800],
    n_items=np.unique(np.geomspace(10, 500, 40).astype(int)),
)
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
for i, n_stimuli in enumerate(power.n_stimuli.values):
    axes.plot(power.n_items, power.sel(n_stimuli=n_stimuli), color=plt.cm.viridis(i / 5), label=f"{n_stimuli:,}")
axes.axhline(0.8, color="0.7", linewidth=0.8)
axes.set(xlabel="units, and as many directions", ylabel="power (two-sided, 5 %)", ylim=(0, 1.02), xscale="log")
axes.legend(title="photographs", frameon=False, loc="upper left")
plt.show()

# %% [markdown]
# More photographs help, though less than one might expect, since only the top ones count. And no number of units or
# photographs supports a conclusion about other animals: for that, animals are the sample
# (`bootstrap_interval(…, groups="subject")`).

# %%
assert needed["found"] < 89 / 2
assert power.sel(n_stimuli=600).sel(n_items=89, method="nearest") < 0.8 < power.sel(n_stimuli=4800).max()

# %% [markdown]
# ## Replication: another recording, and reliable units
#
# A noisy unit has noisy top photographs, and a direction averages out noise. Is this the whole explanation? Session
# 210325 has repeats, which show how reliable each unit is. Units are selected before any score is computed, by their
# repeats alone. The threshold of 0.3 in other tutorials would keep all units; 0.7 keeps the better two thirds.

# %%
raw, images_2, distance_2 = load("210325", "responses_raw_210325.npy", ("unit", "stimulus", "repetition"))
raw = raw.assign_coords(reliability=ns.reliability.split_half_reliability(raw))
plot_reliability(raw.reliability, threshold=0.7)

# %%
reliable = ns.select_units(raw, reliability=0.7)
print(reliable.attrs["selected_units"])
assert raw.reliability.min() > 0.3

# %% [markdown]
# The index of single units is even less reliable here, with about half as many photographs:

# %%
mean_responses = ns.average_repetitions(raw)
assert reliability_of(mean_responses, images_2, distance_2) < 0.5
codes_2 = held_out_codes(mean_responses, seed=0)
assert reliability_of(codes_2["KMeans"], images_2, distance_2) > reliability_of(codes_2["Units"], images_2, distance_2)

# %% [markdown]
# Fewer units also mean fewer directions. So there is a third set: the same number of units, drawn at random. All three
# are scored in the same three ways.

# %%
drawn = np.random.default_rng(0).choice(raw.unit.values, reliable.sizes["unit"], replace=False)
populations = {
    f"all {raw.sizes['unit']} units": raw,
    f"the {reliable.sizes['unit']} reliable": reliable,
    f"any {len(drawn)}": raw.sel(unit=drawn),
}
scores = {"index": index_of, "hub-corrected index": corrected_index_of, "task": task}
few = {name: FINDERS[name] for name in MAIN}
again = {}
for population, responses in populations.items():
    averaged = ns.average_repetitions(responses)
    split_codes = [held_out_codes(averaged, seed, few) for seed in SPLITS]
    for what, score in scores.items():
        again[what, population] = over_splits(split_codes, score, images_2, distance_2)
second = pd.concat({pair: summarize(result) for pair, result in again.items()}, names=["score", "population"])
second.xs("KMeans", level="finder").round(3)

# %%
figure, panels = plt.subplots(3, 3, figsize=(8, 7), sharex=True, sharey="row", layout="constrained")
for row, (what, score) in zip(panels, scores.items(), strict=True):
    for axes, population in zip(row, populations, strict=True):
        draw_splits(axes, again[what, population], population if what == "index" else "")
    row[0].set_ylim((-0.08, 0.1) if score is task else (-0.02, 0.06))
    row[0].set_ylabel(f"{what},\nabove units ({'share correct' if score is task else 'LPIPS'})")
plt.show()

# %% [markdown]
# The index of K-means directions is above that of units here, too, and also with reliable units: noise alone does not
# explain it. Beyond plainness, no difference is detectable with ten splits. In the task K-means directions are above
# units by an amount that is compatible with chance. Units are not above random directions here in any
# score.

# %%
everyone = "all 50 units"
for population in populations:
    assert (again["index", population].difference.sel(finder="KMeans") > 0).all()
assert second.adjusted_p["index", everyone, "KMeans"] < 0.05
assert second.adjusted_p["hub-corrected index", everyone, "KMeans"] > 0.05
assert second.adjusted_p["task", everyone, "KMeans"] > 0.05
assert (second.xs("Random", level="finder").adjusted_p > 0.05).all()

# %% [markdown]
# ## The right baseline
#
# Units are not what K-means must beat before we say that it *found* something. By the paper's default it clusters
# uncentred vectors of unit length, and its directions are close to the mean response:

# %%
BASELINES = {
    "Units": ns.Units(),
    "Exemplars": ns.Exemplars(normalize=True),
    "CovarianceMatched": ns.CovarianceMatched(normalize=True),
    "KMeans": ns.KMeans(),
    "centred Exemplars": ns.Exemplars(normalize=True, center=True),
    "centred CovarianceMatched": ns.CovarianceMatched(normalize=True, center=True),
    "centred KMeans": ns.KMeans(center=True),
}
mean = v4.mean("stimulus") / np.linalg.norm(v4.mean("stimulus"))
cosine = {name: float((BASELINES[name].fit(v4).directions_ @ mean).mean()) for name in ("KMeans", "centred KMeans")}
print("mean cosine with the mean response:", {name: f"{value:.2f}" for name, value in cosine.items()})
assert cosine["KMeans"] > 0.9

# %% [markdown]
# `Exemplars` are the responses to single photographs, chosen at random: nothing is learned. `CovarianceMatched` are
# random vectors with the mean and the covariance of the responses; `compare` adds them for every finder.
# `KMeans(center=True)` clusters what is left when the mean response has been subtracted: patterns instead of the
# overall response. Its baselines are centred, too. Every difference is shown raw and hub-corrected.

# %%
sessions = {"201025": (v4, images, distance), "210325": (mean_responses, images_2, distance_2)}
AGAINST = {
    "KMeans": ["Units", "Exemplars", "CovarianceMatched"],
    "centred KMeans": ["Units", "centred Exemplars", "centred CovarianceMatched"],
}
PAIRS = [(finder, other, how) for finder, others in AGAINST.items() for other in others for how in (None, "hub")]
rows = []
for session, (responses, shown, apart_by) in sessions.items():
    base_codes = [held_out_codes(responses, seed, BASELINES) for seed in SPLITS]
    for finder, against, correction in PAIRS:
        several = [
            ns.interpretability.index_difference(z[finder], z[against], shown, apart_by, top=TOP, correction=correction)
            for z in base_codes
        ]
        rows.append(
            {
                "session": session,
                "finder": finder,
                "against": against,
                "index": "raw" if correction is None else "hub-corrected",
                "difference": np.mean([test.difference for test in several]),
                "standard error": np.mean([test.standard_error for test in several]),
                "2 × median p": min(1, 2 * np.median([test.p_value for test in several])),
            }
        )
baselines = pd.DataFrame(rows).set_index(["finder", "against", "index", "session"])
baselines.round(4)

# %% [markdown]
# What is true in both sessions: by the raw index, K-means by the default is above units, but no better than responses
# to random photographs, and no better than random vectors of the same mean and covariance. Centred K-means is above
# units after the correction (its raw index is not: patterns lead to unusual photographs, which are far from all
# others). But that it is above centred random vectors of the same covariance is not shown: what is found may be the
# subspace in which V4 varies most, not clusters.

# %%
p = baselines["2 × median p"]
for session in sessions:
    assert p["KMeans", "Units", "raw", session] < 0.05
    assert p["KMeans", "Exemplars", "raw", session] > 0.05
    assert p["KMeans", "CovarianceMatched", "raw", session] > 0.05
    assert p["KMeans", "Exemplars", "hub-corrected", session] > 0.05
    assert p["centred KMeans", "Units", "raw", session] > 0.05
    assert p["centred KMeans", "Units", "hub-corrected", session] < 0.05
    assert p["centred KMeans", "centred CovarianceMatched", "hub-corrected", session] > 0.05

# %% [markdown]
# Two differences are below 0.05 in the first session only: after the correction, K-means by the default is above random
# vectors of the same mean and covariance, and centred K-means above centred exemplars. p is not adjusted for the number
# of rows in this table, and the second session does not confirm either. These are hypotheses for the next recording,
# not results.

# %%
for pair in (("KMeans", "CovarianceMatched"), ("centred KMeans", "centred Exemplars")):
    assert p[(*pair, "hub-corrected", "201025")] < 0.05 < p[(*pair, "hub-corrected", "210325")]

# %% [markdown]
# ## What can be claimed
#
# A sentence that the cells above support:

# %%
rows = table.loc["KMeans"], second.loc["index", everyone, "KMeans"]
by = " and ".join(f"{row.difference:.3f} (d = {row.cohens_d:.2f}, adjusted p = {row.adjusted_p:.2g})" for row in rows)
own_second = second.loc["hub-corrected index", everyone, "KMeans"]
print(
    f"In two sessions of macaque V4, K-means directions had a higher index (−LPIPS, held-out photographs, ten splits) "
    f"than single units, by {by}. Corrected for photographs that are near to all others, the difference was "
    f"{own_table.difference['KMeans']:.3f} in the first session, and not detectable in the second "
    f"({own_second.difference:.3f}, adjusted p = {own_second.adjusted_p:.2g}). Neither was above responses to random "
    f"photographs, with or without the correction."
)

# %% [markdown]
# Supported, in these two sessions:
#
# - The raw index of K-means directions is above that of units on photographs that were not used to find them, in
#   every split, and also with reliable units.
# - The hub-corrected index of *centred* K-means directions is above that of units. This generalises to other
#   photographs of the same kind and to other units.
# - Units of the first session, as a set, are above chance level.
#
# Not supported:
#
# - *That K-means found features.* By its default it scores no better than responses to random photographs, and by the
#   raw index no better than random vectors of the same mean and covariance; centred, not detectably better than centred
#   random vectors of the same covariance.
# - *That K-means directions, by the default, are easier to interpret.* After the correction for plain photographs, less
#   than half of their gain remains in the first session, and no detectable gain in the second. The task with references
#   from top and bottom favours them in the first session and is inconclusive in the second. No person has judged the
#   photographs.
# - *That units are more interpretable than random directions.* It depends on session and score.
# - *That any single unit is interpretable.* Most units are within the range of random sets of photographs, and the
#   index of single units is not reliable in either session.
# - *Anything about V4 of other animals.* These are two sessions from one laboratory, and the photographs of 210325 are
#   grey.
#
# The checks for plainness and the baselines were added after the scores had been seen. The next step should be to
# preregister the whole analysis (`[[hypotheses]]` of a study file) and apply it to a recording that no one has analysed
# yet.
