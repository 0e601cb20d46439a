"""Sparse autoencoders against autograd, plain torch, planted features, and themselves after an interruption."""

import os

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose

from neurosuper import _files
from neurosuper.directions import sae
from neurosuper.directions._rows.minibatches import shuffled_minibatches
from neurosuper.directions._rows.rows import Rows
from neurosuper.directions._solvers import sae_codes, sae_kernels
from neurosuper.directions._solvers.sae_checkpoint import digest_rows
from neurosuper.directions._solvers.sae_codes import Activation, encode, gradients
from neurosuper.directions._solvers.sae_training import Training
from neurosuper.directions.sae import SparseAutoencoder

KINDS = ("topk", "batchtopk", "relu", "jumprelu")
kinds = pytest.mark.parametrize("kind", KINDS)
LEARNED = ("directions_", "encoder_", "encoder_bias_", "bias_")


def make_weights(kind, n_directions=40, n_units=12, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=dtype)  # noqa: E731
    weights = {
        "directions": torch.nn.functional.normalize(draw(n_directions, n_units), dim=1),
        "encoder": 0.4 * draw(n_directions, n_units),
        "encoder_bias": 0.1 * draw(n_directions),
        "bias": 0.1 * draw(n_units),
    }
    if kind == "jumprelu":
        weights["log_threshold"] = 0.1 * draw(n_directions)
    return weights, draw(64, n_units)


class Jump(torch.autograd.Function):
    """z·(z > θ) and z > 0, with the straight-through gradients of Rajamanoharan et al. (2024), equations 11 and 12."""

    @staticmethod
    def forward(ctx, P, threshold, width):
        ctx.save_for_backward(P, threshold)
        ctx.width = width
        return P * (threshold < P), (threshold < P).to(P.dtype)

    @staticmethod
    def backward(ctx, of_codes, of_number):
        P, threshold = ctx.saved_tensors
        kernel = ((P - threshold).abs() < ctx.width / 2) / ctx.width
        return of_codes * (threshold < P), -kernel * (threshold * of_codes + of_number), None


def plain_codes(P, weights, activation):
    """Return codes and what is charged for them, by whole matrices."""
    if activation.kind == "topk":
        kept = P.topk(activation.n_active, dim=1)
        return torch.zeros_like(P).scatter(1, kept.indices, kept.values.relu()), P.new_zeros(())
    if activation.kind == "batchtopk":
        kept = P.flatten().topk(activation.n_active * len(P))
        Z = torch.zeros(P.numel(), dtype=P.dtype).scatter(0, kept.indices, kept.values.relu())
        return Z.view_as(P), P.new_zeros(())
    if activation.kind == "relu":
        return P.relu(), P.relu().sum()
    width = sae_codes.BANDWIDTH / activation.n_active**0.5
    Z, number = Jump.apply(P, weights["log_threshold"].exp(), width)
    return Z, number.sum()


def plain_objective(X, weights, activation):
    P = (X - weights["bias"]) @ weights["encoder"].T + weights["encoder_bias"]
    Z, charge = plain_codes(P, weights, activation)
    reconstruction = Z @ weights["directions"] + weights["bias"]
    return ((X - reconstruction) ** 2).sum(1).mean() + activation.alpha * charge / len(X)


@kinds
def test_gradients_are_those_of_autograd(kind):
    weights, X = make_weights(kind)
    activation = Activation(kind, 4, 0.1)
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    objective = plain_objective(X, leaves, activation)
    objective.backward()
    found, tally = gradients(X, weights, activation)
    assert_allclose(tally.objective, objective.detach(), rtol=1e-12)
    for name, leaf in leaves.items():
        assert_allclose(found[name], leaf.grad, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "relu"])
def test_gradients_are_those_of_finite_differences(kind):
    weights, X = make_weights(kind, 10, 5)
    activation, names = Activation(kind, 3, 0.1), list(weights)

    class Objective(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *values):
            found, tally = gradients(X, dict(zip(names, values, strict=True)), activation)
            ctx.found = found
            return tally.objective

        @staticmethod
        def backward(ctx, slope):
            return tuple(slope * ctx.found[name] for name in names)

    assert torch.autograd.gradcheck(Objective.apply, [weight.requires_grad_() for weight in weights.values()])


