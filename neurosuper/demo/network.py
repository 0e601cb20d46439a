"""The network of the demo: a small CNN, trained on CIFAR-10 by benchmarks/train_demo_network.py."""

from importlib import resources

import numpy as np
import torch
from torch import nn

__all__ = ["SmallCNN", "small_cnn"]


class SmallCNN(nn.Module):
    """Four blocks of 3×3 convolution, max-pooling (except the last), batch norm and ReLU, with a linear read-out.

    `layer1` to `layer4` name the blocks. Input is RGB in [0, 1], `(n, 3, row, column)`, made for 32×32 pixels; the
    network does its own scaling. Output is `(n, category)`, unnormalised log-probabilities.

    Parameters
    ----------
    n_categories : int, optional
        Number of outputs.

    See Also
    --------
    small_cnn : The trained network of the demo.

    Examples
    --------
    >>> import torch
    >>> SmallCNN().eval()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, n_categories: int = 10) -> None:
        super().__init__()
        self.layer1 = _block(3, 24, nn.MaxPool2d(2))
        self.layer2 = _block(24, 64, nn.MaxPool2d(2))
        self.layer3 = _block(64, 96, nn.MaxPool2d(2))
        self.layer4 = _block(96, 128, nn.Identity())
        self.linear = nn.Linear(128, n_categories)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the category scores of images in [0, 1]."""
        maps = self.layer4(self.layer3(self.layer2(self.layer1(4 * images - 2))))
        return self.linear(maps.mean(dim=(2, 3)))


def _block(n_in: int, n_out: int, pool: nn.Module) -> nn.Sequential:
    convolution = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
    return nn.Sequential(convolution, pool, nn.BatchNorm2d(n_out), nn.ReLU())


def small_cnn() -> SmallCNN:
    """Return the trained network of the demo, in eval mode.

    Returns
    -------
    SmallCNN
        Its weights come with the package (float16 on disk, float32 here), trained on CIFAR-10.

    See Also
    --------
    activations : Activations of its layers as responses.

    Examples
    --------
    >>> small_cnn().training
    False
    """
    with resources.as_file(resources.files("neurosuper.demo") / "small_cnn.npz") as path, np.load(path) as arrays:
        weights = {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != "test_accuracy"}
    model = SmallCNN(len(weights["linear.bias"]))
    model.load_state_dict(weights)
    return model.eval()
