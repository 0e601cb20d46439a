"""Every function with `random_state` takes an int, None or a generator of NumPy, by one rule, and says what it drew."""

import importlib
import inspect
import pkgutil

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import neurosuper as ns
from neurosuper.comparison import (
    cka,
    compare_populations,
    contrast_finders,
    contrast_systems,
    dissimilarities,
    encode,
    fit_systems,
    match_finders,
    procrustes,
    rsa,
    shared_and_interpretable,
    transfer_top,
    twins,
    twins_from,
)
from neurosuper.comparison.contrast import contrast_pairs
from neurosuper.comparison.splits import fit_and_score_parts, split_systems
from neurosuper.demo.brains import draw_gratings
from neurosuper.demo.simulate import plant_directions, record
from neurosuper.demo.superposed import superposed
from neurosuper.directions import DirectionFinder, IterativeFinder, direction_stability
from neurosuper.inference import bootstrap_interval, compare_with_null, halves_interval, permutation_test
from neurosuper.inference.permutation import compare_means
from neurosuper.interpretability import (
    chance_level,
    enrichment,
    explained_by,
    human_ceiling,
    index_difference,
    index_interval,
    index_reliability,
    intrusion,
    make_trials,
    name_items,
    null_test,
    phase_surrogates,
    polysemanticity,
    selectivity,
    shuffle_stimuli,
    shuffle_units,
    validate_against_humans,
)
from neurosuper.interpretability.sampled_sets import score_sets
from neurosuper.networks import load_network, randomize
from neurosuper.reliability import split_half_reliability
from neurosuper.superposition import (
    alignment,
    between_directions,
    clustered_apart,
    count_features,
    disentanglement,
    interference,
    measure_superposition,
    privileged_axes,
    replicate_disentanglement,
    rotate_units,
    rotation_curve,
    soft_matching,
    sparsity_curve,
    spectrum,
    synergy,
)

COLOR = ns.Color(device="cpu")
STATISTICS = xr.Dataset(
    {"luminance": ("stimulus", np.linspace(0, 1, 60))}, {"stimulus": [f"s{i:02d}" for i in range(60)]}
)


def make_codes(n_items: int, seed: int) -> xr.DataArray:
    """Return codes `(stimulus, unit)` with many ties."""
    values = np.random.default_rng(seed).poisson(1.0, (60, n_items)).astype(float)
    return xr.DataArray(values, {"stimulus": STATISTICS.stimulus, "unit": [f"u{i:02d}" for i in range(n_items)]})


CODES, OTHERS = make_codes(12, 0), make_codes(12, 1)
AFFINITIES = xr.DataArray(
    np.random.default_rng(6).random((60, 4)),
    {"stimulus": CODES.stimulus, "concept": list("abcd")},
    ("stimulus", "concept"),
)
LABELS = xr.DataArray(np.arange(60) % 3, {"stimulus": CODES.stimulus}, "stimulus")
FACTORS = xr.Dataset({"shape": LABELS, "half": LABELS.copy(data=np.arange(60) < 30)})
REPEATED = xr.concat([make_codes(4, seed) for seed in range(6)], "repetition").transpose("stimulus", "repetition", ...)
IMAGES = ns.load_images(np.random.default_rng(2).integers(0, 255, (60, 2, 2, 3), dtype=np.uint8)).assign_coords(
    stimulus=STATISTICS.stimulus
)
DIRECTIONS = xr.DataArray(
    np.random.default_rng(4).normal(size=(12, 5)),
    {"direction": CODES.unit.values, "unit": list("abcde")},
    ("direction", "unit"),
)
X, Y = np.random.default_rng(3).normal(size=(2, 30))
SCORES = xr.DataArray(np.linspace(0, 1, 8), {"unit": [f"u{i}" for i in range(8)]}, "unit")
SCORES = SCORES.assign_coords(layer=("unit", ["a"] * 8), channel=("unit", np.arange(8)))
JUDGEMENTS = pd.DataFrame({"model": "net", "layer": "a", "channel": np.repeat(range(8), 10), "batch": [*range(10)] * 8})
JUDGEMENTS = JUDGEMENTS.assign(correct=np.random.default_rng(4).integers(2, size=80), confidence=2)
NETWORK = torch.nn.Linear(3, 2)
AXES = xr.DataArray(np.eye(4, 12), {"direction": list("abcd"), "unit": CODES.unit}, ("direction", "unit"))


