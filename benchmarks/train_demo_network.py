"""Train the demo's small CNN on CIFAR-10 and write the weights that the package ships.

    python benchmarks/train_demo_network.py --data FOLDER

FOLDER contains images/cifar10_train_50000_jpg.zip and images/cifar10_test_5000_jpg.zip.
The test images are used once, after training.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch.nn import functional
from tqdm.auto import tqdm

from neurosuper.demo.network import SmallCNN
from neurosuper.images import load_images

SHIPPED = Path(__file__).parents[1] / "neurosuper" / "demo" / "small_cnn.npz"
BATCH = 128
PEAK_RATE = 0.1
SHIFT = 3  # pixels


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    images, labels = as_tensors(load_images(args.data / "images/cifar10_train_50000_jpg.zip", category_from="folder"))
    model = SmallCNN()
    start = time.perf_counter()
    train(model, images, labels, args.epochs, torch.Generator().manual_seed(args.seed))
    print(f"trained for {args.epochs} epochs in {time.perf_counter() - start:.0f} s")
    model.half().float()  # the shipped float16 weights are tested
    test = load_images(args.data / "images/cifar10_test_5000_jpg.zip", category_from="folder")
    reached = accuracy(model, *as_tensors(test))
    save(model, reached, args.out)
    print(
        f"test accuracy {reached:.4f} on {test.sizes['stimulus']} images; {args.out}: {args.out.stat().st_size} bytes"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = os.environ.get("NEUROSUPER_TEST_DATA")
    parser.add_argument("--data", type=Path, default=known, required=known is None, help="folder of real inputs")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=SHIPPED)
    return parser.parse_args()


def as_tensors(images: xr.DataArray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pixels (n, 3, row, column), uint8, and the rank of each category in alphabetical order."""
    _, labels = np.unique(images.category.values, return_inverse=True)
    return torch.from_numpy(images.values).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)


def train(model: SmallCNN, images: torch.Tensor, labels: torch.Tensor, epochs: int, generator: torch.Generator) -> None:
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=PEAK_RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps, pct_start=0.2)
    bar = tqdm(total=steps, desc="training", unit="batch", mininterval=10)
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for batch in order[: len(images) // BATCH * BATCH].split(BATCH):
            scores = model(augment(as_unit_range(images[batch]), generator))
            loss = functional.cross_entropy(scores, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.2f}", refresh=False)
    bar.close()
    model.eval()


def as_unit_range(images: torch.Tensor) -> torch.Tensor:
    return images.to(torch.float32, memory_format=torch.channels_last) / 255


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror half of the images, and shift each by up to SHIFT pixels."""
    n, _, rows, columns = images.shape
    mirrored = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
    padded = functional.pad(torch.where(mirrored, images.flip(-1), images), (SHIFT,) * 4, mode="reflect")
    top, left = torch.randint(0, 2 * SHIFT + 1, (2, n), generator=generator)
    return padded.unfold(2, rows, 1).unfold(3, columns, 1)[torch.arange(n), :, top, left]


def accuracy(model: SmallCNN, images: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.inference_mode():
        guesses = torch.cat([model(as_unit_range(batch)).argmax(dim=1) for batch in images.split(500)])
    return (guesses == labels).float().mean().item()


def save(model: SmallCNN, reached: float, path: Path) -> None:
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    half = {name: a.astype(np.float16) if a.dtype == np.float32 else a for name, a in arrays.items()}
    np.savez_compressed(path, **half, test_accuracy=np.float32(reached))


if __name__ == "__main__":
    main()
