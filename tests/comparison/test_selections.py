"""Parts of a comparison that were selected with xarray are used as those from `compare`, or refused in one line."""

import numpy as np
import pytest
import xarray as xr

from neurosuper import Color, Pixel, Random, Units, compare, contrast_finders, contrast_systems, headline, summarize
from neurosuper.comparison import contrast_hypotheses
from neurosuper.comparison.selections import BY_METRIC, OF_ITEMS, whole_comparison
from neurosuper.plot import plot_distributions, plot_top_stimuli
from neurosuper.report import make_report


@pytest.fixture(scope="module")
def images():
    pixels = np.random.default_rng(1).integers(0, 256, (40, 4, 4, 3), np.uint8)
    pixels[1] = pixels[0]
    content = [f"{i:032x}" for i in (0, 0, *range(2, 40))]
    coords = {"stimulus": [f"s{i:02d}" for i in range(40)], "content": ("stimulus", content)}
    return xr.DataArray(pixels, coords, ("stimulus", "row", "column", "channel"))


@pytest.fixture(scope="module")
def table(images):
    """Two systems, by two metrics, with groups of stimuli and copies of a photograph: every variable that there is."""
    values = np.random.default_rng(0).gamma(1, 5, (40, 8))
    values[:2] += 40  # the copies are among the top stimuli
    labels = {"stimulus": images.stimulus.values, "unit": list("abcdefgh"), "burst": ("stimulus", np.arange(40) // 2)}
    brain = xr.DataArray(values, labels, ("stimulus", "unit"))
    systems = {"V4": brain, "IT": brain[:, :6] ** 2}
    with pytest.warns(UserWarning, match="copies of one photograph"):
        return compare(systems, images, [Units(), Random(6)], [Color(), Pixel()], top=3, stimulus_groups="burst")


pytestmark = pytest.mark.filterwarnings("ignore:.* stimuli of .* are fewer than 8 × top")


def test_the_lists_of_variables_are_those_of_a_comparison(table):
    by_metric = {name for name, each in table.data_vars.items() if "metric" in each.dims}
    assert (by_metric, set(table.data_vars) - by_metric) == (set(BY_METRIC), set(OF_ITEMS))
    assert {name: each.dtype.kind for name, each in table[list(OF_ITEMS)].items()} == {
        name: np.dtype(kind).kind for name, kind in OF_ITEMS.items()
    }


def numbers(table):
    """Return what is said of a comparison."""
    frames = [contrast(table, n_resamples=100).to_dataframe() for contrast in (contrast_finders, contrast_systems)]
    return [*(frame.to_csv() for frame in (*frames, summarize(table))), *headline(table)]


def test_a_metric_that_was_selected_as_a_scalar_is_used_as_one_in_a_list(table):
    expected = table.sel(metric=["pixel"])
    for part in (table.sel(metric="pixel"), table.isel(metric=1)):
        xr.testing.assert_identical(whole_comparison(part), expected)
        assert numbers(part) == numbers(expected)


def test_a_comparison_as_it_is_and_parts_in_lists_are_left_as_they_are(table):
    for part in (table, table.isel(item=[3, 1]), table.sel(metric=["color"]), table.sel(item=table.system == "V4")):
        xr.testing.assert_identical(whole_comparison(part), part)


@pytest.mark.parametrize("drop", [True, False])
def test_items_that_where_masks_are_left_out(table, drop):
    in_v4 = table.system == "V4"
    expected = table.isel(item=in_v4.values)
    part = table.where(in_v4, drop=drop)
    assert part.n_active.dtype.kind == "f"
    xr.testing.assert_identical(whole_comparison(part).drop_attrs(), expected.drop_attrs())
    assert summarize(part).equals(summarize(expected))
    assert headline(part) == headline(expected)


def test_plots_and_reports_take_the_same_parts(table, images):
    part = table.sel(metric="pixel").where(table.system == "V4")
    expected = table.isel(item=(table.system == "V4").values, metric=[1])
    assert make_report(part, images).html == make_report(expected, images).html
    for plot in (lambda each: plot_distributions(each, "pixel"), lambda each: plot_top_stimuli(each, images, top=2)):
        one, other = (plot(each) for each in (part, expected))
        texts = [[axes.get_ylabel() + axes.get_title() for axes in figure.axes] for figure in (one, other)]
        assert texts[0] == texts[1]


def test_a_hypothesis_is_tested_in_a_part_by_one_metric(table):
    stated = {"system": "V4", "finder": "Random", "metric": "pixel", "against": "Units", "correction": "hub"}
    found = contrast_hypotheses(table.sel(metric="pixel"), [stated | {"alternative": "less"}])
    expected = contrast_hypotheses(table, [stated | {"alternative": "less"}])
    xr.testing.assert_identical(found, expected)


@pytest.mark.parametrize(
    ("select", "error", "message"),
    [
        (lambda table: table.isel(item=2), ValueError, "the comparison has a single item, .*select a list, as .isel"),
        (lambda table: table.interpretability, TypeError, "must be a Dataset from neurosuper.compare, got DataArray"),
        (lambda table: table[["top_stimuli"]], ValueError, "no comparison: it lacks interpretability, metric; pass"),
        (
            lambda table: table.where(table.interpretability > -1),
            ValueError,
            r"differs between metrics, .* as .isel\(item=condition\), or pass one metric",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line_by_all(table, images, select, error, message):
    part = select(table)
    calls = [contrast_finders, contrast_systems, summarize, headline]
    calls += [lambda each: make_report(each, images), lambda each: plot_distributions(each, "color")]
    for call in calls:
        with pytest.raises(error, match=message) as caught:
            call(part)
        assert "\n" not in str(caught.value)
