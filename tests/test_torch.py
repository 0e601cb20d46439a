"""Devices are those that are there, layers those that are named, and a tapped network is left as it was."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from neurosuper._torch import find_layers, pick_device, tap_layers


class Split(nn.Module):
    """Gives what `made` makes of the input."""

    def __init__(self, made: Callable[[torch.Tensor], object]):
        super().__init__()
        self.made = made

    def forward(self, x: torch.Tensor) -> object:
        return self.made(x)


@pytest.fixture
def model() -> nn.Sequential:
    """A linear layer whose output the next layer overwrites, then dropout; `2.norm` is frozen in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Sequential())
    layers[2].add_module("norm", nn.BatchNorm1d(4).eval())
    layers[2].add_module("drop", nn.Dropout(0.5))
    return layers


@pytest.fixture
def batch() -> torch.Tensor:
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


def assert_refused(error: type[Exception], message: str, call: Callable[[], object]) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("present", "chosen"), [(True, "cuda"), (False, "cpu")])
def test_by_default_a_gpu_is_used_if_there_is_one(monkeypatch, present, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)
    assert pick_device(None) == torch.device(chosen)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_the_cpu_is_always_there(device):
    assert pick_device(device) == torch.device("cpu")


@pytest.mark.parametrize("device", ["gpu", "meta", "mps", "cuda:x", 1.5])
def test_other_devices_are_refused(device):
    message = rf"device must be 'cpu', 'cuda' or None, got {device!r}"
    assert_refused(ValueError, message, lambda: pick_device(device))


@pytest.mark.parametrize(("device", "n_devices"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_gpu_that_is_not_there_is_refused(monkeypatch, device, n_devices):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_devices)
    message = f"device '{device}' was requested, but torch sees {n_devices} CUDA devices; use device='cpu' or None"
    assert_refused(ValueError, message, lambda: pick_device(device))


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_there_is_used(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device(device) == torch.device(device)


def test_layers_are_found_by_name_in_the_order_asked_for(model):
    assert find_layers(model, ["2.norm", "0"]) == {"2.norm": model[2].norm, "0": model[0]}
    assert list(find_layers(model, ["2.norm", "0"])) == ["2.norm", "0"]


def test_a_shared_module_is_found_under_each_of_its_names():
    relu = nn.ReLU()
    shared = nn.ModuleDict({"first": relu, "second": relu})
    assert find_layers(shared, ["second"]) == {"second": relu}


@pytest.mark.parametrize(
    ("layer", "near"),
    [("2.nm", r"2\.norm"), ("2.norm.weight", r"2\.norm"), ("fire8", r"0, 1, 2, 2\.norm, 2\.drop"), ("", "0, 1, 2")],
)
def test_an_unknown_layer_shows_the_names_that_are_near(model, layer, near):
    message = rf"no layer '{layer}' in Sequential; similar names: {near}"
    assert_refused(ValueError, message, lambda: find_layers(model, ["0", layer]))


def test_outputs_are_those_of_eval_mode_before_any_later_layer_changes_them(model, batch):
    with tap_layers(model, ["0", "2.drop"]) as outputs:
        model(batch)
    linear = batch @ model[0].weight.T + model[0].bias
    torch.testing.assert_close(outputs["0"], linear.detach())
    assert (outputs["0"] < 0).any()  # the layer after it rectifies in place
    torch.testing.assert_close(outputs["2.drop"], model[2].norm(linear.relu()).detach())
    assert not outputs["0"].requires_grad


def test_each_pass_replaces_the_outputs_and_of_several_runs_in_a_pass_the_last_stays(batch):
    relu = nn.ReLU()
    model = nn.Sequential(relu, Split(lambda x: x - 1), relu)
    with tap_layers(model, ["0"]) as outputs:
        for _ in range(2):
            model(batch)
            torch.testing.assert_close(outputs["0"], (batch.relu() - 1).relu())
        model(batch[:2])
        assert outputs["0"].shape == (2, 3)


def test_a_network_is_left_as_it_was_whatever_happens(model, batch):
    modes = {name: module.training for name, module in model.named_modules()}
    assert modes["2.drop"]
    assert not modes["2.norm"]
    with pytest.raises(RuntimeError, match="today"), tap_layers(model, ["0"]) as outputs:  # noqa: PT012
        assert not any(module.training for module in model.modules())
        raise RuntimeError("not today")
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert model(batch).requires_grad
    assert not outputs


def test_an_unknown_layer_leaves_no_hook_behind(model, batch):
    assert_refused(ValueError, "no layer 'conv1'", lambda: tap_layers(model, ["0", "conv1"]).__enter__())
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("made", "kind"), [(lambda x: (x, x), "tuple"), (torch.fft.fft, r"torch\.complex64"), (lambda x: None, "NoneType")]
)
def test_a_layer_must_give_one_real_tensor(batch, made, kind):
    model = nn.Sequential(Split(made))
    message = rf"layer '0' gives {kind}, not one real tensor; choose a layer before or after it"
    with tap_layers(model, ["0"]):
        assert_refused(TypeError, message, lambda: model(batch))
