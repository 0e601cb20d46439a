"""The tree has what each measure's own function returns, of fits that exist, and says what it left out."""

from functools import partial

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

from neurosuper import Color, KMeans, Units, interpretability_index, split_stimuli
from neurosuper.comparison import fit_systems
from neurosuper.superposition import (
    disentanglement,
    interference,
    measure_superposition,
    rotation_curve,
    sparseness,
    spectrum,
    synergy,
)

FINDERS = {"Units": Units(), "KMeans": KMeans(6, random_state=0)}


@pytest.fixture(scope="module")
def world(label_world):
    """Two systems with factors, of which one is split; the other has 12 units of which two respond to one thing."""
    rng = np.random.default_rng(0)
    features = rng.integers(0, 4, 240)
    brain, images, metric = label_world(rng.exponential(size=(240, 12)) + np.eye(4, 12)[features], features)
    factors = {"thing": ("stimulus", features.astype(str)), "size": ("stimulus", rng.random(240))}
    net = split_stimuli(brain[:, ::2] * 2, random_state=5)
    return {"V4": brain, "net": net}, images.assign_coords(factors), metric


@pytest.fixture(scope="module")
def fits(world):
    systems, *_ = world
    return list(fit_systems(systems, FINDERS))


fast = partial(disentanglement, n_permutations=0, n_resamples=0)


@pytest.fixture(scope="module")
def tree(world, fits):
    systems, images, metric = world
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neurosuper.superposition.all_measures.disentanglement", fast)
        return measure_superposition(systems, fits, images, metric, factors=["thing", "size"], bins=8)


def test_there_is_a_node_for_each_measure_system_and_finder(tree):
    finders, directions = ["Units", "KMeans", "CovarianceMatched"], ["KMeans", "CovarianceMatched"]
    expected = [f"/interference/{system}/{finder}" for system in ("V4", "net") for finder in directions]
    expected += ["/spectrum/V4", "/spectrum/net"]
    expected += [f"/sparseness/{system}/{finder}" for system in ("V4", "net") for finder in finders]
    expected += ["/rotation/V4", "/rotation/net", "/synergy/V4", "/synergy/net"]
    expected += [f"/disentanglement/{system}/{finder}" for system in ("V4", "net") for finder in finders]
    assert sorted(node.path for node in tree.leaves) == sorted(expected)
    assert tree.attrs["left_out"] == ""


def test_each_node_is_what_the_function_of_its_measure_returns(world, fits, tree):
    systems, images, metric = world
    fit = next(fit for fit in fits if (fit.system, fit.finder) == ("V4", "KMeans"))
    responses = systems["V4"]
    held_out = responses.sel(stimulus=fit.scored)
    codes = fit.fitted.transform(held_out)
    split = np.where(responses.stimulus.isin(fit.scored), "score", "fit")
    factors = images.coords.to_dataset()[["thing", "size"]].reset_coords()
    expected = {
        "interference/V4/KMeans": interference(fit.fitted.directions_),
        "spectrum/V4": spectrum(responses, fit=(1, 500)),
        "rotation/V4": rotation_curve(responses, images, metric),
        "synergy/V4": synergy(responses.assign_coords(split=("stimulus", split)), images, metric),
        "disentanglement/V4/KMeans": fast(codes, factors, bins=8),
    }
    for path, dataset in expected.items():
        xr.testing.assert_allclose(tree[path].to_dataset(), dataset, atol=1e-6)
        assert tree[path].attrs == dataset.attrs
    of_items = tree["sparseness/V4/KMeans"]
    assert_allclose(of_items.sparseness, sparseness(codes, baseline="median"))
    assert_allclose(of_items.interpretability, interpretability_index(codes, images, metric), atol=1e-6)
    assert of_items.attrs["n_stimuli"] == 120


def test_a_marked_split_is_kept(world, tree):
    systems, images, metric = world
    xr.testing.assert_allclose(tree["synergy/net"].to_dataset(), synergy(systems["net"], images, metric), atol=1e-6)


def test_finders_are_fitted_as_by_compare_and_nothing_is_fitted_twice(world, tree, monkeypatch):
    systems, images, metric = world
    few = {"measures": ["interference", "sparseness"]}
    fitted = measure_superposition(systems, FINDERS, images, metric, **few)
    for node in fitted.leaves:
        xr.testing.assert_identical(node.to_dataset(), tree[node.path].to_dataset())
    again = list(fit_systems(systems, FINDERS))
    monkeypatch.setattr(KMeans, "fit", lambda *_: pytest.fail("fitted again"))
    assert measure_superposition(systems, again, images, metric, **few).identical(fitted)


def test_it_is_the_same_after_a_file(tree, tmp_path):
    tree.to_netcdf(tmp_path / "superposition.nc")
    with xr.open_datatree(tmp_path / "superposition.nc") as read:
        for node in tree.leaves:
            xr.testing.assert_equal(node.to_dataset(), read[node.path].to_dataset())


def test_each_image_is_embedded_once_for_all_measures(world, monkeypatch):
    systems, images, _ = world
    coloured = images.copy(data=np.random.default_rng(0).integers(0, 255, images.shape, np.uint8))
    embedded, embed = [], Color.embed

    def counting(self, some):
        embedded.append(len(some))
        return embed(self, some)

    monkeypatch.setattr(Color, "embed", counting)
    few = {"V4": systems["V4"][:, :4]}
    tree = measure_superposition(few, [Units()], coloured, Color(), measures=["sparseness", "rotation", "synergy"])
    assert sum(embedded) == 240
    codes = tree["sparseness/V4/Units"]
    scored = next(fit_systems(few, [Units()], baselines=False)).scored
    index = interpretability_index(few["V4"].sel(stimulus=scored), coloured, Color())
    assert_allclose(codes.interpretability, index, atol=1e-5)
    assert {node.attrs["quantity"] for node in tree.leaves} == {tree["rotation/V4"].attrs["quantity"]}


