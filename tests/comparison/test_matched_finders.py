"""Finders are matched by what they explain of other stimuli, or by how sparse they are."""

import json

import numpy as np
import pytest
import xarray as xr

import neurosuper as ns
from neurosuper.comparison import fit_systems, match_finders
from neurosuper.responses import part_of


@pytest.fixture(scope="module")
def clustered() -> xr.DataArray:
    """Return responses of 24 units to 240 stimuli, in 12 noisy clusters, with eigenvalues that fall slowly."""
    rng = np.random.default_rng(0)
    centers = rng.gamma(1, 3, size=(12, 24))
    values = centers[rng.integers(12, size=240)] + rng.gamma(1, 0.5, size=(240, 24)) * np.arange(1, 25) / 12
    return xr.DataArray(
        values,
        {"stimulus": [f"s{i:03d}" for i in range(240)], "unit": [f"u{i:02d}" for i in range(24)]},
        ("stimulus", "unit"),
    )


def explained(finder, n, responses, seed=0) -> float:
    marked = ns.split_stimuli(responses, random_state=seed)
    fit, other = (part_of(marked, part) for part in ("fit", "score"))
    return type(finder)(**finder.get_params() | {"n_directions": int(n)}).fit(fit).explained_variance(other)


def test_all_explain_as_much_of_other_stimuli_as_the_first(clustered):
    finders = {
        "PCA": ns.PCA(5),
        "KMeans": ns.KMeans(normalize=False, center=True),
        "Random": ns.Random(),
        "U": ns.Units(),
    }
    found = match_finders(finders, clustered)
    assert found.finder.values.tolist() == ["PCA", "KMeans", "Random"]
    assert found.n_directions[0] == 5
    assert found.attrs["at"] == pytest.approx(explained(finders["PCA"], 5, clustered))
    np.testing.assert_allclose(found.reached, found.attrs["at"], atol=0.05)  # one direction more is a step
    # random directions need more
    assert found.n_directions.sel(finder="Random") > found.n_directions.sel(finder="KMeans") >= 5
    for name in found.finder.values:
        n = found.n_directions.sel(finder=name).item()
        assert found.reached.sel(finder=name) == pytest.approx(explained(finders[name], n, clustered))


def test_a_value_is_reached_by_the_nearest_of_all_numbers(clustered):
    found = match_finders({"PCA": ns.PCA()}, clustered, at=0.7)
    all_values = np.array([explained(ns.PCA(), n, clustered) for n in range(1, 25)])
    assert found.n_directions.item() == np.abs(all_values - 0.7).argmin() + 1
    assert found.attrs["at"] == 0.7


def test_sparseness_is_hoyers_of_other_stimuli(clustered):
    found = match_finders({"PCA": ns.PCA(6), "again": ns.PCA()}, clustered, by="sparseness")
    fit, other = (part_of(ns.split_stimuli(clustered), part) for part in ("fit", "score"))
    Z = np.abs(ns.PCA(6).fit(fit).transform(other).values.astype(float))
    expected = np.mean((6**0.5 - Z.sum(1) / np.linalg.norm(Z, axis=1)) / (6**0.5 - 1))
    np.testing.assert_allclose(found.reached, expected, rtol=1e-5)
    assert found.n_directions.values.tolist() == [6, 6]


def test_order_of_stimuli_does_not_matter_and_given_halves_are_used(clustered):
    one = match_finders({"PCA": ns.PCA()}, clustered, at=0.6)
    other = match_finders({"PCA": ns.PCA()}, clustered[::-1].chunk({"stimulus": 60}), at=0.6)
    assert one.n_directions.equals(other.n_directions)
    marks = np.where(np.arange(240) < 20, "fit", "score")
    few = match_finders({"PCA": ns.PCA()}, clustered.assign_coords(split=("stimulus", marks)), at=0.6)
    assert few.n_directions <= 10  # half of the stimuli to fit on
    assert few.reached != one.reached


def test_a_finder_that_stays_away_is_named(clustered):
    with pytest.warns(
        UserWarning, match=r"'Random' comes to a variance of 1.00 with 24 directions, its nearest to 0.01"
    ):
        match_finders({"Random": ns.Random(random_state=1)}, clustered + 100, at=0.01)


def test_compare_matches_in_each_system_on_the_stimuli_to_fit_on(clustered):
    systems = {"all": clustered, "few": clustered[:, :10]}
    finders = {"PCA": ns.PCA(3), "Random": ns.Random(center=True), "Units": ns.Units()}
    fits = {(fit.system, fit.finder): fit for fit in fit_systems(systems, finders, match="variance", baselines=False)}
    for name, responses in systems.items():
        fit_part = part_of(ns.split_stimuli(responses), "fit").drop_vars("split")
        found = match_finders({key: finders[key] for key in ("PCA", "Random")}, fit_part)
        for finder in ("PCA", "Random"):
            fit = fits[name, finder]
            assert fit.fitted.n_directions == found.n_directions.sel(finder=finder)
            assert fit.matched == pytest.approx(found.reached.sel(finder=finder).item())
        assert fits[name, "Units"].matched is None
    assert fits["all", "Random"].fitted.n_directions > 3


def test_compare_records_what_it_chose(clustered):
    images = ns.load_images(np.random.default_rng(0).integers(0, 255, (240, 2, 2, 3), dtype=np.uint8))
    images = images.assign_coords(stimulus=clustered.stimulus.values)[::2]
    finders = [ns.PCA(3), ns.Random(center=True)]
    table = ns.compare(
        {"V4": clustered[::2]}, images, finders, [ns.Color(device="cpu")], match="variance", baselines=False
    )
    chosen = json.loads(table.attrs["matched"])["V4"]
    assert table.attrs["match"] == "variance"
    for name in ("PCA", "Random"):
        assert (table.finder == name).sum() == chosen[name]["n_directions"]
    assert abs(chosen["Random"]["reached"] - chosen["PCA"]["reached"]) < 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"by": "number"}, r"^by must be one of 'variance', 'sparseness'; got 'number'"),
        ({"at": 1}, r"^at must be a share above 0 and below 1, such as 0.5, got 1"),
        ({"finders": {"units": ns.Units()}}, r"^no finder has a number of directions to choose"),
        ({"responses": 4}, r"^4 stimuli are too few to match finders on; use at least 8"),
    ],
)
def test_bad_input_is_refused(clustered, settings, message):
    n = settings.pop("responses", 240)
    with pytest.raises(ValueError, match=message):
        match_finders(settings.pop("finders", {"PCA": ns.PCA()}), clustered[:n], **settings)


def test_fit_systems_refuses_other_matches(clustered):
    with pytest.raises(ValueError, match=r"^match must be one of 'variance', 'sparseness'; got 'number'"):
        list(fit_systems({"V4": clustered}, [ns.PCA(2)], match="number"))
