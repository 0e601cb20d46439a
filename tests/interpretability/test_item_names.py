import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.metrics import roc_auc_score

from neurosuper.interpretability import name_items
from neurosuper.responses import split_stimuli

CONCEPTS = ["dog", "sky", "tree", "wheel"]
TOP = 30


def draw(n_stimuli, n_items, seed=0):
    """Return codes and cosines that have nothing to do with each other."""
    rng, stimuli = np.random.default_rng(seed), [f"s{i:03d}" for i in range(n_stimuli)]
    coords = {"stimulus": stimuli, "unit": [f"u{i:03d}" for i in range(n_items)]}
    codes = xr.DataArray(rng.gamma(1, 5, (n_stimuli, n_items)), coords, ("stimulus", "unit"))
    coords = {"stimulus": stimuli, "concept": CONCEPTS}
    affinities = xr.DataArray(rng.uniform(0.1, 0.3, (n_stimuli, 4)), coords, ("stimulus", "concept"))
    return codes, affinities.assign_attrs(model="CLIP")


@pytest.fixture(scope="module")
def world():
    """Codes of a unit for skies, one for wheels or trees, and noise; half of the stimuli are marked to choose on."""
    codes, affinities = draw(400, 4)
    codes[:, 0] += 200 * affinities.sel(concept="sky")
    codes[:, 1] += 200 * affinities.sel(concept=["wheel", "tree"]).max("concept")
    return split_stimuli(codes, random_state=1), affinities.round(2)  # with ties


def parts(codes, affinities, which):
    rows = (codes.split == which).values
    return codes.values[rows], affinities.values[rows]


def soft_wpmi(Z, A):
    """Return the scores of CLIP-Dissect's formula, in loops."""
    given = np.empty((Z.shape[1], A.shape[1]))
    for item, concept in np.ndindex(given.shape):
        given[item, concept] = 0
        for k, stimulus in enumerate(np.argsort(-Z[:, item])[:TOP]):
            s = np.exp(10 * A[stimulus, concept]) / sum(np.exp(10 * A[stimulus]))
            p = 0.998 - k / TOP * (0.998 - 0.97)
            given[item, concept] += np.log(1 + p * (s - 1) + 1e-7)
    return given - np.log(np.mean(np.exp(given), axis=0))


def cosine_cubed(Z, A):
    z, a = (Z - Z.mean(0)) ** 3, (A - A.mean(0)) ** 3
    return np.array([[x @ y / np.sqrt((x @ x) * (y @ y)) for y in a.T] for x in z.T])


def area(Z, A):
    is_top = [np.isin(np.arange(len(z)), np.argsort(-z)[:TOP]) for z in Z.T]
    return np.array([[roc_auc_score(chosen, a) for a in A.T] for chosen in is_top])


@pytest.mark.parametrize(
    ("method", "oracle"), [("soft-wpmi", soft_wpmi), ("cosine-cubed", cosine_cubed), ("auc", area)]
)
def test_names_are_chosen_by_the_formula_on_one_half_and_tested_on_the_other(method, oracle, world):
    codes, affinities = world
    result = name_items(codes, affinities, method=method, top=TOP, n_names=4)
    scores, (Z, A) = oracle(*parts(*world, "fit")), parts(*world, "score")
    for i in range(4):
        order = np.argsort(-scores[i], kind="stable")
        assert result.name[i].values.tolist() == [CONCEPTS[c] for c in order]
        assert_allclose(result.score[i], scores[i][order], rtol=1e-9, atol=1e-12)
        is_top = np.isin(np.arange(len(Z)), np.argsort(-Z[:, i])[:TOP])
        for rank, concept in enumerate(order):
            test = stats.mannwhitneyu(
                A[is_top, concept], A[~is_top, concept], alternative="greater", method="asymptotic"
            )
            assert_allclose(result.p_value[i, rank], test.pvalue, rtol=1e-12)
            assert_allclose(result.auc[i, rank], roc_auc_score(is_top, A[:, concept]), atol=1e-12)
    assert (result.auc_low < result.auc).all()
    assert result.attrs["method"] == method


