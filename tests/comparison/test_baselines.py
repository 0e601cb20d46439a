"""Each finder has a baseline with its own preparation, and is tested against it."""

import numpy as np
import pytest
import xarray as xr

from neurosuper import (
    ICA,
    PCA,
    Color,
    CovarianceMatched,
    DictionaryLearning,
    Exemplars,
    KMeans,
    Random,
    Units,
    compare,
    contrast_finders,
    load_images,
)
from neurosuper.comparison import contrast_hypotheses, fit_systems
from neurosuper.comparison.baselines import add_baselines

CENTERED = "CovarianceMatched (center)"


def settings_of(finder):
    return {name for name in ("normalize", "center", "whiten") if getattr(finder, name)}


@pytest.mark.parametrize(
    ("finder", "settings"),
    [
        (KMeans(4), {"normalize"}),
        (KMeans(4, center=True), {"normalize", "center"}),
        (KMeans(4, normalize=False), set()),
        (DictionaryLearning(4, whiten=True), {"whiten"}),
        (DictionaryLearning(4, whiten=True, center=True), {"whiten"}),  # the same: whitened responses are centred
        (PCA(2), {"center"}),
        (PCA(2, center=False), set()),
        (ICA(2), {"center"}),  # which has no such setting
        (ICA(2, normalize=True), {"normalize", "center"}),
    ],
)
def test_the_only_preparation_has_one_baseline_with_a_short_name(finder, settings):
    finders, baseline_of = add_baselines({"mine": finder})
    assert list(finders) == ["mine", "CovarianceMatched"]
    assert baseline_of == {"mine": "CovarianceMatched", "CovarianceMatched": ""}
    assert settings_of(finders["CovarianceMatched"]) == settings


def test_each_preparation_has_a_baseline_named_by_its_settings():
    given = {"K": KMeans(4), "C": KMeans(4, center=True), "P": PCA(2), "I": ICA(2), "D": DictionaryLearning(4)}
    finders, baseline_of = add_baselines(given | {"U": Units(), "R": Random(), "E": Exemplars()})
    names = ["CovarianceMatched (normalize)", "CovarianceMatched (center, normalize)", CENTERED, "CovarianceMatched"]
    assert list(finders) == [*given, "U", "R", "E", *names]
    assert [settings_of(finders[name]) for name in names] == [{"normalize"}, {"center", "normalize"}, {"center"}, set()]
    assert [baseline_of[name] for name in "KCPID"] == [*names[:3], CENTERED, "CovarianceMatched"]
    assert not any(baseline_of[name] for name in ["U", "R", "E", *names])


def test_a_baseline_has_the_seed_the_device_and_the_dtype_of_the_first_finder():
    first = KMeans(4, random_state=7, device="cpu", dtype="float64")
    finders, _ = add_baselines({"first": first, "next": KMeans(8, random_state=8)})
    baseline = finders["CovarianceMatched"]
    assert (baseline.random_state, baseline.device, baseline.dtype, baseline.n_directions) == (
        7,
        "cpu",
        "float64",
        None,
    )


def test_a_matched_baseline_of_the_user_is_used_and_none_is_added():
    own = CovarianceMatched(50, normalize=True, random_state=3)
    finders, baseline_of = add_baselines({"own": own, "KMeans": KMeans()})
    assert list(finders) == ["own", "KMeans"]
    assert baseline_of == {"own": "", "KMeans": "own"}
    finders, baseline_of = add_baselines({"own": own, "KMeans": KMeans(), "PCA": PCA(2)})
    assert list(finders) == ["own", "KMeans", "PCA", CENTERED]
    assert baseline_of["PCA"] == CENTERED


def test_finders_without_a_baseline_get_none():
    given = {"Units": Units(), "Random": Random(), "Exemplars": Exemplars(), "own": CovarianceMatched()}
    finders, baseline_of = add_baselines(given)
    assert finders == given
    assert set(baseline_of.values()) == {""}


def test_a_finder_with_the_name_of_a_baseline_is_refused(responses):
    with pytest.raises(ValueError, match="the baseline of 'K' would have the name of another finder, 'CovarianceMat"):
        list(fit_systems({"V4": responses}, {"CovarianceMatched": Units(), "K": KMeans(3)}))


@pytest.mark.parametrize("baselines", ["yes", None, [CovarianceMatched()]])
def test_baselines_are_on_or_off(responses, baselines):
    with pytest.raises(ValueError, match="baselines must be True or False, got"):
        list(fit_systems({"V4": responses}, [Units()], baselines=baselines))


def test_baselines_are_scored_beside_finders_and_change_no_other_number(systems, images):
    finders = [Units(), KMeans(4), PCA(2)]
    without, table = (compare(systems, images, finders, [Color()], baselines=chosen) for chosen in (False, True))
    own = table.isel(item=table.finder.isin(["Units", "KMeans", "PCA"]).values)
    assert set(own.baseline.values[own.finder == "KMeans"]) == {"CovarianceMatched (normalize)"}
    assert set(without.baseline.values) == {""}
    columns = ["baseline", "item"]
    xr.testing.assert_allclose(own.drop_vars(columns), without.drop_vars(columns), rtol=1e-6)
    assert {**own.attrs, "provenance": ""} == {**without.attrs, "provenance": ""}
    added = table.isel(item=(table.finder == CENTERED).values)
    assert added.system.to_series().value_counts().to_dict() == {"brain": 8, "network": 5}


