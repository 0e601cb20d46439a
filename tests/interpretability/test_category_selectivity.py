import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.metrics import roc_auc_score

from neurosuper.interpretability import rank_sums, selectivity
from neurosuper.interpretability.labelled_stimuli import halve
from neurosuper.responses import split_stimuli

ANIMALS = np.array(["bird", "cat", "dog", "fish"])


def labelled(values: np.ndarray, category: np.ndarray) -> xr.DataArray:
    coords = {"stimulus": [f"s{i:03d}" for i in range(len(values))], "unit": [f"u{j}" for j in range(values.shape[1])]}
    return xr.DataArray(values, coords | {"category": ("stimulus", category)}, ("stimulus", "unit"))


@pytest.fixture(scope="module")
def codes() -> xr.DataArray:
    """Codes of three units: normal, with many ties, and zero but for a few."""
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(size=130), rng.poisson(1.5, 130), rng.exponential(size=130)], axis=1)
    values[rng.random(130) < 0.7, 2] = 0
    return labelled(values, ANIMALS[np.r_[np.arange(120) % 4, np.zeros(10, int)]])


@pytest.fixture(scope="module")
def result(codes) -> xr.Dataset:
    return selectivity(codes, "category")


def test_auc_p_and_d_prime_are_those_of_scikit_learn_and_scipy(codes, result):
    for unit in codes.unit.values:
        for name in ANIMALS:
            z, inside = codes.sel(unit=unit).values, codes.category.values == name
            ours = result.sel(unit=unit, category=name)
            assert_allclose(ours.auc, roc_auc_score(inside, z), rtol=0, atol=1e-12)
            test = stats.mannwhitneyu(z[inside], z[~inside], method="asymptotic")
            assert_allclose(ours.p_value, test.pvalue, rtol=1e-12, atol=1e-12)
            spread = np.sqrt((z[inside].var(ddof=1) + z[~inside].var(ddof=1)) / 2)
            assert_allclose(ours.d_prime, (z[inside].mean() - z[~inside].mean()) / spread, rtol=1e-12)
    assert_allclose(
        result.p_adjusted.values.ravel(), stats.false_discovery_control(result.p_value.values.ravel()), rtol=1e-12
    )


def test_the_best_category_is_chosen_on_one_half_and_scored_on_the_other(codes):
    marked = split_stimuli(codes, random_state=1)
    result = selectivity(marked, "category")
    to_fit = marked.split.values == "fit"
    for unit in codes.unit.values:
        z, category = codes.sel(unit=unit).values, codes.category.values
        found = [roc_auc_score(category[to_fit] == name, z[to_fit]) for name in ANIMALS]
        ours, best = result.sel(unit=unit), ANIMALS[np.argmax(found)]
        assert ours.best == best
        assert_allclose(ours.best_auc_found, max(found), atol=1e-12)
        inside = category[~to_fit] == best
        assert_allclose(ours.best_auc, roc_auc_score(inside, z[~to_fit]), atol=1e-12)
        test = stats.mannwhitneyu(z[~to_fit][inside], z[~to_fit][~inside], alternative="greater", method="asymptotic")
        assert_allclose(ours.best_p_value, test.pvalue, rtol=1e-12)
    assert result.attrs["n_stimuli_found"] == to_fit.sum()


def test_a_planted_category_is_found_and_its_auc_is_that_of_two_normal_distributions():
    """Φ(d′/√2) for d′ = 1.5; of a unit that is 1 for a category and else 0, 1, and an infinite d′."""
    rng, category = np.random.default_rng(0), ANIMALS[np.arange(4000) % 4]
    values = rng.normal(size=(4000, 2)) + 1.5 * (category == "dog")[:, None] * [1, 0]
    values = np.column_stack([values, category == "fish"])
    result = selectivity(labelled(values, category), "category")
    assert result.best.values.tolist()[::2] == ["dog", "fish"]
    expected = stats.norm.cdf(1.5 / np.sqrt(2))
    assert result.best_auc_low[0] < expected < result.best_auc_high[0]
    assert_allclose(result.d_prime.sel(unit="u0", category="dog"), 1.5, atol=0.1)
    assert result.auc.sel(unit="u2", category="fish") == 1
    assert np.isposinf(result.d_prime.sel(unit="u2", category="fish"))
    assert (result.best_p_adjusted < 0.05).values.tolist() == [True, False, True]


def test_p_values_of_codes_that_ignore_the_images_are_uniform_also_where_the_category_was_chosen():
    rng, category = np.random.default_rng(0), ANIMALS[np.arange(200) % 4]
    result = selectivity(labelled(rng.normal(size=(200, 500)), category), "category")
    for p in (result.p_value.sel(category="cat"), result.best_p_value):
        assert stats.kstest(p.values, "uniform").pvalue > 0.01
        assert 0.03 < (p < 0.05).mean() < 0.07
    assert abs(result.best_auc.mean() - 0.5) < 0.01
    assert result.best_auc_found.mean() > 0.53  # where it was chosen


