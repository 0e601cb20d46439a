import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.stats import binomtest

from neurosuper import Color, Pixel, load_images, psychophysics
from neurosuper.interpretability import answer_trials, make_trials
from neurosuper.metrics import distances as embedded
from neurosuper.metrics import slabs

few = {"n_references": 3, "n_trials": 6}


def similarity_of(metric, images):
    """Return a function that returns the similarity of two images, by their labels."""
    embedding = dict(zip(images.stimulus.values, metric.embed(images).double(), strict=True))

    def similarity(a, b):
        squared = float(((embedding[a] - embedding[b]) ** 2).sum())
        return -(squared if metric.squared else squared**0.5)

    return similarity


def scripts_score(trials, images, metric):
    """Oracle: the published script of the paper, trial by trial, as METHOD describes it."""
    similarity, scores = similarity_of(metric, images), []
    for t in range(trials.sizes["trial"]):
        trial = trials.isel(trial=t)
        references = {end: trial.references.sel(reference_end=end).values for end in ("top", "bottom")}
        table = np.array(
            [[similarity(q, r) for r in [*references["top"], *references["bottom"]]] for q in trial.queries.values]
        )
        table = (table - table.mean()) / (table.std() or 1)
        n = len(references["top"])
        correct = table[0, :n].mean() + table[1, n:].mean()
        wrong = table[1, :n].mean() + table[0, n:].mean()
        scores.append(np.exp(correct) / (np.exp(correct) + np.exp(wrong)))
    return np.mean(scores)


def mis_score(trials, images, metric, alpha):
    """Oracle: MIS, trial by trial; without alpha, the share of Δ > 0."""
    similarity, scores = similarity_of(metric, images), []
    for t in range(trials.sizes["trial"]):
        trial = trials.isel(trial=t)

        def s(query, end, trial=trial):
            return np.mean(
                [
                    similarity(trial.queries.sel(end=query).item(), r)
                    for r in trial.references.sel(reference_end=end).values
                ]
            )

        delta = (s("top", "top") - s("top", "bottom")) - (s("bottom", "top") - s("bottom", "bottom"))
        scores.append(delta > 0 if alpha is None else 1 / (1 + np.exp(-alpha * delta)))
    return np.mean(scores)


def test_scripts_score_equals_the_published_one_on_identical_trials(metric, responses, images):
    ours = psychophysics(responses[:, :2], images, metric, design="scripts", **few)
    made = make_trials(responses[:, :2], design="scripts", **few)
    for unit in ours.unit.values:
        for q in (0, 0.25):
            trials = made.sel(unit=unit, quantile=q).isel(trial=slice(int(made.n_trials.sel(quantile=q))))
            assert_allclose(ours.score.sel(unit=unit, quantile=q), scripts_score(trials, images, metric), atol=1e-6)


@pytest.mark.parametrize("alpha", [0.16, 1.0])
def test_mis_equals_the_published_one_on_identical_trials(metric, alpha, responses, images):
    ours = psychophysics(responses[:, :2], images, metric, design="mis", slope=alpha, **few)
    made = make_trials(responses[:, :2], design="mis", **few)
    for unit in ours.unit.values:
        trials = made.sel(unit=unit, quantile=0)
        assert_allclose(ours.score.sel(unit=unit), mis_score(trials, images, metric, alpha), atol=1e-6)
        if metric.name != "label":  # whose evidence may be exactly 0
            assert_allclose(ours.accuracy.sel(unit=unit), mis_score(trials, images, metric, None))


def test_paper_accuracy_is_the_share_of_trials_whose_top_query_is_nearer_to_a_reference(responses, images):
    metric = Pixel()
    similarity = similarity_of(metric, images)
    ours = psychophysics(responses[:, :2], images, metric, design="paper", quantiles=[0.1], **few)
    made = make_trials(responses[:, :2], design="paper", quantiles=[0.1], **few)
    for unit in ours.unit.values:
        right = []
        for t in range(6):
            trial = made.sel(unit=unit, quantile=0.1).isel(trial=t)
            nearest = [max(similarity(q, r) for r in trial.references.values.ravel()) for q in trial.queries.values]
            right.append(nearest[0] > nearest[1])
        assert_allclose(ours.accuracy.sel(unit=unit), np.mean(right))


def test_scripts_score_is_mis_with_alpha_one_without_zscore(responses, images):
    trials = make_trials(responses, design="scripts", **few)
    one = answer_trials(trials, images, Pixel(), zscore=False, slope=1.0, evidence=True)
    assert_allclose(one.score, (1 / (1 + np.exp(-one.evidence))).mean("trial"))


def test_planted_colors_are_distinguished_and_noise_is_not(make_responses, images, rng):
    red = (images.category == "red").values + 0.1 * rng.random(120)
    codes = make_responses(np.stack([red, rng.random(120)], axis=1))
    result = psychophysics(codes, images, Color(), n_references=4, n_trials=6)
    assert result.accuracy[0] == 1
    assert result.accuracy_low[1] < 0.5 < result.accuracy_high[1]


def test_metric_that_sees_nothing_is_at_chance(responses, images):
    grey = images.copy(data=np.full_like(images.values, 128))
    result = psychophysics(responses, grey, Color(), **few)
    assert (result.accuracy == 0.5).all()
    assert (result.score == 0.5).all()


