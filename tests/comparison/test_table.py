import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

from neurosuper.comparison import headline, summarize


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
        "By color, K-means directions are above single units in 1 of 2 systems (brain).",
    ]


def test_headline_says_how_well_planted_directions_were_recovered(comparison):
    recovery = xr.DataArray([[0.4, 0.5], [0.8, 1.0]], dims=("fit", "planted"))
    coords = {"fit_system": ("fit", ["brain"] * 2), "fit_finder": ("fit", ["Units", "KMeans"])}
    sentences = headline(comparison.assign(recovery=recovery.assign_coords(coords)))
    assert "brain: planted directions recovered, median of max |cosine|: KMeans 0.900, Units 0.450." in sentences


def test_headline_does_not_count_equal_medians_as_above(comparison):
    comparison["interpretability"][:] = -0.5
    assert headline(comparison)[-1] == "By color, K-means directions are above single units in 0 of 2 systems."


def test_with_a_corrected_index_the_headline_speaks_of_it_and_shows_the_raw_one(comparison):
    """Corrected, K-means is above units in the network, too."""
    corrected = xr.where(comparison.finder == "KMeans", 0.1, -0.05) + 0 * comparison.interpretability
    floor = xr.full_like(corrected, -0.55)
    both = comparison.assign(corrected=corrected, frequency_floor=floor)

    assert headline(both) == [
        "brain: median hub-corrected index (raw) by color, best first: KMeans 0.100 (−0.500), Units −0.050 (−0.600).",
        "net: median hub-corrected index (raw) by color, best first: KMeans 0.100 (−0.400), Units −0.050 (−0.300).",
        "By color, K-means directions are above single units in the hub-corrected index in 2 of 2 systems "
        "(brain, net).",
    ]
    table = summarize(both)
    assert_allclose(table.loc[("net", "Units", "pixel"), ["median_corrected", "frequency_floor"]], [-0.05, -0.55])
    assert_allclose(table["median"], summarize(comparison)["median"])
