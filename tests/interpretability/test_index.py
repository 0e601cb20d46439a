import itertools
import subprocess
import sys

import dask.array as da
import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist, pdist

from neurosuper import LPIPS, Color, Label, Pixel, Precomputed, interpretability_index, load_images, top_stimuli
from neurosuper.interpretability import index_of_top
from neurosuper.metrics import distances as embedded
from neurosuper.metrics import pairwise_distances, slabs
from neurosuper.metrics.base import pixels


@pytest.fixture(params=[2**25, 1000], ids=["one slab", "many slabs"])
def slab_bytes(request, monkeypatch):
    monkeypatch.setattr(slabs, "SLAB_BYTES", request.param)
    monkeypatch.setattr(embedded, "MAX_GATHERED_BYTES", request.param)


def test_equals_the_mean_over_pairs(metric, slab_bytes, responses, images):
    """Oracle: every pair i < j from the embeddings, by scipy."""
    ours = interpretability_index(responses, images, metric, top=6)
    for unit, labels in top_stimuli(responses, top=6).transpose("unit", "rank").groupby("unit"):
        chosen = metric.embed(images)[images.get_index("stimulus").get_indexer(labels.values.ravel())]
        expected = metric.self_similarity - pdist(chosen, "sqeuclidean" if metric.squared else "euclidean").mean()
        assert_allclose(ours.sel(unit=unit), expected, rtol=1e-5, atol=1e-6)


def pairs_of(metric, images, labels):
    """Return the distances `(image, image)` of images under a metric, by scipy."""
    chosen = metric.embed(images)[images.get_index("stimulus").get_indexer(labels)]
    return cdist(chosen, chosen, "sqeuclidean" if metric.squared else "euclidean")


def test_several_numbers_of_top_stimuli_in_one_pass(metric, slab_bytes, responses, images):
    several = interpretability_index(responses, images, metric, top=[2, 5, 20])
    assert several.dims == ("unit", "top")
    for n in (2, 5, 20):
        assert_allclose(several.sel(top=n), interpretability_index(responses, images, metric, top=n), atol=1e-5)


