"""What every finder promises, checked for each of them."""

import pickle
import signal
from contextlib import suppress

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neurosuper.directions import (
    ICA,
    NMF,
    PCA,
    Archetypal,
    CovarianceMatched,
    DictionaryLearning,
    DirectionFinder,
    Exemplars,
    KMeans,
    Random,
    SparseAutoencoder,
    Units,
)

FINDERS = [
    Units(),
    Random(),
    Random("2x", random_state=3),
    Exemplars(),
    Exemplars("2x", normalize=True, random_state=1),
    Exemplars(5, whiten=True),
    CovarianceMatched(),
    CovarianceMatched("2x", normalize=True, center=True, random_state=1),
    CovarianceMatched(5, whiten=True),
    PCA(),
    PCA(3),
    KMeans(),
    KMeans("2x", random_state=1),
    KMeans(5, normalize=False),
    KMeans(init="units"),
    KMeans(5, encoding="distance"),
    Units(whiten=True),
    Random(5, normalize=True, center=True),
    KMeans(5, normalize=False, whiten=True),
    ICA(3, max_iter=2000),
    NMF(5, tol=1e-6, max_iter=2000),
    NMF(5, signed=True, max_iter=20, tol=None),
    DictionaryLearning("2x"),
    DictionaryLearning(5, encoding="omp", n_active=2, center=True),
    SparseAutoencoder("2x", n_active=3, max_iter=3),
    SparseAutoencoder("2x", n_active=4, activation="relu", max_iter=3, whiten=True),
    Archetypal(3, max_iter=5, tol=None),
]
STOCHASTIC = (DictionaryLearning, SparseAutoencoder)  # batches of a dask array are drawn chunk by chunk
finders = pytest.mark.parametrize("finder", FINDERS, ids=repr)


def learned(finder):
    return {name for name in vars(finder) if name.endswith("_")}


@finders
def test_directions_have_unit_length_labels_and_the_coords_of_units(finder, responses):
    responses = responses.assign_coords(area=("unit", ["V1", "V4"] * 4))
    fitted = clone(finder).fit(responses)
    assert fitted.directions_.dims == ("direction", "unit")
    assert_allclose(np.linalg.norm(fitted.directions_, axis=1), 1, rtol=1e-5)
    assert fitted.directions_.indexes["direction"].is_unique
    assert fitted.directions_.attrs["method"] == type(finder).__name__
    xr.testing.assert_equal(fitted.directions_.area, responses.area)
    xr.testing.assert_equal(fitted.mean_.area, responses.area)


@finders
def test_plain_arrays_are_accepted_in_a_pipeline(finder, responses):
    pipeline = make_pipeline(StandardScaler(with_mean=False), clone(finder))
    codes = pipeline.fit_transform(responses.values)
    scaled = responses.copy(data=StandardScaler(with_mean=False).fit_transform(responses.values))
    assert isinstance(codes, np.ndarray)
    assert_allclose(codes, clone(finder).fit_transform(scaled), atol=1e-5)
    assert_allclose(pipeline.transform(responses.values), codes, atol=1e-5)
    back = pipeline[-1].inverse_transform(codes)
    assert back.shape == responses.shape


@finders
@pytest.mark.parametrize("kind", ["netcdf", "zarr"])
def test_finder_survives_a_file(finder, responses, tmp_path, kind):
    fitted = clone(finder).fit(responses.assign_coords(area=("unit", ["V1", "V4"] * 4)))
    path = tmp_path / f"finder.{kind}"
    if kind == "netcdf":
        fitted.to_dataset().to_netcdf(path)
        dataset = xr.load_dataset(path)
    else:
        fitted.to_dataset().to_zarr(path, consolidated=False)
        dataset = xr.open_zarr(path, consolidated=False)
    restored = DirectionFinder.from_dataset(dataset)
    assert type(restored) is type(finder)
    assert repr(restored) == repr(finder)
    xr.testing.assert_identical(restored.directions_, fitted.directions_)
    assert_allclose(restored.transform(responses), fitted.transform(responses))
    assert learned(restored) == learned(fitted)


@finders
def test_codes_keep_stimuli_and_their_coords(finder, responses):
    responses = responses.assign_coords(category=("stimulus", ["face", "tool"] * 60))
    codes = clone(finder).fit_transform(responses)
    assert codes.dims == ("stimulus", "direction")
    xr.testing.assert_equal(codes.category, responses.category)
    assert codes.dtype == np.float32


