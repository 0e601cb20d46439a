from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

from neurosuper import top_stimuli
from neurosuper.plot import plot_top_stimuli


@pytest.fixture
def top() -> xr.DataArray:
    """Three top stimuli of two units."""
    labels = [["s0007", "s0001"], ["s0003", "s0007"], ["s0001", "s0100"]]
    return xr.DataArray(labels, dims=("rank", "unit"), coords={"unit": ["u1", "u2"]})


@pytest.fixture
def codes(rng, images) -> xr.DataArray:
    labels = {"stimulus": images.stimulus.values, "direction": [f"KMeans {i:02d}" for i in range(12)]}
    return xr.DataArray(rng.normal(size=(120, 12)), dims=("stimulus", "direction"), coords=labels)


@pytest.fixture
def table(codes) -> xr.Dataset:
    """Twelve directions by each of two finders in each of two systems, as `compare` returns them."""
    n = 48
    labels = np.concatenate([top_stimuli(codes + i, top=4, random_state=i).values.T for i in range(4)])
    index = -0.5 - np.arange(n)[:, None] / 100
    return xr.Dataset(
        {
            "interpretability": (("item", "metric"), index),
            "corrected": (("item", "metric"), index + 0.6),
            "top_stimuli": (("item", "rank"), labels),
        },
        {
            "system": ("item", np.repeat(["V4", "net"], 24)),
            "finder": ("item", np.tile(np.repeat(["KMeans", "KMeans centred"], 12), 2)),
            "direction": ("item", np.tile(codes.direction.values, 4)),
            "metric": ["LPIPS"],
        },
    )


def names_of(panels):
    return [axes.get_ylabel() for axes in panels if axes.get_ylabel()]


def labels_of(panels):
    return [axes.get_title().split("\n")[0] for axes in panels]


def test_a_row_per_item_with_its_images_in_order(top, images):
    figure = plot_top_stimuli(top, images)
    assert labels_of(figure.axes) == ["s0007", "s0003", "s0001", "s0001", "s0007", "s0100"]
    for axes in figure.axes:
        assert_array_equal(axes.images[0].get_array(), images.sel(stimulus=axes.get_title()).values)
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["u1", "u2"]


def test_named_directions_are_drawn_with_the_codes_of_their_top_stimuli(codes, images):
    figure = plot_top_stimuli(codes, images, ["KMeans 07", "KMeans 02"], top=3)
    chosen = top_stimuli(codes, top=3)
    for row, name in enumerate(["KMeans 07", "KMeans 02"]):
        panels, of_item = figure.axes[3 * row : 3 * row + 3], chosen.sel(direction=name)
        assert names_of(panels) == [name]
        assert labels_of(panels) == of_item.values.tolist()
        written = [axes.get_title().split("\n")[1].replace("−", "-") for axes in panels]
        assert written == [f"{code:.2f}" for code in of_item.code.values]


def test_one_name_needs_no_list_and_five_stimuli_are_the_default(codes, images):
    assert len(plot_top_stimuli(codes, images, "KMeans 07").axes) == 5
    assert len(plot_top_stimuli(codes.T, images, codes.direction[:2]).axes) == 10


def test_bottom_stimuli_have_the_smallest_codes(codes, images):
    bottom = plot_top_stimuli(codes, images, ["KMeans 07"], end="bottom", top=2)
    assert labels_of(bottom.axes) == codes.sel(direction="KMeans 07").to_series().nsmallest(2).index.tolist()


def test_the_index_of_each_item_is_written_below_its_name(codes, images):
    index = xr.DataArray(-np.arange(12.0), dims="direction", coords={"direction": codes.direction})
    figure = plot_top_stimuli(codes, images, ["KMeans 07"], index=index)
    assert names_of(figure.axes) == ["KMeans 07\nindex −7.00"]
    with pytest.raises(ValueError, match=r"index must be one number per unit or direction .*, got \('unit',\)"):
        plot_top_stimuli(codes, images, ["KMeans 07"], index=index.rename(direction="unit"))


def test_all_items_of_a_comparison_with_a_label_are_drawn_and_named_by_what_differs(table, images):
    figure = plot_top_stimuli(table, images, ["KMeans 07"])
    scores = [-0.57, -0.69, -0.81, -0.93]
    kinds = [("V4", "KMeans"), ("V4", "KMeans centred"), ("net", "KMeans"), ("net", "KMeans centred")]
    assert names_of(figure.axes) == [
        f"{system}\n{finder}\nKMeans 07\nindex {index:.3f}\ncorrected {index + 0.6:.3f}".replace("-", "−")
        for (system, finder), index in zip(kinds, scores, strict=True)
    ]
    stimuli = table.top_stimuli[(table.direction == "KMeans 07").values].values
    assert labels_of(figure.axes) == stimuli.ravel().tolist()


