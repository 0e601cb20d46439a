import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.spatial.distance import pdist
from sklearn.preprocessing import StandardScaler

from neurosuper import (
    PCA,
    Color,
    KMeans,
    Label,
    Pixel,
    Precomputed,
    Random,
    Units,
    compare,
    interpretability_index,
    split_stimuli,
    top_stimuli,
)
from neurosuper.comparison import fit_systems, score_fits, scoring
from neurosuper.metrics import pairwise_distances
from neurosuper.responses import drop_constant_units


@pytest.fixture
def systems(responses, make_responses, rng):
    """A brain that saw all 120 images, and a network that saw the first 80 of them."""
    brain = responses.assign_coords(area=("unit", ["V1", "V4"] * 4), subject=("unit", ["F"] * 8))
    network = make_responses(rng.random((80, 5))).assign_coords(channel=("unit", np.arange(5)))
    return {"brain": brain, "network": network}


def test_a_comparison_is_one_table_of_items_and_metrics(systems, images):
    table = compare(systems, images, [Units(), KMeans(4)], [Color(), Label()], top=4)
    assert dict(table.interpretability.sizes) == {"item": 8 + 4 + 5 + 4, "metric": 2}
    assert table.metric.values.tolist() == ["color", "label"]
    frame = table.drop_dims("draw").to_dataframe()
    counts = frame.reset_index().groupby(["system", "finder"]).item.nunique()
    assert counts.to_dict() == {
        ("brain", "KMeans"): 4,
        ("brain", "Units"): 8,
        ("network", "KMeans"): 4,
        ("network", "Units"): 5,
    }
    assert len(frame) == 21 * 2
    assert table.attrs["shared_stimuli"] == "80 stimuli in common to all systems (of brain 120, network 80)"


def test_given_distances_are_compared_as_any_metric(systems, images):
    metrics = {"color": Color(), "given": Precomputed(pairwise_distances(images, Color()))}
    table = compare(systems, images, [Units()], metrics)
    for name in ("interpretability", "chance_level", "chance_level_low", "chance_level_high"):
        assert_allclose(table[name].sel(metric="given"), table[name].sel(metric="color"), rtol=1e-5)


def test_unit_coords_are_carried_by_units_and_by_directions_that_share_them(systems, images):
    table = compare(systems, images, [Units(), PCA(2)], [Color()])
    brain_units = table.isel(item=slice(0, 8))
    assert brain_units.area.values.tolist() == ["V1", "V4"] * 4
    directions = table.isel(item=slice(8, 10))
    assert directions.subject.values.tolist() == ["F", "F"]
    assert directions.area.values.tolist() == ["", ""]
    assert np.isnan(directions.channel).all()
    assert table.channel.values[10:15].tolist() == [0, 1, 2, 3, 4]


def test_round_trips_through_netcdf(systems, images, tmp_path):
    table = compare(systems, images, [Units(), Random(3)], [Color(), Pixel()])
    table.to_netcdf(tmp_path / "table.nc")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "table.nc"), table)


def test_on_all_stimuli_it_is_the_index_of_the_codes(responses, images):
    table = compare({"brain": responses}, images, [Units(), KMeans(4)], [Color()], score_on="all")
    codes = KMeans(4).fit_transform(responses)
    expected = [interpretability_index(z, images, Color()) for z in (responses, codes)]
    assert_allclose(table.interpretability[:, 0], np.concatenate(expected))
    assert table.top_stimuli[0].item().split(" | ") == top_stimuli(responses, top=5)[:, 0].values.tolist()


def test_held_out_fits_on_one_half_and_scores_on_the_other(responses, images):
    table = compare({"brain": responses}, images, [KMeans(4)], [Color()], random_state=3)
    split = split_stimuli(responses, random_state=3)
    fit, score = (responses[(split.split == part).values] for part in ("fit", "score"))
    expected = interpretability_index(KMeans(4).fit(fit).transform(score), images, Color())
    assert_allclose(table.interpretability[:, 0], expected)
    tops = {label for labels in table.top_stimuli.values for label in labels.split(" | ")}
    assert tops <= set(score.stimulus.values)


def test_shared_stimuli_fall_on_the_same_side_in_all_systems(systems, images):
    table = compare(systems, images, [Units()], [Color()], top=30)
    tops = {
        system: {label for labels in part.top_stimuli.values for label in labels.split(" | ")}
        for system, part in table.groupby("system")
    }
    everything = {f"s{i:04d}" for i in range(120)}
    assert len(tops["brain"] | tops["network"]) <= len(everything) / 2


