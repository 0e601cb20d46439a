"""The two networks of the worked example, with the weights and the preprocessing that they were trained with.

SqueezeNet v1.0 (Iandola et al. 2016) in its Caffe convention, and the CIFAR-10 ResNet-20 (He et al. 2016, section 4.2).
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

CAFFE_MEANS = (104.0, 117.0, 123.0)  # blue, green, red, of 0 to 255
IMAGENET_MEANS = (0.485, 0.456, 0.406)
IMAGENET_SPREADS = (0.229, 0.224, 0.225)


class ConvReLU(nn.Conv2d):
    """A convolution with rectified output, so that a recorded layer contains the input of the next one."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return super().forward(maps).relu()


class Fire(nn.Module):
    """Squeeze to few channels, then expand by parallel 1×1 and 3×3 convolutions."""

    def __init__(self, n_in: int, n_squeezed: int, n_expanded: int) -> None:
        super().__init__()
        self.conv1x1_1 = ConvReLU(n_in, n_squeezed, 1)
        self.conv1x1_2 = ConvReLU(n_squeezed, n_expanded, 1)
        self.conv3x3_2 = ConvReLU(n_squeezed, n_expanded, 3, padding=1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        squeezed = self.conv1x1_1(maps)
        return torch.cat([self.conv1x1_2(squeezed), self.conv3x3_2(squeezed)], dim=1)


class SqueezeNet(nn.Module):
    """SqueezeNet v1.0; every layer, `conv1`, `fire2` … `fire9` and `conv_final`, is taken after its ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvReLU(3, 96, 7, stride=2)
        self.fire2 = Fire(96, 16, 64)
        self.fire3 = Fire(128, 16, 64)
        self.fire4 = Fire(128, 32, 128)
        self.fire5 = Fire(256, 32, 128)
        self.fire6 = Fire(256, 48, 192)
        self.fire7 = Fire(384, 48, 192)
        self.fire8 = Fire(384, 64, 256)
        self.fire9 = Fire(512, 64, 256)
        self.conv_final = ConvReLU(512, 1000, 1, padding=1)
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.pool(self.conv1(images))
        maps = self.pool(self.fire4(self.fire3(self.fire2(maps))))
        maps = self.pool(self.fire8(self.fire7(self.fire6(self.fire5(maps)))))
        return self.conv_final(self.fire9(maps)).mean(dim=(2, 3))


def squeezenet(weights: str | Path) -> SqueezeNet:
    """Return SqueezeNet v1.0 with the weights of an .npz file, whose names are `layer.weight` and `layer.bias`."""
    model = SqueezeNet()
    with np.load(weights) as arrays:
        model.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays.files})
    return model.to(memory_format=torch.channels_last).eval()  # half of the time on a processor: pooling is vectorised


def squeezenet_preprocess(images: torch.Tensor, size: int = 227) -> torch.Tensor:
    """Turn RGB in [0, 1] to BGR in 0 to 255 minus the means, 227 × 227 as in training, or another `size`."""
    resized = functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    return 255 * resized.flip(1) - torch.tensor(CAFFE_MEANS)[:, None, None]


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut without weights (option A: every other pixel, zeros for new channels)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.stride = n_out // n_in
        self.new_channels = n_out - n_in
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        half = self.new_channels // 2
        shortcut = functional.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
        return (self.bn2(self.conv2(self.bn1(self.conv1(maps)).relu())) + shortcut).relu()


class ResNet20(nn.Module):
    """Three stages of three blocks, `layer1` to `layer3`, with 16, 32 and 64 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Block(16, 16), Block(16, 16), Block(16, 16))
        self.layer2 = nn.Sequential(Block(16, 32), Block(32, 32), Block(32, 32))
        self.layer3 = nn.Sequential(Block(32, 64), Block(64, 64), Block(64, 64))
        self.linear = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.bn1(self.conv1(images)).relu()
        return self.linear(self.layer3(self.layer2(self.layer1(maps))).mean(dim=(2, 3)))


def resnet20(weights: str | Path) -> ResNet20:
    """Return ResNet-20 with the weights of a checkpoint whose names carry the prefix `module.`."""
    model = ResNet20()
    saved = torch.load(weights, map_location="cpu", weights_only=True)["state_dict"]
    # the checkpoint is older than batch norm's step counters, which eval mode does not use
    counters = {name: value for name, value in model.state_dict().items() if name.endswith("num_batches_tracked")}
    model.load_state_dict(counters | {name.removeprefix("module."): value for name, value in saved.items()})
    return model.eval()


def resnet20_preprocess(images: torch.Tensor) -> torch.Tensor:
    """Resize RGB in [0, 1] to 32 × 32, minus the means of ImageNet, over its standard deviations."""
    resized = functional.interpolate(images, size=(32, 32), mode="bilinear", antialias=True)
    means, spreads = torch.tensor(IMAGENET_MEANS), torch.tensor(IMAGENET_SPREADS)
    return (resized - means[:, None, None]) / spreads[:, None, None]