@pytest.mark.parametrize("kind", ["topk", "batchtopk"])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_compiled_steps_are_those_of_torch(kind, dtype, near, monkeypatch):
    compiled, plain = (Training(make_weights(kind, dtype=dtype)[0], Activation(kind, 4, 0), 0.01, 10) for _ in range(2))
    X = make_weights(kind, dtype=dtype)[1]
    tally = compiled.step(X)
    with monkeypatch.context() as patch:
        patch.setattr(Activation, "is_sparse", property(lambda self: False))
        patch.setattr(
            Activation, "__call__", lambda self, P, threshold=None: sae_codes.scatter(*self.select(P), P.shape[1])
        )
        expected = plain.step(X)
    for name in plain.weights:
        assert_allclose(compiled.first[name], plain.first[name], atol=near, rtol=near, err_msg=name)
        assert_allclose(compiled.weights[name], plain.weights[name], atol=near, err_msg=name)
    for field in tally._fields:
        assert_allclose(getattr(tally, field), getattr(expected, field), rtol=near, err_msg=field)
    assert_allclose(compiled.weights["directions"].norm(dim=1), 1, rtol=1e-6)


@pytest.mark.parametrize(("dtype", "near"), [(np.float64, 1e-12), (np.float32, 1e-4)])
def test_compiled_encoder_is_that_of_numpy(dtype, near, rng):
    X, encoder, bias = (rng.normal(size=shape).astype(dtype) for shape in ((70, 30), (600, 30), 600))
    with sae_kernels.threads():
        P = sae_kernels.encode(X, encoder, bias)
    assert P.dtype == dtype
    assert_allclose(P, X @ encoder.T + bias, rtol=near, atol=near)


def test_largest_codes_are_those_of_torch():
    P = torch.randn(50, 33, generator=torch.Generator().manual_seed(1)) - 1
    for n_active in (1, 7, 33):
        atoms, values = sae_codes.largest(P, n_active)
        expected = P.topk(n_active, dim=1).values.clamp(min=0)
        assert_allclose(values.sort(dim=1, descending=True).values, expected)
        assert_allclose(P.gather(1, atoms.long()).clamp(min=0)[values > 0], values[values > 0])


@kinds
def test_codes_and_reconstruction_are_those_of_plain_torch(kind, responses):
    finder = SparseAutoencoder(
        "3x", activation=kind, n_active=3, max_iter=5, normalize=True, center=True, dtype="float64"
    )
    codes = finder.fit_transform(responses)
    X = responses / np.linalg.norm(responses, axis=1, keepdims=True) - finder.mean_
    P = (X - finder.bias_).values @ finder.encoder_.values.T + finder.encoder_bias_.values
    if kind == "topk":
        expected = np.where(np.sort(P, 1)[:, [-3]] <= P, P, 0).clip(0)
    elif kind == "relu":
        expected = P.clip(0)
    else:
        expected = np.where(finder.thresholds_.values < P, P, 0)
    assert_allclose(codes, expected, atol=1e-12)
    assert (codes >= 0).all()
    reconstruction = expected @ finder.directions_.values + finder.bias_.values
    assert_allclose(finder.inverse_transform(codes), reconstruction + finder.mean_.values, atol=1e-12)
    r2 = 1 - ((X - reconstruction) ** 2).sum() / ((X - X.mean("stimulus")) ** 2).sum()
    assert_allclose(finder.explained_variance(responses), r2, atol=1e-10)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("topk", {"n_active": 2}),
        ("batchtopk", {"n_active": 1, "max_iter": 100}),
        ("relu", {"n_active": 2}),
        ("jumprelu", {"n_active": 1, "max_iter": 100}),
    ],
)
def test_planted_features_are_found(kind, settings, superposition):
    responses, planted = superposition
    finder = SparseAutoencoder(64, activation=kind, **settings).fit(responses)
    cosines = planted.values @ finder.directions_.values.T
    assert cosines.max(1).mean() > 0.9
    assert finder.explained_variance(responses) > 0.85
    assert finder.learning_curve_[-1] < finder.learning_curve_[0] / 2


def test_unit_of_responses_does_not_matter(responses):
    finder = SparseAutoencoder("2x", n_active=3, max_iter=5, dtype="float64")
    codes, scaled = finder.fit_transform(responses), finder.fit_transform(1000 * responses)
    assert_allclose(scaled, 1000 * codes, rtol=1e-6)


def test_dead_atoms_are_revived_where_reconstruction_is_bad():
    weights, X = make_weights("topk")
    training = Training(weights, Activation("topk", 4, 0), 0.01, 10)
    X[:32] = weights["bias"]
    dead = torch.arange(40) < 5
    before = {name: weight.clone() for name, weight in weights.items()}
    training.step(X)
    training.revive(dead, X, torch.Generator().manual_seed(0))
    Z = training.activation(encode(X, weights))
    assert (Z[:, dead] > 0).any(0).sum() >= 4
    assert_allclose(weights["directions"].norm(dim=1), 1)
    assert (training.first["encoder"][dead] == 0).all()
    assert not torch.equal(before["directions"][dead], weights["directions"][dead])