def test_a_part_of_a_comparison_needs_no_more_names_than_that(table, images):
    part = table.sel(item=(table.system == "net") & (table.finder == "KMeans"), metric="LPIPS")
    figure = plot_top_stimuli(part, images, ["KMeans 01", "KMeans 00"], top=2)
    assert names_of(figure.axes) == [
        "KMeans 01\nindex −0.750\ncorrected −0.150",
        "KMeans 00\nindex −0.740\ncorrected −0.140",
    ]
    assert len(figure.axes) == 4


def test_panels_are_drawn_in_given_axes(codes, images):
    figure, (left, right) = plt.subplots(1, 2)
    assert plot_top_stimuli(codes, images, ["KMeans 07"], ax=right) is right
    assert names_of(right.child_axes) == ["KMeans 07"]
    assert not left.child_axes
    plt.close(figure)


def test_a_missing_stimulus_leaves_a_gap(top, images):
    top[2, 1] = ""
    assert not plot_top_stimuli(top, images).axes[-1].images


def test_long_labels_are_shortened_to_the_width_of_an_image(codes, images):
    labels = [f"imagenet_n01443537_{i:05d}" for i in range(120)]
    images, codes = (each.assign_coords(stimulus=labels) for each in (images, codes))
    figure = plot_top_stimuli(codes, images, ["KMeans 03"])
    figure.draw_without_rendering()
    best = top_stimuli(codes).sel(direction="KMeans 03").values[0]
    assert labels_of(figure.axes)[0] == f"{best[:7]}…{best[-7:]}"
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_only_the_images_drawn_are_read(top, images):
    def read(block):
        seen.append(len(block))
        return block

    seen: list[int] = []
    lazy = images.chunk(stimulus=10)
    lazy = lazy.copy(data=lazy.data.map_blocks(read, dtype=np.uint8, meta=np.empty((0, 0, 0, 0), np.uint8)))
    plot_top_stimuli(top, lazy)
    assert sum(seen) == 20  # the blocks of s0001, s0003, s0007 and of s0100


@pytest.mark.parametrize(
    ("label", "known", "nearest"),
    [
        ("KMeans 7", [f"KMeans {i:02d}" for i in range(100)], "'KMeans 07', 'KMeans 97', 'KMeans 87'"),
        ("KMeans 7", [f"KMeans {i:03d}" for i in range(100)] * 2, "'KMeans 007', "),
        ("KMeans 07", ["KMeans 70", "KMeans 7", "KMeans 007"], "'KMeans 007', 'KMeans 7', 'KMeans 70'"),
        ("unit 100", ["unit 0100", "unit 1", "unit 10"], "'unit 0100', 'unit 10', 'unit 1'"),
    ],
)
def test_the_nearest_label_is_that_with_the_same_number_and_each_is_named_once(label, known, nearest, images):
    codes = xr.DataArray(np.eye(12, len(known)), dims=("stimulus", "direction"), coords={"direction": known})
    codes = codes.assign_coords(stimulus=images.stimulus.values[:12])
    with pytest.raises(ValueError, match=f"no direction '{label}'; nearest: {nearest}") as raised:
        plot_top_stimuli(codes, images, [label])
    named = str(raised.value).split("nearest: ")[1].split("; known")[0].split(", ")
    assert len(named) == len(set(named)) == 3


def test_bad_input_is_named(top, codes, table, images):
    with pytest.raises(ValueError, match="no image for stimulus 's0007'"):
        plot_top_stimuli(top, images.drop_sel(stimulus="s0007"))
    with pytest.raises(ValueError, match=r"codes must have the dims stimulus and unit .*, got \('order', 'unit'\)"):
        plot_top_stimuli(top.rename(rank="order"), images)
    known = r"no direction 'KMeans 7'; nearest: 'KMeans 07', .*; known: 'KMeans 00', 'KMeans 01', .* \(12 in all\)"
    for source in (codes, table):
        with pytest.raises(ValueError, match=known):
            plot_top_stimuli(source, images, ["KMeans 7"])
    with pytest.raises(ValueError, match="items is empty; name some of 'KMeans 00'"):
        plot_top_stimuli(codes, images, [])
    with pytest.raises(ValueError, match="top must be a whole number from 1 to 4, the number of top stimuli that are"):
        plot_top_stimuli(table, images, ["KMeans 07"], top=5)
    for source in (top, table):
        with pytest.raises(ValueError, match="end='bottom' needs codes"):
            plot_top_stimuli(source, images, end="bottom")
    with pytest.raises(ValueError, match="a comparison has its own index"):
        plot_top_stimuli(table, images, index=codes[0])
    with pytest.raises(ValueError, match=r"no top_stimuli \(item, rank\); run"):
        plot_top_stimuli(table.isel(rank=0), images)
    with pytest.raises(ValueError, match=r"60 items are too many for one figure; name at most 50, such as"):
        plot_top_stimuli(xr.concat([table, table[{"item": slice(12)}]], dim="item"), images)
