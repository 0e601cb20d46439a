"""A cached metric embeds each image once ever, and never trusts what is damaged."""

import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
import zarr
from filelock import FileLock
from numpy.testing import assert_allclose, assert_array_equal

from neurosuper import interpretability_index, load_images
from neurosuper.metrics import (
    LPIPS,
    Color,
    Features,
    ImageMetric,
    Label,
    Pixel,
    Precomputed,
    cached,
    pairwise_distances,
    store,
)
from neurosuper.metrics.base import pixels


class Counting:
    """A metric of 768 features that counts the images it embeds, and is interrupted after some number of them."""

    name = "Toy: 1"
    quantity = "toy distance"
    squared = True
    self_similarity = 0.0
    batch_size = 4

    def __init__(self, weight: float = 1.0, stop_after: int = 10**6):
        self.weight, self.stop_after, self.n_embedded = weight, stop_after, 0

    def fingerprint(self) -> str:
        return str(self.weight)

    def embed(self, images):
        if self.n_embedded + len(images) > self.stop_after:
            raise KeyboardInterrupt
        self.n_embedded += len(images)
        return pixels(images, "cpu").flatten(1) * self.weight


@pytest.fixture
def some(images):
    return images[:20]


def embed(folder, images, metric=None, dtype="float16") -> tuple[np.ndarray, int]:
    """Return embeddings as a fresh process would get them, and how many images it embedded."""
    metric = Counting() if metric is None else metric
    before = metric.n_embedded
    return cached(metric, folder, dtype=dtype).embed(images).numpy(), metric.n_embedded - before


def only_store(folder: Path) -> Path:
    (path,) = (path for path in folder.iterdir() if path.is_dir())
    return path


def test_the_second_call_embeds_nothing_and_returns_the_same(some, tmp_path):
    first, n_first = embed(tmp_path, some)
    second, n_second = embed(tmp_path, some)
    assert (n_first, n_second) == (20, 0)
    assert_array_equal(second, first)
    assert first.dtype == np.float32
    assert_allclose(first, Counting().embed(some), rtol=2**-11)


def test_float32_is_exact(some, tmp_path):
    for _ in range(2):
        assert_array_equal(embed(tmp_path, some, dtype="float32")[0], Counting().embed(some))


def test_rows_are_found_by_pixels_not_by_labels(some, tmp_path):
    whole, _ = embed(tmp_path, some)
    order = np.array([7, 3, 3, 19, 0])
    relabelled = some[order].assign_coords(stimulus=list("abcde"))
    for images in (relabelled, relabelled.chunk(stimulus=2).transpose("channel", ...), pixels(relabelled, "cpu")):
        ours, n_embedded = embed(tmp_path, images)
        assert n_embedded == 0
        assert_array_equal(ours, whole[order])


def test_only_new_images_are_embedded_and_copies_once(images, tmp_path):
    embed(tmp_path, images[:20])
    twice = images[[18, 19, 20, 21, 20]].assign_coords(stimulus=list("abcde"))
    ours, n_embedded = embed(tmp_path, twice)
    assert n_embedded == 2
    assert_array_equal(ours[2], ours[4])


def test_anything_that_changes_embeddings_has_a_store_of_its_own(some, tmp_path):
    embed(tmp_path, some)
    renamed = Counting()
    renamed.name = "other"
    for change in ({"metric": Counting(weight=2)}, {"dtype": "float32"}, {"images": some[:, :8]}, {"metric": renamed}):
        _, n_embedded = embed(tmp_path, **{"images": some} | change)
        assert n_embedded == 20
    folders = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert [name.rpartition("-")[0] for name in folders] == ["Toy-1"] * 4 + ["other"]


def test_the_store_is_a_plain_zarr_array(some, tmp_path):
    ours, _ = embed(tmp_path, some)
    array = zarr.open_array(only_store(tmp_path), mode="r")
    assert (array.dtype, array.metadata.dimension_names) == (np.float16, ("row", "feature"))
    assert dict(array.attrs) == {"metric": "Toy: 1", "quantity": "toy distance", "image_size": "16 × 16 pixels"}
    assert_array_equal(array[:4], ours[:4])


def test_an_interrupted_run_goes_on_where_it_stopped(some, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        embed(tmp_path, some, Counting(stop_after=8))
    ours, n_embedded = embed(tmp_path, some)
    assert n_embedded == 12
    assert_allclose(ours, Counting().embed(some), rtol=2**-11)


@pytest.mark.parametrize("stopped_at", [0, 1, 3])
def test_an_interruption_between_rows_and_index_loses_one_batch(some, tmp_path, monkeypatch, stopped_at):
    """Rows were written but the index was not: they are not trusted, and written again."""
    write_index, calls = store.RowStore._write_index, iter(range(10))

    def stop(self):
        if next(calls) == stopped_at:
            raise KeyboardInterrupt
        write_index(self)

    with monkeypatch.context() as patched:
        patched.setattr(store.RowStore, "_write_index", stop)
        with pytest.raises(KeyboardInterrupt):
            embed(tmp_path, some)
    ours, n_embedded = embed(tmp_path, some)
    assert n_embedded == 20 - 4 * stopped_at
    assert_array_equal(embed(tmp_path, some)[0], ours)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


DAMAGE = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"garbage" * 40),
    "changed": flip,
    "gone": Path.unlink,
}


