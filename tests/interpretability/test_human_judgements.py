import gzip

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.metrics import roc_auc_score

from neurosuper.interpretability import agreement_with_humans, read_judgements, validate_against_humans

LAYERS = ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]
UNIT = ["layer", "channel"]


@pytest.fixture
def scores(rng) -> xr.DataArray:
    """Scores of 84 units, 21 per layer, as in IMI."""
    coords = {
        "unit": [f"{layer}:{channel}" for layer in LAYERS for channel in range(21)],
        "layer": ("unit", np.repeat(LAYERS, 21)),
        "channel": ("unit", np.tile(np.arange(21), 4)),
    }
    return xr.DataArray(rng.uniform(0.5, 1, 84), dims="unit", coords=coords, name="mis", attrs={"metric": "made up"})


@pytest.fixture
def table(scores, rng) -> pd.DataFrame:
    """2,520 answers as IMI wrote them: 10 trials per unit, three people each; then catch trials and demonstrations.

    The score is the probability of a correct answer. As some rows have no channel, whole columns are floats.
    """
    unit = np.repeat(np.arange(84), 30)
    main = pd.DataFrame(
        {
            "model": "resnet50",
            "layer": scores.layer.values[unit],
            "channel": scores.channel.values[unit].astype(float),
            "batch": np.tile(np.repeat(np.arange(10.0), 3), 84),
            "mode": "natural",
            "correct": rng.random(2520) < scores.values[unit],
            "confidence": rng.integers(1, 4, 2520),
            "rt": rng.exponential(3000, 2520),
            "participant_id": rng.integers(0, 60, 2520),
            "is_demo": False,
            "catch_trial": False,
        }
    )
    catch = main[:50].assign(model="catch/manual", layer="catch", batch=-1, catch_trial=True, correct=True)
    demo = main[:30].assign(model=np.nan, layer=np.nan, channel=np.nan, batch=np.nan, is_demo=True, confidence=np.nan)
    return pd.concat([main, catch, demo], ignore_index=True)


@pytest.fixture
def judgements(table, tmp_path) -> pd.DataFrame:
    table.to_csv(tmp_path / "responses_main.csv.gz", index=False)
    return read_judgements(tmp_path / "responses_main.csv.gz")


def test_a_table_is_read_without_demonstrations_and_catch_trials(table, judgements):
    assert len(judgements) == 2520
    assert judgements["correct"].dtype == bool
    assert_allclose(judgements["correct"].mean(), table["correct"][:2520].mean())
    assert set(judgements["channel"]) == {str(i) for i in range(21)}, "7.0 is 7"
    assert set(judgements["layer"]) == set(LAYERS), "but layer1.0 is no number"
    assert_allclose(judgements["rt"], table["rt"][:2520], err_msg="further columns are left as they are")


def test_a_row_without_a_mark_is_neither_a_demonstration_nor_a_catch_trial(table, scores):
    marked = table.astype({"is_demo": object, "catch_trial": object})
    blank = marked.replace({"is_demo": {False: np.nan}, "catch_trial": {False: None}})
    assert blank["is_demo"].isna().sum() > 2520
    result = validate_against_humans(scores, blank)
    assert result.identical(validate_against_humans(scores, table))


@pytest.mark.parametrize("written", [{True: "True", False: "False"}, {True: 1, False: 0}, {True: 1.0, False: 0.0}])
def test_right_and_wrong_may_be_written_in_several_ways(written, table, judgements, scores):
    result = validate_against_humans(scores, table.assign(correct=table["correct"].astype(bool).map(written)))
    assert result.identical(validate_against_humans(scores, judgements))


def test_correlations_and_auc_are_those_of_scipy_and_sklearn(scores, judgements):
    result = validate_against_humans(scores, judgements)
    accuracy = judgements.groupby(UNIT)["correct"].mean()[
        list(zip(scores.layer.values, scores.channel.values.astype(str), strict=True))
    ]
    assert_allclose(result.human_accuracy, accuracy)
    assert_allclose(result.n_judgements, 30)
    overall = result.sel(group="all")
    assert_allclose(overall.pearson, stats.pearsonr(scores, accuracy).statistic)
    assert_allclose(overall.spearman, stats.spearmanr(scores, accuracy).statistic)
    assert_allclose(overall.accuracy, judgements["correct"].mean())
    by_name = dict(
        zip(zip(scores.layer.values, scores.channel.values.astype(str), strict=True), scores.values, strict=True)
    )
    of_trial = [by_name[name] for name in zip(judgements["layer"], judgements["channel"], strict=True)]
    assert_allclose(overall.auc, roc_auc_score(judgements["correct"], of_trial))


