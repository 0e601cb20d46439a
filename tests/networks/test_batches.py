"""Images come in batches from labelled stacks, datasets and loaders, and every other input is refused in one line."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torchvision import transforms

from neurosuper.images import load_images
from neurosuper.networks import activations
from neurosuper.networks.batches import ImageBatches

N = 11


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())


class Items(Dataset):
    """A dataset of what `make` makes of the pixels of an image."""

    def __init__(self, pixels, make):
        self.pixels, self.make = pixels, make

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, i):
        return self.make(self.pixels[i])


class Stream(IterableDataset):
    """A dataset that does not know its length."""

    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return (self.items[i] for i in range(len(self.items)))


class Counted(Stream):
    """A stream that tells a wrong length."""

    def __init__(self, items, length):
        super().__init__(items)
        self.length = length

    def __len__(self):
        return self.length


def to_tensor(image):
    return torch.tensor(image).permute(2, 0, 1).float() / 255


MAKE = {
    "pictures": Image.fromarray,
    "pictures with targets": lambda image: (Image.fromarray(image), 3),
    "arrays": lambda image: image,
    "tensors": to_tensor,
    "tensors in double precision": lambda image: to_tensor(image).double(),
    "tensors of 8 bits": lambda image: torch.tensor(image).permute(2, 0, 1),
    "lists that begin with a tensor": lambda image: [to_tensor(image), "a caption"],
}


def show(model, images, **settings):
    return activations(model, images, "1", **{"position": "mean", "batch_size": 4, "device": "cpu"} | settings)


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_items_of_a_dataset_give_the_activations_of_the_same_images(model, pixels, make):
    expected = show(model, load_images(pixels))
    found = show(model, Items(pixels, make))
    np.testing.assert_array_equal(found, expected)
    assert found.stimulus.values.tolist() == [f"{i:02d}" for i in range(N)]


SOURCES = {
    "a part of a dataset": lambda items: Subset(items, range(N)),
    "a stream": Stream,
    "a stream that tells too many": lambda items: Counted(items, N + 5),
    "a stream that tells too few": lambda items: Counted(items, 2),
    "a loader": lambda items: DataLoader(items, batch_size=3),
    "a loader of a stream": lambda items: DataLoader(Stream(items), batch_size=3),
    "a loader of pairs": lambda items: DataLoader(TensorDataset(torch.stack(list(items)), torch.ones(N)), batch_size=3),
    "a loader with batches of its own": lambda items: DataLoader(items, batch_sampler=[[0, 1], [2], list(range(3, N))]),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Length of IterableDataset")
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_every_kind_of_dataset_and_loader_is_read_in_order(model, pixels, source):
    images = source(Items(pixels, to_tensor))
    found = show(model, images, layout="image channel row column")
    np.testing.assert_allclose(found, show(model, load_images(pixels)), rtol=1e-6)
    assert found.stimulus.values.tolist() == [f"{i:02d}" for i in range(N)]


def test_a_loader_that_drops_the_last_batch_has_fewer_images(pixels):
    loader = DataLoader(Items(pixels, to_tensor), batch_size=4, drop_last=True)
    batches = ImageBatches(loader, 32, None)
    assert batches.n_images == sum(map(len, batches)) == 8


def test_pictures_of_several_sizes_are_preprocessed_one_by_one(model, pixels):
    sizes = iter([8, 12, 9] * N)
    dataset = Items(pixels, lambda image: Image.fromarray(image).resize((n := next(sizes), n)))
    preprocess = transforms.Compose([transforms.Resize((8, 8)), transforms.ToTensor()])
    expected = torch.stack(
        [preprocess(Image.fromarray(image).resize((n, n))) for image, n in zip(pixels, [8, 12, 9] * 4, strict=False)]
    )
    np.testing.assert_allclose(
        show(model, dataset, preprocess=preprocess), model(expected).mean((2, 3)).detach(), rtol=1e-5
    )
    with pytest.raises(ValueError, match=r"several shapes, such as \(3, 8, 8\) and \(3, 9, 9\); pass preprocess="):
        show(model, dataset)


def test_only_a_batch_of_a_dataset_is_in_memory(pixels, monkeypatch):
    read = []
    batches = iter(ImageBatches(Items(pixels, lambda image: read.append(1) or to_tensor(image)), 4, None))
    assert next(batches).shape == (4, 3, 8, 8)
    assert len(read) == 4


class Broken(Dataset):
    def __len__(self):
        return N

    def __getitem__(self, i):
        if i == 5:
            raise NotImplementedError("no such\nfile")
        return torch.zeros(3, 8, 8)


@pytest.mark.parametrize(
    ("images", "settings", "error", "message"),
    [
        (DataLoader(Broken(), shuffle=True), {}, ValueError, "the loader shuffles its images, .* pass shuffle=False"),
        (Broken(), {}, ValueError, "Broken fails after 4 images: NotImplementedError: no such file"),
        (Items([1, 2], str), {}, ValueError, "Items fails after 0 images: TypeError: its items are str; they must be"),
        (Items([1, 2], lambda i: (i, 2)), {}, ValueError, "its items are tuple of int; they must be images of PIL"),
        (Items([1], lambda i: torch.zeros(2, 2)), {}, ValueError, r"its items are Tensor \(2, 2\) torch.float32"),
        (Items([1], lambda i: Image.new("CMYK", (8, 8))), {}, ValueError, "an image has mode CMYK; convert it to RGB"),
        (DataLoader([1, 2, 3]), {}, ValueError, r"its batches are Tensor \(1,\) torch.int64; they must be tensors"),
        (TensorDataset(torch.zeros(0, 3, 8, 8)), {}, ValueError, "images contain no stimulus"),
        (
            TensorDataset(torch.full((2, 3, 8, 8), -1.5)), {"preprocess": lambda x: x}, ValueError,
            r"TensorDataset gives values from -1.5 to -1.5, but preprocess takes images in \[0, 1\]; leave out",
        ),
        ([np.zeros((8, 8, 3))], {}, TypeError, "images must be an xarray.DataArray, got list"),
    ],
)  # fmt: skip
def test_other_images_are_refused_in_one_line(model, images, settings, error, message):
    with pytest.raises(error, match=message) as caught:
        show(model, images, **settings)
    assert "\n" not in str(caught.value)
