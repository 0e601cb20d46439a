import json

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

from neurosuper import (
    PCA,
    Color,
    KMeans,
    Label,
    Pixel,
    Random,
    Units,
    compare,
    contrast_finders,
    interpretability_index,
    top_stimuli,
)
from neurosuper.comparison import fit_systems, provenance, score_fits
from neurosuper.metrics import pairwise_distances


def test_a_comparison_is_one_table_of_items_and_metrics(systems, images):
    table = compare(systems, images, [Units(), KMeans(4)], [Color(), Label()], top=4, baselines=False)
    assert dict(table.interpretability.sizes) == {"item": 8 + 4 + 5 + 4, "metric": 2}
    assert table.metric.values.tolist() == ["color", "label"]
    frame = table.drop_dims(["draw", "rank"]).to_dataframe()
    counts = frame.reset_index().groupby(["system", "finder"]).item.nunique()
    assert counts.to_dict() == {
        ("brain", "KMeans"): 4,
        ("brain", "Units"): 8,
        ("network", "KMeans"): 4,
        ("network", "Units"): 5,
    }
    assert len(frame) == 21 * 2
    assert table.attrs["shared_stimuli"] == "80 stimuli in common to all systems (of brain 120, network 80)"


def test_round_trips_through_netcdf(systems, images, tmp_path):
    table = compare(systems, images, [Units(), Random(3)], [Color(), Pixel()])
    table.to_netcdf(tmp_path / "table.nc")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "table.nc"), table)


def test_on_all_stimuli_it_is_the_index_of_the_codes(responses, images):
    table = compare({"brain": responses}, images, [Units(), KMeans(4)], [Color()], baselines=False, score_on="all")
    codes = KMeans(4).fit_transform(responses)
    expected = [interpretability_index(z, images, Color()) for z in (responses, codes)]
    assert_allclose(table.interpretability[:, 0], np.concatenate(expected))
    assert table.top_stimuli[:8].values.tolist() == top_stimuli(responses, top=5).T.values.tolist()


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


def test_shared_stimuli_are_those_that_have_an_image(responses, images):
    with pytest.warns(UserWarning, match="left out are 70 of 120 of system 'brain'"):
        table = compare({"brain": responses, "net": responses[:50]}, images[:50], [Units()], [Color()])
    assert table.shared_stimuli == "50 stimuli, the same in all systems; left out, as they have no partner: brain 70"
    assert table.n_stimuli_left_out == [70, 0]


def test_a_comparison_is_its_two_halves_one_after_the_other(systems, images):
    settings = {"top": 4, "score_on": "all", "random_state": 1}
    fits = list(fit_systems(systems, [Units(), KMeans(4)], **settings))
    table = compare(systems, images, [Units(), KMeans(4)], [Color()], **settings)
    halves = score_fits(fits, images, [Color()])
    xr.testing.assert_identical(halves.assign_attrs(table.attrs), table)
    assert [(fit.system, fit.finder) for fit in fits[:2]] == [("brain", "Units"), ("brain", "KMeans")]


def test_other_functions_refuse_what_is_no_metric_in_the_same_words(responses, images):
    for metric in ("color", Color, lambda a, b: 0.0):
        with pytest.raises(TypeError, match="a metric must be an object such as"):
            interpretability_index(responses, images, metric)
        with pytest.raises(TypeError, match="a metric must be an object such as"):
            pairwise_distances(images, metric)


@pytest.mark.parametrize("chunks", [{"stimulus": 50}, {"stimulus": (100, 20), "unit": 3}])
@pytest.mark.parametrize("score_on", ["held-out", "all"])
def test_lazy_responses_give_the_same_comparison(chunks, score_on, responses, images):
    """Coords have other chunks, as in a store of files."""
    category = xr.DataArray(np.arange(120) % 7, dims="stimulus", coords={"stimulus": responses.stimulus})
    finders = [Units(), Random(6), PCA(3)]
    expected = compare({"V4": responses}, images, finders, [Color()], score_on=score_on)
    lazy = responses.chunk(chunks).assign_coords(category=category.chunk(stimulus=17))
    got = compare({"V4": lazy}, images, finders, [Color()], score_on=score_on)
    assert_allclose(got.interpretability, expected.interpretability, rtol=1e-4)
    assert PCA(3).fit(lazy).transform(lazy).drop_vars("category").chunksizes["stimulus"] == lazy.chunks[0]


def test_a_comparison_can_be_written_with_any_unit_coord(responses, images, tmp_path):
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


def test_the_reliability_of_the_responses_of_units_is_kept_beside_that_of_the_index(responses, images):
    own = responses.assign_coords(reliability=("unit", np.linspace(0.2, 0.9, 8)))
    table = compare({"V4": own}, images, [Units(), KMeans(4)], [Color()], baselines=False)
    assert_allclose(table.reliability[:8], own.reliability)
    assert np.isnan(table.reliability[8:]).all()
    assert np.isfinite(table.index_reliability).all()


def test_every_variable_and_coord_is_described_and_numbers_have_units(responses, images):
    own = responses.assign_coords(depth=("unit", np.arange(8.0), {"long_name": "depth of the contact", "units": "mm"}))
    own = own.assign_coords(burst=("stimulus", np.arange(120) // 4), channel=("unit", np.arange(8)))
    table = compare({"V4": own}, images, [Units(), KMeans(4)], [Color()], stimulus_groups="burst", top=3)
    tests = contrast_finders(table, n_resamples=100)
    for name, variable in [*table.variables.items(), *tests.variables.items()]:
        assert variable.attrs["long_name"], name
        assert ("units" in variable.attrs) == (variable.dtype.kind in "iufb" and name != "channel"), name
    assert table.interpretability.units == tests.p_value.units == "1"
    assert table.depth.attrs == {"long_name": "depth of the contact", "units": "mm"}


def test_systems_that_state_different_units_of_a_unit_coord_leave_it_without(responses, images):
    def with_depth(units):
        return responses.assign_coords(depth=("unit", np.arange(8.0), {"units": units}))

    table = compare({"a": with_depth("mm"), "b": with_depth("um")}, images, [Units()], [Color()])
    assert table.depth.attrs == {"long_name": "depth of the unit"}
    assert compare({"a": with_depth("mm"), "b": responses}, images, [Units()], [Color()]).depth.units == "mm"


def test_provenance_states_finders_metrics_and_versions(responses, images):
    finders = {"mine": KMeans(np.int64(4), center=True, random_state=3, device="cpu"), "Units": Units()}
    table = compare({"V4": responses}, images, finders, {"c": Color()}, baselines=False)
    stated = json.loads(table.provenance)
    settings = {"finder": "KMeans", "n_directions": 4, "center": True, "random_state": 3}
    assert stated["finders"] == {"mine": settings, "Units": {"finder": "Units"}}
    assert stated["metrics"] == {"c": table.quantity.item()}
    assert stated["versions"]["numpy"] == np.__version__


def test_versions_of_packages_that_are_not_installed_are_left_out(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package"))
    assert provenance.installed_versions() == {"numpy": np.__version__}
