"""The headline is what the tests say: effect, interval and verdict in each system."""

import numpy as np
import pytest
import xarray as xr

import neurosuper as ns
from neurosuper import contrast_finders, contrast_systems, headline
from neurosuper.comparison import contrast

FINDERS = ("Units", "PCA", "KMeans")


def make(rng, shifts, systems=("V4", "IT", "net"), finders=FINDERS, n=40, has_halves=True):
    """Return a comparison in which the finder is higher by `shifts` in the system."""
    names = [(system, finder) for system in systems for finder in finders]
    index = np.concatenate([rng.normal(-0.6 + shifts.get(name, 0), 0.05, n) for name in names])
    own = np.repeat(names, n, axis=0)
    variables = {"interpretability": (("item", "metric"), index[:, None])}
    if has_halves:
        variables["difference_of_halves"] = (("item", "metric", "draw"), rng.normal(0, 0.05, (len(own), 1, 60)))
        variables["influence"] = (("item", "metric", "rank"), rng.normal(0, 0.05, (len(own), 1, 3)))
        tops = [rng.choice(100, 3, replace=False).astype(str) for _ in own]
        variables["top_stimuli"] = (("item", "rank"), np.array(tops))
    variables["n_stimuli"] = ("item", np.full(len(own), 100))
    coords = {"system": ("item", own[:, 0]), "finder": ("item", own[:, 1]), "metric": ["LPIPS"]}
    return xr.Dataset(variables, coords, {"top": 3})


def interval_of(tests, system, finder="KMeans"):
    own = tests.isel(test=((tests.system == system) & (tests.finder == finder)).values).squeeze()
    return f"{float(own.difference):+.3f} [{float(own.difference_low):.3f}, {float(own.difference_high):.3f}]".replace(
        "-", "−"
    )


def test_a_detectable_effect_has_its_interval_and_all_systems_a_verdict(rng):
    comparison = make(rng, {("V4", "KMeans"): 0.2, ("IT", "PCA"): -0.2})
    tests = contrast_finders(comparison)
    k_means, pca, method = headline(comparison, tests)
    assert k_means == (
        f"KMeans above Units by LPIPS: V4 {interval_of(tests, 'V4')}; not detectable in "
        f"IT {interval_of(tests, 'IT')}, net {interval_of(tests, 'net')}."
    )
    assert pca.startswith(f"PCA below Units by LPIPS: IT {interval_of(tests, 'IT', 'PCA')}; not detectable in V4 ")
    assert method.startswith("Differences of the mean index, with 95 % intervals, not adjusted, for other stimuli")
    assert "over the 2 tests of each system and kind of reference" in method
    assert method.endswith("A difference that is not detectable may still exist, within its interval.")
    assert ns.headline is headline


def test_without_tests_it_makes_the_same_ones_without_permutations(rng, monkeypatch):
    comparison = make(rng, {("V4", "KMeans"): 0.2})
    expected = headline(comparison, contrast_finders(comparison))

    def refuse(pairs, **settings):
        assert not pairs
        return []

    monkeypatch.setattr(contrast, "compare_means", refuse)
    assert headline(comparison) == expected


def test_without_an_index_on_halves_effects_have_no_interval_and_it_says_why(rng):
    comparison = make(rng, {("V4", "KMeans"): 0.2}, has_halves=False)
    sentences = headline(comparison)
    assert sentences == headline(comparison, contrast_finders(comparison))
    assert sentences[0].startswith("KMeans above Units by LPIPS: V4 +0.")
    assert "(no interval); not detectable in IT " in sentences[0]
    assert "nan" not in " ".join(sentences)
    assert sentences[-1].endswith(
        "Without an interval, stimuli are taken as fixed, and p may be too small: halves of the stimuli have no index."
    )