def test_activation_weights_pairs_by_the_distance_of_their_codes_from_the_mean(metric, slab_bytes, responses, images):
    ours = interpretability_index(responses, images, metric, top=[3, 6], weights="activation")
    for unit in responses.unit.values:
        codes = responses.sel(unit=unit)
        for n in (3, 6):
            labels = top_stimuli(responses, top=n).sel(unit=unit).values
            w = (codes.sel(stimulus=labels) - codes.mean()).values
            distance = pairs_of(metric, images, labels)
            i, j = np.triu_indices(n, 1)
            mean = (w[i] * w[j] * distance[i, j]).sum() / (w[i] * w[j]).sum()
            assert_allclose(ours.sel(unit=unit, top=n), metric.self_similarity - mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("end", ["top", "bottom", "both"])
def test_stimuli_on_the_other_side_of_the_mean_have_no_weight(end, make_responses, images, rng):
    """Oracle: loops. One stimulus far out moves the mean beyond most of the top: |code − mean| would weight these."""
    codes = rng.normal(size=(120, 4))
    codes[:3, :2] += 1000
    codes[:3, 2:] -= 1000
    responses = make_responses(codes)
    codes = responses.values.astype(float)
    ours = interpretability_index(responses, images, Color(), top=110, end=end, weights="activation")
    distance = pairs_of(Color(), images, images.stimulus.values)
    n_weightless = 0
    for sign, name in [(1, "top"), (-1, "bottom")]:
        for u in range(4):
            chosen = np.argsort(-sign * codes[:, u])[:110]
            w = [max(0, sign * (codes[i, u] - codes[:, u].mean())) for i in chosen]
            n_weightless += w.count(0)
            total = norm = 0
            for a, b in itertools.combinations(range(110), 2):
                total += w[a] * w[b] * distance[chosen[a], chosen[b]]
                norm += w[a] * w[b]
            if end == "both":
                assert_allclose(ours.sel(end=name)[u], -total / norm, rtol=1e-5)
            elif end == name:
                assert_allclose(ours[u], -total / norm, rtol=1e-5)
    assert n_weightless > 200


def test_spread_is_the_jackknife_over_top_images(metric, responses, images):
    ours = interpretability_index(responses, images, metric, top=7, spread=True)
    assert_allclose(ours, interpretability_index(responses, images, metric, top=7), atol=1e-6)
    for unit in responses.unit.values:
        labels = top_stimuli(responses, top=7).sel(unit=unit).values
        left_out = []
        for i in range(7):
            distance = pairs_of(metric, images, np.delete(labels, i))
            left_out.append(distance[np.triu_indices(6, 1)].mean())
        expected = np.sqrt(6 / 7 * ((left_out - np.mean(left_out)) ** 2).sum())
        assert_allclose(ours.spread.sel(unit=unit), expected, rtol=1e-4, atol=1e-6)


def test_bottom_and_both_ends(responses, images):
    bottom = interpretability_index(responses, images, Color(), end="bottom")
    assert_allclose(bottom, interpretability_index(-responses, images, Color()))
    both = interpretability_index(responses, images, Color(), top=[3, 5], end="both", spread=True)
    assert both.dims == ("end", "unit", "top")
    assert_allclose(both.sel(end="bottom", top=5), bottom)
    assert both.spread.dims == ("end", "unit", "top")


def test_pixel_and_color_equal_scipy_on_the_images(responses, images):
    rgb = images.values / 255
    for metric, points in ((Pixel(), rgb.reshape(120, -1)), (Color(), rgb.mean((1, 2)))):
        top = top_stimuli(responses, top=5)
        ours = interpretability_index(responses, images, metric, top=5)
        for i in range(8):
            at = images.get_index("stimulus").get_indexer(top[:, i].values)
            distance = cdist(points, points)[np.ix_(at, at)][np.triu_indices(5, 1)]
            assert_allclose(ours[i], -distance.mean(), rtol=1e-6)


def test_label_index_is_the_mean_agreement_in_closed_form(responses, images):
    """(M Σp² − 1) / (M − 1), with p the share of each category among the top M."""
    ours = interpretability_index(responses, images, Label(), top=9)
    for i, labels in enumerate(top_stimuli(responses, top=9).T):
        share = np.unique(images.category.sel(stimulus=labels.values), return_counts=True)[1] / 9
        assert_allclose(ours[i], (9 * (share**2).sum() - 1) / 8, atol=1e-6)


def test_precomputed_distances_give_the_index_of_the_metric_they_are_from(responses, images):
    known = Precomputed(pairwise_distances(images, Pixel()))
    for options in ({"top": [2, 6], "spread": False}, {"weights": "activation", "end": "both"}):
        ours, theirs = (interpretability_index(responses, images, metric, **options) for metric in (known, Pixel()))
        assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("top", [4, [3, 5]])
@pytest.mark.parametrize("options", [{}, {"spread": True}, {"end": "both", "weights": "activation"}])
def test_several_metrics_in_one_call_are_those_of_single_calls(top, options, responses, images):
    images = images.assign_coords(animal=("stimulus", np.arange(120) % 3))
    metrics = [Label(), Label("animal"), Color(), Precomputed(pairwise_distances(images, Pixel()), name="given")]
    several = interpretability_index(responses, images, metrics, top=top, **options)
    singles = [interpretability_index(responses, images, metric, top=top, **options) for metric in metrics]
    assert several.dims == (*singles[0].dims, "metric")
    assert several.metric.values.tolist() == ["label", "label:animal", "color", "given"]
    assert several.quantity.values.tolist() == [single.quantity for single in singles]
    weighted = {"weights": options["weights"]} if "weights" in options else {}
    assert several.attrs == {"top": top, "correction": "none"} | weighted
    for single in singles:
        mine = several.sel(metric=single.attrs["metric"], drop=True)
        xr.testing.assert_identical(mine.assign_attrs(single.attrs), single)


def test_a_sequence_of_one_metric_keeps_its_dim(responses, images):
    chosen = top_stimuli(responses, top=3)
    ours = index_of_top(chosen, images, (Color(),))
    assert ours.sizes == {"unit": 8, "metric": 1}
    assert_array_equal(ours.isel(metric=0), index_of_top(chosen, images, Color()))


def test_layers_of_lpips_add_up_to_the_whole(responses, rng, real_data):
    images = load_images(rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8))
    codes = responses[:20].assign_coords(stimulus=images.stimulus.values)
    weights = real_data / "nets" / "alexnet_features_fp16.npz"
    layers = interpretability_index(codes, images, [LPIPS(weights=weights, layer=i) for i in range(1, 6)], top=4)
    assert layers.sizes == {"unit": 8, "metric": 5}
    assert_allclose(
        layers.sum("metric"), interpretability_index(codes, images, LPIPS(weights=weights), top=4), rtol=1e-4
    )


