"""CKA is its definition, 0 for independent systems, and not lowered by noise where there are repetitions."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from neurosuper.comparison import cka

FAST = {"n_permutations": 19, "n_resamples": 0}


def system(values, unit: str = "u") -> xr.DataArray:
    coords = {
        "stimulus": [f"s{i:03d}" for i in range(len(values))],
        "unit": [f"{unit}{i}" for i in range(values.shape[-1])],
    }
    return xr.DataArray(
        values, coords, ("stimulus", "unit") if values.ndim == 2 else ("stimulus", "repetition", "unit")
    )


def hsic(K, L):
    """Return the unbiased estimate of Song et al. 2012 by its definition: a mean over all four different stimuli."""
    n = len(K)
    total = 0.0
    for i in range(n):
        for j in range(n):
            for q in range(n):
                for r in range(n):
                    if len({i, j, q, r}) == 4:
                        total += K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q])
    return total / (n * (n - 1) * (n - 2) * (n - 3))


@pytest.mark.parametrize(("p", "q"), [(3, 4), (20, 30)])  # products of items, and of stimuli
def test_debiased_cka_is_its_definition(p, q):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(9, p))
    B = rng.normal(size=(9, q)) + A[:, :1]
    K, L = A @ A.T, B @ B.T
    expected = hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))
    np.testing.assert_allclose(cka(system(A), system(B), **FAST).estimate, expected, rtol=1e-8)


def test_cka_without_debiasing_is_its_definition():
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(20, 3)), rng.normal(size=(20, 5))
    H = np.eye(20) - 1 / 20
    K, L = H @ A @ A.T @ H, H @ B @ B.T @ H
    expected = (K * L).sum() / np.linalg.norm(K) / np.linalg.norm(L)
    found = cka(system(A), system(B), debias="none", **FAST)
    np.testing.assert_allclose(found.estimate, expected, rtol=1e-10)


@pytest.mark.parametrize("debias", ["stimuli", "none"])
def test_a_rotation_and_a_scale_keep_one(debias):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(30, 6))
    Q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    np.testing.assert_allclose(cka(system(A), system(3 * A @ Q), debias=debias, **FAST).estimate, 1)


def test_independent_systems_with_many_units_score_near_zero_only_when_debiased():
    rng = np.random.default_rng(0)
    a, b = (system(rng.normal(size=(200, 2000))) for _ in range(2))
    assert abs(cka(a, b, **FAST).estimate) < 0.02
    assert cka(a, b, debias="none", **FAST).estimate > 0.9


def test_repetitions_take_the_noise_out():
    rng, found = np.random.default_rng(0), []
    for _ in range(20):
        signal = rng.normal(size=(120, 6))
        turned = signal @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
        a, b = (system(each[:, None] + rng.normal(size=(120, 3, 6))) for each in (signal, turned))
        averages = a.mean("repetition"), b.mean("repetition")
        found.append((cka(a, b, **FAST).estimate.item(), cka(*averages, **FAST).estimate.item()))
    with_repetitions, of_averages = np.mean(found, axis=0)
    assert abs(with_repetitions - 1) < 0.05
    assert of_averages < 0.75


def test_p_is_uniform_and_a_shared_signal_is_found():
    rng = np.random.default_rng(0)
    p = [cka(*(system(rng.normal(size=(20, 5))) for _ in range(2)), **FAST).p_value.item() for _ in range(150)]
    assert stats.kstest(np.array(p) - rng.uniform(0, 0.05, 150), "uniform").pvalue > 0.01
    signal = rng.normal(size=(40, 5))
    a, b = (system(signal + rng.normal(size=signal.shape)) for _ in range(2))
    found = cka(a, b, n_permutations=99, n_resamples=20)
    assert found.p_value == 0.01
    assert found.estimate_low < found.estimate < found.estimate_high


def test_order_of_stimuli_and_units_is_irrelevant():
    rng = np.random.default_rng(0)
    a, b = system(rng.normal(size=(20, 4))), system(rng.normal(size=(20, 5)))
    order = rng.permutation(20)
    np.testing.assert_allclose(cka(a[order, ::-1], b, **FAST).estimate, cka(a, b, **FAST).estimate)
    np.testing.assert_allclose(cka(a, b[order].chunk(), **FAST).estimate, cka(a, b, **FAST).estimate)


def test_groups_are_halved_whole():
    rng = np.random.default_rng(0)
    bursts = np.repeat(np.arange(10), 5)
    drive = rng.normal(size=(10, 4))[bursts]
    a, b = (system(drive + 0.1 * rng.normal(size=(50, 4))) for _ in range(2))
    a = a.assign_coords(burst=("stimulus", bursts))
    alone, whole = (cka(a, b, n_permutations=19, n_resamples=40, **each) for each in ({}, {"stimulus_groups": "burst"}))
    assert (whole.estimate_high - whole.estimate_low) > (alone.estimate_high - alone.estimate_low)


def test_bad_input_is_named():
    rng = np.random.default_rng(0)
    a, b = system(rng.normal(size=(20, 4))), system(rng.normal(size=(20, 5)))
    with (
        pytest.raises(ValueError, match="7 common stimuli are too few; use at least 8"),
        pytest.warns(UserWarning, match="left out"),
    ):
        cka(a, b[:7])
    with pytest.raises(ValueError, match="NaN or infinite values in unit 'u1'"):
        cka(a.where((a.unit != "u1") | (a.stimulus != "s003")), b)
    with pytest.raises(ValueError, match="debias must be one of 'stimuli', 'none'"):
        cka(a, b, debias="units")
    with pytest.raises(ValueError, match="n_permutations must be a whole number of at least 19"):
        cka(a, b, n_permutations=5)
    with pytest.raises(ValueError, match="the repetitions of a system share no signal"):
        cka(_no_signal(), b)


def _no_signal() -> xr.DataArray:
    """Return two repetitions whose products of any two stimuli have opposite signs."""
    rng = np.random.default_rng(1)
    first = rng.normal(size=(20, 2))
    second = np.stack([first[:, 1], -first[:, 0]], axis=1) * np.where(np.arange(20) % 2, 1, -1)[:, None]
    return system(np.stack([first, second], axis=1))