@finders
def test_fit_is_deterministic_and_leaves_global_random_state_alone(finder, responses):
    before = np.random.get_state()[1].copy()
    first, second = (clone(finder).fit(responses).directions_ for _ in range(2))
    xr.testing.assert_identical(first, second)
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.parametrize("finder", [f for f in FINDERS if not isinstance(f, STOCHASTIC)], ids=repr)
def test_streamed_dask_blocks_give_the_directions_of_one_array(finder, responses):
    finder = clone(finder).set_params(dtype="float64")
    lazy = responses.copy(data=da.from_array(responses.values, chunks=(37, 3)))
    whole, streamed = clone(finder).fit(responses), clone(finder).fit(lazy)
    assert_allclose(streamed.directions_, whole.directions_, atol=1e-8)
    codes = streamed.transform(lazy)
    assert codes.chunks is not None, "codes of a dask array stay lazy"
    assert_allclose(codes.compute(), whole.transform(responses), atol=1e-8)


@pytest.mark.parametrize("finder", [f for f in FINDERS if not isinstance(f, STOCHASTIC)], ids=repr)
@pytest.mark.parametrize("chunks", [(1, 8), (119, 1), ((40, 0, 80), 8)], ids=repr)
def test_chunks_change_nothing(finder, chunks, responses):
    finder = clone(finder).set_params(
        dtype="float64", **({"max_iter": 5, "tol": None} if hasattr(finder, "tol") else {})
    )
    whole = clone(finder).fit(responses).directions_
    lazy = responses.copy(data=da.from_array(responses.values, chunks=chunks))
    assert_allclose(clone(finder).fit(lazy).directions_, whole, atol=1e-8)


@pytest.mark.parametrize("kind", sorted({type(f) for f in FINDERS}, key=repr))
def test_finders_whose_result_the_chunks_change_say_so(kind):
    message = "the size of chunks changes the result" in " ".join(kind.__doc__.split())
    assert message == issubclass(kind, STOCHASTIC)


@finders
@pytest.mark.parametrize("scale", [2.0**-60, 2.0**50])
def test_other_physical_unit_gives_the_same_directions_and_scales_codes(finder, scale, responses):
    """A power of two changes no digit, so that not even rounding differs."""
    fitted, other = clone(finder).fit(responses), clone(finder).fit(scale * responses)
    assert other.scale_ != 1
    assert fitted.scale_ == 1
    np.testing.assert_array_equal(other.directions_, fitted.directions_)
    factor = 1 if finder.normalize or finder.whiten else scale  # those codes have no unit
    assert_allclose(other.transform(scale * responses) / factor, fitted.transform(responses), rtol=1e-6)


UNITS_OF_MEASUREMENT = (1e-18, 1e-13, 1e-6, 1e3, 1e15)


@finders
def test_directions_are_the_same_from_attotesla_to_huge_counts(finder, responses):
    finder = clone(finder).set_params(dtype="float64")
    expected, codes = clone(finder).fit(responses), clone(finder).fit_transform(responses)
    for scale in UNITS_OF_MEASUREMENT:
        scaled = scale * responses
        fitted = clone(finder).fit(scaled)
        assert_allclose(fitted.directions_, expected.directions_, atol=1e-4)
        assert_allclose(np.linalg.norm(fitted.directions_, axis=1), 1, rtol=1e-6)
        factor = 1 if finder.normalize or finder.whiten else scale
        assert_allclose(fitted.transform(scaled) / factor, codes, atol=1e-3)
        assert fitted.explained_variance(scaled) == pytest.approx(expected.explained_variance(responses), abs=1e-4)
        back = fitted.inverse_transform(fitted.transform(scaled)) / (1 if finder.normalize else scale)
        assert_allclose(back, expected.inverse_transform(codes), atol=1e-3)


@finders
def test_lazy_responses_in_tesla_give_the_directions_of_one_array(finder, responses):
    finder = clone(finder).set_params(dtype="float64")
    tesla = 1e-13 * responses
    lazy = tesla.copy(data=da.from_array(tesla.values, chunks=(120, 3)))
    whole, streamed = clone(finder).fit(tesla), clone(finder).fit(lazy)
    if not isinstance(finder, STOCHASTIC):
        assert_allclose(streamed.directions_, whole.directions_, atol=1e-8)
    assert_allclose(streamed.transform(lazy).compute(), streamed.transform(tesla), rtol=1e-8)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # where it comes within a callback
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
@finders
def test_fit_after_an_interrupted_one_gives_the_same_directions(finder, responses):
    """Wherever the interrupt comes; of a fit that is over by then, nothing is tested."""
    finder = clone(finder).set_params(dtype="float64")
    expected = clone(finder).fit(responses).directions_

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for seconds in (0.001, 0.004):
            with suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, seconds)
                finder.fit(responses)
                signal.setitimer(signal.ITIMER_REAL, 0)
            np.testing.assert_array_equal(finder.fit(responses).directions_, expected)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@finders
