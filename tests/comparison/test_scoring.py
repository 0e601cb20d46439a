import itertools

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.spatial.distance import pdist, squareform

from neurosuper import PCA, Color, KMeans, Label, Precomputed, Units, compare, interpretability_index
from neurosuper.comparison import fit_systems, score_fits, scoring
from neurosuper.interpretability import frequency_floor, index_of_top, index_reliability
from neurosuper.metrics import distances, pairwise_distances


class SquaredColor(Color):
    """A squared metric, as LPIPS is one."""

    squared = True
    name = "squared"


def corrected_distances(images):
    """Return the hub-corrected distances by colour."""
    return hub_corrected(squareform(pdist(Color(device="cpu").embed(images).numpy())))


def hub_corrected(d):
    """Return d_jk − μ − a_j − a_k, with h the mean distance of each image, μ their mean, a = (h − μ)(n − 1)/(n − 2)."""
    n = len(d)
    h = d.sum(1) / (n - 1)
    a = (h - h.mean()) * (n - 1) / (n - 2)
    return d - h.mean() - a[:, None] - a


def test_precomputed_distances_give_the_same_comparison(systems, images):
    metrics = {"color": Color(), "given": Precomputed(pairwise_distances(images, Color()))}
    table = compare(systems, images, [Units()], metrics)
    for name in ("interpretability", "chance_level", "chance_level_low", "chance_level_high"):
        assert_allclose(table[name].sel(metric="given"), table[name].sel(metric="color"), rtol=1e-5)


def test_unit_coords_are_carried_by_units_and_by_directions_that_share_them(systems, images):
    table = compare(systems, images, [Units(), PCA(2)], [Color()], baselines=False)
    brain_units = table.isel(item=slice(0, 8))
    assert brain_units.area.values.tolist() == ["V1", "V4"] * 4
    directions = table.isel(item=slice(8, 10))
    assert directions.subject.values.tolist() == ["F", "F"]
    assert directions.area.values.tolist() == ["", ""]
    assert np.isnan(directions.channel).all()
    assert table.channel.values[10:15].tolist() == [0, 1, 2, 3, 4]


def test_missing_values_of_text_coords_are_empty(responses, images):
    areas = np.array(["V1", None, np.nan, "V4"] * 2, dtype=object)
    table = compare({"brain": responses.assign_coords(area=("unit", areas))}, images, [Units()], [Color()])
    assert table.area.values.tolist() == ["V1", "", "", "V4"] * 2


@pytest.mark.parametrize("metric", [Color(), Label(), SquaredColor()], ids=["color", "label", "squared"])
def test_chance_level_is_the_mean_index_of_all_sets_of_the_scored_stimuli(systems, images, metric):
    """Oracle: minus the mean distance over all pairs of the images that each system was scored on."""
    table = compare(systems, images, [Units()], [metric], top=4, score_on="all").isel(metric=0)
    distances = squareform(pairwise_distances(images, metric).values, checks=False)
    assert (table.chance_level_low < table.chance_level).all()
    assert (table.chance_level < table.chance_level_high).all()
    assert table.confidence_level == 0.95
    for system, n in (("brain", 120), ("network", 80)):
        own = table.chance_level[(table.system == system).values]
        exact = metric.self_similarity - squareform(squareform(distances)[:n, :n], checks=False).mean()
        assert_allclose(own, exact, rtol=1e-5)


@pytest.mark.parametrize("metric", [Color(), Label(), SquaredColor()], ids=["color", "label", "squared"])
def test_the_deviation_of_chance_is_that_of_all_sets_of_the_scored_stimuli(responses, images, metric):
    """By brute force over the 220 sets of 3 of 12 stimuli, of the index and of the corrected one."""
    systems = {"V4": responses[:12], "IT": responses[20:44]}
    table = compare(systems, images[:44], [Units()], [metric], top=3, score_on="all").isel(metric=0, item=0)
    d = pairwise_distances(images[:12], metric).values.astype(float)
    sets = [np.ix_(best, best) for best in itertools.combinations(range(12), 3)]
    for name, table_of_pairs in (("chance_level_sd", d), ("corrected_chance_sd", hub_corrected(d))):
        index = [-table_of_pairs[best][np.triu_indices(3, 1)].mean() for best in sets]
        assert_allclose(table[name], np.std(index), rtol=1e-5)


