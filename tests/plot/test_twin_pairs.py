import numpy as np
import pytest
import xarray as xr

from neurosuper import load_images, top_stimuli
from neurosuper.plot import plot_twins
from tests.plot.pair_results import make_twins


@pytest.fixture
def systems(rng):
    """Codes of two systems, and images of which each has a color of its own."""
    pixels = np.arange(30, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    images = load_images(pixels)
    a, b = (
        xr.DataArray(
            rng.normal(size=(30, 4)),
            {"stimulus": images.stimulus.values, item: names},
            ("stimulus", item),
        )
        for item, names in (("unit", ["u0", "u1", "u2", "u3"]), ("direction", ["d0", "d1", "d2", "d3"]))
    )
    return a, b, images


def drawn(figure, top):
    """Return the first pixel of each image, by row."""
    pixels = [int(panel.images[0].get_array()[0, 0, 0]) for panel in figure.axes]
    return [pixels[start : start + top] for start in range(0, len(pixels), top)]


def test_rows_are_the_top_stimuli_of_items_and_their_partners_by_the_matched_r(systems):
    a, b, images = systems
    found = make_twins(["u3", "u0", "u1"], ["d2", "d0", "d1"])
    figure = plot_twins(found.isel(item_a=[2, 0, 1]), a, b, images, n_twins=2, top=3)
    expected = [
        top_stimuli(each, top=3).sel({each.dims[1]: name})
        for each, name in ((a, "u3"), (b, "d2"), (a, "u0"), (b, "d0"))
    ]
    assert drawn(figure, 3) == [[int(label) for label in row.values] for row in expected]
    names = [panel.get_ylabel() for panel in figure.axes if panel.get_ylabel()]
    assert names == ["u3", "d2", "u0", "d0"]


def test_r_is_that_of_other_stimuli_and_the_control_is_that_of_all_items(systems):
    a, b, images = systems
    found = make_twins(["u3", "u0"], ["d2", "d0"])
    texts = [text.get_text() for panel in plot_twins(found, a, b, images, top=2).axes for text in panel.texts]
    assert texts == [
        "r = 0.50 [0.40, 0.60], ceiling 0.80, adjusted p = 0.010",
        "r = 0.70 [0.60, 0.80], ceiling 0.80, adjusted p = 0.010",
        "median r of all items: 0.60; of random rotations: 0.10 to 0.20 (p = 0.050)",
    ]
    without = plot_twins(make_twins(["u3"], ["d2"], ceiling=False, rotated=()), a, b, images, top=2)
    texts = [text.get_text() for panel in without.axes for text in panel.texts]
    assert texts[0] == "r = 0.50 [0.40, 0.60], adjusted p = 0.010"
    assert texts[1] == "median r of all items: 0.60; no rotations were drawn"


def test_both_indices_are_named_and_repetitions_and_top_stimuli_will_do(systems):
    a, b, images = systems
    found = make_twins(["u3", "u0"], ["d2", "d2"])
    index = {
        f"interpretability_{side}": xr.DataArray(
            [-0.1, -0.2, -0.3, -0.44], {each.dims[1]: each[each.dims[1]]}, each.dims[1:]
        )
        for side, each in (("a", a), ("b", b))
    }
    figure = plot_twins(found, a, b, images, top=2, **index)
    names = [panel.get_ylabel() for panel in figure.axes if panel.get_ylabel()]
    assert names == ["u3\nindex −0.440", "d2\nindex −0.300", "u0\nindex −0.100", "d2\nindex −0.300"]
    repeated = xr.concat([a - 1, a + 1], "repetition").transpose("stimulus", "repetition", "unit")
    for other in (repeated, top_stimuli(a, top=4)):
        assert drawn(plot_twins(found, other, b, images, top=2), 2) == drawn(figure, 2)


def test_items_without_a_partner_are_not_shown_and_bad_input_is_refused_in_one_line(systems):
    a, b, images = systems
    found = make_twins(["u3", "u0"], ["", "d0"])
    found["r_matched"][0] = np.nan
    names = [panel.get_ylabel() for panel in plot_twins(found, a, b, images).axes if panel.get_ylabel()]
    assert names == ["u0", "d0"]
    with pytest.raises(ValueError, match="no item has a twin, so there is none to draw"):
        plot_twins(found.isel(item_a=[0]), a, b, images)
    with pytest.raises(ValueError, match="b has no unit 'd0'; pass what these twins are of"):
        plot_twins(found, a, a, images)
    with pytest.raises(ValueError, match=r"a must have the dims stimulus \(or rank\) and unit or direction"):
        plot_twins(found, a[:, 0], b, images)
    with pytest.raises(ValueError, match=r"twins must be a Dataset from neurosuper\.comparison\.twins .it lacks"):
        plot_twins(xr.Dataset(), a, b, images)
    with pytest.raises(ValueError, match="no image for stimulus"):
        plot_twins(found, a, b, images[:3])
