"""Populations in superposition are more alike in their features than in their units, by how much the table shows."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import neurosuper as ns
from neurosuper.comparison import cka, compare_populations, dissimilarities, encode, procrustes, rsa, twins
from neurosuper.demo.superposed import superposed

FAST = {"n_rotations": 2, "n_permutations": 19, "n_resamples": 0}
ALL = ["cka", "rsa", "procrustes", "encoding", "encoding back", "twins", "twins back", "soft matching"]


def system(values, prefix: str = "u") -> xr.DataArray:
    names = {
        "stimulus": [f"s{i:04d}" for i in range(len(values))],
        "unit": [f"{prefix}{i:02d}" for i in range(values.shape[1])],
    }
    return xr.DataArray(values, names, ("stimulus", "unit"))


def some_systems(n: int = 120, seed: int = 0) -> dict[str, xr.DataArray]:
    """Return two systems that share three latent signals."""
    rng = np.random.default_rng(seed)
    shared = rng.exponential(size=(n, 3))
    return {
        name: system(shared @ rng.normal(size=(3, n_units)) + 0.7 * rng.normal(size=(n, n_units)), name)
        for name, n_units in {"a": 7, "b": 9}.items()
    }


def halves(systems, found):
    """Return both systems on the stimuli to fit on, and on those to score on, in order of labels."""
    marked = ns.split_stimuli(systems["a"], random_state=found.attrs["random_state"]).split
    return [[each[(marked == part).values] for each in systems.values()] for part in ("fit", "score")]


@pytest.fixture(scope="module")
def planted():
    """Return two worlds of the same 24 features on other directions of 12 units, and the features themselves."""
    worlds = [superposed(24, 12, 800, active=0.08, random_state=seed) for seed in range(2)]
    features = worlds[0].features.values
    brains = {name: system(features @ world.directions.values, name) for name, world in zip("ab", worlds, strict=True)}
    return brains, system(features, "f")


def test_units_in_superposition_are_less_alike_than_features_and_codes_are_between(planted):
    brains, features = planted
    finder = ns.DictionaryLearning(24, random_state=0)
    settings = {"measures": [name for name in ALL if "back" not in name], "n_rotations": 1, "n_permutations": 19}
    found = compare_populations(brains, {"dictionary": finder}, n_resamples=20, **settings).squeeze("pair")
    truth = compare_populations({"a": features, "b": features}, [], n_resamples=0, **settings).squeeze("pair")
    np.testing.assert_allclose(truth.estimate.sel(items="units"), 1, atol=1e-3)
    units, codes = (found.sel(items=name) for name in ("units", "dictionary"))
    assert (codes.gain_low > 0).all()
    # most distances between sparse stimuli depend on how many features they have, whatever the axes
    assert units.estimate.sel(measure="rsa") < 0.96
    units, codes = (
        each.sel(measure=[name for name in settings["measures"] if name != "rsa"]) for each in (units, codes)
    )
    assert (units.estimate < 0.75).all()
    assert (codes.gain > 0.2).all()
    assert (codes.estimate < 1).all()
    # the number of columns alone explains little of the gain
    assert (codes.gain_over_matched_low > 0).all()
    np.testing.assert_allclose(codes.estimate - codes.matched, codes.gain_over_matched, atol=1e-12)
    assert (codes.p_value == 0.05).all()
    assert found.n_items_a.values.tolist() == [12, 12, 24]


def test_each_measure_is_its_own_function_on_the_stimuli_to_score():
    systems = some_systems()
    found = compare_populations(systems, [], measures=ALL, n_rotations=1, n_permutations=29, n_resamples=12)
    units = found.squeeze("pair").sel(items="units")
    _, (a, b) = halves(systems, found)
    settings = {"n_permutations": 29, "n_resamples": 12}
    d = [dissimilarities(each, distance="sqeuclidean") for each in (a, b)]
    expected = {"cka": cka(a, b, **settings), "rsa": rsa(*d, **settings), "procrustes": procrustes(a, b, **settings)}
    for measure, alone in expected.items():
        row = units.sel(measure=measure)
        for name in ("estimate", "estimate_low", "estimate_high", "p_value"):
            np.testing.assert_allclose(row[name], alone[name], rtol=1e-9, err_msg=f"{measure}, {name}")
    assert units.estimate.sel(measure="encoding") == pytest.approx(float(encode(a, b).r.mean()), abs=1e-12)
    assert units.estimate.sel(measure="encoding back") == pytest.approx(float(encode(b, a).r.mean()), abs=1e-12)
    marked = {name: each.assign_coords(split=ns.split_stimuli(each).split) for name, each in systems.items()}
    for measure, order in {"twins": "ab", "twins back": "ba"}.items():
        alone = twins(*(marked[name] for name in order), n_permutations=19, n_rotations=0)
        assert units.estimate.sel(measure=measure) == pytest.approx(float(alone.median_r), abs=1e-12)


def test_pairs_do_not_change_one_another_even_if_one_has_tiny_numbers():
    systems = some_systems()
    systems["c"] = (
        1e-13 * systems["a"][:, :4].assign_coords(unit=list("wxyz")) + 1e-13 * systems["b"][:, 0].values[:, None]
    )
    measures = ["encoding", "encoding back", "twins", "twins back"]
    found = compare_populations(systems, [], measures=measures, **FAST)
    for pair in (("a", "b"), ("a", "c"), ("b", "c")):
        alone = compare_populations(systems, [], measures=measures, pairs=[pair], **FAST)
        of_pair = found.sel(pair=alone.pair.values)
        for name in ("estimate", "p_value"):
            np.testing.assert_allclose(of_pair[name], alone[name], rtol=1e-9, err_msg=f"{name} of {pair}")


def test_codes_are_of_finders_that_were_fitted_on_the_other_half():
    systems = some_systems()
    found = compare_populations(systems, {"few": ns.PCA(3), "same": ns.Units()}, measures=["cka", "twins"], **FAST)
    fit, score = halves(systems, found)
    codes = [ns.PCA(3).fit(f).transform(s) for f, s in zip(fit, score, strict=True)]
    alone = cka(*codes, n_permutations=19, n_resamples=0).estimate
    np.testing.assert_allclose(found.estimate.sel(items="few", measure="cka").item(), alone, rtol=1e-9)
    # as many directions as units, and the units themselves: nothing is gained
    same = found.sel(items="same").squeeze("pair")
    np.testing.assert_allclose([same.gain, same.gain_over_matched], 0, atol=1e-6)
    assert found.attrs["n_fit"] == found.attrs["n_stimuli"] == 60


def test_rotations_are_units_where_axes_do_not_matter_and_others_where_they_do():
    shared = np.random.default_rng(0).exponential(size=(200, 6)) ** 2
    systems = {"a": system(shared, "a"), "b": system(shared[:, ::-1].copy(), "b")}
    found = compare_populations(systems, [], measures=["cka", "rsa", "procrustes", "encoding", "twins"], **FAST)
    units, turned = (found.squeeze("pair").estimate.sel(items=name) for name in ("units", "rotation"))
    np.testing.assert_allclose(units, 1, atol=2e-3)
    np.testing.assert_allclose(turned[:3], units[:3], rtol=1e-12)
    assert abs(turned.sel(measure="encoding") - 1) < 0.01
    assert turned.sel(measure="twins") < 0.9


def test_cka_rsa_and_procrustes_are_the_same_for_rotated_responses():
    systems = some_systems()
    turned = {name: ns.superposition.rotate_units(each, 1).rename(direction="unit") for name, each in systems.items()}
    own, other = (compare_populations(each, [], measures=["cka", "rsa"], **FAST) for each in (systems, turned))
    np.testing.assert_allclose(own.estimate, other.estimate, rtol=1e-6)


def test_intervals_of_gains_are_paired():
    systems = some_systems(400)
    found = compare_populations(
        systems, [ns.PCA(3)], measures=["cka"], n_rotations=1, n_permutations=19, n_resamples=50
    )
    row = found.squeeze(["pair", "measure"]).sel(items="PCA")
    assert row.estimate_low < row.estimate < row.estimate_high
    assert row.gain_low < row.gain < row.gain_high
    # estimates of units and codes rise and fall together over stimuli
    assert row.gain_high - row.gain_low < 0.7 * (row.estimate_high - row.estimate_low)
    units = found.sel(items="units")
    assert (units.gain_low == 0).all()
    assert (units.gain_high == 0).all()


def test_independent_systems_have_uniform_p_and_debiased_measures_near_0():
    rng, p, estimates = np.random.default_rng(0), [], []
    for _ in range(25):
        systems = {name: system(rng.normal(size=(40, 5)), name) for name in "ab"}
        found = compare_populations(
            systems, [ns.PCA(3)], measures=["cka", "rsa", "twins"], n_rotations=1, n_permutations=39, n_resamples=0
        )
        p.append(found.p_value.values[0])
        estimates.append(found.estimate.values[0])
    for i, measure in enumerate(["cka", "rsa", "twins"]):
        for j, items in enumerate(["units", "rotation", "PCA"]):
            jittered = np.array([each[j, i] for each in p]) - rng.random(25) / 40
            assert stats.kstest(jittered, "uniform").pvalue > 0.01, (measure, items)
    error = np.std(estimates, axis=0, ddof=1) / 25**0.5
    assert (error < 0.07).all()
    assert (np.abs(np.mean(estimates, axis=0)) < 3.5 * error).all()


def test_encoding_of_independent_systems_has_p_of_chance():
    rng = np.random.default_rng(1)
    systems = {name: system(rng.normal(size=(80, 4)), name) for name in "abcdef"}
    found = compare_populations(systems, [], measures=["encoding"], **FAST | {"n_permutations": 99})
    assert 0.3 < found.p_value.sel(items="units").mean() < 0.7
    assert np.abs(found.estimate.mean()) < 0.1


def test_order_of_stimuli_units_and_dask_do_not_matter():
    systems = some_systems()
    finders = {"kmeans": ns.KMeans(4, random_state=0), "wide": ns.Random(12, random_state=0)}
    settings = FAST | {"measures": ["cka", "rsa", "encoding", "twins"]}
    one = compare_populations(systems, finders, **settings)
    rng = np.random.default_rng(0)
    mixed = {
        name: each[rng.permutation(len(each))][:, rng.permutation(each.shape[1])].chunk({"stimulus": 50})
        for name, each in systems.items()
    }
    other = compare_populations(mixed, finders, **settings)
    xr.testing.assert_allclose(one, other, rtol=1e-6)


def test_two_systems_of_as_many_units_are_rotated_apart():
    a = system(np.random.default_rng(0).exponential(size=(200, 8)))
    found = compare_populations({"a": a, "b": a}, [], measures=["twins"], **FAST | {"n_rotations": 3})
    assert found.estimate.sel(items="rotation").item() < 0.95 < found.estimate.sel(items="units").item()


def test_only_common_stimuli_pairs_that_are_asked_for_and_given_halves_are_used():
    systems = some_systems(120) | {"c": some_systems(100, 1)["b"]}
    found = compare_populations(systems, [], measures=["cka"], pairs=[("c", "a"), ("a", "b")], **FAST)
    assert found.pair.values.tolist() == ["c | a", "a | b"]
    assert found.system_a.values.tolist() == ["c", "a"]
    assert found.attrs["n_stimuli"] + found.attrs["n_fit"] == 100
    assert found.p_adjusted.shape == (2, 2, 1)
    marks = ["fit"] * 30 + ["score"] * 90
    given = {name: each.assign_coords(split=("stimulus", marks)) for name, each in some_systems(120).items()}
    found = compare_populations(given, [], measures=["cka"], **FAST)
    assert (found.attrs["n_fit"], found.attrs["n_stimuli"]) == (30, 90)
    assert found.to_dataframe().shape[0] == 2


def test_groups_of_stimuli_are_not_divided():
    systems = some_systems(200)
    bursts = {name: each.assign_coords(burst=("stimulus", np.arange(200) // 4)) for name, each in systems.items()}
    settings = {"n_rotations": 1, "n_permutations": 19, "n_resamples": 12, "stimulus_groups": "burst"}
    found = compare_populations(bursts, [], measures=["cka", "encoding"], **settings)
    assert found.attrs["n_stimuli"] % 4 == 0
    assert (found.estimate_low < found.estimate).all()


def test_constant_units_and_codes_are_left_out():
    systems = some_systems()
    systems["a"][:, 2] = 0
    found = compare_populations(systems, [], measures=["cka"], **FAST)
    assert found.n_items_a.sel(items="units").item() == 6


def repeated(systems):
    return systems | {"a": systems["a"].expand_dims(repetition=2, axis=1)}


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda s: {"a": s["a"]}, {}, r"1 systems are too few to compare"),
        (
            lambda s: s | {"b": s["b"][:5]},
            {},
            r"5 stimuli are common to all systems \(of a 120, b 5\).*need at least 16",
        ),
        (lambda s: s | {"b": s["b"][:50]}, {"measures": ["encoding"]}, r"50 stimuli .* need at least 80, 40 to fit on"),
        (lambda s: s | {"b": s["b"].where(s["b"] < 2)}, {}, r"^system 'b': responses contain .* NaN"),
        (repeated, {}, r"^system 'a': .*average_repetitions"),
        (lambda s: s, {"measures": []}, r"^measures must be a list of 'cka'"),
        (lambda s: s, {"measures": "cka"}, r"^measures must be a list of 'cka'"),
        (lambda s: s, {"measures": ["ckb"]}, r"^measures must be one of 'cka'.*got 'ckb'"),
        (lambda s: s, {"pairs": [("a", "z")]}, r"^pairs must be of two of the systems 'a', 'b'; got \('a', 'z'\)"),
        (lambda s: s, {"pairs": ["ab"]}, r"^pairs must be of two of the systems"),
        (lambda s: s, {"pairs": []}, r"^pairs must be at least one"),
        (lambda s: s, {"n_permutations": 5}, r"^n_permutations must be a whole number of at least 19"),
        (lambda s: s, {"n_rotations": 0}, r"^n_rotations must be a whole number of at least 1"),
        (lambda s: s, {"n_resamples": 5}, r"^n_resamples must be a whole number of at least 10"),
        (lambda s: s, {"remove": "all"}, r"^remove must be"),
        (lambda s: s, {"stimulus_groups": "burst"}, r"^system 'a' has no stimulus coord 'burst'"),
    ],
)
def test_bad_input_is_refused_in_one_line(change, settings, message):
    settings = {"measures": ["cka"]} | FAST | settings
    with pytest.raises(ValueError, match=message) as raised:
        compare_populations(change(some_systems()), [], **settings)
    assert "\n" not in str(raised.value)


def test_finders_of_reserved_names_and_of_one_direction_are_refused():
    systems = some_systems()
    with pytest.raises(ValueError, match=r"'units' is the name of items that are always compared"):
        compare_populations(systems, {"units": ns.PCA()}, measures=["cka"], **FAST)
    with pytest.raises(TypeError, match=r"a finder must be an object"):
        compare_populations(systems, [ns.PCA], measures=["cka"], **FAST)
    with pytest.raises(ValueError, match=r"twins of 'a' by 'PCA': remove='common' leaves nothing of one item"):
        compare_populations(systems, [ns.PCA(1)], measures=["twins"], **FAST)
