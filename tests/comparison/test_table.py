import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

from neurosuper.comparison import headline, summarize
from neurosuper.comparison.table import UNTESTED


@pytest.fixture
def comparison(rng):
    """Two systems; K-means is above units in the brain, below in the network."""
    n = 11
    centres = {("brain", "Units"): -0.6, ("brain", "KMeans"): -0.5, ("net", "Units"): -0.3, ("net", "KMeans"): -0.4}
    values = np.concatenate([centre + np.linspace(-0.1, 0.1, n) for centre in centres.values()])
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


def test_table_of_medians_and_quartiles(comparison):
    table = summarize(comparison)
    assert table.index.names == ["system", "finder", "metric"]
    assert table.index[0] == ("brain", "Units", "color")
    assert_allclose(table.loc[("brain", "KMeans", "color")], [-0.5, -0.55, -0.45, 11])
    assert_allclose(table.loc[("net", "KMeans", "pixel"), "median"], -4)


def test_items_without_a_score_are_not_counted(comparison):
    comparison["interpretability"][0, 0] = np.nan
    assert summarize(comparison).loc[("brain", "Units", "color"), "n_items"] == 10


def test_headline_says_who_is_above_whom(comparison):
    assert headline(comparison) == [
        "brain: median index by color, best first: KMeans −0.500, Units −0.600.",
        "net: median index by color, best first: Units −0.300, KMeans −0.400.",
        "By color, the median of K-means directions is above that of single units in 1 of 2 systems (brain). "
        f"{UNTESTED}",
    ]


def test_headline_says_how_well_planted_directions_were_recovered(comparison):
    recovery = xr.DataArray([[0.4, 0.5], [0.8, 1.0]], dims=("fit", "planted"))
    coords = {"fit_system": ("fit", ["brain"] * 2), "fit_finder": ("fit", ["Units", "KMeans"])}
    sentences = headline(comparison.assign(recovery=recovery.assign_coords(coords)))
    assert "brain: planted directions recovered, median of max |cosine|: KMeans 0.900, Units 0.450." in sentences


def test_headline_does_not_count_equal_medians_as_above(comparison):
    comparison["interpretability"][:] = -0.5
    assert "is above that of single units in 0 of 2 systems." in headline(comparison)[-1]


def test_with_a_corrected_index_the_headline_speaks_of_it_and_shows_the_raw_one(comparison):
    """Corrected, K-means is above units in the network, too."""
    corrected = xr.where(comparison.finder == "KMeans", 0.1, -0.05) + 0 * comparison.interpretability
    floor = xr.full_like(corrected, -0.55)
    both = comparison.assign(corrected=corrected, frequency_floor=floor)

    assert headline(both) == [
        "brain: median hub-corrected index (raw) by color, best first: KMeans 0.100 (−0.500), Units −0.050 (−0.600).",
        "net: median hub-corrected index (raw) by color, best first: KMeans 0.100 (−0.400), Units −0.050 (−0.300).",
        "By color, the median of K-means directions is above that of single units in the hub-corrected index in 2 of 2 "
        f"systems (brain, net). {UNTESTED}",
    ]
    table = summarize(both)
    assert_allclose(table.loc[("net", "Units", "pixel"), ["median_corrected", "frequency_floor"]], [-0.05, -0.55])
    assert_allclose(table["median"], summarize(comparison)["median"])


@pytest.fixture
def with_inactive(comparison):
    """The two best K-means directions of the brain have too few active stimuli; three others were constant."""
    n_active = np.full(comparison.sizes["item"], 40)
    n_active[20:22] = 2
    attrs = {"top": 5, "n_constant": [0, 1, 0, 2]}
    return comparison.assign(n_active=("item", n_active)).assign_attrs(attrs)


def test_medians_leave_out_inactive_items_and_the_table_counts_them(comparison, with_inactive):
    table = summarize(with_inactive)
    active = np.linspace(-0.6, -0.4, 11)[:9]
    found = table.loc[("brain", "KMeans", "color"), ["median", "lower_quartile", "upper_quartile"]]
    assert_allclose(found.astype(float), np.quantile(active, [0.5, 0.25, 0.75]))
    assert table.n_items.tolist() == [11] * 8
    assert table.n_inactive.tolist() == [0, 0, 2, 2, 0, 0, 0, 0]
    assert_allclose(summarize(with_inactive, include_inactive=True)["median"], summarize(comparison)["median"])