def test_a_family_of_one_test_is_said_to_be_not_adjusted(rng):
    *_, method = headline(make(rng, {("V4", "KMeans"): 0.2}, finders=("Units", "KMeans")))
    assert "Detectable: p below 0.05, not adjusted, because there is one test of each system" in method
    assert "Benjamini" not in method


def test_it_says_that_it_is_about_the_first_metric_and_where_the_others_are(rng):
    comparison = make(rng, {})
    both = xr.concat(
        [comparison, *(comparison.assign_coords(metric=[name]) for name in ("Color", "Pixel"))],
        "metric",
        data_vars="minimal",
    )
    *_, method = headline(both)
    assert method.endswith(
        " Only LPIPS is tested here; tests by Color, Pixel are in contrast_finders and in the report."
    )
    assert "Only" not in headline(comparison)[-1]


def test_an_interval_that_excludes_0_without_being_detectable_is_explained_beside_it(rng):
    comparison = make(rng, {}, systems=("V4",))
    tests = contrast_finders(comparison)
    of_kmeans = tests.finder == "KMeans"
    assert "not adjusted)" not in headline(comparison, tests)[0]
    outside = tests.assign(
        difference=xr.where(of_kmeans, 0.2, tests.difference),
        difference_low=xr.where(of_kmeans, 0.1, tests.difference_low),
        difference_high=xr.where(of_kmeans, 0.3, tests.difference_high),
    )
    k_means, pca, _ = headline(comparison, outside)
    assert k_means.endswith("0.300] (intervals are not adjusted).")
    assert "(intervals are not adjusted)" not in pca


def test_of_many_systems_those_without_a_detectable_difference_are_counted(rng):
    systems = [f"area {i}" for i in range(6)]
    comparison = make(rng, {("area 2", "KMeans"): 0.2}, systems, ("Units", "KMeans"))
    tests = contrast_finders(comparison)
    others = tests.isel(test=(tests.system != "area 2").values)
    low, high = (
        f"{float(limit):.3f}".replace("-", "−") for limit in (others.difference_low.min(), others.difference_high.max())
    )
    assert headline(comparison, tests)[0] == (
        f"KMeans above Units by LPIPS: area 2 {interval_of(tests, 'area 2')}; not detectable in 5 of 6 systems "
        f"(intervals from {low} to {high})."
    )


def test_nothing_detectable_never_reads_as_no_effect(rng):
    sentences = headline(make(rng, {}, finders=("Units", "KMeans")))
    assert sentences[0].startswith("KMeans against Units by LPIPS: difference not detectable in 3 of 3 systems (inter")
    assert not any(word in " ".join(sentences) for word in ("no effect", "no difference", "equal", "did not differ"))


def test_effects_of_both_signs_are_told_apart(rng):
    comparison = make(rng, {("V4", "KMeans"): 0.2, ("IT", "KMeans"): -0.2}, finders=("Units", "KMeans"))
    tests = contrast_finders(comparison)
    assert headline(comparison, tests)[0] == (
        f"KMeans against Units by LPIPS: above in V4 {interval_of(tests, 'V4')}; below in IT "
        f"{interval_of(tests, 'IT')}; not detectable in net {interval_of(tests, 'net')}."
    )


def test_many_detectable_effects_are_named_with_their_range(rng):
    systems = [f"area {i}" for i in range(8)]
    comparison = make(rng, {(system, "KMeans"): 0.2 for system in systems}, systems, ("Units", "KMeans"))
    tests = contrast_finders(comparison)
    least, most = float(tests.difference.min()), float(tests.difference.max())
    assert headline(comparison, tests)[0] == (
        f"KMeans above Units by LPIPS: in 8 of 8 systems ({', '.join(systems)}), by {least:+.3f} to {most:+.3f}."
    )


