from itertools import combinations

import numpy as np
import pytest
import xarray as xr

from neurosuper.plot import plot_similarity
from tests.plot.pair_results import make_populations


def texts_of(axes):
    """Return {(row, column): text} of the cells of a matrix."""
    return {text.get_position()[::-1]: text.get_text() for text in axes.texts}


def test_a_symmetric_measure_fills_both_sides_and_leaves_the_diagonal():
    found = make_populations(["V4", "IT", "net"])
    cells = texts_of(plot_similarity(found, measure="cka").axes[0])
    assert set(cells) == {(i, j) for i in range(3) for j in range(3) if i != j}
    for a, b in combinations(range(3), 2):
        assert cells[a, b] == cells[b, a]
        pair = f"{['V4', 'IT', 'net'][a]} | {['V4', 'IT', 'net'][b]}"
        estimate = float(found.estimate.sel(pair=pair, items="units", measure="cka"))
        assert cells[a, b].strip("()") == f"{estimate:.2f}"


def test_measures_that_go_one_way_fill_where_they_start_and_the_way_back_where_it_was_measured():
    found = make_populations(["V4", "IT"], measures=("twins", "twins back", "encoding"))
    forth, back = (float(found.estimate.sel(items="units", measure=name)[0]) for name in ("twins", "twins back"))
    axes = plot_similarity(found, measure="twins").axes[0]
    cells = {place: text.strip("()") for place, text in texts_of(axes).items()}
    assert cells == {(0, 1): f"{forth:.2f}", (1, 0): f"{back:.2f}"}
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("twins of items of", "among items of")
    assert set(texts_of(plot_similarity(found, measure="encoding").axes[0])) == {(0, 1)}


@pytest.mark.parametrize(("p", "text"), [(0.049, "0.30"), (0.05, "(0.30)"), (np.nan, "(0.30)")])
def test_what_chance_explains_is_in_parentheses(p, text):
    found = make_populations(["V4", "IT"])
    found["estimate"][:], found["p_adjusted"][:] = 0.3, p
    assert set(texts_of(plot_similarity(found, measure="rsa").axes[0]).values()) == {text}


def test_several_items_share_colours():
    found = make_populations(["V4", "IT"])
    panels = plot_similarity(found, measure="cka", items=["units", "KMeans"]).axes
    assert [panel.get_title() for panel in panels] == ["units", "KMeans"]
    limits = [panel.images[0].get_clim() for panel in panels]
    assert limits[0] == limits[1] == (0, float(found.estimate.sel(measure="cka", items=["units", "KMeans"]).max()))


@pytest.mark.parametrize("n", [2, 20])
def test_numbers_fit_in_their_cells(n):
    found = make_populations([f"a long name of the layer {i}" for i in range(n)])
    found["estimate"][:], found["p_adjusted"][:] = -0.12, 1
    figure = plot_similarity(found, measure="cka")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    cell = axes.get_window_extent().width / n
    assert all(text.get_window_extent().width < cell for text in axes.texts)


def test_other_datasets_measures_and_items_are_refused_in_one_line():
    found = make_populations(["V4", "IT"])
    with pytest.raises(ValueError, match=r"must be a Dataset from neurosuper\.comparison\.compare_populations"):
        plot_similarity(xr.Dataset({"estimate": 1.0}), measure="cka")
    with pytest.raises(ValueError, match="measure must be of .*'cka'.*; got 'CKA'"):
        plot_similarity(found, measure="CKA")
    with pytest.raises(ValueError, match="items must be of .*'units'.*; got 'NMF'"):
        plot_similarity(found, measure="cka", items=["units", "NMF"])
    with pytest.raises(ValueError, match="items must be of .*; got none"):
        plot_similarity(found, measure="cka", items=[])
