import pytest
import torch
from numpy.testing import assert_allclose

from neurosuper.directions._solvers.ica_contrasts import NONLINEARITIES, _logcosh


@pytest.mark.parametrize("n_rows", [1, 37, 3000])
def test_compiled_kernel_equals_torch(n_rows, rng):
    S = torch.tensor(rng.normal(size=(n_rows, 7)) * [0, 1e-4, 0.3, 1, 3, 10, 300], dtype=torch.float32)
    compiled, plain = _logcosh(S.clone()), _logcosh(S.double())
    assert_allclose(compiled[0], plain[0], atol=3e-7)
    for ours, theirs in zip(compiled[1:], plain[1:], strict=True):
        assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6 * n_rows)


@pytest.mark.parametrize("fun", ["logcosh", "exp"])
def test_slopes_and_contrasts_are_derivatives_of_one_another(fun):
    S = torch.linspace(-4, 4, 41, dtype=torch.float64)[:, None]
    step = 1e-5

    def contrast(at):
        return torch.cat([NONLINEARITIES[fun](row[None].clone())[2] for row in at])

    def g(at):
        return NONLINEARITIES[fun](at.clone())[0]

    slope = torch.cat([NONLINEARITIES[fun](row[None].clone())[1] for row in S])
    assert_allclose((contrast(S + step) - contrast(S - step)) / (2 * step), g(S)[:, 0], atol=1e-8)
    assert_allclose(((g(S + step) - g(S - step)) / (2 * step))[:, 0], slope, atol=1e-8)
