"""Networks by name give what a hook gives that is written here, with the transform of their collection."""

import inspect
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision import transforms

from neurosuper.images import load_images
from neurosuper.networks import activations, load_network


@pytest.fixture(scope="module")
def images():
    """Three images that are neither square nor of the size that networks take."""
    return load_images(np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8))


class TinyViT(nn.Module):
    """A vision transformer with the names of timm: a class token, blocks, a normalisation and a head."""

    def __init__(self):
        super().__init__()
        self.patch_embed, self.cls_token = nn.Conv2d(3, 8, 16, 16), nn.Parameter(torch.randn(1, 1, 8))
        self.blocks = nn.Sequential(*(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x):
        tokens = self.patch_embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(x), 1, 8), tokens], 1)
        return self.head(self.norm(self.blocks(tokens))[:, 0])


PICTURES = transforms.Compose([transforms.Resize((48, 48)), transforms.ToTensor(), transforms.Normalize(0.4, 0.3)])


def make_timm() -> ModuleType:
    """A module with the functions of timm that are used, in their form of version 1."""
    timm = ModuleType("timm")
    timm.list_models = lambda: ["test_vit", "test_vit2", "test_efficientnet"]

    def create_model(model_name, pretrained=False, pretrained_cfg=None, **kwargs):
        assert model_name.partition(".")[0] in timm.list_models()
        return TinyViT()

    def create_transform(input_size=224, is_training=False, **kwargs):
        assert (input_size, is_training) == ((3, 48, 48), False)
        return PICTURES

    timm.create_model = create_model
    timm.data = SimpleNamespace(
        create_transform=create_transform,
        resolve_model_data_config=lambda model, args=None, pretrained_cfg=None: {"input_size": (3, 48, 48)},
    )
    return timm


def make_open_clip() -> ModuleType:
    """A module with the functions of open_clip that are used, in their form of version 3."""
    open_clip = ModuleType("open_clip")
    open_clip.asked = []
    open_clip.list_models = lambda: ["ViT-S-32-alt", "ViT-B-32"]
    open_clip.list_pretrained_tags_by_model = lambda model: ["openai", "laion2b"] if model == "ViT-B-32" else []
    open_clip.get_pretrained_cfg = lambda model, tag: {"quick_gelu": True} if tag == "openai" else {}

    def create_model_and_transforms(
        model_name, pretrained=None, load_weights=True, force_quick_gelu=False, pretrained_text=True
    ):
        open_clip.asked.append((model_name, pretrained, load_weights, force_quick_gelu))
        return SimpleNamespace(visual=TinyViT()), None, PICTURES

    open_clip.create_model_and_transforms = create_model_and_transforms
    return open_clip


@pytest.fixture
def timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", module := make_timm())
    return module


