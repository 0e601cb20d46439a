"""LPIPS against the lpips package, with the same weights; then the errors when weights are missing or wrong."""

from pathlib import Path
from urllib.error import URLError

import lpips
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import pdist

from neurosuper.metrics import LPIPS
from neurosuper.metrics.lpips import TRUNKS, _weigh, hub_file

pytestmark = [
    pytest.mark.filterwarnings("ignore:The parameter 'pretrained' is deprecated:UserWarning:torchvision"),
    pytest.mark.filterwarnings("ignore:Arguments other than a weight enum:UserWarning:torchvision"),
]


def make_oracle(net: str) -> lpips.LPIPS:
    """The lpips package's network with random weights, scaled so that activity neither dies out nor explodes."""
    generator = torch.Generator().manual_seed(0)
    oracle = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
    for parameter in oracle.net.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
        values = torch.randn(parameter.shape, generator=generator) * (2 / fan_in) ** 0.5
        parameter.data = values.half().float()  # exact in float16, as .npz files store them
    return oracle


def trunk_state(oracle: lpips.LPIPS) -> dict[str, torch.Tensor]:
    """The oracle's trunk as torchvision names it: "slice2.3.weight" is "features.3.weight"."""
    return {f"features.{name.split('.', 1)[1]}": value for name, value in oracle.net.state_dict().items()}


def save_npz(path: Path, state: dict[str, torch.Tensor]) -> Path:
    kinds = [f"conv{i // 2}.{'bias' if i % 2 else 'weight'}" for i in range(len(state))]
    np.savez(path, **{kind: value.half().numpy() for kind, value in zip(kinds, state.values(), strict=True)})
    return path


@pytest.fixture(scope="module", params=TRUNKS)
def oracle(request):
    return request.param, make_oracle(request.param)


@pytest.fixture(scope="module")
def ours(oracle, tmp_path_factory):
    net, theirs = oracle
    path = tmp_path_factory.mktemp(net) / "trunk.pth"
    torch.save(trunk_state(theirs) | {"classifier.1.weight": torch.zeros(2, 2)}, path)
    return LPIPS(net, weights=path, device="cpu")


@pytest.fixture(scope="module")
def alex_state():
    return trunk_state(make_oracle("alex"))


def our_pairs(metric: LPIPS, images: torch.Tensor) -> np.ndarray:
    """The squared distance between embeddings for every pair i < j."""
    return pdist(metric.embed(images).numpy(), "sqeuclidean")


def oracle_pairs(oracle: lpips.LPIPS, images: torch.Tensor) -> np.ndarray:
    """The lpips package's value for every pair i < j."""
    i, j = np.triu_indices(len(images), 1)
    with torch.inference_mode():
        return oracle(images[i], images[j], normalize=True).flatten().numpy()


def random_images(shape: tuple[int, int], n: int = 3) -> torch.Tensor:
    """Random images; the second is a fainter version of the first."""
    images = torch.rand(n, 3, *shape, generator=torch.Generator().manual_seed(1))
    images[1] = 0.5 + 0.3 * (images[0] - 0.5)
    return images


@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (112, 112), (48, 80)])
def test_pairwise_values_equal_the_lpips_package(oracle, ours, shape):
    images = random_images(shape)
    expected = oracle_pairs(oracle[1], images)
    assert expected.min() > 0.01, "there is something to compare"
    np.testing.assert_allclose(our_pairs(ours, images), expected, rtol=1e-4, atol=1e-6)