def test_a_split_of_ones_own_is_used(responses, images):
    own = responses.assign_coords(split=("stimulus", ["fit"] * 60 + ["score"] * 60))
    table = compare({"brain": own}, images, [Units()], [Color()])
    assert all(label >= "s0060" for labels in table.top_stimuli.values for label in labels.split(" | "))


def test_a_split_of_one_system_holds_for_the_others(systems, images):
    own = systems["brain"].assign_coords(split=("stimulus", ["fit"] * 60 + ["score"] * 60))
    table = compare({"brain": own, "network": systems["network"]}, images, [Units()], [Color()])
    assert all(label >= "s0060" for labels in table.top_stimuli.values for label in labels.split(" | "))
    other = systems["network"].assign_coords(split=("stimulus", ["score"] * 40 + ["fit"] * 40))
    with pytest.raises(ValueError, match="'network' marks stimulus 's0000' 'score', another system 'fit'"):
        compare({"brain": own, "network": other}, images, [Units()], [Color()])


def test_planted_directions_are_more_interpretable_than_units(superposition, rng):
    """Each planted feature is a colour; K-means directions find them, units mix them (seed 0)."""
    R, planted = superposition
    features = (R.values @ np.linalg.pinv(planted.values)).argmax(1)
    palette = rng.integers(0, 256, (48, 3))
    pixels = np.clip(palette[features][:, None, None] + rng.integers(-20, 20, (len(R), 4, 4, 3)), 0, 255)
    dims = ("stimulus", "row", "column", "channel")
    images = xr.DataArray(pixels.astype(np.uint8), dims=dims, coords={"stimulus": R.stimulus})
    table = compare({"V4": R}, images, {"Units": Units(), "KMeans": KMeans("2x"), "Random": Random("2x")}, [Color()])
    median = {finder: float(part.interpretability.median()) for finder, part in table.groupby("finder")}
    assert median["KMeans"] > median["Units"] + 0.1
    assert median["KMeans"] > median["Random"] + 0.1


def test_finders_and_systems_are_left_untouched(systems, images):
    finder, before = KMeans(3), systems["brain"].copy(deep=True)
    compare(systems, images, [finder], [Color()])
    assert not hasattr(finder, "directions_")
    xr.testing.assert_identical(systems["brain"], before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"systems": {}}, "no system to compare"),
        ({"finders": []}, "no finders to compare"),
        ({"metrics": {}}, "no metrics to compare"),
        ({"finders": [KMeans(2), KMeans(3)]}, r"finders need different names, got \['KMeans', 'KMeans'\]; pass {name"),
        ({"score_on": "test"}, "score_on must be 'held-out' or 'all', got 'test'"),
        ({"top": 61}, "61 top stimuli asked for, but 'brain' has only 60 stimuli to score on"),
        ({"random_state": 0, "top": 1}, "at least 2 top stimuli"),
    ],
)
def test_bad_arguments_are_told(change, message, responses, images):
    good = {"systems": {"brain": responses}, "images": images, "finders": [Units()], "metrics": [Color()]}
    with pytest.raises(ValueError, match=message):
        compare(**good | change)


def test_the_remedy_for_units_constant_in_one_half_works(responses, images):
    lone = responses * ((responses.unit != "u001") | (responses.stimulus == "s0000"))
    with pytest.raises(ValueError, match="mark the halves with neurosuper.split_stimuli, then drop such units"):
        compare({"net": lone}, images, [Units()], [Color()])
    table = compare({"net": drop_constant_units(split_stimuli(lone))}, images, [Units()], [Color()])
    assert table.sizes["item"] == 7


def test_missing_values_of_text_coords_are_empty(responses, images):
    areas = np.array(["V1", None, np.nan, "V4"] * 2, dtype=object)
    table = compare({"brain": responses.assign_coords(area=("unit", areas))}, images, [Units()], [Color()])
    assert table.area.values.tolist() == ["V1", "", "", "V4"] * 2


def test_shared_stimuli_are_those_that_have_an_image(responses, images):
    with pytest.warns(UserWarning, match="left out are 70 of 120 of system 'brain'"):
        table = compare({"brain": responses, "net": responses[:50]}, images[:50], [Units()], [Color()])
    assert table.shared_stimuli == "50 stimuli, the same in all systems; left out, as they have no partner: brain 70"
    assert table.n_stimuli_left_out == [70, 0]


def test_bad_types_and_reserved_names_are_told(responses, images):
    with pytest.raises(TypeError, match="systems must be a mapping"):
        compare([responses], images, [Units()], [Color()])
    with pytest.raises(TypeError, match="finders must be a list or a mapping .*, got Units"):
        compare({"brain": responses}, images, Units(), [Color()])
    with pytest.raises(ValueError, match="system 'brain': responses must have the dims .*average_rep"):
        compare({"brain": responses.expand_dims(repetition=2)}, images, [Units()], [Color()])
    with pytest.raises(ValueError, match="unit coord 'metric', a name that a comparison needs"):
        compare({"brain": responses.assign_coords(metric=("unit", range(8)))}, images, [Units()], [Color()])
    with pytest.raises(ValueError, match="'brain' has 0 stimuli whose split is 'score'"):
        compare({"brain": responses.assign_coords(split=("stimulus", ["fit"] * 120))}, images, [Units()], [Color()])


