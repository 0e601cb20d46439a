"""The networks of the worked example: the right architecture, and the accuracy that their weights are known for."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import squeezenet1_0

from neurosuper import load_images

SOURCE = Path(__file__).parents[1] / "tutorials" / "networks.py"


@pytest.fixture(scope="module")
def networks():
    spec = importlib.util.spec_from_file_location("networks", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def top_category(model, preprocess, images):
    """The highest-scoring category of each image."""
    tensor = torch.tensor(images.values).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        return torch.cat([model(preprocess(batch)).argmax(1) for batch in tensor.split(100)]).numpy()


def test_squeezenet_is_torchvisions_with_a_padded_last_convolution(networks):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours, theirs = networks.SqueezeNet().eval(), squeezenet1_0(weights=None).eval()
        images = torch.randn(2, 3, 227, 227)
    theirs.classifier[1].padding = (1, 1)
    values = ours.state_dict().values()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images))


def test_squeezenet_input_is_bgr_around_the_caffe_means(networks):
    red = torch.zeros(1, 3, 100, 120)
    red[:, 0] = 1
    found = networks.squeezenet_preprocess(red)
    assert found.shape == (1, 3, 227, 227)
    torch.testing.assert_close(found.mean((0, 2, 3)), torch.tensor([-104.0, -117.0, 255 - 123.0]))


def test_resnet20_input_is_standardised_to_imagenet(networks):
    grey = torch.full((1, 3, 112, 112), 0.5)
    found = networks.resnet20_preprocess(grey)
    assert found.shape == (1, 3, 32, 32)
    expected = [(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225]
    torch.testing.assert_close(found.mean((0, 2, 3)), torch.tensor(expected))


def test_resnet20_answers_right_on_cifar10(networks, test_data):
    model = networks.resnet20(test_data / "nets/resnet20-12fca82f.th")
    images = load_images(test_data / "images/cifar10_test_5000_jpg.zip", category_from="folder")[::5]
    truth = np.unique(images.category, return_inverse=True)[1]
    found = top_category(model, networks.resnet20_preprocess, images)
    assert np.mean(found == truth) == pytest.approx(0.81, abs=0.01)


@pytest.mark.slow
def test_squeezenet_answers_right_on_imagenet(networks, test_data):
    model = networks.squeezenet(test_data / "nets/squeezenet_v1_0_imagenet_fp16.npz")
    images = load_images(test_data / "images/imagenet_1000x128_jpg.zip")[::10]
    found = top_category(model, networks.squeezenet_preprocess, images)
    assert np.mean(found == np.arange(0, 1000, 10)) == pytest.approx(0.51, abs=0.03)  # 0.487 on all 1,000