def test_one_stimulus_is_transformed(finder, responses):
    fitted = clone(finder).fit(responses)
    codes = fitted.transform(responses)
    assert_allclose(fitted.transform(responses[7:8]), codes[7:8], rtol=1e-4, atol=1e-5)
    assert_allclose(fitted.transform(responses.values[7:8]), codes[7:8], rtol=1e-4, atol=1e-5)
    assert_allclose(fitted.inverse_transform(codes[7:8]), fitted.inverse_transform(codes)[7:8], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="responses need at least 1 stimulus and 1 unit"):
        fitted.transform(responses[:0])
    for one in (responses[:1], responses.values[:1]):  # has no variance to explain
        with pytest.raises(ValueError, match=r"at least 2 stimuli|minimum of 2 is required"):
            fitted.explained_variance(one)


@finders
def test_nan_in_a_lazy_block_is_refused(finder, responses):
    values = responses.values.copy()
    values[50, 2] = np.nan
    lazy = responses.copy(data=da.from_array(values, chunks=(40, -1)))
    message = "responses contain 1 NaN or infinite values in a block of stimuli"
    codes = clone(finder).fit(responses).transform(lazy)
    with pytest.raises(ValueError, match=message):
        codes.compute()
    if not isinstance(finder, Units):
        with pytest.raises(ValueError, match=message):
            clone(finder).fit(lazy)


@finders
@pytest.mark.parametrize("kind", ["read-only", "big-endian", "uint16", "float16", "fortran", "reversed"])
def test_any_real_array_is_accepted_and_not_changed(finder, kind, responses):
    counts = responses.round()
    dtypes = {"big-endian": ">f8", "uint16": np.uint16, "float16": np.float16}
    values = np.array(counts.values, dtypes.get(kind), order="F" if kind == "fortran" else "C")
    values = np.array(values[::-1, ::-1])[::-1, ::-1] if kind == "reversed" else values
    values.flags.writeable = kind != "read-only"
    before = values.copy()
    codes = clone(finder).fit_transform(counts.copy(data=values))
    assert_allclose(codes, clone(finder).fit_transform(counts), atol=1e-6)
    assert (values == before).all()


@finders
def test_order_of_units_does_not_matter_to_transform(finder, responses):
    fitted = clone(finder).fit(responses)
    assert_allclose(fitted.transform(responses[:, ::-1]), fitted.transform(responses), atol=1e-5)


@finders
def test_inverse_transform_returns_responses_that_have_the_same_codes(finder, responses):
    fitted = clone(finder).set_params(dtype="float64").fit(responses)
    codes = fitted.transform(responses)
    back = fitted.inverse_transform(codes)
    assert back.dims == ("stimulus", "unit")
    if getattr(finder, "encoding", "projection") == "distance":
        assert_allclose(back, fitted.centers_[fitted.labels_.values])
    elif isinstance(finder, STOCHASTIC):  # codes of a reconstruction are sparser still
        prepared = codes.values @ fitted.directions_.values + np.asarray(getattr(fitted, "bias_", np.zeros(8)))
        if getattr(finder, "whiten", False):
            prepared = np.linalg.solve(fitted.whitening_.values.T, prepared.T).T
        assert_allclose(back, prepared + fitted.mean_.values, atol=1e-8)
    else:  # the length of a normalised response vector is not restored
        assert_allclose(fitted.set_params(normalize=False).transform(back), codes, atol=1e-8)


@finders
def test_finder_survives_clone_pickle_and_repr(finder, responses):
    fitted = clone(finder).fit(responses)
    restored = pickle.loads(pickle.dumps(fitted))
    assert_allclose(restored.transform(responses), fitted.transform(responses))
    assert clone(fitted).get_params() == finder.get_params()
    assert not hasattr(clone(fitted), "directions_")