def test_what_is_not_possible_is_left_out_with_a_warning_or_is_an_error_if_asked_for(world):
    systems, images, metric = world
    three = {"V4": systems["V4"][:, :3]}
    with pytest.warns(UserWarning, match=r"^left out, spectrum of V4: a power law needs at least 5 components"):
        tree = measure_superposition(three, [Units()], images, metric)
    assert tree.attrs["left_out"].startswith("spectrum of V4: a power law")
    assert "\n" not in tree.attrs["left_out"]
    assert {node.path for node in tree.leaves} == {"/sparseness/V4/Units", "/rotation/V4", "/synergy/V4"}
    with pytest.raises(ValueError, match=r"^spectrum of V4: a power law needs at least 5"):
        measure_superposition(three, [Units()], images, metric, measures=["spectrum"])


def test_of_many_units_a_random_sample_is_drawn_with_a_warning(world):
    systems, images, metric = world
    few = {"measures": ["synergy", "rotation"], "max_units": 4}
    with pytest.warns(UserWarning, match="^4 of 12 units of V4 are drawn at random for rotation and synergy; raise"):
        tree = measure_superposition({"V4": systems["V4"]}, [Units()], images, metric, **few)
    drawn = tree["synergy/V4"].unit_a.values.tolist() + tree["synergy/V4"].unit_b.values.tolist()
    assert len(set(drawn)) == tree["rotation/V4"].attrs["n_units"] == 4
    with pytest.warns(UserWarning, match="4 of 12 units"):
        same = measure_superposition({"V4": systems["V4"][:, ::-1]}, [Units()], images, metric, **few)
    assert same["synergy/V4"].unit_a.values.tolist() == tree["synergy/V4"].unit_a.values.tolist()


def test_repetitions_serve_the_spectrum_and_are_averaged_for_all_else(world):
    systems, images, metric = world
    rng = np.random.default_rng(1)
    repeated = xr.concat([systems["V4"] + 0.1 * rng.normal(size=(240, 12)) for _ in range(2)], "repetition")
    repeated = repeated.transpose("stimulus", "repetition", "unit")
    few = {"measures": ["spectrum", "sparseness"]}
    tree = measure_superposition({"V4": repeated}, [Units()], images, metric, **few)
    assert tree["spectrum/V4"].attrs["method"] == "cvpca"
    xr.testing.assert_allclose(tree["spectrum/V4"].to_dataset(), spectrum(repeated, fit=(1, 500)))
    mean = measure_superposition({"V4": repeated.mean("repetition")}, [Units()], images, metric, **few)
    assert_allclose(tree["sparseness/V4/Units"].sparseness, mean["sparseness/V4/Units"].sparseness)
    once = repeated.where((repeated.stimulus != "s0003") | (repeated.repetition == 0))
    tree = measure_superposition({"V4": once}, [Units()], images, metric, measures=["spectrum"])
    assert tree["spectrum/V4"].attrs["method"] == "pca"


def test_groups_of_stimuli_are_not_divided(world):
    systems, images, metric = world
    grouped = systems["V4"].assign_coords(burst=("stimulus", np.arange(240) // 6))
    some = {"measures": ["spectrum", "rotation", "synergy"], "stimulus_groups": "burst"}
    tree = measure_superposition({"V4": grouped}, [Units()], images, metric, **some)
    fit = next(fit_systems({"V4": grouped}, [Units()], stimulus_groups="burst", baselines=False))
    split = np.where(grouped.stimulus.isin(fit.scored), "score", "fit")
    expected = {
        "spectrum": spectrum(grouped, fit=(1, 500), stimulus_groups="burst"),
        "rotation": rotation_curve(grouped, images, metric, stimulus_groups="burst"),
        "synergy": synergy(grouped.assign_coords(split=("stimulus", split)), images, metric, stimulus_groups="burst"),
    }
    for measure, dataset in expected.items():
        xr.testing.assert_allclose(tree[f"{measure}/V4"].to_dataset(), dataset, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measures": ["geometry"]}, "^measures must be 'all' or some of interference, .*; got 'geometry'$"),
        ({"measures": ["rotation", "rotation"]}, "^measures must name at least one, each once; got"),
        ({"measures": []}, "^measures must name at least one"),
        ({"measures": ["disentanglement"]}, r"^disentanglement needs factors of the stimuli, such as factors="),
        ({"factors": ["pose"], "measures": ["disentanglement"]}, "no factor 'pose' of .* 'V4'; there are size, thing"),
        ({"max_units": 1}, "max_units must be"),
        ({"systems": ["V4"]}, "systems must be a mapping"),
    ],
)
def test_a_mistake_is_one_line(change, message, world):
    systems, images, metric = world
    given = {"systems": systems, "finders": [Units()], "images": images, "metric": metric} | change
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        measure_superposition(**given)
    assert "\n" not in str(caught.value)


def test_fits_must_be_of_the_systems_and_of_one_seed(world, fits):
    systems, images, metric = world
    with pytest.raises(ValueError, match="^fits are of the system 'net', which is not among the systems V4$"):
        measure_superposition({"V4": systems["V4"]}, fits, images, metric)
    with pytest.raises(ValueError, match="^there are two fits of 'V4' by 'Units'; pass those of one seed$"):
        measure_superposition(systems, [*fits, fits[0]], images, metric)