def compared() -> xr.Dataset:
    """Return a comparison of two systems and two finders by hand, without halves."""
    index = np.random.default_rng(5).normal(size=(80, 1))
    coords = {"system": ("item", ["V4"] * 40 + ["net"] * 40), "finder": ("item", (["Units"] * 20 + ["PCA"] * 20) * 2)}
    return xr.Dataset({"interpretability": (("item", "metric"), index)}, coords | {"metric": ["color"]})


def written(folder, seed) -> np.ndarray:
    """Return the spikes of a short simulated recording."""
    features = xr.DataArray(np.eye(6), {"stimulus": list("abcdef"), "feature": list("uvwxyz")})
    record(features, plant_directions(features), folder / "recording.nwb", seed)
    return ns.load_nwb(folder / "recording.nwb", stimulus_column="stimulus", window=(0.05, 0.25)).values


# One call of each function, which returns all that is random in its result.
CASES = {
    "comparison.contrast.contrast_finders": lambda s: contrast_finders(compared(), random_state=s),
    "comparison.contrast.contrast_systems": lambda s: contrast_systems(compared(), against="V4", random_state=s),
    "comparison.contrast.contrast_pairs": lambda s: contrast_pairs(
        compared(), "finder", {("V4", "PCA"): {"Units": "Units"}}, n_resamples=999, random_state=s
    ),
    "comparison.fitting.fit_systems": lambda s: xr.concat(
        [fit.top_stimuli for fit in fit_systems({"V4": CODES}, [ns.Units()], random_state=s)], "fit"
    ),
    "comparison.splits.fit_and_score_parts": lambda s: fit_and_score_parts({"V4": CODES}, "held-out", s)["V4"][0],
    "comparison.splits.split_systems": lambda s: split_systems({"V4": CODES}, s)["V4"],
    "comparison.side_by_side.compare": lambda s: ns.compare(
        {"V4": CODES}, IMAGES, [ns.Units()], [COLOR], random_state=s
    ),
    "demo.brains.draw_gratings": lambda s: draw_gratings(s)[0][::20],
    "demo.simulate.plant_directions": lambda s: plant_directions(CODES.rename(unit="feature"), s),
    "demo.superposed.superposed": lambda s: superposed(5, 3, 20, random_state=s),
    "directions.stability.direction_stability": lambda s: direction_stability(
        ns.PCA(2), CODES, n_resamples=2, random_state=s
    ),
    "inference.bootstrap.bootstrap_interval": lambda s: bootstrap_interval(
        xr.DataArray(X, dims="unit"), "unit", statistic="median", n_resamples=100, random_state=s
    ),
    "inference.halves.halves_interval": lambda s: halves_interval(
        lambda rows: X[rows].mean(), 30, n_resamples=10, random_state=s
    ),
    "inference.null_draws.compare_with_null": lambda s: compare_with_null(
        lambda codes: np.triu(np.corrcoef(codes.T), 1).max(), CODES, shuffle_units, n_resamples=19, random_state=s
    ),
    "inference.permutation.compare_means": lambda s: compare_means([(X, Y)], n_resamples=100, random_state=s)[0],
    "inference.permutation.permutation_test": lambda s: permutation_test(
        xr.DataArray(X, dims="unit"), xr.DataArray(Y, dims="unit"), n_resamples=100, random_state=s
    ),
    "interpretability.category_selectivity.selectivity": lambda s: selectivity(CODES, LABELS, random_state=s),
    "interpretability.clarity.polysemanticity": lambda s: polysemanticity(
        CODES, IMAGES, COLOR, top=4, n_resamples=19, random_state=s
    ),
    "interpretability.disjoint_stimuli.index_reliability": lambda s: index_reliability(
        CODES, IMAGES, COLOR, sizes=20, n_resamples=10, random_state=s
    ),
    "interpretability.explained.explained_by": lambda s: explained_by(CODES, STATISTICS, random_state=s),
    "interpretability.human_judgements.validate_against_humans": lambda s: validate_against_humans(
        SCORES, JUDGEMENTS, n_resamples=20, random_state=s
    ),
    "interpretability.human_reliability.human_ceiling": lambda s: human_ceiling(
        JUDGEMENTS, n_resamples=5, random_state=s
    ),
    "interpretability.index.interpretability_index": lambda s: ns.interpretability_index(
        CODES, IMAGES, COLOR, random_state=s
    ),
    "interpretability.item_names.name_items": lambda s: name_items(CODES, AFFINITIES, top=5, random_state=s),
    "interpretability.machine_psychophysics.psychophysics": lambda s: ns.psychophysics(
        CODES, IMAGES, COLOR, n_references=2, n_trials=5, evidence=True, random_state=s
    ),
    "interpretability.nulls.null_test": lambda s: null_test(CODES, IMAGES, COLOR, n_resamples=19, random_state=s),
    "interpretability.nulls.phase_surrogates": lambda s: phase_surrogates(CODES, random_state=s),
    "interpretability.nulls.shuffle_stimuli": lambda s: shuffle_stimuli(CODES, random_state=s),
    "interpretability.nulls.shuffle_units": lambda s: shuffle_units(CODES, random_state=s),
    "interpretability.odd_one_out.intrusion": lambda s: intrusion(CODES, IMAGES, COLOR, n_trials=6, random_state=s),
    "interpretability.random_sets.chance_level": lambda s: chance_level(IMAGES, COLOR, n_resamples=20, random_state=s),
    "interpretability.ranking.top_stimuli": lambda s: ns.top_stimuli(CODES, random_state=s),
    "interpretability.sampled_sets.score_sets": lambda s: (
        score_sets([CODES], IMAGES, COLOR, top=3, n_resamples=10, stimulus_groups=None, random_state=s)[0][0].of_halves
    ),
    "interpretability.stimulus_sampling.index_difference": lambda s: index_difference(
        CODES, OTHERS, IMAGES, COLOR, n_resamples=10, random_state=s
    ),
    "interpretability.stimulus_sampling.index_interval": lambda s: index_interval(
        CODES, IMAGES, COLOR, n_resamples=10, random_state=s
    ),
    "interpretability.top_enrichment.enrichment": lambda s: enrichment(CODES, LABELS, top=5, random_state=s),
    "interpretability.trials.make_trials": lambda s: make_trials(CODES, n_references=2, n_trials=5, random_state=s),
    "networks.named.load_network": lambda s: (
        (load_network("torchvision:squeezenet1_1", pretrained=False, random_state=s).model.features[0].weight)
        .detach()
        .numpy()
    ),
    "networks.random_weights.randomize": lambda s: randomize(NETWORK, random_state=s).weight.detach().numpy(),
    "reliability.split_half_reliability": lambda s: split_half_reliability(REPEATED, n_resamples=3, random_state=s),
    "repetitions.split_repetitions": lambda s: xr.concat(ns.split_repetitions(REPEATED, random_state=s), "half"),
    "responses.split_stimuli": lambda s: ns.split_stimuli(CODES, random_state=s),
    "superposition.aligned_neurons.alignment": lambda s: alignment(
        CODES, CODES[:, :3] + 0.1 * OTHERS[:, :3].values, n_rotations=19, n_resamples=0, random_state=s
    ),
    "superposition.factor_measures.disentanglement": lambda s: disentanglement(
        CODES, FACTORS, bins=5, n_permutations=0, n_resamples=0, random_state=s
    ),
    "superposition.replicated_items.replicate_disentanglement": lambda s: replicate_disentanglement(
        CODES, OTHERS, n_permutations=19, n_resamples=10, random_state=s
    ),
    "superposition.axes.rotate_units": lambda s: rotate_units(CODES, 1, random_state=s),
    "superposition.geometry.interference": lambda s: interference(
        DIRECTIONS, codes=CODES.rename(unit="direction"), n_resamples=10, random_state=s
    ),
    "superposition.rotated_axes.privileged_axes": lambda s: privileged_axes(
        CODES, OTHERS, n_rotations=19, n_folds=2, n_resamples=0, random_state=s
    ),
    "comparison.kernel_alignment.cka": lambda s: cka(CODES, OTHERS, n_permutations=19, n_resamples=10, random_state=s),
    "comparison.matrix_similarity.rsa": lambda s: rsa(
        *(dissimilarities(each, distance="cosine") for each in (CODES, OTHERS)),
        n_permutations=19,
        n_resamples=10,
        random_state=s,
    ),
    "comparison.encoding.encode": lambda s: encode(CODES, OTHERS, alphas=[1.0, 10.0], n_folds=2, random_state=s),
    "comparison.matching.twins": lambda s: twins(CODES, OTHERS, n_permutations=19, n_rotations=2, random_state=s),
    "comparison.matched_finders.match_finders": lambda s: match_finders({"PCA": ns.PCA(4)}, CODES, random_state=s),
    "comparison.interpretable_twins.shared_and_interpretable": lambda s: shared_and_interpretable(
        CODES, OTHERS, IMAGES, COLOR, top=3, n_permutations=19, n_resamples=10, random_state=s
    ),
    "comparison.mixtures.twins_from": lambda s: twins_from(
        CODES, OTHERS, n_partners=2, n_permutations=19, n_rotations=2, random_state=s
    ),
    "comparison.transferred.transfer_top": lambda s: transfer_top(
        {"M1": CODES, "M2": OTHERS}, ns.PCA(2), IMAGES, COLOR, n_permutations=19, n_resamples=10, random_state=s
    ),
    "comparison.population_table.compare_populations": lambda s: compare_populations(
        {"a": CODES, "b": OTHERS},
        [],
        measures=["cka", "twins"],
        n_rotations=1,
        n_permutations=19,
        n_resamples=10,
        random_state=s,
    ),
    "comparison.rotated_systems.procrustes": lambda s: procrustes(
        CODES, OTHERS, n_permutations=19, n_resamples=10, random_state=s
    ),
    "superposition.matched_units.soft_matching": lambda s: soft_matching(CODES, OTHERS, n_resamples=10, random_state=s),
    "superposition.spectra.spectrum": lambda s: spectrum(
        xr.concat([CODES, CODES + 0.3 * OTHERS], "repetition"), fit=(1, 12), n_splits=1, n_resamples=0, random_state=s
    ),
    "superposition.feature_counts.count_features": lambda s: count_features(
        ns.PCA(), CODES, n_directions=2, n_resamples=2, random_state=s
    ),
    "superposition.interpolation.between_directions": lambda s: between_directions(
        AXES, AXES, IMAGES, COLOR, CODES, n_steps=3, n_pairs=4, n_resamples=10, random_state=s
    ),
    "superposition.interpretable_halves.clustered_apart": lambda s: clustered_apart(
        CODES, IMAGES, COLOR, finder=ns.Random(2), top=3, random_state=s
    ),
    "superposition.sparsified.sparsity_curve": lambda s: sparsity_curve(
        ns.PCA(2), CODES, IMAGES, COLOR, keep=0.5, top=3, n_resamples=10, random_state=s
    ),
    "superposition.all_measures.measure_superposition": lambda s: measure_superposition(
        {"V4": CODES[:, :4]}, [ns.Units()], IMAGES, COLOR, measures=["sparseness"], random_state=s
    )["sparseness/V4/Units"].to_dataset(),
    "unit_samples.subsample_units": lambda s: ns.subsample_units(CODES, 3, random_state=s).sortby("unit"),
    "superposition.rotations.rotation_curve": lambda s: rotation_curve(
        CODES[:, :4], IMAGES, COLOR, top=3, n_resamples=10, random_state=s
    ),
    "superposition.synergies.synergy": lambda s: synergy(
        CODES[:, :4], IMAGES, COLOR, top=3, n_resamples=19, random_state=s
    ),
}
BASES = (DirectionFinder, IterativeFinder)
WRITES = "demo.simulate.record"
cases = pytest.mark.parametrize("call", CASES.values(), ids=CASES.keys())