@pytest.mark.parametrize(
    ("least", "error", "shown"),
    [(0.00437, 0.0002, "+0.00437"), (0.0012, 0, "+0.0012"), (0.00012, np.nan, "+0.00012")],
)
def test_each_end_of_a_range_has_the_digits_of_its_own_standard_error(rng, least, error, shown):
    systems = [f"area {i}" for i in range(8)]
    comparison = make(rng, {}, systems, ("Units", "KMeans"))
    tests = contrast_finders(comparison)
    tests["difference"][:], tests["standard_error"][:] = [2.1512, *[1] * 6, least], [0.5, *[0.1] * 6, error]
    tests["detectable"][:] = True
    assert headline(comparison, tests)[0].endswith(f", by {shown} to +2.15.")


def test_the_ends_of_intervals_have_the_digits_of_their_own_standard_errors(rng):
    systems = [f"area {i}" for i in range(4)]
    comparison = make(rng, {}, systems, ("Units", "KMeans"))
    tests = contrast_finders(comparison)
    tests["standard_error"][:] = [0.5, 0.05, 0.005, 0.0005]
    tests["difference_low"][:], tests["difference_high"][:] = [-0.1, -0.2, -0.3, -0.4], [1.5, 0.2, 0.3, 0.4]
    assert headline(comparison, tests)[0].endswith("(intervals from −0.40000 to 1.50).")


def test_k_means_comes_first_and_of_many_finders_the_others_share_a_sentence(rng):
    finders = ("Units", "PCA", "ICA", "NMF", "KMeans", "Gaussian", "KMeans centred")
    comparison = make(rng, {("IT", "NMF"): 0.2, ("V4", "ICA"): -0.2}, finders=finders)
    baseline = ["Gaussian" if name in finders[1:5] else "" for name in comparison.finder.values]
    comparison = comparison.assign_coords(baseline=("item", baseline))
    tests = contrast_finders(comparison)
    sentences = headline(comparison, tests)
    assert [sentence.split(" by LPIPS")[0] for sentence in sentences[:5]] == [
        "KMeans against Units",
        "KMeans against its matched baseline",
        "KMeans centred against Units",
        "PCA, ICA, NMF, Gaussian against Units",
        "PCA, ICA, NMF against their matched baselines",
    ]
    above, below = interval_of(tests.isel(test=(tests.against == "Units").values), "IT", "NMF"), "ICA in V4 −0."
    assert f"above for NMF in IT {above}; below for {below}" in sentences[3]
    assert "; not detectable in 10 of 12 tests (intervals from " in sentences[3]
    assert "over the 1 to 5 tests of each system and kind of reference, those of matched base" in sentences[5]


def test_with_a_corrected_index_the_headline_is_about_it(rng):
    comparison = make(rng, {("V4", "KMeans"): 0.2}, finders=("Units", "KMeans"))
    comparison = comparison.assign(corrected=comparison.interpretability * 0 + rng.normal(0, 0.1, (240, 1)))
    first = headline(comparison)[0]
    assert first.startswith(
        "KMeans against Units by LPIPS (hub-corrected): difference not detectable in 3 of 3 systems"
    )


def test_systems_that_could_not_be_tested_and_the_seed_are_named(rng):
    comparison = make(rng, {("V4", "KMeans"): 0.2}, finders=("Units", "KMeans"), n=4)
    lone = comparison.isel(item=~((comparison.system == "net") & (comparison.finder == "Units")).values)
    lone = lone.assign_coords(seed=("item", [7] * 20))
    both = xr.concat([lone, lone.assign_coords(seed=("item", [8] * 20))], "item", data_vars="minimal")
    first, method = headline(both)
    assert first.endswith("; not tested in net.")
    assert method.startswith("Differences of the mean index over the items of seed 7, with 95")