@pytest.mark.filterwarnings("ignore:.*trials show copies")  # 400 images of 256 greys
def test_harder_quantiles_lower_accuracy_of_a_graded_unit(make_responses):
    rng = np.random.default_rng(1)
    level = rng.permutation(np.linspace(0, 1, 400))
    grey = np.clip(255 * (level + 0.1 * rng.normal(size=400)), 0, 255).astype(np.uint8)
    images = load_images(grey[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8))
    codes = make_responses(level[:, None], stimulus=images.stimulus.values)
    curve = psychophysics(codes, images, Color(), design="paper", quantiles=[0, 0.25, 0.4, 0.47], n_trials=10)
    accuracy = curve.accuracy.values[0]
    assert accuracy[0] == 1
    assert accuracy[-1] < accuracy[1] <= 1


def test_interval_is_that_of_clopper_and_pearson(responses, images):
    result = psychophysics(responses, images, Pixel(), **few)
    for unit in responses.unit.values:
        own = result.sel(unit=unit).isel(quantile=0)
        exact = binomtest(round(6 * own.accuracy.item()), 6).proportion_ci(0.95, "exact")
        assert_allclose([own.accuracy_low, own.accuracy_high], exact)


def test_few_stimuli_get_the_trials_that_they_allow(responses, images):
    """120 stimuli make 6 trials of 9 references, 60 make 3, and 5 % left out of 20 leave none."""
    result = psychophysics(responses, images, Pixel(), quantiles=[0, 0.25, 0.45])
    assert result.n_trials.values.tolist() == [6, 3, 0]
    assert result.accuracy.isel(quantile=2).isnull().all()
    assert result.accuracy_low.isel(quantile=2).isnull().all()
    assert result.accuracy.isel(quantile=1).notnull().all()


def test_slabs_do_not_matter(metric, responses, images, monkeypatch):
    whole = psychophysics(responses, images, metric, evidence=True, **few)
    monkeypatch.setattr(slabs, "SLAB_BYTES", 1000)
    monkeypatch.setattr(embedded, "MAX_GATHERED_BYTES", 4000)
    xr.testing.assert_allclose(psychophysics(responses, images, metric, evidence=True, **few), whole, atol=1e-5)


def test_directions_and_units_are_the_same_call_and_labels_are_kept(responses, images):
    codes = responses.assign_coords(area=("unit", list("aabbccdd"))).rename(unit="direction")
    result = psychophysics(codes, images, Color(), **few)
    assert result.accuracy.dims == ("direction", "quantile")
    assert result.area.values.tolist() == list("aabbccdd")
    assert result.attrs["metric"] == "color"
    assert result.attrs["confidence_level"] == 0.95
    assert_allclose(result.accuracy, psychophysics(responses, images, Color(), **few).accuracy)


def test_stimuli_without_an_image_are_left_out(responses, images):
    with pytest.warns(UserWarning, match="left out are 60 of 120 of the responses"):
        some = psychophysics(responses, images[::2], Color(), **few)
    assert some.attrs.pop("n_stimuli_left_out") == 60
    xr.testing.assert_identical(some, psychophysics(responses[::2], images[::2], Color(), **few))


def test_result_can_be_written(responses, images, tmp_path):
    result = psychophysics(responses, images, Pixel(), evidence=True, **few)
    result.to_netcdf(tmp_path / "result.nc")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "result.nc"), result)


def test_bad_input_is_refused_with_a_reason(responses, images):
    with pytest.raises(ValueError, match="pool must be 'mean' or 'max', got 'median'"):
        psychophysics(responses, images, Color(), pool="median")
    with pytest.raises(ValueError, match="no stimulus label in common"):
        psychophysics(responses.assign_coords(stimulus=np.arange(120).astype(str)), images, Color())
    with pytest.raises(ValueError, match="no image for stimulus 's0"):
        answer_trials(make_trials(responses, **few), images[:50], Color())


def test_the_shipped_trials_of_humans_are_answered_correctly(real_data):
    """Two natural-image trials of IMI, by LPIPS-Alex."""
    from neurosuper import LPIPS

    folder = real_data / "imi2afc" / "demo_natural_9_references"
    images, queries, references = [], [], []
    for trial in ("trial_1", "trial_2"):
        stack = load_images(folder / "trials" / trial, size=224)
        stack = stack.assign_coords(stimulus=[f"{trial}/{label}" for label in stack.stimulus.values])
        images.append(stack)
        queries.append([f"{trial}/{end}" for end in ("max", "min")])
        references.append([[f"{trial}/{end}_{i + first}" for i in range(9)] for end, first in (("max", 0), ("min", 1))])
    dims = ("unit", "quantile", "trial")
    trials = xr.Dataset(
        {
            "queries": ((*dims, "end"), np.array(queries)[None, None]),
            "references": ((*dims, "reference_end", "reference"), np.array(references)[None, None]),
        },
        coords={"unit": ["demo"], "quantile": [0.0]},
    )
    metric = LPIPS("alex", weights=real_data / "nets" / "alexnet_features_fp16.npz", device="cpu")
    answers = answer_trials(trials, xr.concat(images, "stimulus"), metric, evidence=True)
    assert (answers.evidence > 0).all()
