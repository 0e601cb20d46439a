"""Weights in a safetensors file give the codes of the autoencoder, by matrix arithmetic and when read again."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from neurosuper import PCA, SparseAutoencoder
from neurosuper.export import read_safetensors, write_safetensors

safetensors = pytest.importorskip("safetensors")


def weights_of(path):
    with safetensors.safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def fitted(responses, activation, **settings):
    return SparseAutoencoder(12, activation=activation, n_active=3, max_iter=5, **settings).fit(responses)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("activation", ["topk", "batchtopk", "relu", "jumprelu"])
def test_matrix_arithmetic_on_the_tensors_gives_the_codes(responses, tmp_path, activation, center):
    """As SAELens computes them, in float64."""
    sae = fitted(responses, activation, center=center, dtype="float64")
    write_safetensors(sae, tmp_path / "sae.safetensors")
    tensors, _ = weights_of(tmp_path / "sae.safetensors")
    assert tensors["W_enc"].shape == (8, 12)
    assert tensors["W_dec"].shape == (12, 8)
    before = (responses.values - tensors["b_dec"]) @ tensors["W_enc"] + tensors["b_enc"]
    codes = np.maximum(before, 0)
    if activation == "topk":
        for row in codes:
            row[np.argsort(row)[:-3]] = 0
    elif activation != "relu":
        codes = np.where(before > tensors["threshold"], before, 0)
    assert (codes > 0).any()
    expected = sae.transform(responses)
    assert_allclose(codes, expected, atol=1e-9)
    assert_allclose(codes @ tensors["W_dec"] + tensors["b_dec"], sae.inverse_transform(expected), atol=1e-9)


@pytest.mark.parametrize("activation", ["topk", "jumprelu"])
def test_a_file_read_again_is_the_same_finder(responses, tmp_path, activation):
    labelled = responses.assign_coords(area=("unit", ["V1"] * 4 + ["V4"] * 4), depth=("unit", np.arange(8.0)))
    sae = fitted(labelled, activation, checkpoint=str(tmp_path / "sae.pt"))
    write_safetensors(sae, tmp_path / "sae.safetensors")
    again = read_safetensors(tmp_path / "sae.safetensors")
    codes, expected = again.transform(labelled), sae.transform(labelled)
    assert_array_equal(codes, expected)
    assert again.directions_.equals(sae.directions_)
    assert again.directions_.area.equals(sae.directions_.area)
    assert again.directions_.method == "SparseAutoencoder"
    assert again.directions_.settings == repr(again)
    assert again.directions_.dtype == np.float32
    assert again.get_params() == sae.get_params() | {"checkpoint": None}
    assert (again.r2_, again.n_iter_) == (sae.r2_, sae.n_iter_)
    assert_array_equal(again.learning_curve_, sae.learning_curve_)
    assert str(tmp_path).encode() not in (tmp_path / "sae.safetensors").read_bytes()


def test_a_centred_finder_read_again_gives_the_same_codes(responses, tmp_path):
    sae = fitted(responses, "topk", center=True, dtype="float64")
    write_safetensors(sae, tmp_path / "sae.safetensors")
    again = read_safetensors(tmp_path / "sae.safetensors")
    assert not again.center
    assert_allclose(again.transform(responses), sae.transform(responses), atol=1e-9)


@pytest.mark.parametrize("setting", ["normalize", "whiten"])
def test_weights_of_prepared_responses_are_refused(responses, tmp_path, setting):
    sae = fitted(responses, "topk", **{setting: True})
    with pytest.raises(ValueError, match=f"after {setting}, which other programs do not apply; fit with"):
        write_safetensors(sae, tmp_path / "sae.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_other_finders_and_files_are_refused(responses, tmp_path):
    with pytest.raises(TypeError, match="for a SparseAutoencoder, got PCA"):
        write_safetensors(PCA(2).fit(responses), tmp_path / "pca.safetensors")
    with pytest.raises(FileNotFoundError, match="no file"):
        read_safetensors(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        read_safetensors(tmp_path / "text.safetensors")
    from safetensors.numpy import save_file

    save_file({"weight": np.ones(3)}, tmp_path / "other.safetensors", {"format": json.dumps("pt")})
    with pytest.raises(ValueError, match=r"was not written by neurosuper: .* it has the tensors weight"):
        read_safetensors(tmp_path / "other.safetensors")
