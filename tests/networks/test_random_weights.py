"""Networks with random weights have the same architecture, and weights that nobody trained."""

import numpy as np
import pytest
import torch
from torch import nn

from neurosuper.networks import activations, randomize


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net()
        nn.init.uniform_(net.norm.running_var, 0.5, 2.0)
    return net.train()


class Net(nn.Module):
    """A convolution, a normalisation with running statistics and a linear layer."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, x):
        return self.head(self.norm(self.first(x)).relu().mean((2, 3)))


@pytest.mark.parametrize("how", ["init", "shuffle"])
def test_randomized_network_has_the_same_architecture_and_other_weights(how, model, images):
    model.norm.running_mean.fill_(3.0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    control, again, other = (randomize(model, how=how, random_state=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert repr(control) == repr(model)
    assert control.training == model.training
    for name, weights in control.named_parameters():
        old = before[name]
        assert weights.shape == old.shape
        assert torch.equal(weights, again.get_parameter(name))
        if old.numel() > 8 and not (old == old.flatten()[0]).all():
            assert not torch.equal(weights, old)
            assert not torch.equal(weights, other.get_parameter(name))
        if how == "shuffle":
            assert torch.equal(weights.flatten().sort().values, old.flatten().sort().values)
    assert control.norm.running_mean.unique().tolist() == [0.0 if how == "init" else 3.0]
    responses = [activations(net, images, "head", device="cpu") for net in (model, control)]
    assert responses[0].weights_sha256 != responses[1].weights_sha256
    assert np.abs(responses[0] - responses[1]).max() > 1e-3


def test_initialised_weights_are_those_of_the_layer():
    model = nn.Sequential(nn.Linear(64, 300), nn.TransformerEncoderLayer(4, 2))
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(100)
    control = randomize(model, random_state=np.random.default_rng(0))
    assert 0.9 / 8 < control[0].weight.abs().max() <= 1 / 8, "uniform up to 1/√64"
    assert control[1].self_attn.out_proj.bias.abs().max() == 0, "as attention initialises it"


def test_tied_weights_stay_tied_and_are_shuffled_once():
    model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    model[1].weight = model[0].weight
    control = randomize(model, how="shuffle")
    assert control[1].weight is control[0].weight
    assert not torch.equal(control[0].weight, model[0].weight)


class Token(nn.Module):
    """A parameter of its own, and no way to initialise it."""

    def __init__(self, reset=None):
        super().__init__()
        self.token = nn.Parameter(torch.arange(3.0))
        if reset is not None:
            self.reset_parameters = reset


@pytest.mark.parametrize("module", [Token(), Token(lambda: None)], ids=["none", "one that changes nothing"])
def test_modules_that_cannot_be_initialised_are_named(module):
    model = nn.Sequential(nn.Linear(2, 2), module)
    message = r"module '1' \(Token\) has no reset_parameters that changes its token; use how='shuffle', or build"
    with pytest.raises(ValueError, match=message):
        randomize(model)
    assert sorted(randomize(model, how="shuffle", random_state=2)[1].token.tolist()) == [0, 1, 2]


def test_randomize_refuses_what_it_cannot_copy():
    with pytest.raises(ValueError, match="how must be one of 'init', 'shuffle'; got 'noise'"):
        randomize(nn.Linear(2, 2), how="noise")
    with pytest.raises(TypeError, match="torch"):
        randomize("resnet")
    with pytest.raises(ValueError, match="random_state must be an int from 0 to"):
        randomize(nn.Linear(2, 2), random_state=-1)
    model = nn.Linear(2, 2)
    model.cached = model.weight * 2
    with pytest.raises(ValueError, match="the network cannot be copied: "):
        randomize(model)
