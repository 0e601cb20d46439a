"""What holds for every measure: no order matters, dask is as memory, groups of stimuli stay whole, null models fit.

R (stimulus, unit) responses, D (direction, unit) directions; `repeated`, the same with repetitions; `other`, a second
system.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

from neurosuper import PCA, project
from neurosuper.inference import compare_with_null, halves
from neurosuper.interpretability import interpretability_index, phase_surrogates, shuffle_stimuli, shuffle_units
from neurosuper.superposition import (
    axis_alignment,
    between_directions,
    clustered_apart,
    count_features,
    interference,
    privileged_axes,
    rotate_units,
    rotation_curve,
    soft_matching,
    sparseness,
    sparsify,
    sparsity_curve,
    spectrum,
    split_units,
    synergy,
    weight_interference,
)

FEW = {"n_resamples": 10, "top": 3}


@pytest.fixture(autouse=True)
def _few_halves(monkeypatch):
    monkeypatch.setattr("neurosuper.superposition.synergies.N_HALVES", 10)


def matching(w, measure, **settings):
    return measure(w.R, w.other, n_folds=2, **settings)


def dip(w, **settings):
    return between_directions(w.D, w.D, w.images, w.metric, w.R, n_steps=3, n_pairs=2, **FEW | settings)


def pairs(w, **settings):
    return synergy(w.R, w.images, w.metric, top=3, n_resamples=19, **settings)


def split(w):
    index = interpretability_index(w.R, w.images, w.metric, top=3).assign_attrs(stimuli=["another"])
    parts = split_units(w.R, index).items()
    return xr.concat([part.assign_coords(part=("unit", [name] * part.sizes["unit"])) for name, part in parts], "unit")


def apart(w, **settings):
    table = clustered_apart(w.R, w.images, w.metric, finder=PCA(2), top=3, **settings)
    names = [
        "/".join(each) for each in zip(table.system.values, table.finder.values, table.direction.values, strict=True)
    ]
    return table.interpretability[:, 0].drop_vars(set(table.coords)).assign_coords(item=names)


MEASURES = {  # each of the responses, or directions, of a world
    "interference": lambda w: interference(w.D, codes=project(w.R, w.D), n_resamples=10),
    "spectrum": lambda w: spectrum(w.R, fit=(1, 5), n_resamples=10),
    "cross-validated spectrum": lambda w: spectrum(w.repeated, fit=(1, 5), n_splits=2, n_resamples=10),
    "sparseness": lambda w: sparseness(w.R, baseline="min"),
    "population sparseness": lambda w: sparseness(w.R, baseline="min", over="item"),
    "axis_alignment": lambda w: axis_alignment(w.D),
    "rotate_units": lambda w: rotate_units(w.R, 0.6),
    "rotation_curve": lambda w: rotation_curve(w.R, w.images, w.metric, amounts=(0, 1), **FEW),
    "soft_matching": lambda w: matching(w, soft_matching, n_resamples=10),
    "soft_matching by distance": lambda w: matching(w, soft_matching, correlation=False, n_resamples=10),
    "privileged_axes": lambda w: privileged_axes(w.repeated, w.other, n_rotations=19, n_folds=2, n_resamples=10),
    "sparsify": lambda w: sparsify(w.D, [1, 2]),
    "sparsity_curve": lambda w: sparsity_curve(PCA(3), w.R, w.images, w.metric, keep=2, **FEW),
    "synergy": pairs,
    "between_directions": dip,
    "split_units": split,
    "clustered_apart": apart,
    "count_features": lambda w: count_features(PCA(), w.R, n_directions=2, n_resamples=2),
}


@pytest.fixture(scope="module")
def world(label_world):
    rng = np.random.default_rng(0)
    features = rng.integers(0, 4, 64)
    values = rng.gamma(2, 1, (64, 5)) + 2 * (features[:, None] == np.arange(5))
    R, images, metric = label_world(values, features)
    noise = xr.DataArray(rng.normal(size=(64, 2, 5)), dims=("stimulus", "repetition", "unit"))
    repeated = (R + 0.3 * noise).transpose("stimulus", "repetition", "unit")
    D = xr.DataArray(rng.normal(size=(3, 5)), {"direction": list("xyz"), "unit": R.unit}, ("direction", "unit"))
    other = R.copy(data=values[:, ::-1] + rng.normal(size=values.shape))
    return SimpleNamespace(R=R, images=images, metric=metric, repeated=repeated, D=D, other=other)


def in_order(result):
    """Return a result with all labelled dims in order of labels."""
    table = result.to_dataset(name="values") if isinstance(result, xr.DataArray) else result
    return table.sortby([dim for dim in table.dims if dim in table.coords])


@pytest.mark.parametrize("name", MEASURES)
def test_neither_order_nor_dask_change_a_measure(name, world):
    expected = in_order(MEASURES[name](world).compute())
    s, u = (np.random.default_rng(1).permutation(n) for n in (64, 5))
    other = SimpleNamespace(
        R=world.R[s][:, u].chunk(stimulus=20),
        images=world.images[::-1],
        metric=world.metric,
        repeated=world.repeated[s][..., u].chunk(stimulus=20),
        D=world.D[:, u],
        other=world.other[s[::-1]][:, u[::-1]].chunk(stimulus=20),
    )
    found = in_order(MEASURES[name](other).compute())
    assert set(found.variables) == set(expected.variables)
    for variable in expected.variables:
        if expected[variable].dtype.kind in "fc":
            np.testing.assert_allclose(found[variable], expected[variable], rtol=1e-5, atol=1e-6, err_msg=variable)
        else:
            np.testing.assert_array_equal(found[variable], expected[variable], err_msg=variable)


INTERVALS = {  # measures whose intervals are from halves of the stimuli: a variable with limits
    "cofiring": lambda w, **g: interference(w.D, codes=project(w.R, w.D), n_resamples=20, **g),
    "participation_ratio": lambda w, **g: spectrum(w.R, fit=(1, 5), n_resamples=20, **g),
    "score": lambda w, **g: matching(w, soft_matching, n_resamples=20, **g),
    "difference": lambda w, **g: matching(w, privileged_axes, n_rotations=19, n_resamples=20, **g),
    "mean_difference": lambda w, **g: rotation_curve(w.R, w.images, w.metric, amounts=(0, 1), **FEW, **g),
    "mean": lambda w, **g: sparsity_curve(PCA(2), w.R, w.images, w.metric, keep=2, **FEW, **g),
    "mean_synergy": pairs,
    "mean_dip": dip,
}


@pytest.fixture(scope="module")
def bursts(label_world):
    """Thirty scenes, of each of which four frames were shown in a row."""
    rng = np.random.default_rng(2)
    scene = np.repeat(np.arange(30), 4)
    values = rng.gamma(2, 1, (30, 5))[scene] + 0.05 * rng.random((120, 5))
    R, images, metric = label_world(values, rng.integers(0, 4, 30)[scene])
    R = R.assign_coords(burst=("stimulus", scene))
    D = xr.DataArray(np.abs(rng.normal(size=(3, 5))), {"direction": list("xyz"), "unit": R.unit}, ("direction", "unit"))
    return SimpleNamespace(R=R, images=images, metric=metric, D=D, other=R + rng.gamma(2, 1, (30, 5))[scene])


@pytest.mark.parametrize("name", INTERVALS)
def test_halves_of_the_stimuli_divide_no_burst(name, bursts, monkeypatch):
    seen, number = [], halves._number_groups
    monkeypatch.setattr(halves, "_number_groups", lambda groups, n: seen.append(groups) or number(groups, n))
    assert "stimulus_groups" not in INTERVALS[name](bursts).attrs
    assert seen == [None]
    assert INTERVALS[name](bursts, stimulus_groups="burst").attrs["stimulus_groups"] == "burst"
    _, groups = seen  # of all stimuli, or of half of the bursts
    assert (groups.reshape(-1, 4) == groups[::4, None]).all()
    assert len(np.unique(groups)) == len(groups) // 4


@pytest.mark.parametrize("name", ["cofiring", "participation_ratio", "score", "difference"])
def test_intervals_are_wider_where_bursts_are_halved_whole(name, bursts):
    found = [INTERVALS[name](bursts, **settings) for settings in ({}, {"stimulus_groups": "burst"})]
    divided, whole = ((each[f"{name}_high"] - each[f"{name}_low"]).item() for each in found)
    assert whole > 1.2 * divided


def test_directions_of_noise_are_found_again_only_in_frames_of_the_same_scenes(bursts):
    def matched(**settings):
        found = count_features(PCA(), bursts.R, n_directions=3, stable=0.9, n_resamples=5, **settings)
        return found.n_matched.item()

    assert matched() > matched(stimulus_groups="burst") + 0.5


def test_units_are_split_on_other_scenes_than_those_they_are_scored_on(bursts):
    table = clustered_apart(bursts.R, bursts.images, bursts.metric, finder=PCA(2), top=3, stimulus_groups="burst")
    assert table.attrs["stimulus_groups"] == "burst"
    assert (table.n_stimulus_groups == 15).all()


@pytest.mark.parametrize("name", INTERVALS)
def test_groups_that_are_no_coord_of_the_stimuli_are_refused(name, bursts):
    with pytest.raises(ValueError, match=r"has no stimulus coord 'scene'; add it with \.assign_coords\(scene="):
        INTERVALS[name](bursts, stimulus_groups="scene")


def random_directions(D, *, random_state):
    return D.copy(data=np.random.default_rng(random_state).normal(size=D.shape))


@pytest.fixture(scope="module")
def planted(label_world):
    """Five units, each tuned to a feature of its own, whose activity drifts together; and directions along these."""
    rng = np.random.default_rng(3)
    features = rng.integers(0, 5, 100)
    values = rng.exponential(1, (100, 5)) * (0.05 + 3 * (features[:, None] == np.arange(5)))
    R, images, metric = label_world(values, features)
    D = xr.DataArray(np.eye(5), {"direction": R.unit.values, "unit": R.unit}, ("direction", "unit"))
    other = R + 0.1 * rng.normal(size=R.shape)
    return SimpleNamespace(R=R, images=images, metric=metric, D=D, other=other, uneven=R * [5, 1, 1, 1, 1])


NULLS = {  # measure: a statistic of planted responses or directions, and what destroys it; count_features has its own
    "interference": ("less", "D", random_directions, lambda D, w: interference(D).rms),
    "axis_alignment": ("greater", "D", random_directions, lambda D, w: axis_alignment(D).largest.mean()),
    "sparsify": ("greater", "D", random_directions, lambda D, w: (sparsify(D, 2) ** 2).sum() / (D**2).sum()),
    "spectrum": ("less", "uneven", shuffle_units, lambda R, w: spectrum(R, fit=(1, 5), n_resamples=0).effective_rank),
    "sparseness": ("less", "uneven", shuffle_units, lambda R, w: sparseness(R).mean()),
    "rotate_units": (
        "greater",
        "R",
        phase_surrogates,
        lambda R, w: interpretability_index(rotate_units(R, 0.1), w.images, w.metric, top=3).mean(),
    ),
    "rotation_curve": (
        "less",
        "R",
        shuffle_stimuli,
        lambda R, w: rotation_curve(R, w.images, w.metric, amounts=(0, 1), **FEW).mean_difference[1],
    ),
    "soft_matching": (
        "greater",
        "R",
        shuffle_stimuli,
        lambda R, w: soft_matching(R, w.other, n_folds=2, n_resamples=0).score,
    ),
    "privileged_axes": (
        "greater",
        "R",
        phase_surrogates,
        lambda R, w: privileged_axes(R, w.other, n_rotations=19, n_folds=2, n_resamples=0).difference,
    ),
    "sparsity_curve": (
        "greater",
        "R",
        shuffle_stimuli,
        lambda R, w: sparsity_curve(PCA(4), R, w.images, w.metric, keep=2, **FEW)["mean"][0],
    ),
    "synergy": (
        "greater",
        "R",
        shuffle_stimuli,
        lambda R, w: pairs(SimpleNamespace(R=R, images=w.images, metric=w.metric)).interpretability.mean(),
    ),
    "between_directions": (
        "greater",
        "R",
        shuffle_stimuli,
        lambda R, w: dip(SimpleNamespace(R=R, D=w.D, images=w.images, metric=w.metric)).mean_dip,
    ),
}


SLOW = ("rotation_curve", "sparsity_curve", "synergy", "between_directions")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in NULLS])
def test_any_number_of_a_measure_is_tested_against_a_null_model(name, planted):
    alternative, what, null, statistic = NULLS[name]
    test = compare_with_null(
        lambda data: statistic(data, planted), getattr(planted, what), null, alternative=alternative, n_resamples=19
    )
    assert test.p_value == 0.05
    assert test.null.dims == ("draw",)


def test_weights_are_tested_against_random_ones():
    def mean(W):
        layer = torch.nn.Linear(4, 4, bias=False)
        layer.weight.data = torch.from_numpy(W)
        return weight_interference(torch.nn.Sequential(layer), "0").mean()

    def random(W, *, random_state):
        return np.random.default_rng(random_state).normal(size=W.shape)

    assert compare_with_null(mean, np.eye(4), random, alternative="less", n_resamples=19).p_value == 0.05
