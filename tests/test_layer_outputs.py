"""Layers and tensors in their outputs are those that are named, and a tapped network is left as it was."""

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from neurosuper._layer_outputs import Tap, find_layers, run_layers, tap_layers


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


def test_layers_are_found_by_name_in_the_order_asked_for(model):
    assert find_layers(model, ["2.norm", "0"]) == {"2.norm": Tap(model[2].norm, None, ""), "0": Tap(model[0], None, "")}
    assert list(find_layers(model, ["2.norm", "0"])) == ["2.norm", "0"]


def test_a_shared_module_is_found_under_each_of_its_names():
    relu = nn.ReLU()
    shared = nn.ModuleDict({"first": relu, "second": relu})
    assert find_layers(shared, ["second"]) == {"second": Tap(relu, None, "")}


@pytest.mark.parametrize(
    ("layer", "near"),
    [
        ("2.nm", r"2\.norm"),
        ("2.norm.weight", r"2\.norm"),
        ("fire8", r"0, 1, 2, 2\.norm, 2\.drop"),
        ("2.nrm:0", r"2\.norm"),
        ("0#x", "0"),
    ],
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
    ("made", "message"),
    [
        (torch.fft.fft, r"torch\.complex64, not one real tensor; choose a layer before or after it"),
        (lambda x: None, "NoneType, not one real tensor; choose a layer"),
        (lambda x: (x, (x[:1],)), r"tuple, not one real tensor; name one in it: '0:0' \(6, 3\), '0:1:0' \(1, 3\)$"),
        (lambda x: {"a": x, "b": x}, r"dict, .* name one in it: '0:a' \(6, 3\), '0:b' \(6, 3\)$"),
        (lambda x: [x] * 9, r"list, .* '0:4' \(6, 3\), …$"),
    ],
)
def test_a_layer_must_give_one_real_tensor(batch, made, message):
    model = nn.Sequential(Split(made))
    with tap_layers(model, ["0"]):
        assert_refused(TypeError, f"layer '0' gives {message}", lambda: model(batch))


Pair = namedtuple("Pair", ["image", "text"])


@dataclass
class Encoded:
    last_hidden_state: torch.Tensor
    attentions: tuple | None = None


class EncodedLikeADict(dict):
    """As the outputs of the package transformers: a dict whose keys are attributes too."""

    __getattr__ = dict.__getitem__


OUTPUTS = {
    "a tuple": (lambda x: (x + 1, x + 2), "0:1", 2),
    "a tuple with one tensor": (lambda x: (None, x + 2), "0", 2),
    "a named tuple": (lambda x: Pair(x + 1, x + 2), "0:text", 2),
    "a list in a tuple": (lambda x: ([x, x + 1, x + 2], x), "0:0:2", 2),
    "ten and more": (lambda x: [x + i for i in range(12)], "0:1", 1),
    "a dict": (lambda x: {"image": x + 2, "text": x}, "0:image", 2),
    "a dict of numbers": (lambda x: {3: x + 2, 4: x}, "0:3", 2),
    "a dataclass": (lambda x: Encoded(x + 2, (x, x)), "0:last_hidden_state", 2),
    "a dataclass with one tensor": (lambda x: Encoded(x + 2), "0", 2),
    "an output of transformers": (
        lambda x: EncodedLikeADict(last_hidden_state=x + 1, hidden_states=(x, x + 2)), "0:hidden_states:1", 2
    ),
    "the network's own output": (lambda x: x + 2, "", 2),
    "a tensor of the network's own output": (lambda x: {"logits": x + 2, "loss": x.sum()}, ":logits", 2),
}  # fmt: skip


@pytest.mark.parametrize(("made", "layer", "added"), OUTPUTS.values(), ids=OUTPUTS)
def test_a_tensor_in_an_output_is_found_by_its_place(batch, made, layer, added):
    model = nn.Sequential(Split(made))
    with tap_layers(model, [layer]) as outputs:
        model(batch)
    torch.testing.assert_close(outputs[layer], batch + added)


@pytest.mark.parametrize("layer", ["0:2", "0:text:0", "0:0:1"])
def test_a_place_that_an_output_does_not_have_shows_those_that_it_has(batch, layer):
    model = nn.Sequential(Split(lambda x: (x, x)))
    with tap_layers(model, [layer]):
        message = rf"layer '{layer}' gives tuple, not one real tensor; name one in it: '0:0' \(6, 3\), '0:1'"
        assert_refused(TypeError, message, lambda: model(batch))


def test_each_call_of_a_module_is_found_by_its_number_in_every_pass(batch):
    relu = nn.ReLU()
    model = nn.Sequential(relu, Split(lambda x: x - 1), relu, Split(lambda x: -x), relu)
    layers = ["0", "0#1", "0#0", "0#2"]
    first = batch.relu()
    second = (first - 1).relu()
    with tap_layers(model, layers) as outputs:
        for _ in range(2):
            found = run_layers(model, layers, outputs, batch)
            assert list(found) == layers
            for layer, expected in zip(layers, [(-second).relu(), second, first, (-second).relu()], strict=True):
                torch.testing.assert_close(found[layer], expected)
    assert not model._forward_pre_hooks


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("0#2", "layer '0#2' asks for a call that Sequential does not make: '0' runs 2 times, as 0#0 to 0#1"),
        ("1#1", "layer '1#1' asks for a call that Sequential does not make: '1' runs 1 times, as 1#0"),
    ],
)
def test_a_call_that_is_not_made_names_those_that_are(batch, layer, message):
    relu = nn.ReLU()
    model = nn.Sequential(relu, nn.Linear(3, 3), relu)
    with tap_layers(model, [layer]) as outputs:
        assert_refused(ValueError, message, lambda: run_layers(model, [layer], outputs, batch))


def test_outputs_come_in_the_order_asked_for_not_in_that_of_the_pass(model, batch):
    layers = ["2.norm", "0"]
    with tap_layers(model, layers) as outputs:
        assert list(run_layers(model, layers, outputs, batch)) == layers


def test_an_error_names_the_innermost_layer_that_was_running(model, batch):
    with tap_layers(model, ["0"]) as outputs:
        message = r"Sequential fails on a batch of shape \(6, 5\), torch.float32 \(six\), in layer '0': mat1"
        assert_refused(ValueError, message, lambda: run_layers(model, ["0"], outputs, torch.zeros(6, 5), " (six)"))


def test_the_outputs_of_a_network_that_computes_gradients_have_none(batch):
    model = nn.Sequential(nn.Linear(3, 2), Split(torch.enable_grad()(lambda x: x.requires_grad_() * 2)))
    with tap_layers(model, ["1"]) as outputs:
        model(batch)
    assert not outputs["1"].requires_grad


class Remembers(nn.Module):
    """Stores a table at its first pass, as networks with rotary embeddings or attention masks do."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.register_buffer("table", None)

    def forward(self, x):
        if self.table is None:
            self.table = torch.arange(3.0) * 1
        return x * self.scale * self.table


def test_tensors_that_a_network_stores_can_be_used_in_training_afterwards(batch):
    model = Remembers()
    with tap_layers(model, [""]):
        model(batch)
    assert not model.table.is_inference()
    model(batch).sum().backward()
    assert model.scale.grad is not None
    assert model.scale.requires_grad
