import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

from neurosuper.plot import plot_top_stimuli


@pytest.fixture
def top() -> xr.DataArray:
    """Three top stimuli of two units."""
    labels = [["s0007", "s0001"], ["s0003", "s0007"], ["s0001", "s0100"]]
    return xr.DataArray(labels, dims=("rank", "unit"), coords={"unit": ["u1", "u2"]})


def test_a_row_per_item_with_its_images_in_order(top, images):
    figure = plot_top_stimuli(top, images)
    labels = [axes.get_title() for axes in figure.axes]
    assert labels == ["s0007", "s0003", "s0001", "s0001", "s0007", "s0100"]
    for axes in figure.axes:
        assert_array_equal(axes.images[0].get_array(), images.sel(stimulus=axes.get_title()).values)
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["u1", "u2"]


def test_titles_replace_labels_of_items(top, images):
    assert plot_top_stimuli(top, images, titles=["first", "second"]).axes[3].get_ylabel() == "second"


def test_a_missing_stimulus_leaves_a_gap(top, images):
    top[2, 1] = ""
    assert not plot_top_stimuli(top, images).axes[-1].images


def test_only_the_images_drawn_are_read(top, images):
    def read(block):
        seen.append(len(block))
        return block

    seen: list[int] = []
    lazy = images.chunk(stimulus=10)
    lazy = lazy.copy(data=lazy.data.map_blocks(read, dtype=np.uint8, meta=np.empty((0, 0, 0, 0), np.uint8)))
    plot_top_stimuli(top, lazy)
    assert sum(seen) == 20  # the blocks of s0001, s0003, s0007 and of s0100


def test_bad_input_is_named(top, images):
    with pytest.raises(ValueError, match="no image for stimulus 's0007'"):
        plot_top_stimuli(top, images.drop_sel(stimulus="s0007"))
    with pytest.raises(ValueError, match="got 1 titles for 2 items"):
        plot_top_stimuli(top, images, titles=["one"])
    with pytest.raises(ValueError, match="chosen must have the dims rank and unit"):
        plot_top_stimuli(top.rename(rank="order"), images)