def test_a_set_without_active_items_has_no_median(with_inactive):
    with_inactive.n_active[:11] = 0
    row = summarize(with_inactive).loc[("brain", "Units", "color")]
    assert np.isnan(row["median"])
    assert (row.n_items, row.n_inactive) == (11, 11)
    assert headline(with_inactive)[0] == "brain: median index by color, best first: KMeans −0.520."


def test_headline_names_and_counts_what_was_left_out(with_inactive):
    constant = "directions that are constant on the stimuli to score on"
    assert headline(with_inactive)[-2:] == [
        f"Left out in brain: items with fewer than 5 active stimuli (2 of 11 by KMeans); {constant} (1 by KMeans).",
        f"Left out in net: {constant} (2 by KMeans).",
    ]


def test_headline_does_not_repeat_the_note_of_a_study(with_inactive):
    *_, of_brain, of_net = headline(with_inactive)
    assert headline(with_inactive.assign_attrs(note=f"Made up. {of_brain}"))[-2:] == [
        headline(with_inactive)[2],
        of_net,
    ]


def test_constant_directions_are_summed_over_seeds(with_inactive):
    second = with_inactive.assign_coords(seed=("item", [1] * 44))
    both = xr.concat([with_inactive.assign_coords(seed=("item", [0] * 44)), second], "item", data_vars="minimal")
    assert headline(both.assign_attrs(n_constant=[0, 1, 0, 2, 0, 3, 4, 0]))[-2:] == [
        "Left out in brain: items with fewer than 5 active stimuli (4 of 22 by KMeans); directions that are constant "
        "on the stimuli to score on (4 by KMeans).",
        "Left out in net: directions that are constant on the stimuli to score on (4 by Units, 2 by KMeans).",
    ]


def test_of_a_part_of_a_comparison_the_sum_of_constant_directions_is_known(with_inactive):
    part = with_inactive.isel(item=(with_inactive.system == "net").values)
    assert headline(part)[-1] == "Left out: directions that are constant on the stimuli to score on (3)."


def test_reliability_is_that_of_the_corrected_index_and_of_the_worst_seed(comparison):
    reliability = xr.where(comparison.finder == "KMeans", 0.6, np.nan) + 0 * comparison.interpretability
    reliability[11] = 0.2  # of another seed
    raw = comparison.assign(index_reliability=reliability)
    assert_allclose(summarize(raw)["reliability"], [np.nan, np.nan, 0.2, 0.2, np.nan, np.nan, 0.6, 0.6])
    both = raw.assign(corrected=comparison.interpretability, corrected_reliability=reliability / 2)
    assert_allclose(summarize(both)["reliability"][2:4], 0.1)


def test_headline_says_where_directions_are_above_their_matched_baseline(comparison):
    """K-means is above units in the brain, and the baseline is between the two; in the network it is above both."""
    baselines = [(system, centre + np.linspace(-0.1, 0.1, 11)) for system, centre in (("brain", -0.55), ("net", -0.1))]
    parts = [
        comparison.isel(item=slice(11))
        .assign(interpretability=(("item", "metric"), np.stack([index, index], axis=1)))
        .assign_coords(system=("item", [system] * 11), finder=("item", ["CovarianceMatched"] * 11))
        for system, index in baselines
    ]
    every = xr.concat([comparison, *parts], "item")
    baseline = np.where(every.finder == "KMeans", "CovarianceMatched", "")
    assert headline(every.assign_coords(baseline=("item", baseline)))[-1] == (
        "By color, the median of K-means directions is above that of single units in 1 of 2 systems (brain), and above "
        f"that of their matched baseline, CovarianceMatched, in 1 of 2 systems (brain). {UNTESTED}"
    )
    assert "baseline" not in headline(every)[-1]
