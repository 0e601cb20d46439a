import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from neurosuper.interpretability import make_trials
from neurosuper.interpretability.trials import DESIGNS

ENDS = ("top", "bottom")
designs = pytest.mark.parametrize("design", list(DESIGNS))


@pytest.fixture
def codes(rng, make_responses):
    return make_responses(rng.normal(size=(500, 3)))


def ranked(codes, unit):
    """Return labels of stimuli, the largest code first."""
    return codes.stimulus.values[np.argsort(-codes.sel(unit=unit).values)]


def bins_of(codes, unit, n_trials, references, q=0.0):
    """Oracle for IMI: top and bottom in bins of `n_trials` ranks, (end, bin, trial), the most extreme first."""
    x = codes.sel(unit=unit)
    kept = ranked(codes, unit)
    inside = (x >= np.quantile(x, q)) & (x <= np.quantile(x, 1 - q))
    kept = kept[inside.sel(stimulus=kept).values]
    n = (references + 1) * n_trials
    return np.stack([end[:n].reshape(references + 1, n_trials) for end in (kept, kept[::-1])])


def test_trials_are_20_of_9_references_per_side_unless_queries_otherwise(codes):
    """As people saw them (Zimmermann et al. 2023)."""
    sizes = make_trials(codes).sizes
    assert (sizes["trial"], sizes["reference"], sizes["quantile"]) == (20, 9, 1)


@pytest.mark.parametrize("query", ["extreme", "least-extreme"])
def test_imi_trials_take_one_stimulus_of_each_bin(query, codes):
    made = make_trials(codes, design="imi", query=query, n_trials=20, n_references=9, quantiles=(0, 0.1))
    for unit in codes.unit.values:
        for q in (0, 0.1):
            trials, bins = made.sel(unit=unit, quantile=q), bins_of(codes, unit, 20, 9, q)
            for end, own in zip(ENDS, bins, strict=True):
                queries, shown = (own[0], own[1:]) if query == "extreme" else (own[-1], own[:-1])
                assert set(trials.queries.sel(end=end).values) == set(queries)
                for k in range(9):
                    drawn = trials.references.sel(reference_end=end).isel(reference=k).values
                    assert set(drawn) == set(shown[k])
                    assert list(drawn) != list(shown[k]), "in random order"


def test_scripts_trials_keep_the_order_of_ranks(codes):
    """References of trial t are of rank T + kT + t, at both quantiles; queries are the T most extreme, permuted."""
    made = make_trials(codes, design="scripts", n_trials=10, n_references=4)
    assert made["quantile"].values.tolist() == [0, 0.25]
    for unit in codes.unit.values:
        for q in (0, 0.25):
            bins = bins_of(codes, unit, 10, 4, q)
            for i, end in enumerate(ENDS):
                trials = made.sel(unit=unit, quantile=q)
                assert trials.references.sel(reference_end=end).values.tolist() == bins[i, 1:].T.tolist()
                assert set(trials.queries.sel(end=end).values) == set(bins[i, 0])
                assert trials.queries.sel(end=end).values.tolist() != bins[i, 0].tolist()


def test_mis_trials_ask_for_the_least_extreme_of_a_draw(codes):
    made = make_trials(codes, design="mis", n_trials=30, n_references=5)
    for unit in codes.unit.values:
        order = list(ranked(codes, unit))
        for end, among in zip(ENDS, (order, order[::-1]), strict=True):
            rank = np.vectorize(among.index)
            queries = rank(made.queries.sel(unit=unit, quantile=0, end=end).values)
            shown = rank(made.references.sel(unit=unit, quantile=0, reference_end=end).values)
            assert (queries[:, None] > shown).all()
            assert queries.max() < 30 * 6
            assert len(np.unique(queries)) > 10, "each trial draws again"


def test_paper_trials_share_the_top_and_ask_for_what_follows(codes):
    made = make_trials(codes, design="paper", n_trials=8, n_references=9, quantiles=(0, 0.2, 0.45))
    for unit in codes.unit.values:
        order, trials = list(ranked(codes, unit)), made.sel(unit=unit)
        assert (trials.references == order[:9]).all()
        for q, first, last in ((0, 9, 0), (0.2, 100, 100), (0.45, 225, 225)):
            top, bottom = (trials.queries.sel(quantile=q, end=end).values for end in ENDS)
            assert set(top) == set(order[first : first + 8])
            assert set(bottom) == set(order[::-1][last : last + 8])