def test_finders_are_tested_against_units_and_their_own_baseline_alone(systems, images):
    table = compare(systems, images, [Units(), KMeans(4), PCA(2)], [Color()])
    tests = contrast_finders(table, n_resamples=200)
    pairs = list(zip(tests.finder.values, tests.against.values, strict=True))
    normalized = "CovarianceMatched (normalize)"
    expected = {("KMeans", "Units"), ("KMeans", normalized), ("PCA", "Units"), ("PCA", CENTERED)}
    expected |= {(normalized, "Units"), (CENTERED, "Units")}
    assert set(pairs) == expected
    assert len(pairs) == 2 * 2 * len(expected)  # systems and corrections
    for pair, sentence in zip(pairs, tests.sentence.values, strict=True):
        assert all(name in sentence for name in pair)


def test_without_units_finders_are_tested_against_their_baseline(responses, images):
    table = compare({"V4": responses}, images, [KMeans(4)], [Color()])
    tests = contrast_finders(table, n_resamples=200)
    assert tests.against.values.tolist() == ["CovarianceMatched"] * 2
    assert tests.finder.values.tolist() == ["KMeans"] * 2


def test_several_named_finders_are_tested_against_without_testing_a_pair_twice(systems, images):
    table = compare(systems, images, [Units(), KMeans(4), PCA(2)], [Color()], baselines=False)
    tests = contrast_finders(table, against=["PCA", "Units", "PCA"], n_resamples=200)
    tests = tests.isel(test=((tests.system == "brain") & (tests.correction == "none")).values)
    pairs = list(zip(tests.finder.values.tolist(), tests.against.values.tolist(), strict=True))
    assert pairs == [("Units", "PCA"), ("KMeans", "PCA"), ("KMeans", "Units")]


def test_a_hypothesis_may_be_about_a_matched_baseline(systems, images):
    table = compare(systems, images, [Units(), KMeans(4)], [Color()])
    stated = {"system": "brain", "finder": "KMeans", "metric": "color", "against": "CovarianceMatched"}
    found = contrast_hypotheses(table, [stated | {"correction": "hub", "alternative": "two-sided"}])
    tests = contrast_finders(table)
    is_same = [(tests[name] == stated[name]).values for name in stated]
    (same,) = np.flatnonzero(np.logical_and.reduce([*is_same, tests.correction.values == "hub"]))
    assert found.difference.item() == tests.difference[same].item()


def raw_tests(R, colours, finder):
    """Return p and difference by `against`, of the raw index of K-means by colour `(image, pixel, channel)`."""
    images = load_images(colours.astype(np.uint8)[:, None])
    coords = {"stimulus": images.stimulus, "unit": [f"u{i}" for i in range(R.shape[1])]}
    responses = xr.DataArray(R, dims=("stimulus", "unit"), coords=coords)
    table = compare({"V4": responses}, images, [Units(), finder], [Color()])
    tests = contrast_finders(table, n_resamples=200)
    tests = tests.isel(test=((tests.finder == "KMeans") & (tests.correction == "none")).values)
    return tests.set_index(test="against")[["p_adjusted", "difference"]]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_drive_that_all_units_share_lifts_kmeans_above_units_and_not_above_its_baseline(seed):
    """Nothing is planted but one drive, the brightness, which 80 noisy units follow, and so their mean response."""
    rng = np.random.default_rng(seed)
    drive = rng.random((600, 1))
    R = 1 + 2 * drive + 2 * rng.normal(size=(600, 80))
    found = raw_tests(R, 240 * drive[..., None] + rng.integers(0, 15, (600, 2, 3)), KMeans())
    assert found.p_adjusted.sel(test="Units") < 0.001
    assert found.difference.sel(test="Units") > 0.1
    assert found.p_adjusted.sel(test="CovarianceMatched") > 0.2
    assert abs(found.difference.sel(test="CovarianceMatched")) < 0.03


@pytest.mark.parametrize("seed", [1, 2])
def test_kmeans_that_finds_planted_clusters_is_above_units_and_its_baseline(seed):
    """40 clusters of stimuli, each of its own colour, in 32 units: more than units, and than axes of variance."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, 40, 800)
    R = 5 + rng.normal(size=(40, 32))[cluster] + 0.3 * rng.normal(size=(800, 32))
    colours = rng.integers(10, 245, (40, 1, 3))[cluster] + rng.integers(-10, 10, (800, 2, 3))
    found = raw_tests(R, colours, KMeans(40, center=True))
    assert (found.p_adjusted < 0.01).all()
    assert (found.difference > 0.1).all()


@pytest.mark.slow
def test_a_few_large_clusters_are_above_their_baseline_where_nothing_is_planted():
    """The figures in the notes of `compare`: centres of large clusters average noise, and the baseline does not."""
    above = {"few": 0, "many": 0}
    for seed in range(100, 130):
        rng = np.random.default_rng(seed)
        drive = rng.random((400, 1))
        R = 1 + 2 * drive + 1.5 * rng.normal(size=(400, 32))
        images = load_images((240 * drive[..., None] + rng.integers(0, 15, (400, 2, 3))).astype(np.uint8)[:, None])
        coords = {"stimulus": images.stimulus, "unit": [f"u{i:02d}" for i in range(32)]}
        responses = xr.DataArray(R, dims=("stimulus", "unit"), coords=coords)
        finders = {"few": KMeans(4), "many": KMeans(32)}
        tests = contrast_finders(compare({"V4": responses}, images, finders, [Color()]), n_resamples=100)
        for name in finders:
            own = tests.isel(test=((tests.finder == name) & (tests.correction == "none")).values)
            above[name] += int(own.difference.item() > 0 and own.p_value.item() < 0.05)
    assert above == {"few": 14, "many": 0}