def test_without_all_distances_in_memory_the_deviation_is_that_of_the_random_sets(responses, images, monkeypatch):
    exact = compare({"V4": responses}, images, [Units()], [Color()], score_on="all").isel(item=0)
    monkeypatch.setattr(distances, "MAX_MATRIX_IMAGES", 50)
    monkeypatch.setattr(scoring, "N_RANDOM_SETS", 2000)
    sampled = compare({"V4": responses}, images, [Units()], [Color()], score_on="all").isel(item=0)
    for name in ("chance_level_sd", "corrected_chance_sd"):
        assert exact[name] != sampled[name]
        assert_allclose(sampled[name], exact[name], rtol=0.06)  # 2,000 sets have a standard error of 1.6 %


def test_floor_and_reliability_are_those_of_the_items_that_are_active(responses, images):
    """Three units answer to 1, 2 and 3 of 60 stimuli; without them the other numbers are the same. Two are too few."""
    few = responses.copy()
    few[:, :3] = np.where(np.arange(120)[:, None] % 60 <= np.arange(3), few[:, :3] + 1, 0)
    metrics, settings = [Color(), SquaredColor()], {"score_on": "all", "baselines": False}
    every, alone = (compare({"V4": r}, images, [Units()], metrics, top=7, **settings) for r in (few, few[:, 3:]))
    assert every.n_active.values.tolist() == [2, 4, 6, *[120] * 5]
    names = ("frequency_floor", "index_reliability", "corrected_reliability")
    for name in names:
        assert np.isfinite(alone[name]).all()
        assert_allclose(every[name], alone[name].isel(item=[0] * 8), rtol=1e-6)
    none = compare({"V4": few[:, :2]}, images, [Units()], metrics, top=5, **settings)
    assert all(np.isnan(none[name]).all() for name in names)


def test_the_band_of_chance_is_that_of_95_of_100_random_sets(responses, images, rng, monkeypatch):
    """Of 4,000 sets, the standard error of the share outside is 0.3 %."""
    monkeypatch.setattr(scoring, "N_RANDOM_SETS", 4000)
    table = compare({"brain": responses}, images, [Units()], [Color()], score_on="all").isel(item=0, metric=0)
    points = Color(device="cpu").embed(images).numpy()
    index = np.array([-pdist(points[rng.choice(120, 5, replace=False)]).mean() for _ in range(4000)])
    assert abs(np.mean(index < float(table.chance_level_low)) - 0.025) < 0.008
    assert abs(np.mean(index > float(table.chance_level_high)) - 0.025) < 0.008


def test_the_chance_level_of_each_fit_is_that_of_its_own_stimuli(responses, images):
    """Half of the images are copies of one photograph: any set of these scores 0, and no set of the others does."""
    same = images.copy(data=np.where(np.arange(120)[:, None, None, None] < 60, images.values[:1], images.values))
    marks = (["score", "fit"], ["fit", "score"])
    systems = [{"brain": responses.assign_coords(split=("stimulus", np.repeat(mark, 60)))} for mark in marks]
    fits = [fit for own in systems for fit in fit_systems(own, [Units(), PCA(3)], baselines=False)]
    both, of_second = score_fits(fits, same, [Color()]), score_fits(fits[2:], same, [Color()])
    first = both.item < both.sizes["item"] // 2
    assert_allclose(both.chance_level[first.values], 0, atol=1e-6)
    assert_allclose(both.chance_level[~first.values], of_second.chance_level)
    assert (of_second.chance_level < -0.5).all()
    for name in ("chance_level_low", "chance_level_sd", "corrected_chance_sd"):
        assert np.unique(both[name]).size == 2


def test_halves_of_a_comparison_refuse_what_they_cannot_use(responses, images):
    with pytest.raises(TypeError, match="systems must be a mapping .*, got list"):
        list(fit_systems([responses], [Units()]))
    with pytest.raises(ValueError, match="'brain': responses must be a DataArray with the dims stimulus and unit, got"):
        list(fit_systems({"brain": responses.expand_dims(repetition=2)}, [Units()]))
    with pytest.raises(ValueError, match=r"no fits to score; pass list\(neurosuper.comparison.fit_systems"):
        score_fits([], images, [Color()])
    fits = list(fit_systems({"brain": responses}, [Units()], score_on="all"))
    with pytest.raises(ValueError, match="no image for stimulus 's0060', .*; join each system with neurosuper.align"):
        score_fits(fits, images[:60], [Color()])


