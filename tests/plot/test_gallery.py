"""What holds for every public plot function: `ax=`, what is returned, and text that stays text."""

import inspect
import io
import re
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import neurosuper as ns
from neurosuper import plot
from tests.plot.pair_results import make_populations, make_twins

NAME = "3$ or 4$"  # of a finder, area or direction: shown as it is, not as a formula


@pytest.fixture
def calls(rng, images, comparison, superposition_results):
    """Return {name of the function: (its arguments, what it writes)}."""
    finders = xr.where(comparison.finder == "PCA", NAME, comparison.finder)
    renamed = comparison.assign_coords(finder=("item", finders.values), item=np.arange(comparison.sizes["item"]))
    tests = ns.contrast_finders(renamed, n_resamples=100)
    codes = xr.DataArray(
        rng.normal(size=(120, 2)),
        {"stimulus": images.stimulus.values, "direction": [NAME, "b"]},
        ("stimulus", "direction"),
    )
    sweep = xr.Dataset(
        {"stability": (("n_directions", "seed"), [[0.5, 0.6], [0.7, 0.8]], {"long_name": NAME})},
        {"n_directions": [2, 4], "seed": [0, 1]},
    )
    measures = xr.Dataset(
        {"sparsity": (("system", "finder"), [[0.5, 0.6]] * 2)}, {"system": ["V4", NAME], "finder": ["a", "b"]}
    )
    recovery = xr.DataArray(
        rng.uniform(size=(2, 9)),
        {"fit_system": ("fit", ["V4"] * 2), "fit_finder": ("fit", [NAME, "KMeans"])},
        ("fit", "planted"),
    )
    reliability = xr.DataArray(
        [0.1, 0.5],
        dims="unit",
        coords={"unit": ["a", "b"], "area": ("unit", [NAME, "V4"])},
        attrs={"rule": "split-half"},
    )
    accuracy = xr.Dataset(
        {"accuracy": (("unit", "quantile"), rng.uniform(0.4, 1, (9, 3)))}, {"quantile": [0, 0.1, 0.2]}
    )
    measured = superposition_results(NAME)
    twins = make_twins(["a"], [NAME])
    one, two = (codes.assign_coords(direction=names) for names in (["a", "c"], [NAME, "b"]))
    return {
        "plot_contrasts": ((tests, "LPIPS-alex"), ["KMeans", "V4", "single units", "not detectable"]),
        "plot_disentanglement": ((measured["disentanglement"],), [NAME, "Units", "KMeans", "MIG", "factors permuted"]),
        "plot_difficulty": (({NAME: accuracy},), [f"{NAME} (n = 9)", "share of correct trials"]),
        "plot_distributions": ((renamed, "LPIPS-alex"), ["KMeans", "V4", "Units"]),
        "plot_finders": ((measures,), ["sparsity", "V4", "b"]),
        "plot_interference": ((measured["interference"],), [NAME, "KMeans", "Welch bound: the least possible"]),
        "plot_recovery": ((recovery,), ["KMeans", "max |cosine| with a planted direction"]),
        "plot_reliability": ((reliability,), ["split-half", f"{NAME} (1)"]),
        "plot_rotation": ((measured["rotation"],), [f"{NAME} (p = 0.05)", "units"]),
        "plot_similarity": (
            {"populations": make_populations(["V4", NAME]), "measure": "cka", "items": ["units", "KMeans"]},
            ["V4", NAME, "KMeans", "quantity of cka"],
        ),
        "plot_sparseness": ((measured["sparseness"],), [NAME, "Units", "sparseness over stimuli"]),
        "plot_spectrum": ((measured["spectrum"],), [f"{NAME}: α = 1.02 [0.93, 1.10]", "critical α = 1.5", "0.1"]),
        "plot_sweep": ((sweep,), ["number of directions"]),
        "plot_synergy": ((measured["synergy"],), [f"{NAME}: 300 pairs", "share of pairs (%)"]),
        "plot_top_stimuli": ((codes, images), ["b", *ns.top_stimuli(codes).values.ravel().tolist()]),
        "plot_twins": (
            (twins, one, two, images),
            ["a", NAME, "r = 0.50 [0.40, 0.60], ceiling 0.80, adjusted p = 0.010"],
        ),
    }


def draw(name, arguments, **ax):
    """Return what a plot function returns for positional arguments, or for named ones where these are keyword-only."""
    if isinstance(arguments, dict):
        return getattr(plot, name)(**arguments, **ax)
    return getattr(plot, name)(*arguments, **ax)


def svg_of(figure):
    """Return the SVG of a figure; in one of the user's own, text is text only if they ask for it."""
    file = io.StringIO()
    with warnings.catch_warnings(), plt.rc_context({} if type(figure) is not Figure else {"svg.fonttype": "none"}):
        figure.savefig(file, format="svg", dpi=50)
    return file.getvalue()


def texts_of(figure):
    return [re.sub("<.*?>", "", text) for text in re.findall(r"<text[^>]*>(.*?)</text>", svg_of(figure))]


@pytest.mark.parametrize("name", plot.__all__)
def test_without_axes_returns_a_figure_whose_svg_contains_all_labels_as_text(name, calls):
    arguments, labels = calls[name]
    figure = draw(name, arguments)
    assert isinstance(figure, Figure)
    texts = texts_of(figure)
    assert set(labels) <= set(texts)
    assert any(NAME in text for text in texts)
    assert '<path id="DejaVu' not in svg_of(figure)  # glyphs


@pytest.mark.parametrize("name", plot.__all__)
def test_with_axes_draws_there_alone_and_returns_them(name, calls):
    arguments, labels = calls[name]
    figure, (left, right) = plt.subplots(1, 2, figsize=(14, 7), layout="constrained")
    figure.canvas.draw()  # axes have labels at their ticks then, which are used again
    assert draw(name, arguments, ax=right) is right
    assert isinstance(right, Axes)
    assert figure.axes == [left, right]
    assert not figure.legends
    assert figure._suptitle is figure._supxlabel is figure._supylabel is None
    assert not left.has_data()
    assert not left.child_axes
    texts = texts_of(figure)
    assert set(labels) <= set(texts)
    assert any(NAME in text for text in texts)
    box = right.get_tightbbox(figure.canvas.get_renderer())
    assert left.get_tightbbox(figure.canvas.get_renderer()).x1 < box.x0
    assert box.x1 <= figure.bbox.x1 + 1
    assert box.y1 <= figure.bbox.y1 + 1
    plt.close(figure)


@pytest.mark.parametrize("name", plot.__all__)
def test_axes_of_any_layout_will_do(name, calls):
    figure = plt.figure(figsize=(10, 6))
    inset = figure.add_axes([0.3, 0.2, 0.6, 0.7])
    assert draw(name, calls[name][0], ax=inset) is inset
    sub = figure.subfigures(1, 2)[1].add_subplot()
    assert draw(name, calls[name][0], ax=sub) is sub
    figure.draw_without_rendering()
    plt.close(figure)


@pytest.mark.parametrize("name", plot.__all__)
def test_leaves_pyplot_and_its_settings_alone(name, calls):
    before, settings = plt.get_fignums(), dict(plt.rcParams)
    draw(name, calls[name][0])
    assert (plt.get_fignums(), dict(plt.rcParams)) == (before, settings)


@pytest.mark.parametrize("name", plot.__all__)
def test_takes_ax_by_name_only_and_last(name, calls):
    parameters = list(inspect.signature(getattr(plot, name)).parameters.values())
    assert parameters[-1].name == "ax"
    assert parameters[-1].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters[-1].default is None