def test_a_unit_that_sees_one_category_scores_highest(make_responses, images, rng):
    selective = (images.category == "red").values * rng.uniform(1, 2, 120)
    codes = make_responses(np.stack([selective, rng.random(120)], axis=1))
    for metric in (Color(), Label(), Pixel()):
        red, mixed = interpretability_index(codes, images, metric, top=10).values
        assert red > mixed
    assert_allclose(interpretability_index(codes, images, Label(), top=10)[0], 1, atol=1e-6)


def test_identical_top_images_score_zero_not_below(responses, images, features):
    same = images.copy(data=np.broadcast_to(images.values[:1], images.shape))
    for metric in (Pixel(), Color(), features):
        assert_allclose(interpretability_index(responses, same, metric), 0, atol=1e-6)


def test_metric_whose_embeddings_carry_gradients_is_scored_too(responses, images):
    class Learning(Pixel):
        def embed(self, batch):
            return super().embed(batch).requires_grad_()

    ours = interpretability_index(responses, images, Learning())
    assert_allclose(ours, interpretability_index(responses, images, Pixel()))


def test_each_image_is_embedded_once_and_only_if_it_is_on_top(responses, images):
    class Counting(Pixel):
        seen = 0

        def embed(self, batch):
            Counting.seen += len(batch)
            return super().embed(batch)

    interpretability_index(responses, images, Counting(), top=10)
    assert Counting.seen == len(np.unique(top_stimuli(responses, top=10)))


def test_lazy_images_give_the_same(metric, responses, images):
    lazy = images.copy(data=da.from_array(images.values, chunks=(7, -1, -1, -1)))
    assert_allclose(
        interpretability_index(responses, lazy, metric), interpretability_index(responses, images, metric), rtol=1e-6
    )


