"""Responses of ten thousand neurons of mouse visual cortex to 2,800 natural images, each shown twice (Stringer 2019).

The layout is that of the authors' repository, MouseLand/stringer-pachitariu-et-al-2018b.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import xarray as xr

from neurosuper.images import load_images
from neurosuper.loaders.arrange import arrange
from neurosuper.loaders.file_checks import read_mat
from neurosuper.responses import check_responses, name_some

__all__ = ["load_mat_images", "load_stringer"]


def load_stringer(
    path: str | Path, *, blanks: Collection[int] | int | None = None, normalize_by_spont: bool = False
) -> xr.DataArray:
    """Return the responses of one recording of Stringer et al. 2019.

    Parameters
    ----------
    path : path of a .mat file
        Such as natimg2800_M170714_MP032_2017-09-14.mat, with `stim.resp` (presentation × neuron), `stim.istim` (image,
        counted from 1), `stim.spont` (time × neuron), and for the neurons `med` and, in some recordings,
        `stat.redcell`.
    blanks : int or collection of int, optional
        Numbers in `istim` that are not images; by default the largest, which is the grey screen (2801).
    normalize_by_spont : bool, optional
        Subtract each neuron's mean spontaneous activity and divide by its standard deviation (plus 1e-6), as the
        authors do.

    Returns
    -------
    DataArray (stimulus, repetition, unit)
        Responses as float32, in a.u., or s.d. of the spontaneous activity. Stimuli are named by their number in
        `istim`, as in `load_mat_images`; repetitions in order of time, NaN if an image was shown less often. Units have
        the coords `x`, `y`, `z` (position in the tissue) and, if known, `red_cell` (an interneuron, GAD+).

    Raises
    ------
    FileNotFoundError
        No file at that path.
    ValueError
        A file that is not MATLAB or of another layout, or without spontaneous activity for the normalisation.

    See Also
    --------
    load_mat_images : Load the images.

    References
    ----------
    Stringer, Pachitariu, Steinmetz, Carandini and Harris 2019, doi 10.1038/s41586-019-1346-5.

    Examples
    --------
    >>> from pathlib import Path
    >>> import tempfile
    >>> from scipy.io import savemat
    >>> path = Path(tempfile.mkdtemp(), "natimg2800.mat")
    >>> stim = {"resp": [[1.0], [2.0], [3.0], [9.0]], "istim": [[2], [1], [2], [3]], "spont": [[0.0], [2.0]]}
    >>> savemat(path, {"stim": stim, "med": [[10.0, 20.0, 30.0]]})
    >>> load_stringer(path).sel(stimulus="2").values.tolist()
    [[1.0], [3.0]]
    """
    read = read_mat(path, ("stim", "med", "stat"))
    stim = _fields(read, "stim", ("resp", "istim", "spont"), path)
    responses, numbers = stim["resp"], _numbers(stim["istim"], path)
    if responses.ndim != 2 or len(responses) != len(numbers):
        raise ValueError(
            f"stim.resp of {path} must be presentation × neuron, {len(numbers)} × …, got {responses.shape}"
        )
    grey = numbers.max() if blanks is None else np.asarray(list(blanks) if isinstance(blanks, Collection) else blanks)
    shown = np.flatnonzero(~np.isin(numbers, grey))
    if not len(shown):
        raise ValueError(f"all {len(numbers)} presentations of {path} are blank; check blanks, got {blanks!r}")
    stimuli, arranged = arrange(responses[shown], numbers[shown].astype(str))
    if normalize_by_spont:
        mean, deviation = _spontaneous(stim["spont"], path)
        arranged -= mean
        arranged /= deviation
    attrs = {
        "units": "s.d." if normalize_by_spont else "a.u.",
        "modality": "calcium imaging",
        "source": Path(path).name,
    }
    counts = {"n_presentations": len(shown), "n_blanks": len(numbers) - len(shown)}
    return check_responses(
        xr.DataArray(
            arranged,
            dims=("stimulus", "repetition", "unit"),
            coords={"stimulus": stimuli} | _unit_coords(read, arranged.shape[-1], path),
            attrs=attrs | counts | {"normalize_by_spont": int(normalize_by_spont)},
        )
    )


def load_mat_images(
    path: str | Path, *, variable: str = "imgs", size: int | tuple[int, int] | None = None
) -> xr.DataArray:
    """Return a stack of grey images from a MATLAB file.

    Parameters
    ----------
    path : path of a .mat file
        Such as images_natimg2800_all.mat.
    variable : str, optional
        Name of the array: row × column × image, grey from 0 to 255.
    size : int or (rows, columns), optional
        As in `load_images`.

    Returns
    -------
    DataArray (stimulus, row, column, channel)
        RGB images of type uint8, named by their position counted from 1. Values of type uint8 are not changed; other
        numbers are rounded, never rescaled, so they must be between 0 and 255.

    Raises
    ------
    FileNotFoundError
        No file at that path.
    ValueError
        A file that is not MATLAB, no such variable, not three axes, or values on another scale.

    See Also
    --------
    load_stringer : Load the responses.
    load_images : Load images from a folder, a zip file or an array.

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import tempfile
    >>> from scipy.io import savemat
    >>> path = Path(tempfile.mkdtemp(), "images.mat")
    >>> savemat(path, {"imgs": np.full((4, 6, 2), 200.0)})
    >>> load_mat_images(path).sel(stimulus="2").shape
    (4, 6, 3)
    """
    stack = read_mat(path, (variable,)).get(variable)
    if stack is None or stack.ndim != 3:
        problem = "is missing" if stack is None else f"has shape {stack.shape}"
        raise ValueError(f"{path} needs {variable!r}, row × column × image, but it {problem}; pass variable=")
    grey = _as_uint8(stack, f"{variable!r} of {path}")
    images = xr.DataArray(
        np.repeat(np.moveaxis(grey, -1, 0)[..., np.newaxis], 3, axis=-1),
        dims=("stimulus", "row", "column", "channel"),
        coords={"stimulus": [str(i + 1) for i in range(grey.shape[-1])], "channel": ["red", "green", "blue"]},
        name="image",
        attrs={"source": str(path)},
    )
    return load_images(images, size=size)


def _as_uint8(stack: np.ndarray, what: str) -> np.ndarray:
    if stack.dtype == np.uint8:
        return stack
    low, high = stack.min(), stack.max()
    if low < 0 or not 1 < high <= 255:
        raise ValueError(
            f"{what} goes from {low:g} to {high:g}; grey must go from 0 (black) to 255 (white), so scale it"
        )
    return np.rint(stack).astype(np.uint8)


def _fields(read: dict[str, np.ndarray], name: str, wanted: tuple[str, ...], path: str | Path) -> dict[str, np.ndarray]:
    """Return the fields of a struct array with one element."""
    struct = read.get(name)
    has = () if struct is None else struct.dtype.names or ()
    if missing := [field for field in wanted if field not in has]:
        got = f"it has {name_some(has)}" if has else f"there is no struct {name!r}"
        raise ValueError(f"{path} has no {name}.{missing[0]}, {got}; it must be a natimg2800 recording")
    return {field: struct[field].flat[0] for field in wanted}  # type: ignore[index]


def _numbers(istim: np.ndarray, path: str | Path) -> np.ndarray:
    numbers = istim.ravel()
    whole = numbers.astype(np.int64)
    if not len(whole) or (whole != numbers).any() or whole.min() < 1:
        raise ValueError(f"stim.istim of {path} must count images from 1, got {name_some(np.unique(numbers))}")
    return whole


def _spontaneous(spont: np.ndarray, path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each neuron's spontaneous activity."""
    if not spont.size:
        raise ValueError(f"stim.spont of {path} is empty; use normalize_by_spont=False")
    mean, deviation = spont.mean(axis=0, dtype=float), spont.std(axis=0, dtype=float) + 1e-6
    return mean.astype(np.float32), deviation.astype(np.float32)


def _unit_coords(read: dict[str, np.ndarray], n_units: int, path: str | Path) -> dict[str, object]:
    """Return labels, positions and cell types of the neurons."""
    centres, stat = read.get("med", np.empty(0)), read.get("stat", np.empty(0))
    if centres.shape != (n_units, 3):
        raise ValueError(
            f"med of {path} must be the positions of {n_units} neurons, {n_units} × 3, got {centres.shape}"
        )
    coords: dict[str, object] = {axis: ("unit", centres[:, i].astype(np.float32)) for i, axis in enumerate("xyz")}
    if "redcell" in (stat.dtype.names or ()):
        if stat.size != n_units:
            raise ValueError(
                f"stat of {path} describes {stat.size} neurons, but stim.resp has {n_units}; fetch it again"
            )
        coords["red_cell"] = ("unit", [bool(np.any(red)) for red in stat["redcell"].ravel()])
    return coords | {"unit": [f"{i:0{len(str(n_units - 1))}d}" for i in range(n_units)]}
