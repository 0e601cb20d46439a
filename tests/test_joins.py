"""Two sides meet on what they share: what is left out is counted, and one label is one photograph."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from neurosuper import Color, Units, activations, align, compare, interpretability_index, load_images, psychophysics
from neurosuper import images as images_module
from neurosuper.copies import average_copies
from neurosuper.interpretability import chance_level, null_test

LABELS = [f"photo{i}" for i in range(12)]


@pytest.fixture
def photographs(rng) -> xr.DataArray:
    """Twelve different photographs."""
    return load_images(rng.integers(0, 255, (12, 6, 6, 3), np.uint8)).assign_coords(stimulus=LABELS)


def responses_to(images: xr.DataArray, n_units: int = 3) -> xr.DataArray:
    """Responses that follow the pixels, so that each identifies its photograph; they have its content."""
    values = images.values.reshape(len(images), -1)[:, :n_units].astype(float)
    coords = {"stimulus": images.stimulus.values, "unit": [f"u{i}" for i in range(n_units)], "content": images.content}
    return xr.DataArray(values, dims=("stimulus", "unit"), coords=coords, name="response")


def side(labels: list[str]) -> xr.DataArray:
    return xr.DataArray(np.arange(len(labels)), dims="stimulus", coords={"stimulus": labels})


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1), st.lists(st.sampled_from("efghij"), unique=True))
@pytest.mark.filterwarnings("ignore:.*no partner")
def test_align_shares_the_same_labels_from_either_side_and_counts_the_others(a, b):
    if not set(a) & set(b):
        return
    (ours, theirs), (theirs_first, _) = align(side(a), side(b)), align(side(b), side(a))
    assert ours.stimulus.values.tolist() == theirs.stimulus.values.tolist() == [label for label in a if label in b]
    assert set(ours.stimulus.values) == set(theirs_first.stimulus.values) == set(a) & set(b)
    for joined, whole in ((ours, a), (theirs, b)):
        assert joined.attrs.get("n_stimuli_left_out", 0) == len(whole) - joined.size
        assert joined.values.tolist() == [whole.index(label) for label in joined.stimulus.values]


def test_labels_that_agree_in_part_are_reported_with_both_counts_and_some_names():
    unpadded, padded = side([str(i) for i in range(1, 21)]), side([f"{i:02d}" for i in range(1, 21)])
    message = r"11 stimuli are joined; left out are 9 of 20 of the first \('1', .*\) and 9 of 20 of the second \('01', "
    with pytest.warns(UserWarning, match=message):
        ours, theirs = align(unpadded, padded)
    assert ours.n_stimuli_left_out == theirs.n_stimuli_left_out == 9


def test_left_out_stimuli_are_added_up_over_joins():
    a = side(list("abcdef"))
    for other in ("abcde", "abcd"):
        with pytest.warns(UserWarning, match="left out are 1 of"):
            a, _ = align(a, side(list(other)))
    assert a.n_stimuli_left_out == 2


def test_images_that_no_one_was_shown_go_without_a_warning_but_are_counted(photographs):
    some = responses_to(photographs)[3:9]
    for pair in ((some, photographs), (photographs, some)):
        joined = {len(each.dims): each for each in align(*pair)}
        assert joined[4].n_stimuli_left_out == 6
        assert "n_stimuli_left_out" not in joined[2].attrs


def test_equal_sides_are_neither_copied_nor_warned_of(photographs):
    brain = responses_to(photographs)
    ours, theirs = align(brain, photographs)
    assert np.shares_memory(ours.values, brain.values)
    assert np.shares_memory(theirs.values, photographs.values)
    assert ours.attrs == brain.attrs


@pytest.mark.filterwarnings("ignore:.*no partner")
@pytest.mark.parametrize("score", [interpretability_index, null_test, psychophysics])
def test_scores_say_how_many_stimuli_have_no_image(score, responses, images):
    options = {"n_references": 2, "n_trials": 2} if score is psychophysics else {"top": 3}
    options |= {"n_resamples": 19} if score is null_test else {}
    assert score(responses, images[:90], Color(device="cpu"), **options).attrs["n_stimuli_left_out"] == 30


def test_one_label_for_two_photographs_is_refused_by_name(photographs, rng):
    other = load_images(rng.integers(0, 255, (12, 6, 6, 3), np.uint8)).assign_coords(stimulus=LABELS)
    mixed = xr.concat([photographs[:10], other[10:]], "stimulus")
    message = (
        r"stimulus 'photo10', 'photo11' names different photographs in the two arrays, by the pixels .* by='content'"
    )
    for a, b in ((responses_to(photographs), responses_to(mixed)), (mixed, photographs)):
        with pytest.raises(ValueError, match=message) as caught:
            align(a, b)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=message):
        interpretability_index(responses_to(photographs), mixed, Color(device="cpu"), top=2)
    with pytest.raises(ValueError, match="system 'V4': stimulus 'photo10'"):
        compare({"V4": responses_to(photographs)}, mixed, [Units()], [Color(device="cpu")], top=2)
    align(responses_to(photographs), responses_to(mixed).drop_vars("content"))  # as the message says


def test_the_side_that_does_not_know_its_photographs_learns_them_from_the_other(photographs):
    brain, order = responses_to(photographs), [7, 2, 9]
    unaware = brain.drop_vars("content")[order]
    for pair in ((brain[order], unaware), (unaware, brain[order])):
        for joined in align(*pair):
            assert_array_equal(joined.content, photographs.content[order])
    own = unaware.assign_coords(content=("stimulus", ["an owl", "a cat", "a dog"]))
    assert align(own, brain[order])[0].content.values.tolist() == ["an owl", "a cat", "a dog"]
    assert align(brain[order], own)[1].content.values.tolist() == ["an owl", "a cat", "a dog"]


def test_photographs_in_another_size_are_the_same(photographs, tmp_path):
    from PIL import Image

    for image in photographs:
        Image.fromarray(image.values).save(tmp_path / f"{image.stimulus.item()}.png")
    large = load_images(tmp_path, size=24)
    ours, theirs = align(responses_to(photographs), large)
    assert_array_equal(ours.content, theirs.content)


def test_join_by_content_finds_photographs_of_other_labels(photographs, rng):
    order = rng.permutation(12)
    renamed = photographs[order].assign_coords(stimulus=[f"frame{i:02d}" for i in range(12)])
    brain, other = responses_to(photographs), responses_to(renamed)
    ours, theirs = align(brain, other, by="content")
    assert ours.stimulus.values.tolist() == theirs.stimulus.values.tolist() == LABELS
    assert_array_equal(ours, theirs)
    stack = align(brain, renamed, by="content")[1]
    assert_array_equal(stack, photographs)
    with pytest.warns(UserWarning, match=r"left out are 4 of 12 of the first \('photo0', .* and 0 of 8 of the second"):
        assert align(brain, other.isel(stimulus=np.argsort(order)[4:]), by="content")[0].sizes["stimulus"] == 8


def test_join_by_content_reads_images_too_many_for_memory(photographs):
    lazy = photographs.drop_vars("content").chunk(stimulus=5).assign_coords(stimulus=[f"x{i}" for i in range(12)])
    assert_array_equal(align(responses_to(photographs), lazy, by="content")[1], photographs)


def test_copies_have_no_single_partner_by_content_unless_no_one_asks_for_them(photographs):
    brain = responses_to(photographs)
    doubled = photographs.isel(stimulus=[*range(12), 3]).assign_coords(stimulus=[f"f{i:02d}" for i in range(13)])
    with pytest.raises(ValueError, match=r"the second shows a photograph under several labels, such as 'f12'.*average"):
        align(brain, doubled, by="content")
    with pytest.warns(UserWarning, match="left out are 0 of 6 .* and 7 of 13"):
        align(brain[6:], responses_to(doubled), by="content")
    assert align(brain, average_copies(responses_to(doubled)), by="content")[0].sizes["stimulus"] == 12


@pytest.mark.parametrize(
    ("change", "by", "message"),
    [
        (
            lambda r: r.drop_vars("content"),
            "content",
            "the second does not know the pixels of its stimuli, .*load_images",
        ),
        (
            lambda r: r.assign_coords(content=("stimulus", ["0" * 32] * 12)),
            "content",
            "no photograph in common between 12",
        ),
        (lambda r: r, "name", "by must be 'label' or 'content', got 'name'"),
    ],
)
def test_what_cannot_be_joined_is_an_error_of_one_line(change, by, message, photographs):
    brain = responses_to(photographs)
    with pytest.raises(ValueError, match=message) as caught:
        align(brain, change(brain), by=by)
    assert "\n" not in str(caught.value)


def test_content_goes_with_the_responses_of_networks_and_through_joins(photographs):
    import torch

    network = activations(torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3)), photographs, "0", device="cpu")
    assert_array_equal(network.content, photographs.content)
    unknowing = responses_to(photographs).drop_vars("content")
    assert_array_equal(align(unknowing, photographs)[0].content, photographs.content)
    assert_array_equal(align(photographs.drop_vars("content"), network)[0].content, photographs.content)


def test_a_coord_called_content_that_is_no_digest_is_the_users_own(photographs):
    ours = photographs.assign_coords(content=("stimulus", ["face", "house"] * 6))
    theirs = photographs.assign_coords(content=("stimulus", ["house", "face"] * 6))
    assert align(ours, theirs)[0].content.values.tolist() == ["face", "house"] * 6


def test_stimuli_of_unknown_content_meet_by_label(photographs):
    brain = responses_to(photographs)
    partly = brain.content.astype(object).where(np.arange(12) < 6)  # as of recordings side by side
    ours, _ = align(brain.assign_coords(content=partly), photographs)
    assert ours.sizes["stimulus"] == 12


def test_pixels_are_hashed_once_in_memory_and_never_of_lazy_stacks(photographs, tmp_path, monkeypatch):
    from PIL import Image

    for i, image in enumerate(photographs.values[:3]):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    loaded = load_images(tmp_path)
    assert_array_equal(loaded.content, photographs.content[:3])  # files and arrays agree
    assert_array_equal(load_images(loaded, size=3).content, loaded.content)
    monkeypatch.setattr(images_module, "LAZY_BYTES", 0)
    assert load_images(tmp_path).content.values.tolist() == [""] * 3
    assert chance_level(load_images(tmp_path), Color(device="cpu"), top=2).n_images == 3