def test_corrected_indices_and_floors_are_those_of_the_scored_codes(systems, images):
    metrics = [Color(), Label(), SquaredColor()]
    fits = list(fit_systems(systems, [Units(), KMeans(4)], top=4))
    table = score_fits(fits, images, metrics)
    for fit, metric in itertools.product(fits, metrics):
        codes = fit.fitted.transform(systems[fit.system].sel(stimulus=fit.scored))
        own = table.sel(item=(table.system == fit.system) & (table.finder == fit.finder), metric=metric.name)
        expected = interpretability_index(codes, images, metric, top=4, correction="hub")
        assert_allclose(own.corrected, expected, atol=1e-5)
        assert_allclose(own.frequency_floor, float(frequency_floor(codes, images, metric, top=4)), atol=1e-5)


def test_the_corrected_index_on_halves_is_corrected_over_all_scored_stimuli(responses, images):
    (fit,) = fit_systems({"brain": responses}, [Units()], top=4)
    table = score_fits([fit], images, [Label()]).isel(metric=0)
    shown = images.sel(stimulus=fit.scored)

    def index(draw, half, item):
        leading = [place for place in dict.fromkeys(fit.leading[item]) if fit.halves[place, draw] == half]
        chosen = xr.DataArray(fit.scored[leading[:4]][:, None], dims=("rank", "unit"), coords={"unit": ["u"]})
        return index_of_top(chosen, shown, Label(), correction="hub").item()

    for draw, item in [(0, 0), (3, 2), (49, 7)]:
        found = table.corrected_difference_of_halves.isel(draw=draw, item=item)
        assert_allclose(found, index(draw, 0, item) - index(draw, 1, item), atol=1e-5)


def test_without_halves_the_corrected_index_has_no_halves_either(responses, images):
    table = compare({"brain": responses[:14]}, images, [Units()], [Color()], top=4)
    assert np.isnan(table.difference_of_halves).all()
    assert np.isnan(table.corrected_difference_of_halves).all()
    assert np.isfinite(table.corrected).all()


def test_reliability_is_that_of_index_reliability_up_to_monte_carlo_error(systems, images):
    """A correlation over so few items has a s.d. of about 0.35 between draws: two means over 400 differ by 0.025."""
    brain = {"brain": systems["brain"]}
    finders, metrics = [Units(), KMeans(6)], [Color(), SquaredColor()]
    table = compare(brain, images, finders, metrics, top=4, score_on="all", baselines=False)
    for finder, metric in itertools.product(finders, metrics):
        codes = finder.fit_transform(systems["brain"])
        expected = index_reliability(codes, images, metric, top=4, sizes=60, n_resamples=400).reliability.item()
        own = table.index_reliability.sel(metric=metric.name)[(table.finder == type(finder).__name__).values].values
        assert (own == own[0]).all()
        assert abs(own[0] - expected) < 0.05


def test_corrected_reliability_is_the_correlation_of_the_corrected_index_on_halves(responses, images):
    (fit,) = fit_systems({"brain": responses}, [Units()], top=4, baselines=False)
    table = score_fits([fit], images, [Color()]).isel(metric=0)
    corrected = corrected_distances(images.sel(stimulus=fit.scored))
    halves = np.empty((500, 2, 8))
    for draw, half, item in np.ndindex(500, 2, 8):
        places = [place for place in dict.fromkeys(fit.leading[item].tolist()) if fit.halves[place, draw] == half][:4]
        halves[draw, half, item] = -np.mean([corrected[pair] for pair in itertools.combinations(places, 2)])
    r = [np.corrcoef(*both)[0, 1] for both in halves]
    assert_allclose(table.corrected_reliability, np.mean(r), atol=1e-4)


def test_reliability_is_unknown_without_halves_or_with_fewer_than_four_items(responses, images):
    for few in (responses[:14], responses[:, :3]):
        table = compare({"brain": few}, images, [Units()], [Color()], top=4)
        assert np.isnan(table.index_reliability).all()
        assert np.isnan(table.corrected_reliability).all()


def test_reliable_items_are_told_from_noise(make_responses, images):
    """Units follow one colour, from not at all to closely; then none does."""
    rng = np.random.default_rng(0)
    red = (images.category.values == "red")[:, None]
    tuned, noise = (make_responses(gain * red + rng.normal(size=(120, 16))) for gain in (np.linspace(0, 6, 16), 0))
    table = compare({"tuned": tuned, "noise": noise}, images, [Units()], [Color()], top=4, score_on="all")
    r = table.index_reliability.groupby("system").first()
    assert r.sel(system="tuned").item() > 0.7
    assert abs(r.sel(system="noise").item()) < 0.35
