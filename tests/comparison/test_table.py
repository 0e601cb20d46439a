"""The table of means: what is in it, its intervals, and the chance level next to them."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.spatial.distance import pdist, squareform

import neurosuper as ns
from neurosuper import Color, Label, Precomputed, Random, Units, compare, summarize
from neurosuper.comparison import contrast_finders, headline, scoring
from neurosuper.comparison.table import count_constant, count_left_out
from neurosuper.interpretability import index_interval


@pytest.fixture
def comparison(rng):
    """Two systems; K-means is above units in the brain, below in the network."""
    n = 11
    centres = {("brain", "Units"): -0.6, ("brain", "KMeans"): -0.5, ("net", "Units"): -0.3, ("net", "KMeans"): -0.4}
    values = np.concatenate([centre + np.linspace(-0.1, 0.1, n) ** 3 * 100 for centre in centres.values()])
    values += np.tile([0.0] * 10 + [0.11], 4)  # so that a mean is no median
    names = np.repeat(list(centres), n, axis=0)
    return xr.Dataset(
        {"interpretability": (("item", "metric"), np.stack([values, 10 * values], axis=1))},
        coords={
            "metric": ["color", "pixel"],
            "item": np.arange(4 * n),
            "system": ("item", names[:, 0]),
            "finder": ("item", names[:, 1]),
        },
    )


def test_the_table_has_the_mean_of_each_set_and_no_interval_without_halves(comparison):
    table = summarize(comparison)
    assert table.index.names == ["system", "finder", "metric"]
    assert table.index[0] == ("brain", "Units", "color")
    row = table.loc[("brain", "KMeans", "color")]
    scores = comparison.interpretability[11:22, 0].values
    assert_allclose(row["mean"], -0.49)
    assert_allclose([row["mean"], row.standard_error], [scores.mean(), scores.std(ddof=1) / 11**0.5])
    assert row.n_items == 11
    assert np.isnan([row.mean_low, row.mean_high]).all()
    assert_allclose(table.loc[("net", "KMeans", "pixel"), "mean"], -3.9)
    assert list(table) == ["mean", "mean_low", "mean_high", "standard_error", "n_items"]
    assert ns.summarize is summarize


def test_items_without_a_score_are_not_counted(comparison):
    comparison["interpretability"][0, 0] = np.nan
    row = summarize(comparison).loc[("brain", "Units", "color")]
    assert row.n_items == 10
    assert_allclose(row["mean"], comparison.interpretability[1:11, 0].mean())


def test_corrected_means_and_the_floor_are_beside_the_raw_ones(comparison):
    corrected = xr.where(comparison.finder == "KMeans", 0.1, -0.05) + 0 * comparison.interpretability
    both = comparison.assign(corrected=corrected, frequency_floor=xr.full_like(corrected, -0.55))
    table = summarize(both)
    assert_allclose(table.loc[("net", "Units", "pixel"), ["mean_corrected", "frequency_floor"]], [-0.05, -0.55])
    assert_allclose(table["mean"], summarize(comparison)["mean"])


@pytest.mark.parametrize("metric", [Color(), Label()], ids=["distance", "agreement"])
def test_intervals_are_those_of_index_interval(responses, images, metric):
    table = compare({"brain": responses}, images, [Units(), Random(6)], [metric], top=4, score_on="all")
    summary = summarize(table).xs(metric.name, level="metric")
    for finder in (Units(), Random(6)):
        codes = finder.fit_transform(responses)
        row = summary.loc[("brain", type(finder).__name__)]
        raw, hub = (index_interval(codes, images, metric, top=4, correction=name) for name in (None, "hub"))
        columns = ["mean_corrected", "mean_corrected_low", "mean_corrected_high", "standard_error_corrected"]
        names = [*("interpretability", "interpretability_low", "interpretability_high"), "standard_error"]
        assert_allclose(row[columns], [hub[name] for name in names], rtol=1e-3, atol=1e-6)
        # For the log scale, the level of the two halves of a split is not known, only that of all.
        found = row[["mean", "mean_low", "mean_high", "standard_error"]]
        assert_allclose(found, [raw[name] for name in names], rtol=0.03 if raw.scale == "log" else 1e-3)
        assert raw.scale == ("log" if metric.name == "color" else "linear")
        if raw.scale == "log":
            assert_allclose(row["mean"] ** 2, row.mean_low * row.mean_high)


def test_around_the_mean_over_halves_intervals_have_the_width_of_index_interval(images, make_responses):
    """Around the index on all stimuli they have another: up to 14 % more or less in the simulations of `summarize`."""
    ratios = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        features, labels = rng.normal(size=(30, 6)), images.stimulus.values[:30]
        distances = squareform(pdist(features, "sqeuclidean"))
        metric = Precomputed(xr.DataArray(distances, {"stimulus": labels, "other": labels}, ("stimulus", "other")))
        responses = make_responses(features @ rng.normal(size=(6, 8)) + rng.normal(size=(30, 8)))
        table = compare({"V4": responses}, images[:30], [Units()], [metric], top=3, score_on="all", baselines=False)
        alone = index_interval(responses, images[:30], metric, top=3)
        rows = [summarize(each).iloc[0] for each in (table, table.drop_vars("mean_of_halves"))]
        expected = float(alone.interpretability_high - alone.interpretability_low)
        ratios.append([(row.mean_high - row.mean_low) / expected for row in rows])
    around_halves, around_all = np.abs(np.array(ratios) - 1).max(0)
    assert around_halves < 0.02
    assert around_all > 0.08


def test_intervals_for_other_groups_of_stimuli_are_linear(responses, images):
    groups = ("stimulus", [f"g{i % 12}" for i in range(120)])
    grouped = responses.assign_coords(group=groups)
    table = compare({"brain": grouped}, images, [Units()], [Color()], top=4, score_on="all", stimulus_groups="group")
    row = summarize(table).iloc[0]
    alone = index_interval(grouped, images, Color(), top=4, stimulus_groups="group")
    names = ("interpretability", "interpretability_low", "interpretability_high")
    assert_allclose(row[["mean", "mean_low", "mean_high"]], [alone[name] for name in names], rtol=1e-3)


def test_means_are_those_that_contrasts_compare(comparison):
    """Of the first seed, without inactive items; other seeds would move them."""
    n_active = np.full(44, 40)
    n_active[20:22] = 2
    first = comparison.assign(n_active=("item", n_active)).assign_attrs(top=5)
    second = first.assign(interpretability=first.interpretability + 1).assign_coords(seed=("item", [1] * 44))
    both = xr.concat([first.assign_coords(seed=("item", [4] * 44)), second], "item", data_vars="minimal")
    table = summarize(both)
    tests = contrast_finders(both, n_resamples=200)
    for test in (tests.isel(test=i) for i in range(tests.sizes["test"])):
        key, metric = (test.system.item(), test.metric.item()), test.metric.item()
        means = [table.loc[(key[0], finder.item(), metric), "mean"] for finder in (test.finder, test.against)]
        assert_allclose(means, [test.estimate_a, test.estimate_b])
    assert table.n_items.tolist() == [11] * 8
    assert table.n_inactive.tolist() == [0, 0, 2, 2, 0, 0, 0, 0]


@pytest.fixture
def with_inactive(comparison):
    """The two best K-means directions of the brain have too few active stimuli; three others were constant."""
    n_active = np.full(comparison.sizes["item"], 40)
    n_active[20:22] = 2
    attrs = {"top": 5, "n_constant": [0, 1, 0, 2]}
    return comparison.assign(n_active=("item", n_active)).assign_attrs(attrs)


def test_means_leave_out_inactive_items_and_the_table_counts_them(comparison, with_inactive):
    table = summarize(with_inactive)
    assert_allclose(table.loc[("brain", "KMeans", "color"), "mean"], comparison.interpretability[11:20, 0].mean())
    assert table.n_items.tolist() == [11] * 8
    assert table.n_inactive.tolist() == [0, 0, 2, 2, 0, 0, 0, 0]
    assert_allclose(summarize(with_inactive, include_inactive=True)["mean"], summarize(comparison)["mean"])


def test_a_set_without_active_items_has_no_mean(with_inactive):
    with_inactive.n_active[:11] = 0
    row = summarize(with_inactive).loc[("brain", "Units", "color")]
    assert np.isnan(row["mean"])
    assert (row.n_items, row.n_inactive) == (11, 11)


def test_a_single_item_has_a_mean_without_an_interval(responses, images):
    table = compare({"brain": responses}, images, [Units(), Random(1)], [Color()], top=4, score_on="all")
    row = summarize(table).loc[("brain", "Random", "color")]
    assert np.isfinite(row["mean"])
    assert np.isnan([row.mean_low, row.mean_high, row.standard_error]).all()


def test_reliability_is_that_of_the_corrected_index_and_of_the_worst_seed(comparison):
    reliability = xr.where(comparison.finder == "KMeans", 0.6, np.nan) + 0 * comparison.interpretability
    reliability[11] = 0.2  # of another seed
    raw = comparison.assign(index_reliability=reliability)
    assert_allclose(summarize(raw)["reliability"], [np.nan, np.nan, 0.2, 0.2, np.nan, np.nan, 0.6, 0.6])
    both = raw.assign(corrected=comparison.interpretability, corrected_reliability=reliability / 2)
    assert_allclose(summarize(both)["reliability"][2:4], 0.1)


def corrected(distances):
    """Return d_jk − μ − a_j − a_k (see `hub_shifts`) of all pairs, from a square matrix."""
    n = len(distances)
    h = distances.sum(1) / (n - 1)
    a = (h - h.mean()) * (n - 1) / (n - 2)
    return distances - h.mean() - a[:, None] - a


def test_the_chance_band_of_a_mean_contains_95_of_100_means_of_random_sets(responses, images, rng, monkeypatch):
    """By brute force: 4,000 populations of 8 units that ignore the images and one another. Its own error is 0.4 %.

    The s.d. between sets is estimated from 4,000 of them here, so that its error does not count.
    """
    monkeypatch.setattr(scoring, "N_RANDOM_SETS", 4000)
    table = compare({"brain": responses}, images, [Units()], [Color()], top=4, score_on="all", baselines=False)
    row = summarize(table).iloc[0]
    d = np.zeros((120, 120))
    d[np.triu_indices(120, 1)] = pdist(Color(device="cpu").embed(images).numpy())
    d += d.T
    assert row.n_items == 8
    assert_allclose(row.chance_level, -d.sum() / (120 * 119), rtol=1e-5)
    sets = rng.random((4000 * 8, 120)).argsort(1)[:, :4]
    pairs = np.triu_indices(4, 1)
    for distances, low, high in (
        (d, row.chance_of_mean_low, row.chance_of_mean_high),
        (corrected(d), row.chance_of_mean_corrected_low, row.chance_of_mean_corrected_high),
    ):
        index = -distances[sets[:, pairs[0]], sets[:, pairs[1]]].mean(1)
        means = index.reshape(4000, 8).mean(1)
        assert abs(np.mean((means < low) | (means > high)) - 0.05) < 0.012
        assert max(np.mean(means < low), np.mean(means > high)) < 0.045  # sets of 4 of 120 images are skewed: 1.2
        assert np.mean((index < low) | (index > high)) > 0.3  # the band of single sets is wider


def test_the_chance_band_narrows_with_the_number_of_items_and_leaves_out_inactive_ones(responses, images):
    table = compare({"brain": responses}, images, [Units(), Random(32)], [Color()], top=4, score_on="all")
    table["n_active"][:4] = 1
    row = summarize(table)
    widths = (row.chance_of_mean_high - row.chance_of_mean_low).xs("color", level="metric")["brain"]
    assert_allclose(widths["Units"] / widths["Random"], (32 / 4) ** 0.5)
    assert_allclose(widths["Units"], 2 * 1.959964 * table.chance_level_sd[0, 0] / 4**0.5, rtol=1e-6)


def test_what_was_left_out_is_named_and_counted(with_inactive):
    constant = "directions that are constant on the stimuli to score on"
    assert headline(with_inactive)[-2:] == [
        f"Left out in brain: items with fewer than 5 active stimuli (2 of 11 by KMeans); {constant} (1 by KMeans).",
        f"Left out in net: {constant} (2 by KMeans).",
    ]


def test_what_was_left_out_is_counted_in_the_first_seed_as_are_the_means(with_inactive):
    second = with_inactive.assign_coords(seed=("item", [1] * 44))
    both = xr.concat([with_inactive.assign_coords(seed=("item", [0] * 44)), second], "item", data_vars="minimal")
    both = both.assign_attrs(n_constant=[0, 1, 0, 2, 0, 3, 4, 0])
    assert headline(both)[-2:] == headline(with_inactive)[-2:]
    summary, counts = summarize(both).xs(both.metric.values[0], level="metric"), count_left_out(both)
    for name in ("n_items", "n_inactive"):
        assert counts[name].tolist() == summary[name].tolist()
    assert count_constant(both) == 3
    assert headline(both.assign_attrs(n_constant=[0, 0, 0, 0, 0, 3, 4, 0]))[-1].startswith("Left out in brain: items")


def test_of_a_part_of_a_comparison_the_sum_of_constant_directions_is_known(with_inactive):
    part = with_inactive.isel(item=(with_inactive.system == "net").values)
    assert headline(part)[-1] == "Left out: directions that are constant on the stimuli to score on (3)."