@pytest.mark.parametrize(("n_in", "n_out", "shift"), [(10, 30, 0.5), (20, 80, 2.0), (5, 200, 1.0)])
def test_intervals_cover_the_auc(n_in, n_out, shift):
    rng = np.random.default_rng(n_in)
    z = rng.normal(size=(n_in + n_out, 1000))
    z[:n_in] += shift
    numbers = (np.arange(len(z)) >= n_in).astype(int)
    sums, _ = rank_sums.rank_sums(z, numbers[None], 2)
    auc = rank_sums.areas(sums[0, :, 0], n_in, n_out)
    low, high = rank_sums.area_interval(auc, n_in, n_out)
    truth = stats.norm.cdf(shift / np.sqrt(2))
    assert 0.93 < ((low < truth) & (truth < high)).mean() < 0.99


def test_the_ends_of_an_interval_are_where_the_auc_is_1_96_standard_errors_away():
    """By the formula of Newcombe, in a scan; an AUC of 1 has a lower limit below it, and no upper limit above."""
    auc, theta = np.array([0.7, 1.0, 0.0]), np.linspace(0, 1, 200_001)
    low, high = rank_sums.area_interval(auc, 8, 20)
    variance = theta * (1 - theta) * (1 + 13 * ((1 - theta) / (2 - theta) + theta / (1 + theta))) / 160
    for one, start, end in zip(auc, low, high, strict=True):
        inside = theta[np.abs(one - theta) <= stats.norm.isf(0.025) * np.sqrt(variance)]
        assert_allclose([start, end], [inside.min(), inside.max()], atol=2e-5)


def test_neither_the_order_of_stimuli_nor_that_of_units_matters_nor_blocks(codes, result, monkeypatch):
    monkeypatch.setattr(rank_sums, "MAX_SORTED", 1)
    monkeypatch.setattr("neurosuper.interpretability.category_selectivity.MAX_SQUARED", 1)
    rng = np.random.default_rng(1)
    mixed = codes[rng.permutation(len(codes)), ::-1]
    again = selectivity(mixed.chunk({"stimulus": 50}), "category").reindex_like(result)
    xr.testing.assert_allclose(again, result, rtol=1e-12)
    assert again.best.equals(result.best)


def test_labels_may_be_an_array_of_other_stimuli_too(codes, result):
    labels = codes.category.drop_vars("category")[::-1]
    assert selectivity(codes.drop_vars("category"), labels).equals(
        result.drop_vars("category").assign_coords(category=result.category)
    )
    with pytest.warns(UserWarning, match="joined"):
        fewer = selectivity(codes, labels[20:])
    assert fewer.n_stimuli.sum() == 110 == 130 - fewer.attrs["n_stimuli_left_out"]


def test_copies_of_a_photograph_are_in_the_same_half():
    rng, category = np.random.default_rng(0), ANIMALS[np.arange(240) % 4]
    codes = labelled(rng.normal(size=(240, 1)), category)
    content = np.arange(240) % 40  # six copies each, of one category
    codes = codes.assign_coords(content=("stimulus", [f"{i:032d}" for i in content]))
    to_fit = halve(codes, 0, np.unique(category, return_inverse=True)[1])
    for photograph in range(40):
        assert len(set(to_fit[content == photograph])) == 1
    assert to_fit.sum() == 120


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category": "cat"}, r"all stimuli have the label 'cat'; at least 2 categories are compared"),
        ({"category": ["cat"] * 4 + ["dog"] * 36}, r"a category needs at least 5 stimuli, got 4 in 'cat'; leave"),
        ({"category": ["", "cat"] * 20}, r"no label for stimulus 's000', 's002', 's004', … \(20 in all\); label all"),
        ({"category": [np.nan, 1.0] * 20}, r"no label for stimulus 's000'"),
        ({"split": ["fit"] * 38 + ["score"] * 2}, r"a half of the stimuli has 1 of a category, and needs 2; use more"),
    ],
)
def test_labels_that_cannot_be_compared_are_refused(change, message):
    codes = labelled(np.random.default_rng(0).normal(size=(40, 2)), np.array(["cat", "dog"] * 20))
    change = {name: ("stimulus", np.broadcast_to(np.asarray(values), 40)) for name, values in change.items()}
    with pytest.raises(ValueError, match=f"^{message}") as error:
        selectivity(codes.assign_coords(change), "category")
    assert "\n" not in str(error.value)


def test_codes_that_cannot_be_ranked_and_labels_of_other_kinds_are_refused(codes):
    with pytest.raises(ValueError, match=r"^codes contain NaN or infinite values, in unit 'u0'; drop those"):
        selectivity(codes.where((codes.stimulus != "s003") | (codes.unit != "u0")), "category")
    with pytest.raises(ValueError, match=r"^zero variance over stimuli in unit 'u1'"):
        selectivity(codes * [1, 0, 1], "category")
    with pytest.raises(ValueError, match=r"^codes have no stimulus coord 'object'; add it"):
        selectivity(codes, "object")
    with pytest.raises(TypeError, match=r"^labels must be a DataArray \(stimulus,\) or the name of a stimulus coord"):
        selectivity(codes, codes.category.values)
    with pytest.raises(ValueError, match=r"^no stimulus label in common"):
        selectivity(codes, codes.category.assign_coords(stimulus=[f"x{i}" for i in range(130)]))