def test_groups_are_measured_like_a_table_of_that_group_alone(scores, judgements):
    result = validate_against_humans(scores, judgements, n_resamples=50)
    assert result.group.values.tolist() == [
        "all",
        *(f"layer {x}" for x in LAYERS),
        *(f"confidence {i}" for i in (1, 2, 3)),
    ]
    assert result.by.values.tolist() == ["all"] + ["layer"] * 4 + ["confidence"] * 3
    assert result.n_trials.sel(group=result.by == "confidence").sum() == result.n_trials.sel(group="all") == 2520
    assert result.n_units.values.tolist() == [84] + [21] * 4 + [84] * 3
    for group, by, value in zip(result.group.values, result.by.values[1:], result.value.values[1:], strict=False):
        part = judgements[judgements[by].astype(str) == value]
        alone = validate_against_humans(scores, part, n_resamples=50).sel(group="all")
        group = f"{by} {value}"
        for name in ("pearson", "pearson_low", "spearman", "spearman_low", "auc", "n_trials", "accuracy"):
            assert_allclose(result[name].sel(group=group), alone[name], err_msg=f"{group} {name}")


def test_a_planted_relation_is_found_and_its_absence_too(scores, judgements, rng):
    """Right answers are binomial: r = sd(score) / √(var(score) + mean p (1 − p) / 30)."""
    variance = scores.values.var()
    noise = (scores.values * (1 - scores.values)).mean() / 30
    result = validate_against_humans(scores, judgements).sel(group="all")
    assert_allclose(result.pearson, (variance / (variance + noise)) ** 0.5, atol=0.05)
    low, high = result.pearson_low.item(), result.pearson_high.item()
    assert low < result.pearson < high
    assert high - low < 0.2
    assert result.auc > 0.55
    chance = validate_against_humans(scores.copy(data=rng.permutation(scores)), judgements).sel(group="all")
    assert chance.pearson_low < 0 < chance.pearson_high
    assert abs(chance.auc - 0.5) < 0.05


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_intervals_are_scipys_percentile_bootstrap(name, scores, judgements):
    result = validate_against_humans(scores, judgements, n_resamples=4000, confidence_level=0.9)
    correlate = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[name]
    theirs = stats.bootstrap(
        (result.score.values, result.human_accuracy.values),
        lambda a, b: correlate(a, b).statistic,
        paired=True,
        vectorized=False,
        n_resamples=2000,
        confidence_level=0.9,
        method="percentile",
    ).confidence_interval
    assert_allclose(
        [result[f"{name}_{end}"].sel(group="all") for end in ("low", "high")], [theirs.low, theirs.high], atol=0.01
    )


def test_a_score_that_is_the_accuracy_correlates_fully(scores, judgements):
    accuracy = validate_against_humans(scores, judgements).human_accuracy
    result = validate_against_humans(scores.copy(data=accuracy.values), judgements).sel(group="all")
    assert_allclose(
        [
            result.pearson,
            result.spearman,
            result.pearson_low,
            result.pearson_high,
            result.spearman_low,
            result.spearman_high,
        ],
        1,
    )


def test_units_carry_their_coords_and_what_has_no_match_is_counted(scores, judgements):
    some = scores[10:40].assign_coords(area=("unit", ["V4"] * 30))
    result = validate_against_humans(some, judgements[judgements["layer"] != "layer2.0"], n_resamples=10)
    assert result.unit.values.tolist() == some.unit.values[:11].tolist()
    assert result.area.values.tolist() == ["V4"] * 11
    assert result.score.attrs == {"metric": "made up"}
    assert result.attrs["n_units_unjudged"] == 19
    assert result.attrs["n_judgements_unscored"] == 2520 - 630 - 11 * 30


def test_correlations_without_variation_are_nan(scores, judgements):
    result = validate_against_humans(scores[:2], judgements.assign(correct=True), n_resamples=10)
    for name in ("pearson", "spearman", "pearson_low", "spearman_low", "auc"):
        assert result[name].isnull().all()
    assert result.n_units.sel(group="all") == 2
    assert result.accuracy.sel(group="all") == 1


