"""The axis of images is checked with a second batch; a warning names `layout=` if channels seem to be elsewhere."""

import pytest
import torch

from neurosuper._layouts import check_axes, images_first, read_layouts

SQUARE, WIDE = torch.arange(6.0)[:, None, None, None] + torch.zeros(6, 3, 16, 16), torch.rand(6, 3, 12, 24)


def check(shape, batch=SQUARE, layout=None, run=None):
    """Check a layer of this shape, in which "n" is the number of images; return the sizes of the batches that ran."""
    n_images = []

    def give(x):
        n_images.append(len(x))
        axis = shape.index("n")
        sizes = [len(x) if size == "n" else size for size in shape]
        column = x.flatten(1)[:, 0].reshape([-1 if place == axis else 1 for place in range(len(shape))])
        return {"layer": column.expand(sizes)}

    run = run or give
    check_axes(run, batch, run(batch), read_layouts(layout, ["layer"]))
    return n_images


@pytest.mark.parametrize(
    "shape", [("n", 8), ("n", 6), ("n", 6, 8), ("n", 6, 6, 6), ("n", 64, 8, 8), ("n", 1, 1, 1), ("n", 5, 4, 3)]
)
def test_images_on_the_first_axis_are_accepted_after_a_second_batch(shape):
    assert check(shape) == [6, 2]


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((6, "n", 8), "token image channel"),
        ((8, "n", 8), "token image channel"),
        ((6, 8, "n"), "token channel image"),
        ((6, "n"), "channel image"),
        ((6, 8, 8, "n"), "channel row column image"),
    ],
)
def test_images_on_another_axis_are_refused_unless_layout_says_so(shape, layout):
    with pytest.raises(ValueError, match=f"axis 0 does not count images; pass layout='{layout}'") as caught:
        check(shape)
    assert "\n" not in str(caught.value)
    check(shape, layout=layout)
    with pytest.raises(ValueError, match="axis 0 does not count images"):
        check(shape, layout=" ".join(sorted(layout.split(), key=lambda axis: axis != "image")))


@pytest.mark.parametrize("n_images", [1, 2, 3, 6])
def test_no_number_of_images_hides_the_axis(n_images):
    with pytest.raises(ValueError, match="axis 0 does not count images"):
        check((n_images, "n", 5), batch=SQUARE[:n_images])
    check(("n", n_images, 5), batch=SQUARE[:n_images])


def test_a_layer_without_an_axis_of_images_is_refused():
    with pytest.raises(ValueError, match=r"shape \(6, 4\) for 6 images and \(6, 4\) for 2, .*; choose a layer"):
        check((), run=lambda x: {"layer": torch.zeros(6, 4)})


def test_a_layer_that_mixes_images_is_reported():
    with pytest.warns(UserWarning, match="'layer' gives other activations for the same image in a batch of 2"):
        check((), run=lambda x: {"layer": (x - x.mean(0)).flatten(1)})


def test_a_network_of_one_batch_size_is_reported_unless_layout_is_given():
    def run(x):
        if len(x) != 6:
            raise ValueError("only six")
        return {"layer": torch.zeros(6, 4)}

    with pytest.warns(UserWarning, match=r"does not run on 2 images \(only six\); name the axes with layout="):
        check((), run=run)
    check((), run=run, layout="image channel")


@pytest.mark.parametrize(
    ("shape", "batch", "suspect"),
    [
        (("n", 8, 8, 96), SQUARE, "image row column channel"),
        (("n", 8, 8, 5), SQUARE, "image row column channel"),
        (("n", 1, 1, 512), SQUARE, "image row column channel"),
        (("n", 6, 12, 32), WIDE, "image row column channel"),
        (("n", 5, 11, 64), WIDE, "image row column channel"),
        (("n", 12, 6, 12), WIDE, None),
        (("n", 96, 5, 11), WIDE, None),
        (("n", 8, 8, 8), SQUARE, None),
        (("n", 512, 49), SQUARE, "image channel token"),
        (("n", 197, 256), SQUARE, None),
        (("n", 49, 768), SQUARE, None),
    ],
)
def test_channels_that_seem_to_be_elsewhere_warn_until_layout_is_given(shape, batch, suspect):
    if suspect is None:
        check(shape, batch)
        return
    with pytest.warns(UserWarning, match=f"looks like .* but is read as .*; pass layout='{suspect}'"):
        check(shape, batch)
    check(shape, batch, layout=suspect)
    check(shape, batch, layout={3: "image token channel", 4: "image channel row column"}[len(shape)])


def test_axes_are_put_into_the_order_of_maps():
    output = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    axes = read_layouts("row image column channel", ["layer"])["layer"]
    torch.testing.assert_close(images_first("layer", output, axes), output.permute(1, 3, 0, 2))
    with pytest.raises(ValueError, match=r"shape \(2, 3\), but layout='row image column channel' names 4 axes"):
        images_first("layer", output[:, :, 0, 0], axes)


@pytest.mark.parametrize("layout", ["NCHW", "image", "image image", "image row channel", "", 4, {"layer": None}])
def test_other_layouts_are_refused(layout):
    with pytest.raises(ValueError, match="layout must be 'image channel' or 'image token channel' or"):
        read_layouts(layout, ["layer"])


def test_a_layout_of_another_layer_is_refused():
    with pytest.raises(ValueError, match="layout names layer 'layr', which is not among the layers layer"):
        read_layouts({"layr": "image channel"}, ["layer"])