def test_memory_stays_bounded_when_embeddings_are_large():
    """400 embeddings of 250,000 numbers (400 MB) are scored in slabs of 8 MB: the process grows by less than 150 MB."""
    code = """
import resource
import numpy as np, torch, xarray as xr
from neurosuper import Color, load_images, interpretability_index
from neurosuper.interpretability import index_of_top
from neurosuper.metrics import distances, slabs
slabs.SLAB_BYTES = distances.MAX_GATHERED_BYTES = 8 * 2**20

class Wide(Color):
    squared = True

    def embed(self, images):
        return super().embed(images)[:, :1] * torch.ones(width)

rng = np.random.default_rng(0)
images = load_images(rng.integers(0, 255, (400, 4, 4, 3), dtype=np.uint8))
codes = xr.DataArray(rng.random((400, 100)), dims=("stimulus", "unit"),
                     coords={"stimulus": images.stimulus, "unit": [str(i) for i in range(100)]})
for width in (100, 250_000):
    interpretability_index(codes, images, Wide(), top=20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after - before < 150


def test_each_block_of_a_dask_stack_is_read_once(responses, images):
    reads = []

    def read(block):
        reads.append(len(block))
        return block

    stack = da.from_array(images.values, chunks=(40, -1, -1, -1))
    lazy = images.copy(data=stack.map_blocks(read, dtype=np.uint8, meta=np.empty(0, np.uint8)))
    interpretability_index(responses, lazy, Color(), top=20)
    assert len(reads) == 3


def test_directions_and_units_are_the_same_call(responses, images):
    codes = responses.rename(unit="direction")
    scores = interpretability_index(codes, images, Color())
    assert scores.dims == ("direction",)
    assert_allclose(scores, interpretability_index(responses, images, Color()))
    assert scores.attrs["metric"] == "color"


def test_stimuli_without_an_image_are_left_out(responses, images):
    some = images[::2]
    with pytest.warns(
        UserWarning, match=r"left out are 60 of 120 of the responses \('s0001', .* and 0 of 60 of the im"
    ):
        index = interpretability_index(responses, some, Color())
    assert_allclose(index, interpretability_index(responses[::2], some, Color()))
    assert index.attrs["n_stimuli_left_out"] == 60
    assert "n_stimuli_left_out" not in interpretability_index(responses[::2], images, Color()).attrs


def test_bad_input_is_refused_with_a_reason(responses, images):
    elsewhere = images.assign_coords(stimulus=[f"photo {i}" for i in range(120)])
    with pytest.raises(ValueError, match="no stimulus label in common: 's0000', .* against 'photo 0', "):
        interpretability_index(responses, elsewhere, Color())
    with pytest.raises(ValueError, match="zero variance over stimuli in unit 'u001'"):
        interpretability_index(responses * (responses.unit != "u001"), images, Color())
    with pytest.raises(ValueError, match="top must be a whole number from 1 to 120, the number of stimuli, got 200"):
        interpretability_index(responses, images, Color(), top=200)
    with pytest.raises(ValueError, match="at least 2 top stimuli, got 1"):
        interpretability_index(responses, images, Color(), top=1)
    with pytest.raises(ValueError, match="the spread needs at least 3 top stimuli, got 2"):
        interpretability_index(responses, images, Color(), top=2, spread=True)
    with pytest.raises(ValueError, match="different numbers in increasing order, got \\[5, 3\\]"):
        interpretability_index(responses, images, Color(), top=[5, 3])
    with pytest.raises(ValueError, match="end must be 'top', 'bottom' or 'both', got 'middle'"):
        interpretability_index(responses, images, Color(), end="middle")
    with pytest.raises(ValueError, match="weights must be 'activation', 'minmax' or None, got 'rank'"):
        interpretability_index(responses, images, Color(), weights="rank")
    with pytest.raises(ValueError, match="no image for stimulus"):
        index_of_top(top_stimuli(responses), images[:50], Color())
    with pytest.raises(ValueError, match="no metric to score with; pass one, or a list of at least one"):
        interpretability_index(responses, images, [])
    with pytest.raises(
        ValueError, match="metrics need different names, got 'color' twice; score with one of them at a"
    ):
        interpretability_index(responses, images, [Color(), Pixel(), Color()])


@pytest.mark.slow
def test_v4_units_by_lpips_have_the_known_index(real_data):
    """V4 201025, LPIPS-Alex, top 5, all stimuli: −0.648 ± 0.003; five units pair by pair with the lpips package."""
    import lpips

    from neurosuper import load_array

    images = load_images(real_data / "v4" / "images_201025.zip")
    path = real_data / "v4" / "responses_avg_201025.npy"
    responses = load_array(path, dims=("unit", "stimulus"), stimuli=images, measured_in="spike count")
    weights = real_data / "nets" / "alexnet_features_fp16.npz"
    scores = interpretability_index(responses, images, LPIPS("alex", weights=weights), top=5)
    assert_allclose(scores.mean(), -0.648, atol=0.003)

    with pytest.warns(UserWarning, match="deprecated"):
        peer = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    arrays = np.load(weights)
    convolutions = [m for m in peer.net.modules() if isinstance(m, torch.nn.Conv2d)]
    for i, convolution in enumerate(convolutions):
        convolution.weight.data = torch.from_numpy(arrays[f"conv{i}.weight"]).float()
        convolution.bias.data = torch.from_numpy(arrays[f"conv{i}.bias"]).float()
    top = top_stimuli(responses[:, :5], top=5)
    for i in range(5):
        x = pixels(images.sel(stimulus=top[:, i].values)) * 2 - 1
        with torch.inference_mode():
            pairs = [float(peer(x[[j]], x[[k]])) for j, k in itertools.combinations(range(5), 2)]
        assert_allclose(scores[i], -np.mean(pairs), atol=1e-4)