def test_several_models_are_joined_by_model(scores, judgements):
    """Units of the same layer and channel in two models are two units."""
    both = pd.concat([judgements, judgements.assign(model="googlenet", correct=~judgements["correct"])])
    with pytest.raises(ValueError, match="of the models 'resnet50', 'googlenet'; select one, or add `model`"):
        validate_against_humans(scores, both)
    named = scores.assign_coords(model=("unit", ["googlenet"] * 84))
    result = validate_against_humans(named, both, n_resamples=10)
    assert_allclose(
        result.human_accuracy, 1 - validate_against_humans(scores, judgements, n_resamples=10).human_accuracy
    )
    one = validate_against_humans(scores.assign_coords(model="googlenet"), both, n_resamples=10)
    assert_allclose(one.human_accuracy, result.human_accuracy)


@pytest.fixture
def machine(rng) -> xr.DataArray:
    """A machine that is correct in 9 of 10 trials, independently of people."""
    coords = {
        "layer": ("unit", np.repeat(LAYERS, 21)),
        "channel": ("unit", np.tile(np.arange(21), 4)),
        "batch": np.arange(10),
    }
    return xr.DataArray(rng.random((84, 10)) < 0.9, dims=("unit", "batch"), coords=coords)


def test_agreement_is_a_binomial_share_in_every_group(machine, judgements):
    """Oracle: a loop over answers, and scipy's binomial test."""
    result = agreement_with_humans(machine, judgements, confidence_level=0.9)
    answers = machine.stack(trial=("unit", "batch"))
    right = dict(
        zip(
            zip(answers.layer.values, answers.channel.values, answers.batch.values, strict=True),
            answers.values,
            strict=True,
        )
    )
    same = np.array(
        [right[row.layer, int(row.channel), int(row.batch)] == row.correct for row in judgements.itertuples()]
    )
    for i, (by, value) in enumerate(zip(result.by.values, result.value.values, strict=True)):
        inside = np.ones(2520, bool) if by == "all" else (judgements[by].astype(str) == value).to_numpy()
        expected = stats.binomtest(int(same[inside].sum()), int(inside.sum()))
        interval = expected.proportion_ci(0.9, method="exact")
        assert_allclose(result.agreement[i], expected.statistic)
        assert_allclose([result.agreement_low[i], result.agreement_high[i]], [interval.low, interval.high])
        assert result.n_trials[i] == inside.sum()
    assert result.n_units.values.tolist() == [84] + [21] * 4 + [84] * 3


def test_independent_answers_agree_as_often_as_expected_by_chance(machine, judgements):
    result = agreement_with_humans(machine, judgements).sel(group="all")
    p, q = result.machine_accuracy, result.human_accuracy
    assert result.agreement_low < p * q + (1 - p) * (1 - q) < result.agreement_high


def test_a_machine_that_answers_as_people_do_agrees_fully_and_one_that_never_does_not_at_all(judgements):
    first = judgements.drop_duplicates([*UNIT, "batch"])
    assert_allclose(agreement_with_humans(first, first).agreement, 1)
    assert_allclose(agreement_with_humans(first.assign(correct=~first["correct"]), first).agreement, 0)


def test_a_table_and_a_labelled_array_are_the_same_and_what_is_unanswered_is_left_out(machine, judgements):
    table = machine.rename("correct").to_dataframe().reset_index()
    result = agreement_with_humans(machine, judgements)
    assert result.identical(agreement_with_humans(table, judgements))
    partly = agreement_with_humans(machine.where(machine.batch < 4), judgements)
    assert partly.n_trials[0] == 4 * 3 * 84
    assert partly.attrs["n_judgements_unanswered"] == 6 * 3 * 84


