"""Fingerprints of metrics: the same if a metric is made again, different if its embeddings may differ."""

import functools

import torch
from torch import nn

from neurosuper.metrics import LPIPS, Color, Features, Pixel


def make_net(stride: int = 1, seed: int = 0, last: type[nn.Module] = nn.ReLU) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 4, 3, stride), nn.BatchNorm2d(4), last())


def halve(x):
    return x / 2


def double(x):
    return x * 2


def make_features(layer="2", preprocess=None, name="mine", **net) -> Features:
    return Features(make_net(**net), layer, preprocess=preprocess, name=name, device="cpu")


def test_features_made_again_have_the_same_fingerprint():
    for preprocess in (None, halve, nn.Identity(), make_net()):
        assert make_features(preprocess=preprocess).fingerprint() == make_features(preprocess=preprocess).fingerprint()
    assert make_features(preprocess=make_net()).fingerprint() == make_features(preprocess=make_net()).fingerprint()


class Standardize:
    def __init__(self, mean):
        self.mean = mean

    def __call__(self, x):
        return x - self.mean


def scaled(by):
    return lambda x: x * by


def test_preprocesses_of_one_name_have_different_fingerprints():
    made = [
        lambda x: x * 2,
        lambda x: x * 3,
        lambda x, by=2: x * by,
        lambda x, by=3: x * by,
        scaled(2),
        scaled(3),
        Standardize(0.4),
        Standardize(0.5),
        Standardize(0.4).__call__,
        functools.partial(torch.mul, 2),
        functools.partial(torch.mul, 3),
        torch.relu,
        torch.tanh,
    ]
    assert len({make_features(preprocess=each).fingerprint() for each in made}) == len(made)
    assert make_features(preprocess=scaled(2)).fingerprint() == make_features(preprocess=scaled(2)).fingerprint()


def test_hooks_and_layouts_change_the_fingerprint():
    ablated = make_features()
    ablated.model[0].register_forward_hook(lambda module, x, y: y * 0)
    layouts = [
        Features(make_net(), "2", name="mine", device="cpu", layout=f"image {axes}")
        for axes in ("channel", "token channel")
    ]
    made = [make_features(), ablated, *layouts]
    assert len({metric.fingerprint() for metric in made}) == 4


def test_training_mode_and_precision_of_storage_do_not_matter():
    trained = make_features()
    trained.model.eval()
    assert trained.fingerprint() == make_features().fingerprint()


def test_everything_that_changes_features_changes_the_fingerprint():
    running = make_features()
    running.model[1].running_mean += 1
    made = [
        make_features(),
        running,
        make_features(seed=1),
        make_features(stride=2),
        make_features(last=nn.Tanh),
        make_features("1"),
        make_features(name="other"),
        make_features(preprocess=halve),
        make_features(preprocess=double),
        make_features(preprocess=nn.Identity()),
        make_features(preprocess=make_net(seed=2)),
        make_features(preprocess=make_net(seed=3)),
    ]
    assert len({metric.fingerprint() for metric in made}) == len(made)


def save_trunk(path, change: float = 0) -> None:
    state = {}
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "0": (64, 3, 11, 11),
        "3": (192, 64, 5, 5),
        "6": (384, 192, 3, 3),
        "8": (256, 384, 3, 3),
        "10": (256, 256, 3, 3),
    }
    for name, shape in shapes.items():
        state[f"features.{name}.weight"] = 0.05 * torch.randn(shape, generator=generator)
        state[f"features.{name}.bias"] = torch.zeros(shape[0])
    state["features.3.bias"][7] += change
    torch.save(state, path)


def test_lpips_is_identified_by_net_layer_and_weights_but_not_by_their_path(tmp_path):
    for name, change in (("one", 0), ("copy", 0), ("other", 0.01)):
        save_trunk(tmp_path / f"{name}.pth", change)

    def fingerprint(name, layer=None):
        return LPIPS("alex", weights=tmp_path / f"{name}.pth", layer=layer, device="cpu").fingerprint()

    assert fingerprint("one") == fingerprint("copy")
    assert len({fingerprint("one"), fingerprint("other"), fingerprint("one", 2), fingerprint("one", 5)}) == 4
    assert fingerprint("one", 1) == fingerprint("other", 1), "the change is in a later layer than the first"


def test_pixel_and_color_are_constant():
    assert (
        Pixel(device="cpu").fingerprint()
        == Pixel().fingerprint()
        != Color().fingerprint()
        == Color(device="cpu").fingerprint()
    )
