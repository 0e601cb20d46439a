"""Activations agree with direct calls of the network, and a cache is never used for another network or image."""

import dask.array as da
import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image
from torch import nn

from neurosuper._layer_outputs import run_layers
from neurosuper._layouts import AXES
from neurosuper.networks import activations, batches, recording, tables


class Net(nn.Module):
    """Two maps, tokens and a vector, with everything that differs between training and eval."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale
        self.first = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.tokens = nn.Flatten(2)
        self.pair = nn.LSTM(4, 2, batch_first=True)
        self.head = nn.Linear(4, 5)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        maps = self.drop(self.act(self.norm(self.first(x * self.scale))))
        tokens = self.tokens(maps).transpose(1, 2)
        self.pair(tokens)
        return self.head(tokens.mean(1))


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net()
        nn.init.uniform_(net.norm.running_mean)
        nn.init.uniform_(net.norm.running_var, 0.5, 2.0)
    return net.train()


@pytest.fixture
def passes(monkeypatch):
    """The size of each batch that a network has seen, in order, except batches that check the axes."""
    seen = []

    def note(model, layers, outputs, batch, **rest):
        if len(batch) > 3:
            seen.append(len(batch))
        return run_layers(model, layers, outputs, batch, **rest)

    monkeypatch.setattr(recording, "run_layers", note)
    return seen


def to_tensor(images):
    return torch.tensor(images.values, dtype=torch.float32).permute(0, 3, 1, 2) / 255


def direct(model, images):
    """The outputs of `first`, `act` and `head`, computed step by step, in eval mode."""
    norm, x = model.norm, to_tensor(images)
    with torch.no_grad():
        first = nn.functional.conv2d(x, model.first.weight, model.first.bias)
        scaled = (first - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
        act = scaled.clamp(min=0)
        return first.numpy(), act.numpy(), model.head(act.mean((2, 3))).numpy()


def test_center_is_the_centre_pixel_of_every_channel(model, images):
    first, act, head = direct(model, images)
    found = activations(model, images, ["first", "act", "head"], batch_size=50, device="cpu")
    expected = np.concatenate([first[:, :, 7, 7], act[:, :, 7, 7], head], axis=1)  # maps are 14 × 14
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-5)
    assert found.dims == ("stimulus", "unit")
    assert found.dtype == np.float32


def test_layers_have_their_own_values_in_any_order(model, images):
    """Units of `head` must not be labelled as those of `act`, which runs before it."""
    forward = activations(model, images, ["first", "act", "head"], device="cpu")
    backward = activations(model, images, ["head", "act", "first"], device="cpu")
    assert list(dict.fromkeys(backward.layer.values)) == ["head", "act", "first"]
    xr.testing.assert_equal(backward.sel(unit=forward.unit), forward)


def test_mean_is_over_the_map(model, images):
    _, act, head = direct(model, images)
    found = activations(model, images, ["act", "head"], position="mean", device="cpu")
    np.testing.assert_allclose(found.values, np.concatenate([act.mean((2, 3)), head], 1), rtol=1e-4, atol=1e-5)


def test_all_makes_every_pixel_a_unit_with_its_row_and_column(model, images):
    _, act, head = direct(model, images)
    found = activations(model, images, ["act", "head"], position="all", device="cpu")
    unit = found.sel(unit="act/0002/3/11")
    np.testing.assert_allclose(unit.values, act[:, 2, 3, 11], rtol=1e-4, atol=1e-5)
    assert (unit.layer, unit.channel, unit.row, unit.column) == ("act", 2, 3, 11)
    np.testing.assert_allclose(found.sel(unit="head/0004/0/0").values, head[:, 4], rtol=1e-4, atol=1e-5)
    assert found.sizes["unit"] == 4 * 14 * 14 + 5
    assert all(found[name].dtype.kind == "i" for name in ("channel", "row", "column"))


def test_an_even_map_has_its_centre_after_the_middle(images):
    found = activations(nn.Sequential(nn.Identity()), images, "0", device="cpu")
    np.testing.assert_allclose(found.values, images.values[:, 8, 8, :] / np.float32(255), rtol=1e-6)


def test_tokens_have_a_mean_and_rows_but_no_centre(images):
    patches = nn.Sequential(nn.Conv2d(3, 3, 8, stride=8), nn.Flatten(2), Transpose())
    expected = patches(to_tensor(images)).detach().numpy()  # (120, 4 tokens, 3 channels)
    mean = activations(patches, images, "2", position="mean", device="cpu")
    np.testing.assert_allclose(mean.values, expected.mean(1), rtol=1e-4, atol=1e-5)
    single = activations(patches, images, "2", position="all", device="cpu").sel(unit="2/0001/3/0")
    np.testing.assert_allclose(single.values, expected[:, 3, 1], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"layer '2' gives tokens, which have no centre; use position='mean', 'all', "):
        activations(patches, images, "2", device="cpu")


class Transpose(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


def test_labels_coords_and_provenance_follow(model, images):
    found = activations(model, images, "head", device="cpu")
    assert found.name == "response"
    assert found.unit.values.tolist() == [f"head/{i:04d}" for i in range(5)]
    assert found.channel.values.tolist() == [0, 1, 2, 3, 4]
    xr.testing.assert_equal(found.category, images.category)
    assert found.attrs.items() >= {
        "units": "a.u.", "modality": "network", "model": "Net", "layers": "head", "position": "center", "device": "cpu",
    }.items()  # fmt: skip
    assert len(found.attrs["weights_sha256"]) == 64


def test_preprocess_gets_the_unit_range_and_feeds_the_network(images):
    def invert(x):
        assert x.dtype == torch.float32
        assert 0 <= x.min() <= x.max() <= 1
        return 1 - x

    found = activations(nn.Sequential(nn.Identity()), images, "0", preprocess=invert, device="cpu")
    np.testing.assert_allclose(found.values, 1 - images.values[:, 8, 8, :] / 255, atol=1e-6)


def test_dask_images_are_read_one_batch_at_a_time(model, images):
    sizes = []

    def note(block):
        sizes.append(len(block))
        return block

    lazy = images.copy(data=da.from_array(images.values, chunks=(10, 16, 16, 3)).map_blocks(note, dtype=np.uint8))
    sizes.clear()
    found = activations(model, lazy, "act", batch_size=20, device="cpu")
    xr.testing.assert_identical(found, activations(model, images, "act", batch_size=20, device="cpu"))
    assert sizes == [10] * 12


def test_the_model_is_left_as_it_was(model, images):
    model.drop.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    activations(model, images, "act", device="cpu")
    assert model.training
    assert model.norm.training
    assert not model.drop.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.act._forward_hooks
    model(torch.zeros(2, 3, 16, 16)).sum().backward()


def test_hooks_and_training_mode_come_back_after_an_error(model, images):
    def fail(_batch):
        raise RuntimeError("no preprocessing today")

    with pytest.raises(ValueError, match="today"):
        activations(model, images, "act", preprocess=fail, device="cpu")
    assert not model.act._forward_hooks
    assert model.training


def test_an_interrupted_run_continues_where_it_stopped(model, images, passes, tmp_path, monkeypatch):
    expected = activations(model, images, ["act", "head"], batch_size=25, device="cpu")
    passes.clear()
    with monkeypatch.context() as power_cut:
        power_cut.setattr(batches, "preprocess_images", lambda x, _: x if len(passes) < 2 else _stop())
        with pytest.raises(KeyboardInterrupt):
            activations(model, images, ["act", "head"], batch_size=25, device="cpu", cache=tmp_path / "new" / "cache")
    assert [path.suffix for path in (tmp_path / "new" / "cache").iterdir()] == [".npz", ".npz"]
    passes.clear()
    for missing in ([25, 25, 20], []):
        found = activations(model, images, ["act", "head"], batch_size=25, device="cpu", cache=tmp_path / "new/cache")
        assert passes == missing
        xr.testing.assert_identical(found, expected)
        passes.clear()


def _stop():
    raise KeyboardInterrupt


def _change_weights(model, call):
    with torch.no_grad():
        model.first.bias[0] += 1


def _change_statistics(model, call):
    model.norm.running_mean[0] += 1


def _change_setting(model, call):
    model.scale = 2.0


def _change_one_pixel(model, call):
    call["images"] = call["images"].copy()
    call["images"][0, 8, 8, 0] ^= 128


def _halve(module, inputs, output):
    return output / 2


def _ablate(channel):
    keep = torch.ones(4, 1, 1)
    keep[channel] = 0
    return lambda module, inputs, output: output * keep


def _patch_forward(model, call):
    first = model.act.forward
    model.act.forward = lambda x: first(x) + 1


CHANGES = {
    "weights": _change_weights,
    "weights, by .data": lambda model, call: model.first.weight.data.mul_(2),
    "batch norm statistics": _change_statistics,
    "a setting of the model": _change_setting,
    "one pixel": _change_one_pixel,
    "preprocess": lambda model, call: call.update(preprocess=lambda x: x / 2),
    "layers": lambda model, call: call.update(layers=["first", "act"]),
    "position": lambda model, call: call.update(position="mean"),
    "layout": lambda model, call: call.update(layout="image row column channel", position="mean"),
    "a hook": lambda model, call: model.first.register_forward_hook(_halve),
    "what a hook closes over": lambda model, call: (
        model.norm._forward_hooks.clear(), model.norm.register_forward_hook(_ablate(2))
    ),
    "a pre-hook": lambda model, call: model.act.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,)),
    "a patched forward": _patch_forward,
    "a tuple": lambda model, call: setattr(model, "shift", (0.0, 0.0, 0.5)),
    "a tensor that is no buffer": lambda model, call: model.gain.mul_(2),
    "an array": lambda model, call: model.table.__setitem__(slice(2, None), 3.0),
    "a dict": lambda model, call: model.settings.update(offset=1.0),
    "a set": lambda model, call: model.flags.add("negate"),
}  # fmt: skip


class Settings(nn.Module):
    """A network that reads attributes which are neither weights, buffers nor plain numbers."""

    def __init__(self, net):
        super().__init__()
        self.first, self.norm, self.act = net.first, net.norm, net.act
        self.shift, self.gain, self.table = (0.0, 0.0, 0.0), torch.tensor(1.0), np.ones(4, np.float32)
        self.settings, self.flags, self.scale = {"offset": 0.0}, {"one", "two"}, 1.0
        self.head = net.head
        nn.init.zeros_(self.norm.running_mean)  # so that not all of `act` is 0
        self.norm.register_forward_hook(_ablate(1))

    def forward(self, x):
        x = self.norm(self.first((x - torch.tensor(self.shift)[:, None, None]) * self.gain * self.scale))
        x = x * torch.from_numpy(self.table)[:, None, None] + self.settings["offset"]
        x = self.act(-x if "negate" in self.flags else x)
        self.head(x.mean((2, 3)))
        return x


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.filterwarnings("ignore:layer 'act' gives shape")
def test_the_cache_is_used_only_for_the_same_network_and_images(change, model, images, passes, tmp_path):
    model = Settings(model)
    call = {"images": images, "layers": ["act"], "batch_size": 120, "device": "cpu"}
    former = activations(model, **call, cache=tmp_path)
    change(model, call)
    fresh = activations(model, **call)
    passes.clear()
    xr.testing.assert_identical(activations(model, **call, cache=tmp_path), fresh)
    assert passes == [120]
    assert not former.equals(fresh), "the change has an effect"


@pytest.mark.parametrize("damage", ["empty", "cut short", "one bit", "text"])
def test_a_damaged_cache_file_is_computed_again(damage, model, images, passes, tmp_path):
    call = {"images": images, "layers": "act", "batch_size": 120, "device": "cpu", "cache": tmp_path}
    expected = activations(model, **call)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes({"empty": b"", "cut short": whole[:-30], "one bit": flipped, "text": b"not an archive"}[damage])
    passes.clear()
    for _ in range(2):
        xr.testing.assert_identical(activations(model, **call), expected)
    assert passes == [120]


def test_two_names_of_one_module_are_both_found(images):
    model = nn.Sequential()
    model.one = model.two = nn.ReLU()
    assert set(activations(model, images, ["one", "two"], device="cpu").layer.values) == {"one", "two"}


@pytest.mark.gpu
def test_gpu_agrees_and_the_model_comes_back(model, images):
    found = activations(model, images, ["act", "head"], device="cuda")
    assert next(model.parameters()).device.type == "cpu"
    expected = activations(model, images, ["act", "head"], device="cpu")
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-2, atol=1e-3)


class Complex(nn.Module):
    def forward(self, x):
        return torch.fft.fft2(x)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"layers": "frist"}, ValueError, r"no layer 'frist' in Net; similar names: first"),
        ({"layers": []}, ValueError, r"layers must be one or more names, each once, got \[\]"),
        ({"layers": ["", "output"]}, ValueError, "network's own output, '', and of 'output' have the same name"),
        ({"layers": ["act", "act"]}, ValueError, r"each once, got \['act', 'act'\]"),
        ({"layers": "unused"}, ValueError, r"layer 'unused' is not used in the forward pass of Net"),
        ({"layers": "pair"}, TypeError, r"layer 'pair' gives tuple, not one real tensor"),
        (
            {"position": "centre"},
            ValueError,
            r"position must be one of .*'cls', or the number of a token, got 'centre'",
        ),
        ({"batch_size": 0}, ValueError, r"batch_size must be a whole number of at least 1, got 0"),
        ({"preprocess": lambda x: x[0]}, ValueError, r"must return a tensor of 32 images, got \(3, 16, 16\)"),
        ({"preprocess": lambda x: x.numpy()}, ValueError, r"must return a tensor of 32 images, got ndarray"),
        ({"preprocess": lambda x: x / 0}, ValueError, r"layer 'act' gives NaN or infinite activations"),
        ({"model": 3}, TypeError, r"model must be a torch.nn.Module, got int"),
        ({"model": "resnet"}, ValueError, r"a network must be named as 'collection:name'"),
        ({"model": nn.Sequential(Complex()), "layers": "0"}, TypeError, r"layer '0' gives torch.complex64"),
        ({"model": nn.Sequential(nn.Flatten(0)), "layers": "0"}, ValueError, r"layer '0' gives shape \(24576,\)"),
        ({"device": "toaster"}, ValueError, r"device must be 'cpu', 'cuda', 'mps' or None, got 'toaster'"),
    ],
)
def test_bad_input_is_named_in_one_line(wrong, error, message, model, images):
    call = {"model": model, "images": images, "layers": "act", "device": "cpu"} | wrong
    with pytest.raises(error, match=message) as caught:
        activations(**call)
    assert "\n" not in str(caught.value)


class Fails(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.same, self.error = nn.Identity(), error

    def forward(self, x):
        if self.error:
            raise self.error
        return self.same(x)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (AssertionError("height 16 is not 224"), r"AssertionError: height 16 is not 224; check preprocess"),
        (KeyError("pixels"), r"KeyError: 'pixels'; check"),
        (NotImplementedError(), r"NotImplementedError; check"),
        (TypeError("missing 1 argument: 'text'"), r"missing 1 argument: 'text'; check"),
        (RuntimeError("two\nlines"), r"two lines; check"),
        (MemoryError(), r"MemoryError; use a smaller batch_size"),
    ],
)
def test_any_error_of_a_network_is_one_line_that_names_the_batch(error, message, images):
    with pytest.raises(
        ValueError, match=r"Fails fails on a batch of shape \(32, 3, 16, 16\), .*: .*" + message
    ) as caught:
        activations(Fails(error), images, "same", device="cpu")
    assert "\n" not in str(caught.value)


def test_an_interrupt_inside_a_network_remains_an_interrupt(images):
    with pytest.raises(KeyboardInterrupt):
        activations(Fails(KeyboardInterrupt()), images, "same", device="cpu")


def test_the_images_and_the_layer_are_named(model, images):
    first, last = images.stimulus.values[[0, 31]]
    message = rf"\(images {first} to {last}\), in layer 'first': .* expected input.* 3 channels"
    with pytest.raises(ValueError, match=message):
        activations(model, images, "first", preprocess=lambda x: x[:, :2], device="cpu")


def test_a_transform_of_single_pictures_is_used_as_it_is(images):
    from torchvision import transforms

    both = [transforms.Resize(8), transforms.ToTensor()]
    found = activations(
        nn.Sequential(nn.Identity()), images[:3], "0", preprocess=transforms.Compose(both), device="cpu"
    )
    for image, row in zip(images[:3], found, strict=True):
        small = np.asarray(Image.fromarray(image.values).resize((8, 8), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(row, small[4, 4] / np.float32(255), rtol=1e-6)


def test_the_stimulus_whose_activations_are_not_finite_is_named(images):
    class Scale(nn.Module):
        def forward(self, x):
            return x / x.amax((1, 2, 3), keepdim=True)

    black = images.copy(deep=True)
    black[71] = 0
    with pytest.raises(ValueError, match=rf"1 of 32 images of a batch, such as stimulus {black.stimulus.values[71]};"):
        activations(nn.Sequential(Scale()), black, "0", device="cpu")


def test_maps_of_another_layout_are_read_as_layout_says(model, images):
    maps = activations(model, images, "act", position="all", device="cpu")
    for layout in ("image row column channel", "row image channel column"):
        order = [AXES[4].split().index(axis) for axis in layout.split()]
        permuted = nn.Sequential(model.first, model.norm, model.act, Permute(order))
        found = activations(permuted, images, "3", position="all", layout={"3": layout}, device="cpu")
        np.testing.assert_allclose(found.values, maps.values, rtol=1e-5, atol=1e-6)
        assert found.attrs["layout"] == f"3: {layout}"
    with pytest.raises(
        ValueError, match=r"for 32 images and \(14, 2, 4, 14\) for 2, so its axis 0 does not count images; pass"
    ):
        activations(permuted, images, "3", device="cpu")


class Permute(nn.Module):
    def __init__(self, order):
        super().__init__()
        self.order = order

    def forward(self, x):
        return x.permute(self.order)


def test_tokens_of_the_same_number_as_images_are_not_taken_for_images(images):
    patches = nn.Sequential(nn.Conv2d(3, 5, 8, stride=8), nn.Flatten(2), Permute([2, 0, 1]))  # (4 tokens, image, 5)
    four = images[:4]
    with pytest.raises(ValueError, match="pass layout='token image channel', if that is"):
        activations(patches, four, "2", position="mean", device="cpu")
    found = activations(patches, four, "2", position="mean", layout="token image channel", device="cpu")
    expected = patches[1](patches[0](to_tensor(four))).mean(2).detach()
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-6)


def test_a_network_with_an_object_that_has_no_fingerprint_is_not_cached(model, images, tmp_path):
    model.noise = np.random.default_rng(0)
    with pytest.warns(
        UserWarning, match=r"activations are not cached: model\.noise is a Generator, which changes"
    ) as caught:
        found = activations(model, images, "act", device="cpu", cache=tmp_path)
    assert len(caught) == 1
    assert not list(tmp_path.iterdir())
    xr.testing.assert_identical(found, activations(model, images, "act", device="cpu"))


def test_weights_that_are_not_loaded_are_reported_as_missing(images):
    with torch.device("meta"):
        empty = nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(ValueError, match=r"'0\.weight' of Sequential has no weights yet"):
        activations(empty, images, "0")
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(ValueError, match=r"'1\.weight' of Sequential has no shape yet .* run the network once"):
        activations(lazy, images, "1")


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_networks_of_torchscript_are_refused(images):
    traced = torch.jit.trace(nn.Sequential(nn.ReLU()), torch.zeros(1, 3, 16, 16))
    for model, layer in ((traced, "0"), (nn.Sequential(traced), "0.0")):
        with pytest.raises(ValueError, match=r"is TorchScript .*; pass the Python module"):
            activations(model, images, layer)


def test_the_result_is_in_memory_once(images, monkeypatch):
    """Units of all batches are written into one array with one row per image."""
    made, empty = [], np.empty

    def noted(shape, *rest, **more):
        made.extend([shape] if np.ndim(shape) and len(shape) > 1 else [])  # those of one dimension are lists of labels
        return empty(shape, *rest, **more)

    monkeypatch.setattr(np, "empty", noted)
    monkeypatch.setattr(np, "concatenate", lambda *_, **__: _stop())
    with monkeypatch.context() as patched:
        patched.setattr(tables, "unit_coords", lambda layers, shapes: {})
        found = activations(nn.Sequential(nn.Identity()), images, "0", position="all", batch_size=50, device="cpu")
    assert made == [(120, 768)]
    assert found.shape == (120, 768)


def test_images_that_preprocess_makes_of_several_sizes_are_refused(images):
    sizes = iter([8, 4])
    with pytest.raises(ValueError, match=r"units of shape \(3, 4, 4\) for one batch and \(3, 8, 8\) for the first"):
        activations(
            nn.Sequential(nn.Identity()), images[:20], "0", position="all", batch_size=10, device="cpu",
            preprocess=lambda x: x[:, :, : (n := next(sizes)), :n],
        )  # fmt: skip


def test_no_images_and_a_cache_that_is_a_file_are_refused(model, images, tmp_path):
    with pytest.raises(ValueError, match="images contain no stimulus"):
        activations(model, images[:0], "act")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"cache must be a folder, got the file .*notes\.txt; give another path"):
        activations(model, images, "act", cache=tmp_path / "notes.txt")
