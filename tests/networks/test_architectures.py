"""Networks of every kind with random weights: values are those of a hook, and the size of batches changes nothing."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer, mobilenet_v3_small

from neurosuper.images import load_images
from neurosuper.networks import activations


class WithTuples(nn.Module):
    """Blocks that give (tokens, attention), as those of many transformers."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.blocks = nn.ModuleList(nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(3))

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = x + block(x, x, x)[0]
        return {"tokens": x, "pooled": x.mean(1)}


VIT = [f"encoder.layers.encoder_layer_{i}" for i in (0, 1)] + ["encoder.ln"]
KINDS = {
    "CNN": (
        lambda: mobilenet_v3_small(), ["features.0", "features.4", "features.12"], "mean", lambda y: y.mean((2, 3)), {}
    ),
    "ViT": (lambda: VisionTransformer(32, 8, 2, 4, 16, 32), VIT, "cls", lambda y: y[:, 0], {}),
    "Swin": (
        lambda: SwinTransformer([2, 2], 8, [1, 1], [2, 2], [4, 4]), ["features.0", "features.1", "norm"], "mean",
        lambda y: y.mean((1, 2)), {"layout": "image row column channel"},
    ),
    "tuples": (WithTuples, [f"blocks.{i}:0" for i in range(3)], 3, lambda y: y[0][:, 3], {}),
    "compiled": (
        lambda: torch.compile(VisionTransformer(32, 8, 2, 4, 16, 32), backend="eager"), VIT, 2, lambda y: y[:, 2], {}
    ),
    "channels last": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 5, 3)).to(
            memory_format=torch.channels_last
        ),
        ["0", "1", "2"], "center", lambda y: y[:, :, y.shape[2] // 2, y.shape[3] // 2].clone(), {},
    ),
    "tokens first": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.Flatten(2), Permute(2, 0, 1), nn.Linear(8, 6), nn.Linear(6, 4)),
        ["2", "3", "4"], "mean", lambda y: y.mean(0), {"layout": "token image channel"},
    ),
}  # fmt: skip


class Permute(nn.Module):
    def __init__(self, *order):
        super().__init__()
        self.order = order

    def forward(self, x):
        return x.permute(self.order)


@pytest.fixture(scope="module")
def images():
    return load_images(np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8))


def by_hook(model, x, layer, pick):
    """What a hook sees that is written here, on a copy of the network that is not compiled."""
    seen = []
    module = model.get_submodule(layer.partition(":")[0])
    module.register_forward_hook(lambda _, args, output: seen.append(pick(output)))
    with torch.no_grad():
        model.eval()(x)
    return seen[0].numpy()


@pytest.mark.parametrize(("make", "layers", "position", "pick", "settings"), KINDS.values(), ids=KINDS)
def test_three_layers_are_those_of_a_hook_for_every_size_of_batch(make, layers, position, pick, settings, images):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make()
    plain = copy.deepcopy(getattr(model, "_orig_mod", model))
    x = torch.tensor(images.values).permute(0, 3, 1, 2).float() / 255
    expected = np.concatenate([by_hook(plain, x, layer, pick) for layer in layers], axis=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    for batch_size in (1, 2, 5):
        found = activations(
            model, images, layers, position=position, batch_size=batch_size, device="cpu", **settings
        ).values
        # float32 has 7 digits; products of other sizes add their terms in another order.
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert np.ptp(expected, axis=0).max() > 0
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())
    assert all(weights.requires_grad for weights in model.parameters())