@pytest.mark.parametrize("damage", [*DAMAGE, "swapped"])
def test_damaged_rows_are_embedded_again(some, tmp_path, damage):
    expected, _ = embed(tmp_path, some)
    chunk = only_store(tmp_path) / "c.3.0"  # the fourth batch of four
    if damage == "swapped":
        shutil.copy(only_store(tmp_path) / "c.4.0", chunk)
    else:
        DAMAGE[damage](chunk)
    with pytest.warns(
        UserWarning, match="[1-4] of 20 rows read from .* are damaged; they are computed again"
    ) as warned:
        ours, n_embedded = embed(tmp_path, some)
    assert "\n" not in str(warned[0].message)
    assert n_embedded in ((1, 2, 3, 4) if damage == "changed" else (4,))
    assert_array_equal(ours, expected)
    again, n_embedded = embed(tmp_path, some)
    assert n_embedded == 0
    assert_array_equal(again, expected)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", ["index", "zarr.json"])
def test_a_store_that_is_not_readable_is_made_anew(some, tmp_path, file, damage):
    expected, _ = embed(tmp_path, some)
    DAMAGE[damage](only_store(tmp_path) / file)
    if (file, damage) == ("index", "gone"):  # as where a run was interrupted before there was one
        ours, n_embedded = embed(tmp_path, some)
    else:
        with pytest.warns(UserWarning, match="is not readable .*; its rows are computed again"):
            ours, n_embedded = embed(tmp_path, some)
    assert n_embedded == 20
    assert_array_equal(ours, expected)
    assert embed(tmp_path, some)[1] == 0


@pytest.mark.parametrize(("kept", "changed"), [("768", "800"), ("64", "32"), ("float16", "float32")])
def test_an_array_that_is_not_the_one_of_the_index_is_made_anew(some, tmp_path, kept, changed):
    expected, _ = embed(tmp_path, some)
    path = only_store(tmp_path) / "zarr.json"
    path.write_text(path.read_text().replace(kept, changed))
    with pytest.warns(UserWarning, match=r"is not readable \(ValueError\); its rows are computed again"):
        ours, n_embedded = embed(tmp_path, some)
    assert n_embedded == 20
    assert_array_equal(ours, expected)


def test_a_fingerprint_that_does_not_change_with_the_embeddings_is_an_error(some, tmp_path):
    embed(tmp_path, some[:10])
    wider = Counting()
    wider.embed = lambda images: pixels(images, "cpu").flatten(1).repeat(1, 2)
    with pytest.raises(
        ValueError, match=r"1536 features, but those in .* have 768; .* change the metric's fingerprint\(\)"
    ):
        cached(wider, tmp_path).embed(some)
    assert embed(tmp_path, some[:10])[1] == 0


@pytest.mark.parametrize("n_rows", [1, 3, 4, 5])
def test_chunks_may_be_smaller_or_larger_than_batches(some, tmp_path, monkeypatch, n_rows):
    monkeypatch.setattr(store, "CHUNK_BYTES", n_rows * 2 * 768)
    expected, _ = embed(tmp_path, some)
    assert zarr.open_array(only_store(tmp_path), mode="r").chunks == (n_rows, 768)
    ours, n_embedded = embed(tmp_path, some)
    assert n_embedded == 0
    assert_array_equal(ours, expected)


def test_what_another_process_has_written_is_used(images, tmp_path):
    one, two = (cached(Counting(), tmp_path) for _ in range(2))
    one.embed(images[:8])
    two.embed(images[4:12])
    one.embed(images[:12])
    assert (one.metric.n_embedded, two.metric.n_embedded) == (8, 4)