def test_each_layer_equals_the_lpips_package_and_all_add_up_to_the_whole(oracle, ours):
    net, theirs = oracle
    images = random_images((48, 80))
    i, j = np.triu_indices(len(images), 1)
    with torch.inference_mode():
        _, expected = theirs(images[i], images[j], retPerLayer=True, normalize=True)
    layers = [LPIPS(net, weights=ours.weights, layer=layer, device="cpu") for layer in range(1, len(expected) + 1)]
    pairs = [our_pairs(layer, images) for layer in layers]
    for per_layer, value in zip(pairs, expected, strict=True):
        np.testing.assert_allclose(per_layer, value.flatten(), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(np.sum(pairs, axis=0), our_pairs(ours, images), rtol=1e-5)


def test_a_layer_needs_no_deeper_weights(alex_state, tmp_path):
    """The trunk ends with the layer: weights beyond its third convolution are neither read nor missed."""
    torch.save(alex_state, tmp_path / "whole.pth")
    shallow = {name: value for name, value in alex_state.items() if int(name.split(".")[1]) <= 6}
    torch.save(shallow, tmp_path / "shallow.pth")
    images = random_images((32, 32))
    third, same = (
        LPIPS("alex", weights=tmp_path / f"{name}.pth", layer=3, device="cpu") for name in ("shallow", "whole")
    )
    torch.testing.assert_close(third.embed(images), same.embed(images), rtol=0, atol=0)
    with pytest.raises(ValueError, match="no weight 'features.8.weight' in .*shallow.pth"):
        LPIPS("alex", weights=tmp_path / "shallow.pth", layer=4, device="cpu").embed(images)


def test_a_layer_is_named():
    metric = LPIPS("vgg", layer=2)
    assert (metric.name, metric.quantity) == ("LPIPS-vgg layer 2", "LPIPS distance (VGG-16, layer 2)")
    assert (LPIPS("vgg").name, LPIPS("vgg").quantity) == ("LPIPS-vgg", "LPIPS distance (VGG-16)")


@pytest.mark.parametrize("layer", [0, 6, -1, 2.0, "conv3", True])
def test_other_layers_are_refused(layer):
    with pytest.raises(
        ValueError, match=f"layer of 'alex' must be a number from 1 to 5, or None for all, got {layer!r}"
    ):
        LPIPS("alex", layer=layer)


def test_equal_images_are_at_distance_zero(ours):
    image = random_images((32, 32))[:1]
    assert our_pairs(ours, torch.cat([image, image])) == 0


def test_the_smallest_images_are_known(oracle, ours):
    net, theirs = oracle
    smallest = TRUNKS[net].smallest
    enough, too_small = random_images((smallest, 40)), random_images((40, smallest - 1))
    np.testing.assert_allclose(our_pairs(ours, enough), oracle_pairs(theirs, enough), rtol=1e-4, atol=1e-6)
    with pytest.raises(RuntimeError):
        oracle_pairs(theirs, too_small)
    with pytest.raises(ValueError, match=f"needs at least {smallest} × {smallest} pixels, got 40 × {smallest - 1}"):
        ours.embed(too_small)


def test_float16_npz_gives_the_same_values(oracle, ours, tmp_path):
    net, theirs = oracle
    metric = LPIPS(net, weights=save_npz(tmp_path / "trunk.npz", trunk_state(theirs)), device="cpu")
    images = random_images((64, 64))
    np.testing.assert_allclose(our_pairs(metric, images), our_pairs(ours, images), rtol=1e-6)


def test_real_weights_reproduce_the_published_example(real_data):
    nets = real_data / "nets"
    images = np.stack([np.asarray(Image.open(nets / f"ex_{name}.png")) for name in ("ref", "p0", "p1")])
    metric = LPIPS("alex", weights=nets / "alexnet_features_fp16.npz", device="cpu")
    scores = our_pairs(metric, torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    assert scores == pytest.approx([0.7219, 0.1376, 0.7197], abs=1e-3)  # ref–p0, ref–p1, p0–p1


def test_settings_are_kept_and_the_generator_is_not_touched(alex_state, tmp_path):
    torch.save(alex_state, tmp_path / "trunk.pth")
    metric = LPIPS("alex", weights=tmp_path / "trunk.pth", device="cpu")
    before = torch.random.get_rng_state()
    assert not metric.embed(random_images((32, 32))).requires_grad
    assert torch.equal(torch.random.get_rng_state(), before)
    assert repr(LPIPS("alex", weights="trunk.pth")) == "LPIPS(net='alex', weights='trunk.pth', layer=None, device=None)"


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """An empty hub folder and no network."""

    def fail(*args, **kwargs):
        raise URLError("offline")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


@pytest.mark.usefixtures("offline")
def test_without_weights_and_network_the_error_says_where_they_are():
    with pytest.raises(FileNotFoundError) as caught:
        LPIPS("alex", device="cpu").embed(random_images((32, 32)))
    for part in (hub_file("alex").name, "https://download.pytorch.org/models/alexnet", "weights=path", "offline"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("offline")
def test_weights_in_the_hub_folder_are_used(alex_state):
    hub_file("alex").parent.mkdir(parents=True)
    torch.save(alex_state, hub_file("alex"))
    hubs, given = LPIPS("alex", device="cpu"), LPIPS("alex", weights=hub_file("alex"), device="cpu")
    images = random_images((32, 32))
    torch.testing.assert_close(hubs.embed(images), given.embed(images), rtol=0, atol=0)


def test_downloads_are_verified_and_nothing_partial_stays(tmp_path, monkeypatch):
    """A server that sends something else: torch's own check of the hash in the file's name refuses it."""
    (tmp_path / "alexnet-owt-7be5be79.pth").write_bytes(b"half a file")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("neurosuper.metrics.lpips._url", lambda net: (tmp_path / "alexnet-owt-7be5be79.pth").as_uri())
    with pytest.raises(FileNotFoundError, match="invalid hash value"):
        LPIPS("alex", device="cpu").embed(random_images((32, 32)))
    assert list(hub_file("alex").parent.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.3.weight": None}, "no weight 'features.3.weight' in .*trunk.pth, which has 'features.0.weight'"),
        ({"features.0.bias": torch.zeros(5)}, r"'features.0.bias' in .*trunk.pth has shape \(5,\), not \(64,\)"),
        ({"features.0.bias": torch.full((64,), torch.nan)}, "'features.0.bias' in .*trunk.pth is not finite"),
    ],
)
def test_weights_that_do_not_fit_are_named(alex_state, tmp_path, change, message):
    torch.save({k: v for k, v in (alex_state | change).items() if v is not None}, tmp_path / "trunk.pth")
    with pytest.raises(ValueError, match=f"{message}.*torchvision's alexnet"):
        LPIPS("alex", weights=tmp_path / "trunk.pth", device="cpu").embed(random_images((32, 32)))


@pytest.mark.parametrize("suffix", ["pth", "npz"])
@pytest.mark.parametrize("content", [b"", b"not a network", b"PK\x03\x04 cut short"])
def test_broken_weights_are_refused(tmp_path, suffix, content):
    path = tmp_path / f"trunk.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"trunk.{suffix} is not a readable weights file"):
        LPIPS("alex", weights=path, device="cpu").embed(random_images((32, 32)))


def test_a_missing_file_and_an_unknown_net_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights file .*absent.pth; pass a state dict of"):
        LPIPS("alex", weights=tmp_path / "absent.pth").embed(random_images((32, 32)))
    with pytest.raises(ValueError, match="net must be one of 'alex', 'vgg', 'squeeze', got 'resnet'"):
        LPIPS("resnet")


@pytest.mark.parametrize("size", [1e-10, 1e-9, 1.0])
def test_features_near_zero_are_normalised_as_the_lpips_package_does(size):
    """Where a layer is almost silent, adding 1e-10 to the length of its features keeps noise from counting."""
    generator = torch.Generator().manual_seed(0)
    feature, w = size * torch.rand(2, 4, 3, 3, generator=generator), torch.rand(1, 4, 1, 1, generator=generator)
    expected = lpips.normalize_tensor(feature) * (w / 9).sqrt()
    np.testing.assert_allclose(_weigh([feature.clone()], [w]), expected.flatten(1), rtol=1e-5)