def test_a_bad_file_is_refused_with_a_reason(tmp_path, table):
    with pytest.raises(FileNotFoundError, match="no judgements at .*gone.csv; check the path"):
        read_judgements(tmp_path / "gone.csv")
    with pytest.raises(
        ValueError, match=r"a \.csv or \.csv\.gz file, got table\.pkl; write one with DataFrame\.to_csv"
    ):
        read_judgements(tmp_path / "table.pkl")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match=r"empty\.csv is not a readable table \(.*\); fetch it again"):
        read_judgements(tmp_path / "empty.csv")
    table.to_csv(tmp_path / "whole.csv.gz")
    (tmp_path / "cut.csv.gz").write_bytes((tmp_path / "whole.csv.gz").read_bytes()[:-500])
    with pytest.raises(ValueError, match="cut.csv.gz is not a readable table"):
        read_judgements(tmp_path / "cut.csv.gz")


def test_bad_judgements_are_refused_with_a_reason(scores, judgements):
    with pytest.raises(ValueError, match="no column 'batch', 'confidence' in judgements, which has 'model', 'layer'"):
        validate_against_humans(scores, judgements.drop(columns=["batch", "confidence"]))
    with pytest.raises(ValueError, match="correct must be true or false, or 1 or 0, got 'maybe'"):
        validate_against_humans(scores, judgements.assign(correct="maybe"))
    with pytest.raises(ValueError, match="confidence must be 1, 2 or 3, got '4'"):
        validate_against_humans(scores, judgements.assign(confidence=4))
    with pytest.raises(ValueError, match="no channel in 2520 rows; drop them"):
        validate_against_humans(scores, judgements.assign(channel=np.nan))
    with pytest.raises(ValueError, match="judgements have only demonstrations and catch trials"):
        validate_against_humans(scores, judgements.assign(is_demo=True))
    with pytest.raises(TypeError, match="must be a DataFrame, got str; see read_judgements"):
        validate_against_humans(scores, "responses_main.csv")


def test_bad_scores_and_answers_are_refused_with_a_reason(scores, machine, judgements):
    with pytest.raises(ValueError, match=r"scores must be a DataArray \(unit,\), got \('metric', 'unit'\)"):
        validate_against_humans(scores.expand_dims(metric=2), judgements)
    with pytest.raises(ValueError, match="no column 'channel' in scores, which has 'unit', 'score', 'layer'"):
        validate_against_humans(scores.drop_vars("channel"), judgements)
    with pytest.raises(ValueError, match=r"no score of unit 'layer1.0:3'; drop it with scores.dropna"):
        validate_against_humans(scores.where(scores.unit != "layer1.0:3"), judgements)
    with pytest.raises(ValueError, match="'layer1.0/0', .* twice in scores; add the model, or drop one of them"):
        validate_against_humans(scores.assign_coords(layer=("unit", ["layer1.0"] * 84)), judgements)
    message = (
        "nothing in common by layer/channel: 'conv/0', 'conv/1', 'conv/2', .* against 'layer1.0/0', 'layer1.0/1', "
    )
    with pytest.raises(ValueError, match=message):
        validate_against_humans(scores[:21].assign_coords(layer=("unit", ["conv"] * 21)), judgements)
    with pytest.raises(ValueError, match="n_resamples must be a whole number of at least 1, got 0"):
        validate_against_humans(scores, judgements, n_resamples=0)
    with pytest.raises(ValueError, match="confidence_level must be strictly between 0 and 1, such as 0.95; got 95"):
        agreement_with_humans(machine, judgements, confidence_level=95)
    with pytest.raises(ValueError, match="machine_correct has no coords 'batch'; add them"):
        agreement_with_humans(machine.drop_vars("batch"), judgements)
    with pytest.raises(ValueError, match="no column 'correct' in machine_correct, which has"):
        agreement_with_humans(judgements.drop(columns="correct"), judgements)
    with pytest.raises(ValueError, match="'resnet50/layer1.0/0/0', .* twice in machine_correct"):
        agreement_with_humans(judgements, judgements)
    with pytest.raises(TypeError, match="must be a DataArray or DataFrame, got float"):
        agreement_with_humans(0.5, judgements)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_table_that_unpacks_to_more_than_any_is_refused_before_it_is_read(suffix, tmp_path, monkeypatch):
    monkeypatch.setattr("neurosuper.interpretability.judgement_tables.MAX_BYTES", 2**20)
    content = b"model,layer,channel,batch,correct,confidence\n" + b"\n" * 2**20
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    monkeypatch.setattr("pandas.read_csv", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ValueError, match=r"it has more than 1 MB\); fetch it again") as caught:
        read_judgements(path)
    assert "\n" not in str(caught.value)