def test_bad_systems_are_told_by_name(responses, images):
    def attempt(system, **others):
        compare({"brain": responses, "net": system}, images, [Units()], [Color()], **others)

    with pytest.raises(ValueError, match="system 'net': no stimulus label in common"):
        attempt(responses.assign_coords(stimulus=[f"photo {i}" for i in range(120)]))
    with pytest.raises(ValueError, match="system 'net': responses hold 120 NaN or infinite values, in unit 'u001'"):
        attempt(responses.where(responses.unit != "u001"))
    with pytest.raises(TypeError, match="system 'net': responses must be an xarray.DataArray, got ndarray"):
        attempt(responses.values)
    lone = responses * ((responses.unit != "u001") | (responses.stimulus == "s0000"))
    with pytest.raises(ValueError, match=r"zero variance over stimuli to (fit|score) on, of 'net' in unit 'u001'"):
        attempt(lone)
    piped = {"stimulus": [f"{i} | x" for i in range(120)]}
    with pytest.raises(ValueError, match="must not contain ' | '"):
        compare({"net": responses.assign_coords(piped)}, images.assign_coords(piped), [Units()], [Color()])


def test_chance_level_is_the_index_of_random_sets_of_the_scored_stimuli(systems, images):
    """The mean of 200 sets lies within four standard errors of the mean over all pairs."""
    table = compare(systems, images, [Units()], [Color()], top=4)
    assert (table.chance_level.sel(item=table.system == "brain").std() == 0).all()
    assert (table.chance_level_low < table.chance_level).all()
    assert (table.chance_level < table.chance_level_high).all()
    every = compare(systems, images, [Units()], [Color()], top=4, score_on="all")
    points = Color(device="cpu").embed(images).numpy()
    exact = -pdist(points).mean()
    brain = every.isel(item=0, metric=0)
    assert_allclose(brain.chance_level, exact, atol=float(brain.chance_level_high - brain.chance_level_low) / 200**0.5)


def test_the_band_of_chance_is_that_of_95_of_100_random_sets(responses, images, rng, monkeypatch):
    """Of 4,000 sets, the standard error of the share outside is 0.3 %."""
    monkeypatch.setattr(scoring, "N_SETS", 4000)
    table = compare({"brain": responses}, images, [Units()], [Color()], score_on="all").isel(item=0, metric=0)
    points = Color(device="cpu").embed(images).numpy()
    index = np.array([-pdist(points[rng.choice(120, 5, replace=False)]).mean() for _ in range(4000)])
    assert abs(np.mean(index < float(table.chance_level_low)) - 0.025) < 0.008
    assert abs(np.mean(index > float(table.chance_level_high)) - 0.025) < 0.008


def test_the_chance_level_of_several_fits_is_that_of_the_stimuli_of_the_first(responses, images):
    """Half of the photographs are one and the same: any set of these scores 0, and no set of the others does."""
    alike = images.copy(data=np.where(np.arange(120)[:, None, None, None] < 60, images.values[:1], images.values))
    marks = (["score", "fit"], ["fit", "score"])
    systems = [{"brain": responses.assign_coords(split=("stimulus", np.repeat(mark, 60)))} for mark in marks]
    fits = [fit for own in systems for fit in fit_systems(own, [Units()], 5, "held-out", 0)]
    alone, both = (score_fits(own, alike, [Color()]) for own in (fits[1:], fits))
    assert (alone.chance_level < -0.5).all()
    assert_allclose(both.chance_level, 0, atol=1e-6)


@pytest.fixture
def no_fit(monkeypatch):
    """Whatever is wrong is told before hours of fits."""

    def fit(*_args):
        raise AssertionError("fitted first")

    monkeypatch.setattr(Units, "fit", fit)
    monkeypatch.setattr(PCA, "fit", fit)