def test_of_finders_that_share_a_sentence_those_that_could_not_be_tested_are_named(rng):
    finders = ("Units", "PCA", "ICA", "NMF", "KMeans", "Random", "SAE")
    comparison = make(rng, {}, finders=finders, n=4)
    few = (comparison.finder == "SAE") | ((comparison.finder == "ICA") & (comparison.system == "IT"))
    sentences = headline(comparison.isel(item=(~few | (np.arange(comparison.sizes["item"]) % 4 == 0)).values))
    assert sentences[1].startswith("PCA, ICA, NMF, Random against Units by LPIPS: ")
    assert sentences[1].endswith("; not tested: ICA in IT.")
    assert sentences[2] == "Not tested: SAE."


def test_a_reference_that_the_user_named_has_its_name(rng):
    comparison = make(rng, {("V4", "KMeans"): 0.2}, finders=("my matched baseline", "KMeans"))
    first, *_ = headline(comparison, contrast_finders(comparison, against="my matched baseline"))
    assert first.startswith("KMeans above my matched baseline by LPIPS: V4 +0.")


def test_units_that_were_left_out_are_counted_unless_the_note_of_a_study_does_so(rng):
    comparison = make(rng, {}).assign_attrs(n_units_left_out=[0, 5, 2])
    assert headline(comparison)[-1] == "Units that do not vary over the stimuli were left out: 5 of IT, 2 of net."
    assert headline(comparison.assign_attrs(format_version=1)) == headline(comparison)[:-1]


def test_a_caution_of_the_tests_becomes_a_sentence_about_the_smallest_system(rng):
    comparison = make(rng, {})
    few = comparison.assign(n_stimuli=xr.where(comparison.system == "IT", 20, 23))
    assert headline(few)[-1].startswith("20 stimuli of IT are fewer than 8 × top = 24: the interval may be too narrow")
    assert "fewer than" not in headline(comparison)[-1]


def test_systems_without_an_index_on_halves_are_named(rng):
    comparison = make(rng, {})
    known = comparison.difference_of_halves.where(comparison.system != "IT")
    *_, method = headline(comparison.assign(difference_of_halves=known))
    assert "Without an interval (in IT), stimuli are taken as fixed" in method


def test_without_anything_to_test_the_means_are_given_and_it_says_so(rng):
    comparison = make(rng, {}, systems=("V4",), finders=("KMeans", "PCA"))
    table = ns.summarize(comparison)["mean"]
    first, second = headline(comparison)
    assert first.startswith(f"V4: mean index by LPIPS: KMeans −{-table.iloc[0]:.4f} [−0.")
    assert "], PCA −0." in first
    assert second.startswith("Nothing was tested")


def test_it_says_how_well_planted_directions_were_recovered(rng):
    comparison = make(rng, {})
    recovery = xr.DataArray([[0.4, 0.5, 0.9], [0.8, 1.0, 0.6]], dims=("fit", "planted"))
    coords = {"fit_system": ("fit", ["V4"] * 2), "fit_finder": ("fit", ["Units", "KMeans"])}
    sentences = headline(comparison.assign(recovery=recovery.assign_coords(coords)))
    assert "V4: planted directions recovered, mean of max |cosine|: KMeans 0.80, Units 0.60." in sentences


def test_what_the_note_of_a_study_says_is_not_repeated(rng):
    comparison = make(rng, {}).assign_attrs(n_constant=[0, 2, 0, 0, 0, 1, 0, 0, 0])
    *_, of_v4, of_it = headline(comparison)
    assert of_v4.startswith("Left out in V4: ")
    assert headline(comparison.assign_attrs(note=f"Made up. {of_v4}"))[-1:] == [of_it]
    assert of_v4 not in headline(comparison.assign_attrs(note=f"Made up. {of_v4}"))


def test_tests_of_something_else_are_refused(rng):
    comparison = make(rng, {})
    with pytest.raises(ValueError, match="no test of finders by 'LPIPS', the first metric; pass contrast_finders"):
        headline(comparison, contrast_systems(comparison))
    renamed = comparison.assign_coords(metric=["Color"])
    with pytest.raises(ValueError, match="no test of finders by 'LPIPS'"):
        headline(comparison, contrast_finders(renamed))