def test_scalars_are_of_the_last_epoch(superposition):
    responses, _ = superposition
    finder = SparseAutoencoder("4x", n_active=4, max_iter=20).fit(responses)
    assert finder.r2_ == pytest.approx(finder.explained_variance(responses), abs=0.02)
    dead = ~(finder.transform(responses) > 0).any("stimulus")
    assert finder.dead_fraction_ == pytest.approx(float(dead.mean()), abs=0.1)


@kinds
@pytest.mark.parametrize("lazy", [False, True])
def test_interrupted_fit_goes_on_to_the_same_bits(kind, lazy, responses, tmp_path, monkeypatch):
    if lazy:
        responses = responses.chunk(stimulus=50)
    path = str(tmp_path / "fit.pt")
    settings = {"activation": kind, "n_active": 3, "max_iter": 6, "batch_size": 30}
    expected = SparseAutoencoder("3x", **settings).fit(responses)
    epoch, calls = Training.epoch, []

    def interrupted(self, parts):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return epoch(self, parts)

    monkeypatch.setattr(Training, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt, match="keeps what it had found"):
        SparseAutoencoder("3x", checkpoint=path, **settings).fit(responses)
    monkeypatch.setattr(Training, "epoch", epoch)
    for _ in range(2):  # goes on, and finds that nothing is left to do
        resumed = SparseAutoencoder("3x", checkpoint=path, **settings).fit(responses)
        for name in [*LEARNED, "learning_curve_"]:
            np.testing.assert_array_equal(getattr(resumed, name), getattr(expected, name))
        assert (resumed.r2_, resumed.dead_fraction_) == (expected.r2_, expected.dead_fraction_)
    assert [file.name for file in tmp_path.iterdir()] == ["fit.pt"]


def test_fit_at_rest_rests_when_it_is_resumed(responses, tmp_path):
    settings = {"n_active": 2, "max_iter": 200, "tol": 0.01, "checkpoint": str(tmp_path / "fit.pt")}
    rested = SparseAutoencoder("1x", **settings).fit(responses)
    resumed = SparseAutoencoder("1x", **settings).fit(responses)
    assert rested.n_iter_ == resumed.n_iter_ < 200
    xr.testing.assert_equal(rested.directions_, resumed.directions_)


def test_checkpoint_of_another_fit_or_a_damaged_one_is_refused(responses, tmp_path):
    path = tmp_path / "fit.pt"
    finder = SparseAutoencoder("2x", n_active=3, max_iter=2, checkpoint=str(path)).fit(responses)
    with pytest.raises(ValueError, match="is of a fit with another n_active, 3, not 2; delete it to start"):
        SparseAutoencoder("2x", n_active=2, max_iter=2, checkpoint=str(path)).fit(responses)
    with pytest.raises(ValueError, match="another number of stimuli, 120, not 100"):
        finder.fit(responses[:100])
    others = {
        "values": responses + 1,
        "order of stimuli": responses.copy(data=responses.values[::-1]),
        "order of units": responses.copy(data=responses.values[:, ::-1]),
        "labels": responses.assign_coords(stimulus=np.roll(responses.stimulus, 1)),
    }
    for what, other in others.items():
        with pytest.raises(ValueError, match=r"fit\.pt is of a fit with other responses; delete it to start"):
            pytest.fail(f"took other {what}: {finder.fit(other)}")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is damaged or of another kind"):
        finder.fit(responses)


@pytest.mark.parametrize("chunks", [{"stimulus": 7}, {"stimulus": 120}, {"stimulus": 50, "unit": 3}], ids=repr)
def test_digest_is_of_numbers_in_order_and_of_labels_however_they_are_stored(chunks, responses):
    digest = digest_rows(Rows(responses, "cpu"))
    assert digest_rows(Rows(responses.chunk(chunks), "cpu")) == digest
    assert digest_rows(Rows(responses.astype(np.float32), "cpu")) == digest
    assert digest_rows(Rows(responses[::-1], "cpu")) != digest
    joined = responses.assign_coords(unit=["u000u001", "", *responses.unit.values[2:]])
    assert digest_rows(Rows(joined, "cpu")) != digest