@pytest.mark.parametrize("method", ["soft-wpmi", "cosine-cubed", "auc"])
def test_planted_concepts_are_named_and_noise_is_not(method, world):
    result = name_items(*world, method=method, top=TOP)
    assert result.label[0] == "sky"
    assert result.label[1] in ("tree", "wheel")
    assert set(result.name[1, :2].values.tolist()) == {"tree", "wheel"}
    assert result.label[2:].values.tolist() == ["unnamed", "unnamed"]
    assert (
        result.label.values.tolist() == np.where(result.p_adjusted[:, 0] <= 0.05, result.name[:, 0], "unnamed").tolist()
    )


def test_p_values_of_codes_without_meaning_are_uniform_and_as_often_small_as_after_shuffling():
    codes, affinities = draw(300, 600)
    result = name_items(codes, affinities, top=30)
    p = result.p_value[:, 0]
    assert stats.kstest(p.values, "uniform").pvalue > 0.01
    assert 0.03 < (p < 0.05).mean() < 0.07
    assert abs(result.auc[:, 0].mean() - 0.5) < 0.01
    rng, a = np.random.default_rng(0), affinities.values[:150, 0]
    shuffled = [roc_auc_score(rng.permutation(np.arange(150) < 30), a) for _ in range(300)]
    assert_allclose(np.std(shuffled), result.auc[:, 0].std(), rtol=0.15)


def test_neither_the_order_of_stimuli_nor_that_of_items_and_concepts_matters(world):
    codes, affinities = world[0].drop_vars("split"), world[1]
    result = name_items(codes, affinities, top=TOP)
    again = name_items(codes[::-1, ::-1].chunk(), affinities[:, ::-1].T, top=TOP)
    xr.testing.assert_allclose(again.reindex_like(result), result)
    assert again.reindex_like(result).name[:2].equals(result.name[:2])


def test_input_that_cannot_be_named_is_refused_in_one_line(world):
    codes, affinities = world
    refused = [
        (
            {"affinities": affinities.assign_coords(stimulus=[f"x{i}" for i in range(400)])},
            r"no stimulus label in common",
        ),
        ({"affinities": affinities.rename(concept="text")}, r"affinities must have the dims stimulus and concept, got"),
        (
            {"affinities": affinities * 100},
            r"soft-wpmi needs affinities that are cosines, from -1 to 1, got 30; divide",
        ),
        ({"affinities": affinities * [1, 0, 1, 1]}, r"zero variance over stimuli in concept 'sky'; leave it out"),
        (
            {"affinities": affinities.where(affinities.concept != "sky")},
            r"affinities contain NaN or infinite values, of",
        ),
        ({"codes": codes[:, :1]}, r"soft-wpmi compares items, got 1; pass more items, or use method='auc'"),
        ({"codes": codes * [1, 0, 1, 1]}, r"zero variance over stimuli in unit 'u001'"),
        ({"top": 101}, r"top must be a whole number from 1 to 100, half of the stimuli of a half, got"),
        ({"n_names": 0}, r"n_names must be a whole number of at least 1, got 0"),
        ({"method": "clip"}, r"method must be one of 'soft-wpmi', 'cosine-cubed', 'auc'; got 'clip'"),
    ]
    for change, message in refused:
        given = {"codes": codes, "affinities": affinities, "top": TOP, "n_names": 4} | change
        with pytest.raises(ValueError, match=f"^{message}") as error:
            name_items(given.pop("codes"), given.pop("affinities"), **given)
        assert "\n" not in str(error.value)
    with pytest.raises(TypeError, match=r"^affinities must be a DataArray \(stimulus, concept\) of numbers, got"):
        name_items(codes, affinities.values)
    with pytest.warns(UserWarning, match="left out are 20 of 400 of the codes"):
        assert name_items(codes, affinities[:380], top=TOP, n_names=1).attrs["n_stimuli_left_out"] == 20
