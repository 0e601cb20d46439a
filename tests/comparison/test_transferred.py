"""Directions of other animals are predicted in the one left out if they share features, and are at chance if not."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from sklearn.linear_model import RidgeCV

from neurosuper import PCA, Color, Precomputed, Random, Units, interpretability_index, load_images
from neurosuper.comparison import SharedSpace, concatenate_systems, transfer_top
from neurosuper.demo.superposed import superposed
from neurosuper.interpretability import chance_level
from neurosuper.responses import part_of

COLOR = Color(device="cpu")
QUICK = {"n_permutations": 19, "n_resamples": 10}
ALPHAS = (1.0, 100.0)


def system(values: np.ndarray, labels=None) -> xr.DataArray:
    n, n_units = len(values), values.shape[-1]
    coords = {"stimulus": [f"s{i:04d}" for i in range(n)] if labels is None else labels}
    dims = ("stimulus", "unit") if values.ndim == 2 else ("stimulus", "repetition", "unit")
    return xr.DataArray(values, coords | {"unit": [f"u{i}" for i in range(n_units)]}, dims)


def colors(n: int, seed: int = 0) -> xr.DataArray:
    pixels = np.random.default_rng(seed).integers(0, 255, (n, 1, 1, 3), dtype=np.uint8)
    return load_images(pixels).assign_coords(stimulus=[f"s{i:04d}" for i in range(n)])


@pytest.fixture(scope="module")
def planted():
    """Return three animals that encode the same 8 features on other directions, with four noisy repetitions."""
    features = superposed(8, 4, 600, active=0.2).features.values
    rng = np.random.default_rng(1)
    return {
        name: system(np.stack([features @ D + rng.normal(size=(600, 12)) for _ in range(4)], 1))
        for name, D in (
            ("M1", rng.normal(size=(8, 12))),
            ("M2", rng.normal(size=(8, 12))),
            ("M3", rng.normal(size=(8, 12))),
        )
    }


def independent(n: int, seed: int, n_units: int = 6) -> dict[str, xr.DataArray]:
    rng = np.random.default_rng(seed)
    return {name: system(rng.gamma(1, size=(n, n_units))) for name in ("M1", "M2")}


@pytest.mark.parametrize("finder", [PCA(6), SharedSpace(6)], ids=repr)
def test_shared_features_are_predicted_in_the_animal_left_out(planted, finder):
    found = transfer_top(planted, finder, colors(600), COLOR, n_permutations=99, n_resamples=20)
    assert (found.r > 0.7).all()
    assert (found.r_ceiled.mean("item") > 0.93).all()
    assert (found.r_ceiled < 1.1).all()
    assert (found.percentile.mean("item") > 90).all()
    assert (found.p_value == 0.01).all()
    assert (found.percentile_p_adjusted < 0.05).all()
    for name in ("r", "percentile"):
        assert ((found[f"{name}_low"] <= found[name]) & (found[name] <= found[f"{name}_high"])).all()
    assert dict(found.sizes) == {"held_out": 3, "item": finder.n_directions}
    assert found.attrs["n_animals"] == 3


def test_independent_animals_are_at_chance_and_p_is_uniform():
    images, p, percentiles = colors(40), [], []
    labels = {"stimulus": images.stimulus.values, "other": images.stimulus.values}
    metric = Precomputed(xr.DataArray(np.ones((40, 40)) - np.eye(40), labels, ("stimulus", "other")))
    for seed in range(15):
        animals = independent(40, seed, 3) | {"M3": independent(40, 1000 + seed, 3)["M1"]}
        found = transfer_top(
            animals, PCA(2), images, metric, alphas=ALPHAS, n_permutations=99, n_resamples=10, random_state=seed
        )
        p.append(found.p_value.values.ravel())
        percentiles.append(found.percentile.values.ravel())
    p, percentiles = np.array(p), np.array(percentiles)
    assert stats.kstest(p.ravel() - 0.005, "uniform").pvalue > 0.01
    assert abs(percentiles.mean() - 50) < 2 * percentiles.mean(1).std(ddof=1) / np.sqrt(len(percentiles))


def test_scores_are_those_of_a_loop():
    animals = independent(60, 0)
    animals["M2"] = animals["M2"].copy(data=animals["M2"].values + animals["M1"].values)
    images = colors(60)
    split = np.array(["fit", "score"])[np.arange(60) % 2]
    animals["M2"] = animals["M2"].assign_coords(split=("stimulus", split))
    found = transfer_top(animals, PCA(3), images, COLOR, top=4, alphas=ALPHAS, **QUICK)
    both = concatenate_systems({"M2": animals["M2"]})
    space = PCA(3).fit(part_of(both, "fit"))
    fit, score = split == "fit", split == "score"
    X = animals["M1"].values
    X = (X - X[fit].mean(0)) / X[fit].std(0)
    codes = space.transform(both)
    predicted = codes[score].copy(
        data=np.stack([RidgeCV(ALPHAS).fit(X[fit], codes.values[fit][:, j]).predict(X[score]) for j in range(3)], 1)
    )
    one = found.sel(held_out="M1")
    for j in range(3):
        z, own = codes.values[score][:, j], predicted.values[:, j]
        assert one.r[j].item() == pytest.approx(np.corrcoef(z, own)[0, 1], abs=1e-5)
        above = [stats.percentileofscore(own, own[i], "mean") for i in np.argsort(-z)[:4]]
        assert one.percentile[j].item() == pytest.approx(np.mean(above), abs=1e-4)
    expected = interpretability_index(predicted, images, COLOR, top=4)
    np.testing.assert_allclose(one.interpretability, expected, rtol=1e-6)
    others = interpretability_index(codes[score], images, COLOR, top=4)
    np.testing.assert_allclose(one.interpretability_others, others, rtol=1e-6)
    chance = chance_level(images[score], COLOR, top=4)
    assert found.chance_level.item() == pytest.approx(chance.interpretability.item())
    assert one.direction.values.tolist() == space.directions_.direction.values.tolist()
    assert found.attrs["n_fit"] == found.attrs["n_stimuli"] == 30


def test_order_of_stimuli_units_and_animals_and_dask_change_nothing(planted):
    images = colors(600)
    short = {name: each[:100] for name, each in planted.items()}
    expected = transfer_top(short, PCA(3, dtype="float64"), images, COLOR, alphas=ALPHAS, **QUICK)
    rng = np.random.default_rng(5)
    orders = {name: (rng.permutation(100), rng.permutation(12)) for name in short}
    other = {
        name: each[rows][..., units]
        for (name, each), (rows, units) in zip(reversed(short.items()), reversed(orders.values()), strict=True)
    }
    other["M1"] = other["M1"].chunk(stimulus=30)
    found = transfer_top(other, PCA(3, dtype="float64"), images, COLOR, alphas=ALPHAS, **QUICK)
    xr.testing.assert_allclose(found.sel(held_out=expected.held_out), expected, atol=1e-6)


def test_ceilings_need_repetitions_and_count_only_those_that_there_are(planted):
    short = {name: each[:200] for name, each in list(planted.items())[:2]}
    averages = {name: each.mean("repetition") for name, each in short.items()}
    full = transfer_top(short, PCA(3), colors(600), COLOR, **QUICK)
    assert "ceiling" not in transfer_top(averages, PCA(3), colors(600), COLOR, **QUICK)
    partly = transfer_top(short | {"M2": averages["M2"]}, PCA(3), colors(600), COLOR, **QUICK)
    np.testing.assert_allclose(partly.r, full.r, atol=1e-5)
    assert (partly.ceiling > full.ceiling).all()


def test_other_numbers_of_directions_and_constant_codes_are_nan(planted):
    short = {name: each[:100].mean("repetition") for name, each in list(planted.items())[:2]}
    short["M2"] = short["M2"][:, :5]
    found = transfer_top(short, Units(), colors(600), COLOR, **QUICK)
    one, other = found.sel(held_out="M1"), found.sel(held_out="M2")
    assert one.direction.values.tolist() == [*(f"M2/u{i}" for i in range(5)), *[""] * 7]
    for name in ("r", "p_adjusted", "percentile", "interpretability", "alpha"):
        assert one[name].notnull().values.tolist() == [True] * 5 + [False] * 7
        assert other[name].notnull().all()


def test_random_directions_are_predicted_too_if_the_space_is_shared(planted):
    short = {name: each[:200] for name, each in planted.items()}
    assert (transfer_top(short, Random(4), colors(600), COLOR, **QUICK).r > 0.5).all()


def test_bad_input_is_refused_in_one_line(planted):
    images, few = colors(60), {name: each.mean("repetition")[:40] for name, each in planted.items()}
    far = few["M3"].assign_coords(stimulus=[f"x{i}" for i in range(40)])
    nan, flat = few["M3"].where(few["M3"].unit != "u3"), few["M3"] * (few["M3"].unit != "u3")
    marked = [few["M3"].assign_coords(split=("stimulus", np.roll(["fit", "score"] * 20, i))) for i in range(2)]
    odd = few["M3"].assign_coords(split=("stimulus", ["fit"] * 35 + ["score"] * 5))
    cases = [
        ({"M1": few["M1"]}, {}, "at least 2 systems are needed, one to leave out .* got 1; divide"),
        (few | {"M3": far}, {}, r"subjects with different stimuli: 'M3' lacks all 40 stimuli of 'M1' .* 'x0', "),
        (
            {name: each[:15] for name, each in few.items()},
            {},
            "15 common stimuli with images are too few .* at least 20$",
        ),
        ({name: each[:26] for name, each in few.items()}, {"top": 15}, "use at least 30, or lower `top`"),
        (few | {"M3": nan}, {}, "system 'M3'"),
        (few | {"M3": flat}, {}, "system 'M3': unit 'u3' does not vary over the stimuli to fit; drop it"),
        ({"M1": marked[0], "M2": marked[1]}, {}, "systems mark the same stimulus differently in the coord `split`"),
        ({"M1": odd, "M2": few["M2"]}, {}, r"35 common stimuli to fit on \('fit'\) and 5 to score"),
        (few, {"top": 1}, "top must be a whole number of at least 2"),
        (few, {"alphas": [0]}, "alphas must be penalties above 0"),
        (few, {"n_permutations": 5}, "n_permutations must be a whole number of at least 19"),
        (few, {"n_resamples": 5}, "n_resamples must be a whole number of at least 10"),
    ]
    for systems, settings, message in cases:
        with pytest.raises(ValueError, match=message):
            transfer_top(systems, PCA(2), images, COLOR, **settings)
    with pytest.raises(TypeError, match="a finder must be an object such as"):
        transfer_top(few, PCA, images, COLOR)
    with pytest.raises(TypeError, match="systems must be a mapping"):
        transfer_top(list(few.values()), PCA(2), images, COLOR)
    copied = few["M1"].assign_coords(content=("stimulus", [f"{max(i, 1):032x}" for i in range(40)]))
    with pytest.raises(ValueError, match="'s0000', 's0001' show the same photograph"):
        transfer_top(few | {"M1": copied}, PCA(2), images.drop_vars("content"), COLOR)
    with pytest.warns(UserWarning, match="left out are 20 of 40 of the common stimuli"):
        transfer_top(few, PCA(2), images[:20], COLOR, **QUICK)
