from functools import partial

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

from neurosuper import PCA, Color, KMeans, Pixel, Random, Units, compare, contrast_finders, contrast_systems
from neurosuper.inference import permutation_test
from neurosuper.interpretability import index_difference


def make_comparison(rng, shift, n=40):
    """Three systems; in the brain, K-means is higher by `shift` in both metrics."""
    names = [(system, finder) for system in ("brain", "net", "noise") for finder in ("Units", "KMeans", "PCA")]
    center = {("brain", "KMeans"): shift}
    values = np.concatenate([rng.normal(center.get(name, 0), 1, (n, 2)) for name in names])
    own = np.repeat(names, n, axis=0)
    coords = {"metric": ["color", "pixel"], "system": ("item", own[:, 0]), "finder": ("item", own[:, 1])}
    return xr.Dataset({"interpretability": (("item", "metric"), values)}, coords=coords)


def scores_of(comparison, metric, **names):
    own = np.all([comparison[name] == value for name, value in names.items()], axis=0)
    return comparison.interpretability.sel(metric=metric)[own].reset_coords(drop=True)


@pytest.mark.parametrize(
    ("contrast", "varied", "against"), [(contrast_finders, "finder", "Units"), (contrast_systems, "system", "brain")]
)
def test_each_pair_is_tested_as_it_would_be_alone(rng, contrast, varied, against):
    comparison = make_comparison(rng, 2.0)
    tests = contrast(comparison, n_resamples=999)
    assert (tests.sizes["test"], tests.n_tests, set(tests.against.values)) == (12, 12, {against})
    assert tests.to_dataframe().groupby(["system", "finder", "metric"]).ngroups == 12
    assert against not in tests[varied].values
    for i in range(12):
        test = tests.isel(test=i)
        names = {"system": test.system.item(), "finder": test.finder.item()}
        a, b = (scores_of(comparison, test.metric.item(), **own) for own in (names, names | {varied: against}))
        alone = permutation_test(a, b, n_resamples=999)
        assert_allclose(
            [test.difference, test.p_value, test.cohens_d], [alone.difference, alone.p_value, alone.cohens_d]
        )
        assert_allclose([test.estimate_a, test.estimate_b], [a.mean(), b.mean()])


def add_halves(comparison, rng, shared):
    """Give each item differences between halves, with a term of its own and a term shared by all items."""
    shape = (*comparison.interpretability.shape, 50)
    halves = rng.normal(0, 0.5, shape) + rng.normal(0, shared, shape[1:])
    top = np.array([rng.choice(100, 3, replace=False) for _ in range(shape[0])]).astype(str)
    influence = rng.normal(0, 1, (*shape[:2], 3))
    columns = {"difference_of_halves": (("item", "metric", "draw"), halves), "top_stimuli": (("item", "rank"), top)}
    columns["influence"] = (("item", "metric", "rank"), influence)
    columns["n_stimuli"] = ("item", np.full(shape[0], 100))
    return comparison.assign(columns)


def test_with_an_index_on_halves_stimuli_are_a_sample_too(rng):
    comparison = add_halves(make_comparison(rng, 2.0), rng, 1.0)
    tests = contrast_finders(comparison, n_resamples=200)
    claimed = tests.sentence.values[(tests.p_adjusted < 0.05).values]
    assert all("over stimuli and items, adjusted p" in sentence for sentence in claimed)
    assert tests.confidence_level == 0.95
    first = tests.isel(test=0)
    sets = [
        scores_of(comparison, first.metric.item(), system=first.system.item(), finder=finder)
        for finder in (first.finder.item(), "Units")
    ]
    assert_allclose(first.p_items, permutation_test(*sets, n_resamples=200).p_value)


def test_a_contrast_is_the_index_difference_of_the_same_codes(responses, images):
    finders, metrics = [Units(), Random(6)], [Color(), Pixel()]
    table = compare({"brain": responses}, images, finders, metrics, top=4, score_on="all")
    tests = contrast_finders(table, n_resamples=200)
    codes = Random(6).fit_transform(responses)
    for metric in metrics:
        alone = index_difference(codes, responses, images, metric, top=4)
        own = (tests.metric == metric.name) & (tests.correction == "none")
        test = tests.isel(test=own.values).squeeze()
        for name in ("difference", "difference_low", "difference_high", "p_value", "n_a", "n_b"):
            assert_allclose(test[name], alone[name], rtol=1e-4)