def test_several_writers_at_once_corrupt_nothing(images, tmp_path, rng):
    some = images[:40]
    orders = [rng.permutation(40) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        ours = list(pool.map(lambda order: embed(tmp_path, some[order])[0], orders))
    whole, n_embedded = embed(tmp_path, some)
    assert n_embedded == 0
    for order, embedding in zip(orders, ours, strict=True):
        assert_array_equal(embedding, whole[order])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_read_with_one_warning(some, tmp_path, monkeypatch, number):
    known, _ = embed(tmp_path, some[:8])

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(store.RowStore, "_write_index", fail)
    with pytest.warns(UserWarning, match=f"embeddings of Toy: 1 are not stored: .*{os.strerror(number)}") as warned:
        ours, n_embedded = embed(tmp_path, some)
    assert len(warned) == 1
    assert n_embedded == 12
    assert_array_equal(ours[:8], known)
    assert_allclose(ours, Counting().embed(some), rtol=2**-11)


def test_a_metric_that_cannot_be_identified_is_not_cached(some, tmp_path):
    rng = np.random.default_rng(0)
    net = torch.nn.Sequential(torch.nn.AvgPool2d(4))
    metric = Features(net, "0", preprocess=lambda x: x + 0 * rng.random(), device="cpu")
    with pytest.warns(UserWarning, match=r"features:0 are not cached: preprocess closure rng is a Generator") as warned:
        ours = cached(metric, tmp_path, dtype="float32").embed(some)
    assert len(warned) == 1
    assert_array_equal(ours, metric.embed(some))
    assert not list(tmp_path.iterdir())


def test_what_killed_writers_left_is_removed(some, tmp_path):
    embed(tmp_path, some)
    left = [only_store(tmp_path) / name for name in ("index.part", "c.9.0.3f2a.partial")]
    for path in left:
        path.write_bytes(b"half")
    with FileLock(f"{only_store(tmp_path)}.lock"):
        assert embed(tmp_path, some)[1] == 0
        assert all(path.exists() for path in left), "somebody may be writing them"
    assert embed(tmp_path, some)[1] == 0
    assert not any(path.exists() for path in left)


def test_it_is_a_metric_wherever_one_is_taken(images, responses, tmp_path):
    metric = cached(Counting(), tmp_path, dtype="float32")
    assert isinstance(metric, ImageMetric)
    assert repr(metric).startswith("Cached(<")
    assert_allclose(pairwise_distances(images, metric), pairwise_distances(images, Counting()), rtol=1e-6)
    index = interpretability_index(responses, images, metric)
    assert_allclose(index, interpretability_index(responses, images, Counting()), rtol=1e-6)
    assert metric.metric.n_embedded == 120
    assert index.attrs["metric"] == "Toy: 1"


def random_trunk(path: Path) -> Path:
    """A file of AlexNet weights, scaled so that activity neither dies out nor explodes."""
    generator, state = torch.Generator().manual_seed(0), {}
    with pytest.warns(UserWarning, match="deprecated"):
        net = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).net
    for name, parameter in net.state_dict().items():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
        state[f"features.{name.split('.', 1)[1]}"] = (
            torch.randn(parameter.shape, generator=generator) * (2 / fan_in) ** 0.5
        )
    torch.save(state, path)
    return path


def error_of_float16(images, weights, folder) -> np.ndarray:
    """Return the relative error of LPIPS distances."""
    metric = LPIPS("alex", weights=weights, device="cpu")
    exact, rounded = (
        pairwise_distances(images, each).values[np.triu_indices(len(images), 1)]
        for each in (metric, cached(metric, folder))
    )
    return np.abs(rounded / exact - 1)


def test_float16_changes_lpips_by_less_than_one_in_ten_thousand(tmp_path, rng):
    coarse = rng.integers(0, 256, (8, 4, 4, 3), dtype=np.uint8)
    images = load_images(coarse.repeat(16, axis=1).repeat(16, axis=2))
    assert error_of_float16(images, random_trunk(tmp_path / "trunk.pth"), tmp_path / "cache").max() < 1e-4


def test_float16_changes_lpips_of_photographs_by_less_than_one_in_ten_thousand(real_data, tmp_path):
    images = load_images(real_data / "images" / "imagenet_1000x128_jpg.zip")[::50]
    assert error_of_float16(images, real_data / "nets" / "alexnet_features_fp16.npz", tmp_path).max() < 1e-4


def test_values_beyond_float16_are_refused(some, tmp_path):
    large = Counting(weight=1e5)
    with pytest.raises(
        ValueError, match=r"of Toy: 1 reach \S+, too large for float16; use cached\(…, dtype='float32'\)"
    ):
        cached(large, tmp_path).embed(some)
    assert_array_equal(cached(large, tmp_path, dtype="float32").embed(some), large.embed(some))


def test_images_are_checked_as_ever(tmp_path):
    with pytest.raises(ValueError, match=r"images must be in \[0, 1\]"):
        cached(Color(device="cpu"), tmp_path).embed(torch.full((1, 3, 4, 4), 2.0))


def test_metrics_that_cannot_be_cached_are_refused(some, tmp_path):
    class Plain(Counting):
        fingerprint = None

    nothing_to_keep = [Label(), Precomputed(pairwise_distances(some, Color(device="cpu"))), cached(Color(), tmp_path)]
    for metric in nothing_to_keep:
        with pytest.raises(
            TypeError, match=f"^{type(metric).__name__}.* has no embeddings to store in a cache; use it without one"
        ):
            cached(metric, tmp_path)
    with pytest.raises(TypeError, match=r"Plain has no fingerprint, .*; give it a method fingerprint\(\) that returns"):
        cached(Plain(), tmp_path)


def test_wrong_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="dtype must be one of 'float16', 'float32', got 'int8'"):
        cached(Pixel(), tmp_path, dtype="int8")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="the cache must be a folder, got the file .*file; give another path"):
        cached(Pixel(), tmp_path / "file")
