"""Units are the chosen pixels or tokens of a layer's output, copied, so that the output itself can be freed."""

import weakref

import numpy as np
import pytest
import torch

from neurosuper.networks.units import check_position, pick_units, unit_coords

N = 3
STIMULI = np.array(["cat", "dog", "owl"])


def draw(*shape):
    return torch.rand(N, *shape, generator=torch.Generator().manual_seed(0))


def pick(output, position, **settings):
    return pick_units("layer", output, position, STIMULI, **{"square": True} | settings)


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ("mean", lambda t: t.mean(1)),
        ("cls", lambda t: t[:, 0]),
        (0, lambda t: t[:, 0]),
        (4, lambda t: t[:, 4]),
        (np.int64(2), lambda t: t[:, 2]),
        ("all", lambda t: t.transpose(1, 2)[..., None]),
    ],
)
def test_units_of_tokens(position, expected):
    tokens = draw(5, 7)
    np.testing.assert_array_equal(pick(tokens, check_position(position)), expected(tokens).numpy())


@pytest.mark.parametrize(
    ("position", "expected"),
    [("mean", lambda m: m.mean((2, 3))), ("center", lambda m: m[:, :, 3, 2]), ("all", lambda m: m)],
)
def test_units_of_maps(position, expected):
    maps = draw(4, 6, 5)
    np.testing.assert_allclose(pick(maps, position), expected(maps).numpy(), rtol=1e-6)


@pytest.mark.parametrize("position", ["mean", "center", "cls", 3])
def test_a_vector_has_one_unit_per_channel(position):
    np.testing.assert_array_equal(pick(draw(6), position), draw(6).numpy())
    assert pick(draw(6), "all").shape == (N, 6, 1, 1)


@pytest.mark.parametrize(
    ("output", "position", "message"),
    [
        (draw(5, 7), "center", "'layer' gives tokens, which have no centre; use position='mean', 'all', 'cls'"),
        (draw(16, 7), "cls", "gives 16 tokens, a square of patches without a class token; .* position=0 for its first"),
        (draw(5, 7), 5, "'layer' gives 5 tokens, from 0 to 4; got position=5"),
        (draw(4, 6, 5), "cls", "'layer' gives maps, not tokens, so that position='cls' names nothing in it"),
        (draw(4, 6, 5), 0, "'layer' gives maps, not tokens, so that position=0 names nothing in it"),
        (draw(), "mean", r"gives shape \(3,\) for 3 images"),
        (draw(2, 2, 2, 2), "mean", r"gives shape \(3, 2, 2, 2, 2\) for 3 images"),
        (draw(4)[:2], "mean", r"gives shape \(2, 4\) for 3 images"),
        (draw(4) / torch.tensor([1.0, 0.0, 1.0])[:, None], "mean", "infinite .* for 1 of 3 .* such as stimulus dog"),
    ],
)
def test_positions_that_an_output_does_not_have_are_refused(output, position, message):
    with pytest.raises(ValueError, match=message) as caught:
        pick(output, position)
    assert "\n" not in str(caught.value)


def test_a_square_of_tokens_may_have_a_class_token_if_the_input_is_not_square():
    np.testing.assert_array_equal(pick(draw(16, 7), "cls", square=False), draw(16, 7)[:, 0].numpy())


@pytest.mark.parametrize("position", ["centre", -1, True, 1.0, None, ["mean"]])
def test_other_positions_are_refused(position):
    with pytest.raises(ValueError, match="position must be one of 'center', .*'cls', or the number of a token, got"):
        check_position(position)


@pytest.mark.parametrize(("shape", "position"), [((4, 64, 64), "center"), ((65, 64), "cls"), ((4, 64, 64), "mean")])
def test_no_view_of_a_whole_output_stays_alive(shape, position):
    output = draw(*shape)
    whole, storage = weakref.ref(output), output.untyped_storage()
    units = pick(output, position, square=False)
    assert units.base is None or units.base.nbytes == units.nbytes
    assert not np.shares_memory(units, output.numpy())
    del output
    assert whole() is None
    assert units.nbytes * 32 < storage.nbytes()


def test_units_are_named_by_layer_channel_and_pixel():
    coords = unit_coords(["a", ""], [(2, 1, 2), (2, 1, 2)])
    assert coords["unit"][:5] == ["a/0000/0/0", "a/0000/0/1", "a/0001/0/0", "a/0001/0/1", "output/0000/0/0"]
    assert coords["layer"][1] == ["a"] * 4 + ["output"] * 4
    assert coords["column"][1].tolist() == [0, 1] * 4
    assert unit_coords(["a"], [(2,)])["unit"] == ["a/0000", "a/0001"]
    assert set(unit_coords(["a"], [(2,)])) == {"unit", "layer", "channel"}