@designs
@given(n_stimuli=st.integers(2, 60), n_references=st.integers(1, 6), n_trials=st.integers(1, 9), seed=st.integers(0, 9))
def test_no_image_is_shown_twice_in_a_trial_and_as_many_trials_are_made_as_fit(
    design, n_stimuli, n_references, n_trials, seed
):
    values = np.random.default_rng(seed).integers(0, 9, (n_stimuli, 2)) + np.eye(n_stimuli, 2)
    labels = {"stimulus": [f"s{i}" for i in range(n_stimuli)], "unit": ["a", "b"]}
    codes = xr.DataArray(values, dims=("stimulus", "unit"), coords=labels)
    if (values == values[0]).all(0).any():
        return
    options = {"design": design, "n_references": n_references, "n_trials": n_trials, "quantiles": (0, 0.2)}
    fit = n_stimuli // (2 * (n_references + 1)) if design != "paper" else (n_stimuli - n_references) // 2
    if fit < 1:
        with pytest.raises(ValueError, match="are too few for one trial"):
            make_trials(codes, **options)
        return
    made = make_trials(codes, **options)
    assert made.n_trials[0] == (n_trials if design == "mis" else min(n_trials, fit))
    for unit in ("a", "b"):
        for i, n in enumerate(made.n_trials.values):
            for t in range(made.sizes["trial"]):
                trial = made.sel(unit=unit).isel(quantile=i, trial=t)
                shown = [*trial.queries.values, *trial.references.values.ravel()]
                assert len(set(shown)) == len(shown) if t < n else set(shown) == {""}


@designs
def test_trials_of_a_unit_do_not_depend_on_the_others(design, codes):
    alone, together = (make_trials(R, design=design, n_trials=5) for R in (codes[:, [1]], codes))
    xr.testing.assert_identical(alone, together.isel(unit=[1]))


def test_equal_codes_are_ranked_at_random_not_by_label(make_responses):
    """Silent stimuli must not be shown in the order of their names, which begin with categories."""
    silent = np.zeros((400, 1))
    silent[:20] = np.arange(20, 0, -1)[:, None]
    made = make_trials(make_responses(silent), n_references=4, n_trials=10)
    position = [int(label[1:]) for label in made.references.sel(reference_end="bottom").values.ravel()]
    assert abs(np.mean(position) - 210) < 50
    other = make_trials(make_responses(silent), n_references=4, n_trials=10, random_state=1)
    assert (other.references != made.references).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"design": "2afc"}, "design must be one of 'imi', 'scripts', 'mis', 'paper', got '2afc'"),
        ({"n_references": 0}, "n_references must be a whole number of at least 1, got 0"),
        ({"n_trials": 2.5}, "n_trials must be a whole number of at least 1, got 2.5"),
        ({"query": "central"}, "query must be 'extreme', 'least-extreme' or None, got 'central'"),
        ({"design": "paper", "query": "extreme"}, "in design 'paper' references are the top stimuli"),
        ({"quantiles": [0.5]}, "quantiles must be numbers from 0 to below 0.5"),
        ({"quantiles": []}, "quantiles must be numbers from 0 to below 0.5, at least one"),
        (
            {"n_references": 249, "quantiles": [0.1]},
            "500 stimuli, 50 of them left out at each side, are too few for one trial of design 'imi' with 249 "
            "references, which needs 500 of the rest; lower n_references, or quantiles",
        ),
    ],
)
def test_bad_settings_are_refused_with_a_reason(options, message, codes):
    with pytest.raises(ValueError, match=message):
        make_trials(codes, **options)


def test_missing_and_constant_codes_are_refused_by_name(codes):
    with pytest.raises(ValueError, match="no code for stimulus 's0003'; trials rank all stimuli, so drop these"):
        make_trials(codes.where(codes.stimulus != "s0003"))
    with pytest.raises(ValueError, match="zero variance over stimuli in unit 'u001'"):
        make_trials(codes * (codes.unit != "u001"))


@designs
def test_trials_that_show_copies_of_a_photograph_are_counted_and_warned_of(design, codes):
    photograph = np.arange(500) // 5  # each has five labels
    content = [f"{number:032x}" for number in photograph]
    known = codes.assign_coords(content=("stimulus", content))
    with pytest.warns(UserWarning, match="trials show copies of one photograph"):
        made = make_trials(known, design=design, n_trials=10, quantiles=(0, 0.49))  # of the second, few or none
    of = dict(zip(codes.stimulus.values.tolist(), content, strict=True))
    n_with_copies = 0
    for unit in codes.unit.values:
        for quantile, trial in ((i, t) for i, n in enumerate(made.n_trials.values) for t in range(n)):
            own = made.sel(unit=unit).isel(quantile=quantile, trial=trial)
            labels = {*own.queries.values.ravel().tolist(), *own.references.values.ravel().tolist()}
            n_with_copies += len({of[label] for label in labels}) < len(labels)
    assert made.attrs["n_trials_with_copies"] == n_with_copies > 0


def test_trials_of_photographs_without_copies_say_nothing_of_them(codes):
    known = codes.assign_coords(content=("stimulus", [f"{number:032x}" for number in range(500)]))
    assert "n_trials_with_copies" not in make_trials(known).attrs
