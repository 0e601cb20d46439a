"""A device is one that is there; a network is put on it, or into eval mode, for a while only."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from neurosuper._torch import evaluating, moved, pick_device


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


@pytest.mark.parametrize("device", ["mps", "mps:0"])
def test_the_gpu_of_a_mac_is_for_networks_only(monkeypatch, device):
    message = f"device '{device}' was requested, but torch sees no GPU of a Mac; use device='cpu' or None"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert_refused(ValueError, message, lambda: pick_device(device, mps=True))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device(device, mps=True) == torch.device(device)
    assert_refused(ValueError, "device must be 'cpu', 'cuda' or None", lambda: pick_device(device))
    assert_refused(ValueError, "must be 'cpu', 'cuda', 'mps' or None, got 'gpu'", lambda: pick_device("gpu", mps=True))


def test_a_network_that_a_device_cannot_take_is_one_line_and_stays_where_it_was():
    model = nn.Linear(2, 2)

    def fail(*_):
        del model.to
        raise TypeError("Cannot convert to float64,\nas MPS does not have it")

    model.to = fail
    message = "the network cannot be moved to cpu: TypeError: Cannot convert"
    with pytest.raises(ValueError, match=message) as caught, moved(model, torch.device("cpu")):
        pass
    assert "\n" not in str(caught.value)


def test_an_error_inside_is_not_taken_for_a_network_without_eval_mode():
    model = nn.Dropout()
    with pytest.raises(NotImplementedError, match="elsewhere"), evaluating(model):
        raise NotImplementedError("elsewhere")
    assert model.training
