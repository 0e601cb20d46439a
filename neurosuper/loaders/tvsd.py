"""Multi-unit activity in V1, V4 and IT of two macaques: the THINGS ventral stream spiking dataset (TVSD).

Files are MATLAB 7.3, which is HDF5; h5py reads their axes reversed: (image, channel) and (repetition, image, channel).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

import numpy as np
import xarray as xr

from neurosuper.loaders.file_checks import open_hdf5
from neurosuper.responses import check_responses

if TYPE_CHECKING:
    import h5py

__all__ = ["load_tvsd"]

Ranges = Mapping[str, Sequence[int]]
CHANNELS: dict[str, Ranges] = {  # first channel, and the one after the last
    "F": {"V1": (0, 512), "IT": (512, 832), "V4": (832, 1024)},
    "N": {"V1": (0, 512), "V4": (512, 768), "IT": (768, 1024)},
}
WINDOWS = {"V1": (0.025, 0.125), "V4": (0.05, 0.15), "IT": (0.075, 0.175)}  # s, norm_MUA.m of the authors
ABOUT_CHANNELS = {  # coord: dataset, attrs; if a channel has several values, they are averaged
    "snr_max": ("SNR_max", {"rule": "highest signal-to-noise ratio, provided by the file"}),
    "reliability": ("reliab", {"rule": "correlation over test images of two repetitions, mean over all pairs"}),
    "noise_ceiling": (
        "oracle",
        {"rule": "provided: correlation over test images of a repetition and the mean of the others"},
    ),
    "latency": ("lats", {"rule": "latency provided by the file, mean over days", "units": "ms"}),
}


def load_tvsd(
    path: str | Path,
    *,
    monkey: Literal["F", "N"],
    part: Literal["train", "test"] = "test",
    areas: str | Sequence[str] | None = None,
    area_map: Ranges | None = None,
    allow_external: bool = False,
) -> xr.DataArray:
    r"""Return the normalised multi-unit activity of one monkey of TVSD.

    Parameters
    ----------
    path : path
        Folder that contains `monkeyF` or `monkeyN`, each with `THINGS_normMUA.mat` and `_logs/things_imgs.mat`.
    monkey : {"F", "N"}
        Which monkey.
    part : {"test", "train"}, optional
        The 100 images that were shown 30 times, or the 22,248 images that were shown once.
    areas : str or sequence of str, optional
        Some of "V1", "V4", "IT"; by default all. Only their channels are read.
    area_map : mapping of str to (first, stop), optional
        Channels of each area, counted from 0, `stop` excluded. By default those of the monkey (in F, IT is before V4).
    allow_external : bool, optional
        Read a file that takes data from other files of this machine (external storage, external links, virtual
        datasets). By default it is refused.

    Returns
    -------
    DataArray (stimulus, repetition, unit) for "test", (stimulus, unit) for "train"
        Responses as float32, in standard deviations of the channel in the test trials of the day; NaN if an image was
        shown less often. Stimuli are named by the file of the THINGS image without extension, with the coord `category`
        (its concept). Units are channels, with the coords `subject`, `area`, `channel` (from 0), `window_start` and
        `window_stop` (s; the response is the average in this window) and, if the file has them, `snr_max`,
        `reliability`, `noise_ceiling` (a correlation) and `latency`; the attr `rule` of each states its formula.
        Channels without any response to some image are left out; `attrs["n_channels_without_data"]` counts them.

    Raises
    ------
    FileNotFoundError
        A file is missing; the message names its path.
    ValueError
        Unknown monkey, part or area; arrays whose axes do not fit images and channels; an unreadable file.

    See Also
    --------
    load : Load a published dataset by its id.

    References
    ----------
    Papale, Wang, Self and Roelfsema 2025, doi 10.1016/j.neuron.2024.12.003; areas and windows as in their norm_MUA.m.

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import h5py, tempfile
    >>> folder = Path(tempfile.mkdtemp(), "monkeyN")
    >>> (folder / "_logs").mkdir(parents=True)
    >>> with h5py.File(folder / "THINGS_normMUA.mat", "w") as file:
    ...     file["train_MUA"] = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    >>> texts = {"class": ["bat", "owl"], "things_path": [r"bat\bat_01b.jpg", r"owl\owl_02s.jpg"]}
    >>> with h5py.File(folder / "_logs" / "things_imgs.mat", "w") as file:
    ...     for name, (one, two) in texts.items():
    ...         file[f"#refs#/{name}1"], file[f"#refs#/{name}2"] = [[ord(c)] for c in one], [[ord(c)] for c in two]
    ...         refs = np.array([[file[f"#refs#/{name}1"].ref], [file[f"#refs#/{name}2"].ref]], h5py.ref_dtype)
    ...         file[f"train_imgs/{name}"] = refs
    >>> channels = {"V1": (0, 2), "IT": (2, 3)}
    >>> load_tvsd(folder.parent, monkey="N", part="train", areas="IT", area_map=channels).sel(stimulus="owl_02s").item()
    6.0
    """
    if monkey not in CHANNELS or part not in ("train", "test"):
        raise ValueError(f"monkey must be 'F' or 'N' and part 'train' or 'test', got {monkey!r} and {part!r}")
    folder, ranges = Path(path) / f"monkey{monkey}", _choose_areas(areas, area_map or CHANNELS[monkey])
    labels, concepts = _read_images(folder / "_logs" / "things_imgs.mat", part, allow_external)
    channels = np.concatenate([np.arange(*span) for span in ranges.values()])
    with open_hdf5(folder / "THINGS_normMUA.mat", allow_external=allow_external) as file:
        values = _read_channels(file, part, len(labels), ranges)
        about = _describe_channels(file, channels)
    area = np.repeat(list(ranges), [stop - start for start, stop in ranges.values()])
    windows = np.array([WINDOWS.get(name, (np.nan, np.nan)) for name in area])
    coords = {
        "unit": [f"{channel:04d}" for channel in channels],
        "subject": ("unit", np.full(len(channels), monkey)),
        "area": ("unit", area),
        "channel": ("unit", channels),
        "window_start": ("unit", windows[:, 0], {"units": "s"}),
        "window_stop": ("unit", windows[:, 1], {"units": "s"}),
        "stimulus": labels,
        "category": ("stimulus", concepts),
    }
    responses = xr.DataArray(
        values,
        dims=("stimulus", "repetition", "unit"),
        coords=coords | about,
        attrs={"units": "s.d.", "modality": "multi-unit activity", "part": part},
    )
    if np.isfinite(windows).all() and (windows == windows[0]).all():
        responses.attrs["window"] = windows[0].tolist()
    return check_responses(_with_data(responses if part == "test" else responses.isel(repetition=0)))


def _choose_areas(areas: str | Sequence[str] | None, known: Ranges) -> dict[str, tuple[int, int]]:
    """Return the range of channels of each requested area, in order of channels."""
    requested = list(known) if areas is None else [areas] if isinstance(areas, str) else list(areas)
    if unknown := [area for area in requested if area not in known]:
        raise ValueError(f"no area {unknown[0]!r}; there are {', '.join(known)}")
    if wrong := [area for area in known if len(known[area]) != 2 or not 0 <= known[area][0] < known[area][1]]:
        raise ValueError(f"area_map must give (first, stop) of the channels of {wrong[0]}, got {known[wrong[0]]!r}")
    if not requested:
        raise ValueError(f"areas is empty; name at least one of {', '.join(known)}")
    return {area: (known[area][0], known[area][1]) for area in sorted(set(requested), key=lambda area: known[area][0])}


def _read_images(path: Path, part: str, allow_external: bool) -> tuple[list[str], list[str]]:
    """Return base names (without extension) and concepts of the images, in the order of the responses."""
    with open_hdf5(path, allow_external=allow_external) as file:
        images = file[f"{part}_imgs"]
        paths, concepts = (_read_texts(images[name], allow_external) for name in ("things_path", "class"))
    return [PurePosixPath(text.replace("\\", "/")).stem for text in paths], concepts


def _read_texts(references: h5py.Dataset, allow_external: bool) -> list[str]:
    """Return texts, which MATLAB 7.3 stores as references to arrays of UTF-16."""
    import h5py

    from neurosuper.loaders.external import external_sources

    file = references.file
    if h5py.check_ref_dtype(getattr(references, "dtype", np.dtype(float))) is None:
        raise ValueError(f"{references.name} of {file.filename} is not a list of texts; fetch it again")
    texts = [file[reference] for reference in references[()].ravel()]
    # `open_hdf5` does not find a dataset to which only references lead, so it is checked here.
    if not allow_external and any(external_sources(text.id) for text in texts):
        raise ValueError(f"{file.filename} takes texts of {references.name} from another file; fetch it again")
    return [text[()].astype("<u2").tobytes().decode("utf-16-le") for text in texts]


def _read_channels(file: h5py.File, part: str, n_images: int, ranges: dict[str, tuple[int, int]]) -> np.ndarray:
    """Return responses (image, repetition, channel)."""
    name = "train_MUA" if part == "train" else "test_MUA_reps"
    stored, n_channels = file[name], max(stop for _, stop in ranges.values())
    shape: tuple[int, ...] = getattr(stored, "shape", ())
    if len(shape) != (2 if part == "train" else 3) or shape[-2:-1] != (n_images,) or max(shape[-1:]) < n_channels:
        raise ValueError(
            f"{file.filename} contains {name} of shape {shape}, but its last axes must be {n_images} images and at "
            f"least {n_channels} channels; they are in another order, or things_imgs.mat is of another recording"
        )
    n_repetitions = 1 if part == "train" else shape[0]
    values = np.empty((n_images, n_repetitions, sum(stop - start for start, stop in ranges.values())), np.float32)
    at = 0
    for start, stop in ranges.values():
        area = stored[..., start:stop].reshape(n_repetitions, n_images, stop - start)
        values[..., at : at + stop - start] = area.swapaxes(0, 1)
        at += stop - start
    if part == "test":
        values[~values.any(axis=-1)] = np.nan  # MATLAB fills missing repetitions of an array with 0
    return values


def _describe_channels(file: h5py.File, channels: np.ndarray) -> dict[str, tuple[str, np.ndarray, dict[str, str]]]:
    """Return the properties of each channel in the file, as unit coords."""
    found = {}
    for coord, (name, about) in ABOUT_CHANNELS.items():
        if name in file:
            stored = np.atleast_2d(file[name][()])
            values = (stored.T if stored.shape[-1] == 1 else stored)[:, channels]
            with np.errstate(invalid="ignore"):  # a channel without any value is NaN; nanmean would warn
                mean = (np.nansum(values, axis=0) / np.isfinite(values).sum(axis=0)).astype(np.float32)
            found[coord] = ("unit", mean, about)
    return found


def _with_data(responses: xr.DataArray) -> xr.DataArray:
    missing = responses.isnull()
    lacking = (missing.all("repetition") if "repetition" in missing.dims else missing).any("stimulus")
    kept = responses.isel(unit=np.flatnonzero(~lacking)) if lacking.any() else responses
    return kept.assign_attrs(n_channels_without_data=int(lacking.sum()))