class Half:
    """Nearly a metric: it embeds, and says nothing else."""

    def embed(self, images):
        raise AssertionError("never called")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"finders": ["KMeans"]}, "a finder must be an object such as neurosuper.Units.*, got 'KMeans'"),
        ({"finders": "KMeans"}, "finders must be a list or a mapping .*, got str"),
        ({"finders": [Units, PCA(2)]}, "a finder must be .*, got the class Units, which is not called"),
        ({"finders": {"mine": StandardScaler()}}, r"got StandardScaler\(\); subclass neurosuper.directions.Direction"),
        ({"finders": [Color()]}, "a finder must be .*got Color"),
        ({"finders": {1: Units()}}, "names of finders must be str, got 1"),
        ({"metrics": [Color(), "pixel"]}, "a metric must be an object such as neurosuper.LPIPS.*, got 'pixel'"),
        ({"metrics": "color"}, "metrics must be a list or a mapping .*, got str"),
        ({"metrics": {"c": Color}}, "a metric must be .*, got the class Color, which is not called"),
        ({"metrics": [np.linalg.norm]}, "a metric must be .*, got <function norm"),
        ({"metrics": [None]}, "a metric must be .*, got None"),
        ({"metrics": [Half()]}, "a metric must be .*, got <.*Half object"),
        ({"metrics": [Units()]}, r"a metric must be .*, got Units\("),
        ({"metrics": {("a", "b"): Color()}}, r"names of metrics must be str, got \('a', 'b'\)"),
    ],
)
def test_what_is_no_finder_or_metric_is_told_before_any_fit(change, message, responses, images, no_fit):
    good = {"systems": {"brain": responses}, "images": images, "finders": [Units()], "metrics": [Color()]}
    with pytest.raises(TypeError, match=message) as caught:
        compare(**good | change)
    assert "\n" not in str(caught.value)


def test_other_functions_refuse_what_is_no_metric_alike(responses, images):
    for metric in ("color", Color, lambda a, b: 0.0):
        with pytest.raises(TypeError, match="a metric must be an object such as"):
            interpretability_index(responses, images, metric)
        with pytest.raises(TypeError, match="a metric must be an object such as"):
            pairwise_distances(images, metric)


@pytest.mark.parametrize("name", ["chance_level", "index_of_halves", "draw", "seed", "quantity"])
def test_unit_coords_of_reserved_names_are_told_before_any_fit(name, responses, images, no_fit):
    with pytest.raises(ValueError, match=f"'brain' has the unit coord '{name}'"):
        compare({"brain": responses.assign_coords({name: ("unit", range(8))})}, images, [Units()], [Color()])


def test_names_of_systems_are_text(responses, images, no_fit):
    with pytest.raises(TypeError, match="names of systems must be str, got 7"):
        compare({7: responses}, images, [Units()], [Color()])


def test_labels_with_the_separator_are_told_before_any_fit(responses, images, no_fit):
    piped = {"stimulus": [f"{i} | x" for i in range(120)]}
    with pytest.raises(ValueError, match="must not contain ' | '"):
        compare({"net": responses.assign_coords(piped)}, images.assign_coords(piped), [Units()], [Color()])


@pytest.mark.parametrize("chunks", [{"stimulus": 50}, {"stimulus": (100, 20), "unit": 3}])
@pytest.mark.parametrize("score_on", ["held-out", "all"])
def test_responses_that_are_read_lazily_are_compared_alike(chunks, score_on, responses, images):
    """Coords of their own chunks too, as a store of files gives them."""
    category = xr.DataArray(np.arange(120) % 7, dims="stimulus", coords={"stimulus": responses.stimulus})
    finders = [Units(), Random(6), PCA(3)]
    expected = compare({"V4": responses}, images, finders, [Color()], score_on=score_on)
    lazy = responses.chunk(chunks).assign_coords(category=category.chunk(stimulus=17))
    got = compare({"V4": lazy}, images, finders, [Color()], score_on=score_on)
    assert_allclose(got.interpretability, expected.interpretability, rtol=1e-4)
    assert PCA(3).fit(lazy).transform(lazy).drop_vars("category").chunksizes["stimulus"] == lazy.chunks[0]


def test_a_comparison_can_be_written_whatever_the_units_carry(responses, images, tmp_path):
    coords = {
        "area": np.array(["V1", None, np.nan, "V4"] * 2, object),
        "session": np.array(["2024-01-05", "NaT"] * 4, "datetime64[ns]"),
        "good": np.array([True, False] * 4),
        "depth": np.array([1, None] * 4, object),
        "phase": np.arange(8) * 1j,
    }
    own = responses.assign_coords({name: ("unit", values) for name, values in coords.items()})
    table = compare({"a": own, "b": responses[:, :3]}, images, [Units(), KMeans(2)], [Color()], random_state=None)
    table.to_netcdf(tmp_path / "table.nc")
    with xr.open_dataset(tmp_path / "table.nc") as stored:
        xr.testing.assert_identical(stored.load(), table)
    assert table.area.values[:4].tolist() == ["V1", "", "", "V4"]
    assert table.session.values[:2].tolist() == ["2024-01-05T00:00:00.000000000", ""]
