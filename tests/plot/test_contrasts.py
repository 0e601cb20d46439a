from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from numpy.testing import assert_allclose

from neurosuper.plot import plot_contrasts
from neurosuper.plot.style import finder_looks

SYSTEMS = ("V4", "net")
FINDERS = ("KMeans", "KMeans centred", "CovarianceMatched (center)")


@pytest.fixture
def tests(rng) -> xr.Dataset:
    """Two systems × three finders against units and the matched baseline, raw and corrected, by two metrics."""
    rows = [
        (system, finder, against, metric, correction)
        for metric in ("LPIPS", "color")
        for system in SYSTEMS
        for finder in FINDERS
        for against in ("Units", "CovarianceMatched (center)")
        for correction in ("none", "hub")
        if finder != against
    ]
    kinds = {"Units": "Units", FINDERS[2]: "matched baseline"}
    rows = [(*row, f"finders in {row[0]} by {row[3]}, {row[4]}, against {kinds[row[2]]}") for row in rows]
    names = ("system", "finder", "against", "metric", "correction", "family")
    difference = rng.normal(0, 0.1, len(rows))
    p = rng.uniform(0, 0.1, len(rows))
    columns = {"difference": difference, "difference_low": difference - 0.05, "difference_high": difference + 0.05}
    return xr.Dataset(
        {name: ("test", values) for name, values in columns.items()}
        | {"p_adjusted": ("test", p), "detectable": ("test", p < 0.05)},
        {name: ("test", np.array(values)) for name, values in zip(names, zip(*rows, strict=True), strict=True)},
        {"confidence_level": 0.95},
    )


def rows_of(axes):
    """Return {name of system and finder: height} of the rows of a panel."""
    rows, system = {}, ""
    for place, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True):
        if label.get_fontweight() == "bold":
            system = label.get_text()
        else:
            rows[system, label.get_text().replace("\n", " ")] = place
    return rows


def markers_of(axes):
    return [line for line in axes.lines if line.get_marker() not in ("None", None, "")]


@pytest.mark.parametrize("correction", [None, "none"])
def test_every_test_is_a_marker_with_its_interval_in_its_row_and_panel(tests, correction):
    figure = plot_contrasts(tests, "color", correction=correction)
    rows = rows_of(figure.axes[0])
    assert list(rows) == [(system, finder) for system in SYSTEMS for finder in FINDERS]
    assert [axes.get_title() for axes in figure.axes] == ["against\nsingle units", "against\nmatched baseline"]
    by_metric = tests.isel(test=(tests.metric == "color").values)
    for axes, is_units in zip(figure.axes, (True, False), strict=True):
        chosen = by_metric.isel(test=((by_metric.against == "Units") == is_units).values)
        chosen = chosen.isel(test=(chosen.correction == (correction or "hub")).values)
        heights = [rows[pair] for pair in zip(chosen.system.values, chosen.finder.values, strict=True)]
        assert_allclose([line.get_xdata()[0] for line in markers_of(axes)], chosen.difference)
        assert_allclose([line.get_ydata()[0] for line in markers_of(axes)], heights)
        intervals = [
            line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 1.5
        ]
        assert_allclose(np.array(intervals), np.stack([chosen.difference_low, chosen.difference_high], axis=1))


@pytest.mark.parametrize("name", ["Units (z-scored)", "my matched baseline", "CovarianceMatched"])
def test_a_reference_that_the_user_named_has_its_name(tests, name):
    own = tests.isel(test=(tests.against == "Units").values)
    families = [f"finders in {system}, against {name}" for system in own.system.values]
    own = own.assign_coords(against=("test", [name] * own.sizes["test"]), family=("test", families))
    assert plot_contrasts(own, "LPIPS").axes[0].get_title() == f"against\n{name}"