def test_items_may_be_dropped_from_a_comparison_before_its_contrasts(responses, images):
    table = compare({"brain": responses}, images, [Units(), Random(6)], [Color()], top=4, score_on="all")
    test = (
        contrast_finders(table.isel(item=slice(2, 12)), n_resamples=200).set_index(test="correction").sel(test="none")
    )
    codes = Random(6).fit_transform(responses)
    alone = index_difference(codes[:, :4], responses[:, 2:], images, Color(), top=4)
    assert_allclose(test.p_value.item(), alone.p_value.item(), rtol=1e-4)


def test_a_shared_effect_of_stimuli_cancels_between_finders_and_not_between_systems(rng):
    comparison = add_halves(make_comparison(rng, 0.0), rng, 0.0)
    shifted = comparison.copy()
    in_net = (comparison.system == "net").values[:, None, None]
    shifted["difference_of_halves"] = comparison.difference_of_halves + in_net * rng.normal(0, 4, (1, 2, 50))
    of_finders, of_systems = (
        [
            (tests.difference_high - tests.difference_low).sel(test=tests.system == "net")
            for tests in map(contrast, (comparison, shifted))
        ]
        for contrast in (contrast_finders, contrast_systems)
    )
    assert_allclose(*of_finders, rtol=0.01)
    assert (of_systems[1] > 3 * of_systems[0]).all()


def test_planted_difference_is_claimed_and_no_other(rng):
    tests = contrast_finders(make_comparison(rng, 2.0), n_resamples=999)
    found = (tests.p_adjusted < 0.05).values
    assert found.tolist() == ((tests.system == "brain") & (tests.finder == "KMeans")).values.tolist()
    for claimed, sentence in zip(found, tests.sentence.values, strict=True):
        assert ("scored higher in interpretability by" in sentence) == claimed
        assert ("did not differ detectably" in sentence) == (not claimed)


def test_planted_difference_between_systems_is_claimed_and_no_other(rng):
    tests = contrast_systems(make_comparison(rng, -2.0), n_resamples=999)
    assert ((tests.p_adjusted < 0.05) == (tests.finder == "KMeans")).all()
    claimed = tests.sentence.values[(tests.finder == "KMeans").values]
    for sentence, metric, system in zip(claimed, ["color", "pixel"] * 2, ["net", "net", "noise", "noise"], strict=True):
        assert sentence.startswith(f"KMeans: {system} (n = 40, mean")
        assert f"scored higher in interpretability by {metric} than brain (n = 40, mean" in sentence


def test_systems_are_tested_against_the_named_one(rng):
    tests = contrast_systems(make_comparison(rng, 0.0), against="net", n_resamples=200)
    assert list(dict.fromkeys(tests.system.values)) == ["brain", "noise"]
    assert (tests.against == "net").all()


@pytest.mark.parametrize("seeds", [[0, 1], [1, 0], [7, 3]])
def test_items_without_an_index_and_other_seeds_than_the_first_are_left_out(rng, seeds):
    comparison = make_comparison(rng, 0.0).assign_coords(seed=("item", np.tile(seeds, 180)))
    comparison["interpretability"][0] = np.nan
    tests = contrast_finders(comparison, n_resamples=200).sel(test=0)
    assert (tests.n_a, tests.n_b) == (20, 19)


def test_errors_say_what_cannot_be_tested(rng):
    comparison = make_comparison(rng, 0.0)
    with pytest.raises(ValueError, match="no finder 'ICA' in the comparison; it has Units, KMeans, PCA"):
        contrast_finders(comparison, against="ICA")
    with pytest.raises(ValueError, match="nothing to test: no system has two items each of two finders that"):
        contrast_finders(comparison.isel(item=(comparison.finder == "Units").values))
    with pytest.raises(ValueError, match="neither units nor a matched baseline .*; name one of KMeans, PCA as"):
        contrast_finders(comparison.isel(item=(comparison.finder != "Units").values))
    with pytest.raises(ValueError, match="nothing to test against; name one or more of the finders Units, KMeans, PCA"):
        contrast_finders(comparison, against=[])
    with pytest.raises(ValueError, match="no system 'V4' in the comparison; it has brain, net, noise"):
        contrast_systems(comparison, against="V4")
    with pytest.raises(ValueError, match="nothing to test: no finder has two items each of two systems that are"):
        contrast_systems(comparison.isel(item=(comparison.system == "net").values))


def with_correction(comparison, rng, shift):
    """Add a corrected index, by which K-means in the brain is higher by `shift`."""
    is_higher = (comparison.system == "brain") & (comparison.finder == "KMeans")
    noise = xr.zeros_like(comparison.interpretability) + rng.normal(size=comparison.interpretability.shape)
    return comparison.assign(corrected=noise + shift * is_higher)