@pytest.fixture
def open_clip(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", module := make_open_clip())
    return module


def by_hook(model, inputs, layer, pick):
    """Return what a hook sees that is put on a layer, one image at a time."""
    seen = []
    handle = model.get_submodule(layer).register_forward_hook(lambda module, args, output: seen.append(pick(output)))
    with torch.no_grad():
        for image in inputs:
            model.eval()(image[None])
    handle.remove()
    return torch.cat(seen).numpy()


def pictures_of(images):
    return [Image.fromarray(image) for image in images.values]


MEAN_OF_MAP, MEAN_OF_TOKENS, AS_IT_IS = (lambda y: y.mean((2, 3))), (lambda y: y.mean(1)), (lambda y: y)


def assert_equal(found, expected):
    # Batches of other sizes round differently: float32 has 7 digits, and sums over some hundred terms lose two.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def agree(name, images, layers, position, pick, layout=None):
    """Compare a network by name, shown in batches of two sizes, with hooks on the same network."""
    network = load_network(name, pretrained=False)
    inputs = torch.stack([network.preprocess.transform(picture) for picture in pictures_of(images)])
    expected = np.concatenate([by_hook(network.model, inputs, layer, pick) for layer in layers], axis=1)
    for batch_size in (1, 2, 3):
        found = activations(
            network.model, images, layers, position=position, preprocess=network.preprocess, batch_size=batch_size,
            layout=layout, device="cpu",
        )  # fmt: skip
        assert_equal(found.values, expected)
    return expected


@pytest.fixture
def trained(monkeypatch):
    """Weights that torchvision would download: random ones here; the names of those that were asked for."""
    asked = []

    def give(weights, *args, **kwargs):
        asked.append(str(weights))
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return torchvision.models.squeezenet1_1().state_dict()

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", give)
    return asked


def test_a_network_of_torchvision_has_its_weights_and_its_transform(images, trained):
    layers = ["features.3", "features.7", "classifier.1"]
    found = activations("torchvision:squeezenet1_1", images, layers, position="mean", batch_size=2, device="cpu")
    assert trained == ["SqueezeNet1_1_Weights.IMAGENET1K_V1"]
    weights = torchvision.models.SqueezeNet1_1_Weights.DEFAULT
    model = torchvision.models.squeezenet1_1(weights=weights)
    inputs = torch.stack([weights.transforms()(picture) for picture in pictures_of(images)])
    assert inputs.shape == (3, 3, 224, 224)
    assert_equal(found, np.concatenate([by_hook(model, inputs, layer, MEAN_OF_MAP) for layer in layers], axis=1))
    assert found.attrs["model"] == "torchvision:squeezenet1_1"
    assert load_network("torchvision:squeezenet1_1:IMAGENET1K_V1").preprocess.transform.crop_size == [224]


def test_another_transform_replaces_the_networks_own(images, trained):
    def small(x):
        return x[:, :, :32, :32]

    found = activations(
        "torchvision:squeezenet1_1", images, "features.0", position="all", preprocess=small, device="cpu"
    )
    assert found.sizes["unit"] == 64 * 15 * 15


def test_a_network_of_timm_has_its_transform(images, timm):
    layers = ["blocks.0", "blocks.1", "norm"]
    expected = agree("timm:test_vit", images, layers, "cls", lambda y: y[:, 0])
    assert expected.shape == (3, 24)
    agree("timm:test_vit", images, layers, "mean", MEAN_OF_TOKENS)
    found = activations("timm:test_vit.r160_in1k", images, layers, position="cls", device="cpu")
    assert found.attrs["model"] == "timm:test_vit.r160_in1k"
    assert_equal(found.values, expected)


def test_a_network_of_open_clip_is_the_part_that_sees_images(images, open_clip):
    layers = ["blocks.0", "norm", "head"]
    expected = np.concatenate(
        [agree("open_clip:ViT-B-32", images, layers[:2], 0, lambda y: y[:, 0]),
         agree("open_clip:ViT-B-32", images, layers[2:], "mean", AS_IT_IS)], axis=1,
    )  # fmt: skip
    found = activations("open_clip:ViT-B-32:openai", images, layers, position="cls", device="cpu")
    assert_equal(found.values, expected)
    assert open_clip.asked[0] == ("ViT-B-32", None, False, False)
    assert open_clip.asked[-1] == ("ViT-B-32", "openai", True, True), "with the activation function of its weights"
    load_network("open_clip:hf-hub:owner/name")
    assert open_clip.asked[-1] == ("hf-hub:owner/name", None, True, False)


HUBCONF = """
import torch

def tiny(pretrained=False):
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4 if pretrained else 2, 3), torch.nn.ReLU()).train()

def words(pretrained=False):
    return ["a", "b"]

def without():
    return torch.nn.ReLU()
"""


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The folder of torch.hub, with one repository in it."""
    (tmp_path / "owner_repository_main").mkdir()
    (tmp_path / "owner_repository_main" / "hubconf.py").write_text(HUBCONF)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))


def test_a_network_of_torch_hub_needs_a_transform(images, hub):
    name = "hub:owner/repository:main:tiny"
    found = activations(name, images, "1", preprocess=lambda x: x / 2, device="cpu")
    assert found.sizes["unit"] == 4, "with its weights"
    assert load_network(name, pretrained=False).model[0].out_channels == 2
    assert not load_network(name).model.training
    with pytest.raises(ValueError, match=f"the network '{name}' comes without a transform of images; pass preprocess="):
        activations(name, images, "1")


def test_a_repository_that_was_never_trusted_is_not_run_where_nobody_can_answer(hub, monkeypatch):
    def answer(_):
        raise EOFError

    monkeypatch.setattr("builtins.input", answer)
    message = (
        r"whether it may run the code of other/one:main, .* torch\.hub\.load\('other/one:main', 'tiny', trust_repo="
    )
    with pytest.raises(ValueError, match=message):
        load_network("hub:other/one:main:tiny")


def test_random_weights_have_a_seed_and_leave_the_generator_of_torch_alone(timm):
    state = torch.get_rng_state()
    one, again, other = (load_network("timm:test_vit", pretrained=False, random_state=seed).model for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.head.weight, again.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", "a network must be named as 'collection:name', with a collection among timm, torchvision,"),
        ("keras:resnet18", "with a collection among timm, torchvision, open_clip, hub, .* got 'keras:resnet18'"),
        ("timm:", "a network must be named as"),
        ("timm:test_vitt", "timm has no network 'test_vitt'; it has test_vit, test_vit2, test_eff"),
        ("torchvision:resnet81", "torchvision has no network 'resnet81'; it has resnet"),
        ("torchvision:resnet18:V3", "torchvision:resnet18 has no weights 'V3'; it has IMAGENET1K_V1"),
        ("open_clip:ViT-B-23", "open_clip has no network 'ViT-B-23'; it has ViT-B-32"),
        ("open_clip:ViT-B-32", "open_clip:ViT-B-32 has no weights ''; it has openai, laion2b"),
        ("hub:tiny", "a network of torch.hub is named as 'hub:owner/repository:entry point', got 'hub:tiny'"),
        ("hub:owner/repository:main:words", "'hub:owner/repository:main:words' is a list, not a network"),
        ("hub:owner/repository:main:none", "the network 'hub:.*:none' cannot be loaded: .*none"),
        ("hub:owner/repository:main:without", "cannot be loaded: TypeError: .*'pretrained'"),
    ],
)
def test_names_that_do_not_exist_show_those_that_do(name, message, timm, open_clip, hub):
    with pytest.raises(ValueError, match=message) as caught:
        load_network(name)
    assert "\n" not in str(caught.value)


def test_a_download_that_fails_is_one_line(monkeypatch):
    def fail(*_, **__):
        raise OSError("<urlopen error\nno route to host>")

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", fail)
    with pytest.raises(ValueError, match="the network 'torchvision:squeezenet1_1' cannot be loaded: OSError: <urlopen"):
        load_network("torchvision:squeezenet1_1")


@pytest.mark.parametrize(("name", "package"), [("timm:resnet18", "timm"), ("open_clip:ViT-B-32:openai", "open_clip")])
def test_a_collection_that_is_not_installed_names_the_extra(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package} is not installed; run: pip install 'neurosuper\[networks\]'"):
        load_network(name)


def test_a_name_is_text():
    with pytest.raises(TypeError, match="the name of a network must be text such as 'timm:resnet18', got ReLU"):
        load_network(nn.ReLU())


def test_the_stand_ins_take_what_the_packages_take():
    """The calls that `load_network` makes fit the installed packages, too."""
    timm, open_clip = pytest.importorskip("timm"), pytest.importorskip("open_clip")
    inspect.signature(timm.create_model).bind("test_vit", pretrained=True)
    inspect.signature(timm.data.create_transform).bind(input_size=(3, 48, 48), is_training=False)
    inspect.signature(open_clip.create_model_and_transforms).bind(
        "ViT-B-32", pretrained="openai", load_weights=True, force_quick_gelu=True, pretrained_text=True
    )
    assert open_clip.get_pretrained_cfg("ViT-B-32", "openai")["quick_gelu"]
    assert "openai" in open_clip.list_pretrained_tags_by_model("ViT-B-32")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layers", "position", "pick"),
    [
        ("timm:test_resnet", ["layer1", "layer2", "layer4"], "mean", MEAN_OF_MAP),
        ("timm:test_vit", ["blocks.0", "blocks.3", "norm"], "cls", lambda y: y[:, 0]),
        ("timm:swin_tiny_patch4_window7_224", ["layers.0", "layers.1", "layers.3"], "mean", lambda y: y.mean((1, 2))),
        ("open_clip:ViT-S-32", ["transformer.resblocks.0", "transformer.resblocks.5", "ln_post"], "cls", None),
    ],
)
def test_networks_of_the_installed_packages_agree_with_hooks(name, layers, position, pick, images):
    pytest.importorskip(name.partition(":")[0])
    layout = "image row column channel" if "swin" in name else None
    agree(name, images, layers, position, pick or (lambda y: y[:, 0]), layout)