def test_a_marker_is_filled_only_where_the_difference_is_detectable(tests):
    figure = plot_contrasts(tests, "LPIPS", correction="none")
    by_kind = tests.isel(test=((tests.metric == "LPIPS") & (tests.correction == "none")).values)
    drawn = markers_of(figure.axes[0]) + markers_of(figure.axes[1])
    filled = [to_hex(line.get_markerfacecolor()) != "#ffffff" for line in drawn]
    is_units = (by_kind.against == "Units").values
    assert filled == [*by_kind.detectable.values[is_units], *by_kind.detectable.values[~is_units]]
    assert {True, False} == set(filled)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["detectable (adjusted p < 0.05)", "not detectable"]


def test_finders_have_their_colour_and_marker(tests):
    looks = finder_looks(FINDERS)
    drawn = markers_of(plot_contrasts(tests, "LPIPS").axes[0])
    assert [(line.get_color(), line.get_marker()) for line in drawn] == [looks[finder] for finder in FINDERS] * 2


def test_axes_have_a_zero_line_the_same_limits_and_a_label_with_the_index(tests):
    raw, hub = (plot_contrasts(tests, "LPIPS", correction=c).axes for c in ("none", "hub"))
    assert " ".join(raw[0].get_xlabel().split()) == "difference in mean index by LPIPS, with 95 % interval"
    assert " ".join(hub[1].get_xlabel().split()).startswith("difference in mean hub-corrected index by LPIPS")
    assert raw[0].get_xlim() == raw[1].get_xlim()
    assert all(any((np.array(line.get_xdata()) == 0).all() for line in axes.lines) for axes in raw)
    low, high = raw[0].get_xlim()
    chosen = tests.isel(test=((tests.metric == "LPIPS") & (tests.correction == "none")).values)
    assert low < min(0, chosen.difference_low.min())
    assert high > max(0, chosen.difference_high.max())


def test_a_test_without_an_interval_is_a_marker_alone(tests):
    tests["difference_low"][:] = np.nan
    tests["difference_high"][:] = np.nan
    axes = plot_contrasts(tests, "LPIPS").axes[0]
    assert len(markers_of(axes)) == 6
    assert not [line for line in axes.lines if line.get_linewidth() == 1.5 and len(line.get_xdata()) == 2]


def test_two_baselines_that_were_named_have_a_panel_each(tests):
    against = np.where(tests.against == "Units", "CovarianceMatched", tests.against)
    families = [f"finders, against {name}" for name in against]
    figure = plot_contrasts(tests.assign_coords(against=("test", against), family=("test", families)), "LPIPS")
    titles = [" ".join(axes.get_title().split()) for axes in figure.axes]
    assert titles == ["against CovarianceMatched", "against CovarianceMatched (center)"]


def test_a_figure_of_many_tests_is_narrow_enough_for_a_phone_and_no_label_is_cut_or_overlaps(tests):
    finders = [f"finder {i}" for i in range(7)] + ["CovarianceMatched (center, normalize)"]
    rows = [
        (f"system {i}, with a name of two lines", finder, kind)
        for i in range(6)
        for finder in finders
        for kind in ("Units", "other")
    ]
    coords = dict(zip(("system", "finder", "against"), map(np.array, zip(*rows, strict=True)), strict=True))
    coords |= {"metric": np.full(len(rows), "LPIPS"), "correction": np.full(len(rows), "none")}
    many = tests.isel(test=np.resize(np.arange(10), len(rows))).drop_vars(list(coords))
    figure = plot_contrasts(many.assign_coords({name: ("test", values) for name, values in coords.items()}), "LPIPS")
    figure.draw_without_rendering()
    assert figure.get_figwidth() <= 4.6
    labels = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert min(box.x0 for box in labels) >= 0
    assert all(above.y0 >= below.y1 - 1 for above, below in pairwise(labels))
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.x1


def test_what_was_not_tested_is_named(tests):
    with pytest.raises(ValueError, match="no tests by metric 'pixel'; there are tests by LPIPS, color"):
        plot_contrasts(tests, "pixel")
    with pytest.raises(ValueError, match="correction must be one of 'none', 'hub'; got 'floor'"):
        plot_contrasts(tests, "color", correction="floor")
    with pytest.raises(ValueError, match="no tests of correction 'hub'; there are tests of none"):
        plot_contrasts(tests.isel(test=(tests.correction == "none").values), "color", correction="hub")