def differ(a, b) -> bool:
    """Return whether two results differ in any value, coords included."""
    if isinstance(a, np.ndarray):
        return not np.array_equal(a, b)
    return not a.drop_attrs().equals(b.drop_attrs())


def test_every_function_with_a_random_state_has_a_case_here():
    found = set()
    for module in pkgutil.walk_packages(ns.__path__, "neurosuper."):
        if "._" in module.name:
            continue
        for name, member in vars(importlib.import_module(module.name)).items():
            own = inspect.isfunction(member) and member.__module__ == module.name and not name.startswith("_")
            if own and "random_state" in inspect.signature(member).parameters:
                found.add(f"{module.name}.{name}".removeprefix("neurosuper."))
    assert found == {*CASES, WRITES}


@cases
def test_an_int_gives_the_same_again_and_the_global_state_is_left_alone(call):
    states = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert not differ(call(3), call(np.int64(3)))
    assert differ(call(3), call(4))
    assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states


@cases
@pytest.mark.parametrize("kind", [np.random.default_rng, np.random.RandomState])
def test_a_generator_advances_and_its_own_seed_repeats_it(call, kind):
    first, second = kind(1), kind(1)
    drawn = [call(first) for _ in range(2)]
    assert differ(*drawn)
    assert not differ(drawn[0], call(second))