def benjamini_hochberg(p):
    """Return min over tests j with p_j ≥ p_i of p_j m / rank_j: p adjusted by the definition, in loops."""
    ranks = [sum(other <= own for other in p) for own in p]
    return [min(1, *(p[j] * len(p) / ranks[j] for j in range(len(p)) if p[j] >= own)) for own in p]


def test_p_is_adjusted_within_families_of_one_question(rng):
    """Two of three finders have baselines, of two names; a family has one system, metric, correction and reference."""
    comparison = with_correction(make_comparison(rng, 1.0), rng, 0.5)
    names = {"KMeans": "Gaussian", "PCA": "Gaussian (centred)"}
    parts = [comparison.isel(item=(comparison.finder == finder).values) for finder in names]
    parts = [part.assign_coords(finder=("item", [names[part.finder.values[0]]] * 120)) for part in parts]
    every = xr.concat([comparison, *parts], "item")
    every = every.assign_coords(baseline=("item", [names.get(name, "") for name in every.finder.values]))
    tests = contrast_finders(every, n_resamples=200)
    frame = tests.to_dataframe()
    frame["kind"] = np.where(frame.against == "Units", "Units", "baseline")
    frame["is_baseline"] = frame.finder.isin(names.values())
    families = frame.groupby(["system", "metric", "correction", "kind", "is_baseline"])
    assert (families.ngroups, tests.n_families, frame.family.nunique()) == (36, 36, 36)
    assert (families.family.nunique() == 1).all()
    for _, family in families:
        assert len(family) == 2
        assert (family.n_family == len(family)).all()
        assert_allclose(family.p_adjusted, benjamini_hochberg(family.p_value.tolist()))
    assert (frame.detectable == (frame.p_adjusted < 0.05)).all()
    assert 0 < frame.detectable.sum() < len(frame)
    assert frame.family[0] == "finders in brain by color, not corrected, against Units"
    assert "finders in noise by pixel, hub-corrected, against matched baseline" in set(frame.family)
    assert "baselines in net by pixel, hub-corrected, against Units" in set(frame.family)
    for row in frame.itertuples():
        assert f"(family of {row.n_family})" in row.sentence


def test_the_baselines_that_compare_adds_do_not_change_what_is_said_of_finders(responses, images):
    finders = [Units(), Random(6), KMeans(4), PCA(3)]
    with_them, without = (
        contrast_finders(compare({"V4": responses}, images, finders, [Color()], baselines=added), n_resamples=100)
        for added in (True, False)
    )
    is_baseline = with_them.family.str.startswith("baselines").values
    against_units = (with_them.against == "Units").values
    own = with_them.isel(test=against_units & ~is_baseline)
    assert own.sizes["test"] == without.sizes["test"] == 2 * 3
    assert_allclose(own.p_adjusted, without.p_adjusted)
    assert own.n_family.values.tolist() == without.n_family.values.tolist() == [3] * 6
    assert own.sentence.values.tolist() == without.sentence.values.tolist()
    assert set(with_them.family.values[is_baseline]) == {
        f"baselines in V4 by color, {name}, against Units" for name in ("not corrected", "hub-corrected")
    }
    assert set(with_them.finder.values[is_baseline]) == set(with_them.against.values[~against_units])


def test_tests_against_a_named_reference_are_one_family_in_each_system(rng):
    """Also of finders whose baseline it is, and of finders for which it is none."""
    comparison = make_comparison(rng, 1.0)
    comparison = comparison.assign_coords(baseline=xr.where(comparison.finder == "KMeans", "PCA", ""))
    tests = contrast_finders(comparison, against="PCA", n_resamples=200)
    assert (tests.n_family == 2).all()
    assert tests.family.values[0] == "finders in brain by color, not corrected, against PCA"
    of_systems = contrast_systems(comparison, n_resamples=200)
    assert (of_systems.n_family == 2).all()
    assert of_systems.family.values[0] == "systems with Units by color, not corrected, against brain"


def test_a_family_of_one_test_is_not_called_adjusted_in_its_sentences(rng):
    comparison = with_correction(make_comparison(rng, 3.0), rng, 0.0)
    comparison = comparison.isel(item=comparison.finder.isin(["Units", "KMeans"]).values)
    tests = contrast_finders(comparison, n_resamples=200)
    assert (tests.n_family == 1).all()
    assert (tests.p_adjusted == tests.p_value).all()
    for sentence, correction in zip(tests.sentence.values, tests.correction.values, strict=True):
        assert "(not adjusted: one test)" in sentence
        assert "adjusted p" not in sentence
        assert ("Not corrected: difference" in sentence) == (correction == "hub")


