"""The networks of the worked example: the right architecture, and the accuracy that their weights are known for."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_predict
from torchvision.models import squeezenet1_0

from neurosuper import PCA, activations, load_array, load_images

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


@pytest.mark.slow
def test_resnet20_answers_right_on_cifar10(networks, real_data):
    model = networks.resnet20(real_data / "nets/resnet20-12fca82f.th")
    images = load_images(real_data / "images/cifar10_test_5000_jpg.zip", category_from="folder")[::5]
    truth = np.unique(images.category, return_inverse=True)[1]
    found = top_category(model, networks.resnet20_preprocess, images)
    assert np.mean(found == truth) == pytest.approx(0.81, abs=0.01)


@pytest.mark.slow
def test_squeezenet_answers_right_on_imagenet(networks, real_data):
    model = networks.squeezenet(real_data / "nets/squeezenet_v1_0_imagenet_fp16.npz")
    images = load_images(real_data / "images/imagenet_1000x128_jpg.zip")[::10]
    found = top_category(model, networks.squeezenet_preprocess, images)
    assert np.mean(found == np.arange(0, 1000, 10)) == pytest.approx(0.51, abs=0.03)  # 0.487 on all 1,000


@pytest.mark.slow
def test_v4_follows_the_photographs_and_a_shift_by_one_destroys_that(networks, real_data):
    """Cross-validated ridge from ResNet-20 features to V4: the labels of images and responses are the right ones."""
    images = load_images(real_data / "v4/images_201025.zip")
    path = real_data / "v4/responses_avg_201025.npy"
    responses = load_array(path, ("unit", "stimulus"), stimuli=images, measured_in="spike count")
    model = networks.resnet20(real_data / "nets/resnet20-12fca82f.th")
    maps = activations(model, images, "layer2", position="all", preprocess=networks.resnet20_preprocess)
    features = PCA(100).fit_transform(maps).values

    def predicted(values: np.ndarray) -> float:
        guess = cross_val_predict(RidgeCV(np.logspace(2, 5, 4)), features, values, cv=5)
        return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(guess.T, values.T, strict=True)])

    assert predicted(responses.values) > 0.4
    assert abs(predicted(np.roll(responses.values, 1, axis=0))) < 0.1
