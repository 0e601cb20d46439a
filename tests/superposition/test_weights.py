"""Interference of weights is that of a loop over pairs of units, and 0 where weights are orthogonal."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from neurosuper.superposition import weight_interference


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3, groups=2),
        nn.ConvTranspose2d(4, 6, 2, groups=2),
        nn.Linear(6, 5),
    )


def loop(rows, groups):
    """Return √Σ (ŵᵢ·wⱼ)² over other units with the same inputs, and its expectation for a random ŵᵢ."""
    found, chance = [], []
    for i, one in enumerate(rows):
        others = [other for j, other in enumerate(rows) if j != i and groups[j] == groups[i]]
        found.append(np.sqrt(sum((one @ other / np.linalg.norm(one)) ** 2 for other in others)))
        chance.append(np.sqrt(sum(other @ other for other in others) / len(one)))
    return found, chance


def test_it_is_that_of_a_loop_over_pairs_of_units_with_inputs_in_common(network):
    result = weight_interference(network, ["0", "2", "3", "4"])
    first, grouped, back, linear = (network[i].weight.detach().double().numpy() for i in (0, 2, 3, 4))
    # In a transposed convolution, unit o of group g has the weights of the inputs of this group.
    of_back = [back[2 * g : 2 * g + 2, o].ravel() for g in range(2) for o in range(3)]
    cases = {
        "0": ([w.ravel() for w in first], [0] * 6),
        "2": ([w.ravel() for w in grouped], [0, 0, 1, 1]),
        "3": (of_back, [0, 0, 0, 1, 1, 1]),
        "4": (list(linear), [0] * 5),
    }
    for layer, (rows, groups) in cases.items():
        own = result[result.layer == layer]
        expected, chance = loop(rows, groups)
        assert_allclose(own, expected)
        assert_allclose(own.chance_level, chance)
        assert_allclose(own.norm, [np.linalg.norm(row) for row in rows])
        assert own.unit.values.tolist() == [f"{layer}/{channel}" for channel in range(len(rows))]
        assert own.channel.values.tolist() == list(range(len(rows)))


def test_orthogonal_units_do_not_interfere_and_random_ones_do_as_much_as_expected():
    layer = nn.Linear(300, 40, bias=False)
    nn.init.orthogonal_(layer.weight, generator=torch.Generator().manual_seed(0))
    assert_allclose(weight_interference(nn.Sequential(layer), "0"), 0, atol=1e-6)
    nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(0))
    random = weight_interference(nn.Sequential(layer), "0")
    assert_allclose((random / random.chance_level).mean(), 1, atol=0.05)


def test_bad_input_is_refused_with_a_reason(network):
    with pytest.raises(
        ValueError, match=r"^layer '1' \(ReLU\) has no matrix of weights; choose a linear or convolution"
    ):
        weight_interference(network, "1")
    with pytest.raises(ValueError, match="^no layer 'last' in Sequential; similar names"):
        weight_interference(network, "last")
    with pytest.raises(ValueError, match="^no layer to read weights of; name one or more"):
        weight_interference(network, [])
    with pytest.raises(TypeError, match=r"^model must be a torch\.nn\.Module, got str$"):
        weight_interference("resnet", "layer1")
    pruned = nn.Sequential(nn.Linear(3, 2))
    pruned[0].weight.data[1] = 0
    with pytest.raises(ValueError, match="^the weights of channel 1 of layer '0' are all 0 or not finite, and have no"):
        weight_interference(pruned, "0")