def test_numbers_in_sentences_have_two_digits_of_their_standard_error(rng):
    test = contrast_finders(add_halves(make_comparison(rng, 1.0), rng, 1.0), n_resamples=200).isel(test=0)
    assert 0.1 < test.standard_error < 0.99
    shown = [f"{float(test[name]):z.2f}".replace("-", "−") for name in ("difference_low", "difference_high")]
    assert f"95 % interval [{shown[0]}, {shown[1]}]" in test.sentence.item()
    assert f"mean {float(test.estimate_a):z.2f})".replace("-", "−") in test.sentence.item()


def test_a_difference_without_a_standard_error_is_not_said_to_be_0():
    """All items of a set have the same index, as copies of one have."""
    index = np.repeat([-0.60012, -0.6], 30)[:, None]
    coords = {"system": ("item", ["V4"] * 60), "finder": ("item", np.repeat(["Units", "KMeans"], 30))}
    variables = dict.fromkeys(("interpretability", "corrected"), (("item", "metric"), index))
    tests = contrast_finders(xr.Dataset(variables, coords | {"metric": ["LPIPS"]}), n_resamples=200)
    assert (tests.standard_error < 1e-15).all()
    raw, hub = tests.sentence.values
    assert (
        "mean −0.60000) scored higher in interpretability by LPIPS than Units (n = 30, mean −0.60012), by 0.00012 ("
        in raw
    )
    assert "Not corrected: difference +0.00012, p = 0.010." in hub


def test_raw_and_corrected_index_are_both_tested(rng):
    comparison = with_correction(make_comparison(rng, 3.0), rng, 0.0)
    tests = contrast_finders(comparison)
    assert tests.correction.values[:4].tolist() == ["none", "hub"] * 2
    raw, hub = (tests.isel(test=(tests.correction == name).values) for name in ("none", "hub"))
    assert_allclose(raw.difference, contrast_finders(comparison.drop_vars("corrected")).difference)
    of_corrected = comparison.drop_vars("corrected").assign(interpretability=comparison.corrected)
    assert_allclose(hub.difference, contrast_finders(of_corrected).difference)
    assert tests.n_tests == 24


def test_a_gain_of_the_raw_index_alone_is_not_claimed_of_the_corrected_one(rng):
    tests = contrast_finders(with_correction(make_comparison(rng, 3.0), rng, 0.0))
    of_kmeans = ((tests.system == "brain") & (tests.finder == "KMeans") & (tests.metric == "color")).values
    raw, corrected = tests.isel(test=of_kmeans).sentence.values
    assert "scored higher in interpretability by color" in raw
    assert "did not differ detectably in hub-corrected interpretability by color" in corrected
    first = tests.isel(test=of_kmeans).isel(test=0)
    assert first.p_adjusted < 1e-3
    assert f"Not corrected: difference {first.difference.item():+.2f}, adjusted p < 0.001." in corrected


def test_halves_of_the_corrected_index_give_its_interval(rng):
    comparison = with_correction(make_comparison(rng, 3.0), rng, 2.0)
    halves = (("item", "metric", "draw"), rng.normal(size=(360, 2, 50)))
    influence = (("item", "metric", "rank"), rng.normal(size=(360, 2, 3)))
    tops = (("item", "rank"), np.array([rng.choice(60, 3, replace=False) for _ in range(360)]).astype(str))
    tests = contrast_finders(
        comparison.assign(corrected_difference_of_halves=halves, corrected_influence=influence, top_stimuli=tops)
    )
    is_hub = (tests.correction == "hub").values
    assert np.isfinite(tests.difference_low[is_hub]).all()
    assert np.isnan(tests.difference_low[~is_hub]).all()


def test_few_stimuli_for_each_top_stimulus_give_one_warning_in_the_words_of_index_interval(responses, images):
    table = compare({"V4": responses[:40]}, images, [Units(), Random(6)], [Color(), Pixel()], score_on="all", top=5)
    few = table.assign(n_stimuli=table.n_stimuli - 1)
    contrast_finders(table, n_resamples=200)
    message = "39 stimuli of V4 are fewer than 8 × top = 40: the interval may be too narrow; lower `top` to at most 4"
    for contrast in (contrast_finders, partial(contrast_systems, against="V4")):
        both = few if contrast is contrast_finders else xr.concat([few, few.assign_coords(system="net")], "item")
        with pytest.warns(UserWarning, match=message) as caught:
            contrast(both, n_resamples=200)
        assert len(caught) == 1
        assert caught[0].filename == __file__