@cases
@pytest.mark.parametrize("kind", [int, np.random.default_rng, np.random.RandomState, lambda _: None])
def test_the_seed_in_the_attrs_repeats_the_result(call, kind):
    result = call(kind(3))
    if "random_state" in getattr(result, "attrs", {}):
        seed = result.attrs["random_state"]
        assert type(seed) is int
        assert (seed == 3) == (kind is int)
        assert not differ(result, call(seed))


@cases
def test_none_draws_another_seed_each_time(call):
    first = call(None)
    assert any(differ(call(None), first) for _ in range(5))  # p-values of a few permutations may be equal by chance


@cases
def test_anything_else_is_refused_in_one_line(call):
    for wrong in (1.5, "0", True, [1]):
        with pytest.raises(
            TypeError, match=r"^random_state must be an int, None, or a numpy\.random\.Generator or .+, got"
        ):
            call(wrong)
    with pytest.raises(ValueError, match=r"^random_state must be an int from 0 to 2\*\*64 - 1, got -1$"):
        call(-1)


def test_a_simulated_recording_takes_a_generator_too(tmp_path):
    rng = np.random.default_rng(1)
    assert differ(written(tmp_path, rng), written(tmp_path, rng))
    assert not differ(written(tmp_path, 3), written(tmp_path, 3))
    with pytest.raises(TypeError, match="random_state must be an int"):
        written(tmp_path, 1.5)


@pytest.mark.parametrize("name", sorted(dir(ns.directions)))
def test_finders_refuse_a_random_state_of_another_type(name):
    kind = getattr(ns.directions, name)
    if inspect.isclass(kind) and issubclass(kind, DirectionFinder) and kind not in BASES:
        for wrong in (1.5, "0", True):
            with pytest.raises(TypeError, match="^random_state must be an int"):
                kind(random_state=wrong).fit(CODES)