@finders
def test_bad_input_is_refused_by_name(finder, responses):
    finder = clone(finder)
    with pytest.raises(ValueError, match=r"has no directions yet; call \.fit"):
        finder.transform(responses)
    with pytest.raises(ValueError, match="NaN or infinite values, in unit 'u003'"):
        finder.fit(responses.where(responses.unit != "u003"))
    silent = responses * (responses.unit != "u005")
    with pytest.raises(ValueError, match="zero variance over stimuli in unit 'u005'; drop such units"):
        finder.fit(silent)
    with pytest.raises(ValueError, match="average_repetitions"):
        finder.fit(responses.expand_dims(repetition=2))
    with pytest.raises(ValueError, match="at least 2 stimuli"):
        finder.fit(responses[:1])
    with pytest.raises(ValueError, match="they differ in 'u007'"):
        finder.fit(responses).transform(responses[:, :7])
    with pytest.raises(ValueError, match="normalize must be True or False, got 'rows'"):
        clone(finder).set_params(normalize="rows").fit(responses)
    with pytest.raises(ValueError, match=r"must be \(stimulus, unit\), got shape \(4,\)"):
        finder.fit(np.arange(4.0))
    with pytest.raises(ValueError, match="dtype must be"):
        finder.set_params(dtype="float16").fit(responses)
    with pytest.raises(ValueError, match="device must be"):
        finder.set_params(dtype="float32", device="abacus").fit(responses)


def test_unit_coord_named_like_what_finders_give_is_refused_by_name(responses):
    tuned = responses.assign_coords(direction=("unit", np.arange(8) * 45))
    message = r"responses have a coord 'direction', the name of labels that finders give; rename it, e\.g\."
    with pytest.raises(ValueError, match=message):
        PCA().fit(tuned)
    with pytest.raises(ValueError, match=message):
        PCA().fit(responses).transform(tuned)


@pytest.mark.parametrize("finder", [Random(), PCA()], ids=repr)
def test_free_signs_give_codes_positive_skewness(finder, responses):
    codes = finder.fit_transform(responses)
    centred = codes - codes.mean("stimulus")
    assert ((centred**3).mean("stimulus") > 0).all()


@pytest.mark.gpu
@finders
def test_gpu_gives_the_directions_of_the_cpu(finder, responses):
    on_cpu = clone(finder).set_params(device="cpu").fit(responses).directions_
    on_gpu = clone(finder).set_params(device="cuda").fit(responses).directions_
    assert_allclose(on_gpu, on_cpu, atol=1e-4)


@pytest.mark.parametrize("n", [0, -1, 2.5, "twice", True])
def test_number_of_directions_is_a_number_a_multiple_or_none(n, responses):
    with pytest.raises(ValueError, match="a multiple of the units such as '2x'"):
        Random(n).fit(responses)


@pytest.mark.parametrize("kind", sorted({type(f) for f in FINDERS}, key=repr))
def test_more_directions_than_memory_holds_are_refused_before_any_is_drawn(kind, responses):
    with pytest.raises(ValueError, match=r"1000000000000 directions of 8 units take 3\.2e\+04 GB, more memory than"):
        kind(10**12).fit(responses)


def test_seeds_are_ints_of_any_kind(responses):
    expected = Random(random_state=3).fit(responses).directions_
    assert_allclose(Random(random_state=np.int64(3)).fit(responses).directions_, expected)
    with pytest.raises(ValueError, match="random_state must be an int from 0 to"):
        Random(random_state=-1).fit(responses)


@finders
@pytest.mark.parametrize("kind", [np.random.default_rng, np.random.RandomState])
def test_generators_seed_each_fit_anew(finder, kind, responses):
    lazy = responses.copy(data=da.from_array(responses.values, chunks=(40, 8)))
    one, other = (clone(finder).set_params(random_state=kind(2)) for _ in range(2))
    fits = [f.fit(r).directions_.values for f in (one, other) for r in (responses, responses)]
    assert_allclose(fits[:2], fits[2:])
    if isinstance(finder, Random | Exemplars | CovarianceMatched):
        assert np.abs(fits[0] - fits[1]).max() > 0.01
    assert np.isfinite(one.fit(lazy).directions_).all(), "stimuli drawn in the first pass may not be those needed"


@pytest.mark.parametrize("kind", sorted({type(f) for f in FINDERS}, key=repr))
def test_settings_are_keywords_and_stored_as_given(kind):
    given = {name: object() for name in kind().get_params()}
    assert vars(kind(**given)) == given
    number = given.pop("n_directions")
    assert kind(number).n_directions is number
    with pytest.raises(TypeError, match="positional argument"):
        kind(3, False)
    with pytest.raises(TypeError, match="unexpected keyword argument 'n_direction'"):
        kind(n_direction=3)


def test_base_class_is_not_a_finder_itself():
    with pytest.raises(TypeError, match="abstract"):
        DirectionFinder()