def test_fit_goes_on_when_its_checkpoint_cannot_be_written(responses, tmp_path, monkeypatch):
    settings = {"n_directions": "2x", "n_active": 3, "max_iter": 3}
    expected = SparseAutoencoder(**settings).fit(responses)

    def fill_disk(state, path):
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fill_disk)
    message = r"fit\.pt cannot be written \(No space left on device\); the fit continues without"
    with pytest.warns(UserWarning, match=message) as warned:
        fitted = SparseAutoencoder(checkpoint=str(tmp_path / "fit.pt"), **settings).fit(responses)
    assert len(warned) == 1
    assert list(tmp_path.iterdir()) == []
    xr.testing.assert_equal(fitted.directions_, expected.directions_)


def test_missing_folder_of_a_checkpoint_is_noticed_before_the_first_epoch(responses, tmp_path, monkeypatch):
    monkeypatch.setattr(Training, "epoch", lambda *_: pytest.fail("an epoch was made"))
    with pytest.raises(FileNotFoundError, match="the folder of checkpoint .* does not exist; make it"):
        SparseAutoencoder("2x", n_active=3, checkpoint=str(tmp_path / "none" / "fit.pt")).fit(responses)


def test_leftovers_of_killed_processes_are_removed_by_the_next_fit(responses, tmp_path, gone):
    for name, process in (("[a]", gone), ("[a]", os.getpid()), ("a", gone)):
        (tmp_path / f"{name}.{_files._machine()}.{process}.0f.part").touch()
    SparseAutoencoder("2x", n_active=3, max_iter=1, checkpoint=str(tmp_path / "[a]")).fit(responses)
    assert sorted(file.name.split(".")[0] for file in tmp_path.iterdir()) == ["[a]", "[a]", "a"]
    assert not list(tmp_path.glob(f"[[]a].*{gone}*"))


def test_every_row_is_in_one_batch(responses):
    for R in (responses, responses.chunk(stimulus=37)):
        rows = Rows(R, "cpu", "float64")
        parts = list(shuffled_minibatches(rows, 50, torch.Generator().manual_seed(0)))
        assert [len(part) for part in parts] == [40, 40, 40]
        shuffled = torch.cat(parts).numpy()
        assert not np.array_equal(shuffled, responses)
        assert_allclose(np.sort(shuffled, axis=0), np.sort(responses, axis=0))


@kinds
def test_streamed_fit_is_as_good(kind, superposition):
    responses, _ = superposition
    finder = SparseAutoencoder("2x", activation=kind, n_active=2, max_iter=20)
    whole = finder.fit(responses).objective_
    streamed = finder.fit(responses.chunk(stimulus=300, unit=7)).objective_
    assert streamed == pytest.approx(whole, rel=0.4)


@kinds
def test_streamed_fit_is_that_of_the_same_rows_in_the_same_order(kind, superposition, monkeypatch):
    """Fits to other orders differ more: which few atoms stay without a feature is a matter of luck."""
    responses, _ = superposition
    lazy = responses.chunk(stimulus=300, unit=7)
    finder = SparseAutoencoder("2x", activation=kind, n_active=2, max_iter=5, dtype="float64")
    streamed = finder.fit(lazy).directions_
    rows = Rows(lazy, "cpu", "float64")
    monkeypatch.setattr(
        sae, "shuffled_minibatches", lambda _, size, generator: shuffled_minibatches(rows, size, generator)
    )
    assert_allclose(finder.fit(responses).directions_, streamed, atol=1e-8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_active": 33}, "n_active must be a whole number from 1 to 16, the number of directions .*, got 33"),
        ({"n_active": 0}, "n_active must be a whole number from 1"),
        ({"activation": "softmax"}, "activation must be 'topk', 'batchtopk', 'relu', 'jumprelu', got 'softmax'"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, or None, got 0"),
        ({"learning_rate": 0}, "learning_rate must be above 0, got 0"),
        ({"l1": -1}, "l1 must be a number of at least 0, or None, got -1"),
        ({"max_iter": 0}, "max_iter must be a whole number"),
    ],
)
def test_bad_settings_are_refused(settings, message, responses):
    with pytest.raises(ValueError, match=message):
        SparseAutoencoder(**({"n_directions": 16, "n_active": 3} | settings)).fit(responses)


@pytest.mark.gpu
@kinds
def test_gpu_fit_is_as_good(kind, superposition):
    responses, _ = superposition
    finder = SparseAutoencoder("2x", activation=kind, n_active=2, max_iter=20)
    on_cpu = finder.set_params(device="cpu").fit(responses).objective_
    assert finder.set_params(device="cuda").fit(responses).objective_ == pytest.approx(on_cpu, rel=0.4)
