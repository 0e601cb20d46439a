"""A stimulus knows its photograph by a digest of its pixels, in any order and pieces in which these are read."""

import numpy as np
import pytest
import xarray as xr

from neurosuper._content import (
    READ_AT_ONCE,
    all_stimuli,
    content_of,
    digest_of,
    digests_of,
    photographs_of,
    without_later,
)

ONE, TWO, THREE = ("1" * 32, "2" * 32, "3" * 32)


def side(known: dict[str, str]) -> xr.DataArray:
    """Return stimuli with the digest of each, empty where it is unknown."""
    coords = {"stimulus": list(known), "content": ("stimulus", list(known.values()))}
    return xr.DataArray(np.zeros(len(known)), dims="stimulus", coords=coords)


def test_digests_are_those_of_single_images_in_any_order_of_dims(rng):
    images = rng.integers(0, 256, (READ_AT_ONCE + 5, 3, 4, 3), np.uint8)
    stack = xr.DataArray(images, dims=("stimulus", "row", "column", "channel"))
    expected = [digest_of(image) for image in images]
    assert digests_of(stack.transpose("channel", "column", "stimulus", "row")).tolist() == expected
    assert len(set(expected)) == len(images)


def test_the_same_bytes_in_another_shape_are_another_photograph():
    assert digest_of(np.zeros((2, 8, 3), np.uint8)) != digest_of(np.zeros((4, 4, 3), np.uint8))


def test_the_stimuli_of_all_sides_know_what_any_of_them_knows():
    """Equal digests agree, and an unknown one agrees with every other, whichever side comes first."""
    first, second = side({"b": ONE, "c": "", "a": TWO}), side({"c": THREE, "b": ONE, "a": ""})
    nothing = second.drop_vars("content")
    for sides in ([first, second], [second, first], [nothing, second, first]):
        stimuli = all_stimuli(sides)
        assert stimuli.stimulus.values.tolist() == ["a", "b", "c"]
        assert stimuli.content.values.tolist() == [TWO, ONE, THREE]
    assert "content" not in all_stimuli([nothing]).coords


def test_one_label_for_two_photographs_is_refused_wherever_it_comes():
    sides = [side({"a": ONE, "b": ""}), side({"b": TWO}), side({"b": THREE, "a": ONE})]
    for order in (sides, sides[::-1]):
        with pytest.raises(ValueError, match="^stimulus 'b' names different photographs in the two arrays"):
            all_stimuli(order)


def test_stimuli_of_unknown_content_show_a_photograph_each():
    assert photographs_of(side({"a": "", "b": ONE, "c": "", "d": ONE})).tolist() == [0, 1, 2, 1]
    assert without_later(np.array([4, 1, 4, 4, 1, 0])).tolist() == [True, True, False, False, False, True]


def test_a_coord_of_this_name_with_anything_else_is_the_users_own():
    own = side({"a": "a cat", "b": ONE})
    assert content_of(own) is None
    assert content_of(own[1:]).tolist() == [ONE]
    assert content_of(side({"a": "", "b": ""})) is None
    assert content_of(own.assign_coords(content=("stimulus", np.array([np.nan, ONE], object)))).tolist() == ["", ONE]
    assert photographs_of(own).tolist() == [0, 1]
