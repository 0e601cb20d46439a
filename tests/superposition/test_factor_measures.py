"""Disentanglement is that of published code, sees a rotation of pure codes, and says what chance gives."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

from neurosuper import DictionaryLearning
from neurosuper.demo.superposed import superposed
from neurosuper.inference import compare_with_null
from neurosuper.interpretability import shuffle_stimuli
from neurosuper.superposition import disentanglement
from neurosuper.superposition.factor_measures import HELD_OUT, OF_ALL

MEASURES = (*OF_ALL, *HELD_OUT)
FAST = {"n_permutations": 0, "n_resamples": 0}


def label(Z, dim="unit"):
    names = {"stimulus": [f"s{i:04d}" for i in range(len(Z))], dim: [f"{dim} {j}" for j in range(Z.shape[1])]}
    return xr.DataArray(Z, names, ("stimulus", dim))


def table(F, as_text=False):
    F = F.astype(str) if as_text else F
    return xr.Dataset({f"f{j}": ("stimulus", f) for j, f in enumerate(F.T)}, {"stimulus": label(F).stimulus})


@pytest.fixture(scope="module")
def mixed():
    """Return codes that mix three factors of three levels, whose figures by disent are known, and the factors."""
    rng = np.random.default_rng(0)
    F = rng.integers(3, size=(3, 200))
    Z = np.array([[1, 0.5, 0], [0, 1, 0.2], [0.3, 0, 1], [1, -1, 0]]) @ F + 0.3 * rng.normal(size=(4, 200))
    split = ["fit"] * 100 + ["score"] * 100
    return label(Z.T).assign_coords(split=("stimulus", split)), F.T


@pytest.fixture(scope="module")
def found(mixed):
    codes, F = mixed
    return disentanglement(codes, table(F), n_permutations=3, n_resamples=10)


def test_figures_are_those_of_disent(mixed):
    """`_compute_mig`, `_compute_sap` and `_compute_dci` of disent 0.8.0 (MIT), z-scored codes, seeded trees."""
    codes, F = mixed
    labels = disentanglement(codes, table(F, as_text=True), importance="gbt", **FAST)
    assert_allclose(labels.mig, 0.4535846947741027, rtol=1e-12)
    assert_allclose(labels.sap, 0.17333333333333334, rtol=1e-12)
    # other versions of scikit-learn may choose another of two equal splits of a tree
    assert_allclose(labels.dci_disentanglement, 0.7026573681336813, atol=0.005)
    assert_allclose(labels.dci_completeness, 0.5781147670238342, atol=0.005)
    assert_allclose(labels.dci_informativeness, 0.9233333333333333, atol=0.01)
    numbers = disentanglement(codes, table(F), **FAST)
    assert_allclose(numbers.sap, 0.5178537598945031, rtol=1e-12)
    assert_allclose(numbers.mig, labels.mig)


@pytest.mark.parametrize(("as_text", "estimator"), [(False, "histogram"), (True, "ksg")])
def test_a_rotation_of_pure_codes_is_seen_by_every_measure_but_of_what_all_items_know(as_text, estimator):
    rng = np.random.default_rng(0)
    F = rng.integers(5, size=(800, 3))
    Q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    Z = F - 2.0 + 0.01 * rng.normal(size=F.shape)
    pure, turned = (disentanglement(label(z), table(F, as_text), estimator=estimator, **FAST) for z in (Z, Z @ Q))
    for name in ("mig", "modularity", "infom", "infoc") + (() if as_text else ("sap", "dci_disentanglement")):
        assert pure[name] > 0.95
        assert turned[name] < pure[name] - 0.15
    assert turned.mig < 0.4
    assert turned.infom < 0.6
    assert abs(turned.explicitness - pure.explicitness) < 0.01
    assert pure.item_factor.values.tolist() == ["f0", "f1", "f2"]
    assert (pure.item_disentanglement > 0.85).all()
    assert (turned.item_disentanglement < 0.7).any()


def test_features_of_a_toy_world_are_disentangled_and_so_are_codes_of_its_dictionary_but_not_its_units():
    world = superposed(n_features=8, n_units=6, n_stimuli=600, active=0.1, noise=0.02)
    factors = world.features.to_dataset("feature").drop_vars("category")
    finder = DictionaryLearning(8, random_state=0).fit(world.response[:300])
    every = {
        "units": world.response,
        "dictionary": finder.transform(world.response),
        "features": world.features,
    }
    scores = xr.concat(
        [disentanglement(codes, factors, **FAST)[list(MEASURES)] for codes in every.values()],
        xr.Variable("system", list(every)),
    )
    units, dictionary, features = (scores.sel(system=name) for name in every)
    for name in ("mig", "sap", "dci_disentanglement", "dci_completeness", "infom", "infoc"):
        assert features[name] > 0.6
        assert dictionary[name] > features[name] - 0.2
        assert units[name] < 0.3
    assert_allclose([features.dci_disentanglement, features.modularity], 1, atol=0.02)


def test_every_measure_has_an_interval_around_it_and_a_null_mean(found):
    for name in MEASURES:
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]
        assert_allclose(found[f"{name}_low"] + found[f"{name}_high"], 2 * found[name])
    assert_allclose(found.explicitness_null, 0.5, atol=0.1)
    for name in ("mig_null", "sap_null", "infoc_null", "dci_informativeness_null", "infoe_null"):
        assert abs(found[name]) < 0.1
    assert found.attrs["n_fit"] == 100
    assert found.attrs["n_stimuli"] == 200
    assert found.attrs["random_state"] == 0


def test_the_row_of_an_item_is_that_of_its_information(found):
    assert found.mutual_information.dims == ("unit", "factor")
    assert found.n_levels.values.tolist() == [3, 3, 3]
    assert found.kind.values.tolist() == ["numbers"] * 3
    share = found.normalized.values / found.normalized.values.sum(1, keepdims=True)
    assert_allclose(found.item_disentanglement, 1 + (share * np.log(share)).sum(1) / np.log(3), atol=1e-8)
    assert found.item_factor.values[1:3].tolist() == ["f1", "f2"]


@pytest.mark.slow
def test_intervals_cover_what_other_stimuli_give():
    rng, found = np.random.default_rng(0), []
    A = rng.normal(size=(3, 6))
    for seed in range(12):
        F = rng.integers(3, size=(400, 3))
        Z = F @ A + 0.5 * rng.normal(size=(400, 6))
        found.append(disentanglement(label(Z), table(F), bins=8, n_permutations=0, n_resamples=10, random_state=seed))
    for name in MEASURES:
        mean = np.mean([each[name] for each in found])
        covers = [each[f"{name}_low"] <= mean <= each[f"{name}_high"] for each in found]
        assert np.mean(covers) >= 0.75


def test_codes_of_shuffled_stimuli_are_not_disentangled(mixed):
    codes, F = mixed[0][50:150], mixed[1][50:150]
    factors = table(F[:, :2]).assign_coords(stimulus=codes.stimulus)

    def mig(values):
        return disentanglement(values, factors, bins=4, **FAST).mig

    shuffled = shuffle_stimuli(codes, random_state=99).assign_coords(split=codes.split)
    test = compare_with_null(mig, shuffled, shuffle_stimuli, n_resamples=19)
    assert test.p_value > 0.1
    assert mig(codes) > test.null.max()


def test_no_order_nor_chunks_matter_and_coords_are_kept(mixed):
    codes, F = mixed
    codes = codes.assign_coords(area=("unit", list("pqrs"))).drop_vars("split")
    expected = disentanglement(codes, table(F), n_permutations=1, n_resamples=10)
    order = np.random.default_rng(1).permutation(200)
    other = disentanglement(codes[order, ::-1].chunk(stimulus=45).T, table(F), n_permutations=1, n_resamples=10)
    assert other.area.values.tolist() == list("srqp")
    xr.testing.assert_allclose(other.sel(unit=expected.unit), expected, rtol=1e-9)
    scaled = disentanglement(codes * 1e-9, table(F), **FAST)
    for name in MEASURES:
        assert_allclose(scaled[name], expected[name], rtol=1e-9)


def test_factors_may_be_coords_of_the_codes(mixed):
    codes, F = mixed
    named = codes.assign_coords(pose=("stimulus", F[:, 0]), hue=("stimulus", F[:, 1]))
    found = disentanglement(named, ["pose", "hue"], **FAST)
    expected = disentanglement(codes, table(F[:, :2]), **FAST)
    assert found.factor.values.tolist() == ["pose", "hue"]
    assert_allclose(found.mig, expected.mig)


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda Z: Z, {"bins": 41}, "bins=41 need at least 205 stimuli, 5 per bin, got 200; lower `bins`, or use more"),
        (lambda Z: Z, {"bins": 1}, "bins must be a whole number from 2 to 1000, got 1"),
        (lambda Z: Z, {"estimator": "exact"}, "estimator must be one of 'histogram', 'ksg'; got 'exact'"),
        (lambda Z: Z, {"importance": "forest"}, "importance must be one of 'lasso', 'gbt'; got 'forest'"),
        (lambda Z: Z, {"n_resamples": 3}, r"n_resamples must be a whole number of at least 10 \(or 0 for no intervals"),
        (lambda Z: Z, {"n_permutations": -1}, "n_permutations must be a whole number of at least 0, got -1"),
        (lambda Z: Z[:, :1], {}, "measures of disentanglement need at least 2 items, got 1"),
        (lambda Z: Z.where(Z.min() < Z), {}, "codes contain NaN or infinite values, in unit 'unit "),
        (lambda Z: Z * [1, 0, 1, 1], {}, "zero variance over stimuli in unit 'unit 1'"),
        (lambda Z: Z * [100, 1, 1, 1], {}, "the range of one unit is over 20 times that of all others"),
        (
            lambda Z: Z.assign_coords(split=("stimulus", ["fit"] * 197 + ["score"] * 3)),
            {},
            "197 are to fit on and 3",
        ),
        (lambda Z: Z[:, 0], {}, "codes are a DataArray with dims stimulus and unit or direction"),
    ],
)
def test_bad_input_is_refused_in_one_line(mixed, change, settings, message):
    codes, F = mixed
    with pytest.raises(ValueError, match=message) as error:
        disentanglement(change(codes), table(F), **settings)
    assert "\n" not in str(error.value)
