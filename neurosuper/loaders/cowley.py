"""Spike counts of macaque V4 to natural images (Cowley et al. 2023), in one folder for all sessions.

The layout is that of the authors' repository, cowleygroup/V4_compact_models, or the same files in one flat folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr

from neurosuper.loaders.array import load_array
from neurosuper.responses import name_some

__all__ = ["load_cowley"]

IMAGES = ("images/images_{}.zip", "images_{}.zip")
RESPONSES = {
    "raw": ("responses_raw/responses_{}.npy", "responses_raw_{}.npy"),
    "averaged": ("responses_repeat_averaged/responses_{}.npy", "responses_avg_{}.npy"),
}
DIMS = {"raw": ("unit", "stimulus", "repetition"), "averaged": ("unit", "stimulus")}


def load_cowley(
    path: str | Path,
    *,
    session: str | int,
    part: Literal["raw", "averaged"] = "raw",
    subjects: Mapping[str, str] | None = None,
) -> xr.DataArray:
    """Return the spike counts of one session of Cowley et al. 2023.

    Parameters
    ----------
    path : path
        Folder `data_V4_responses` of the authors' repository, or a flat folder of `responses_raw_SESSION.npy`,
        `responses_avg_SESSION.npy` and `images_SESSION.zip`.
    session : str or int
        Session, such as 210325.
    part : {"raw", "averaged"}, optional
        All repeats, or the mean over repeats (for sessions without the raw file).
    subjects : mapping of session to animal, optional
        Animal of each session, for the unit coord `subject`.

    Returns
    -------
    DataArray (stimulus, repetition, unit) or (stimulus, unit)
        Spike counts in bins of 100 ms, as float64; NaN if an image was repeated less often. Stimuli are named by the
        base names of the images in the zip file.

    Raises
    ------
    FileNotFoundError
        A file of this session is missing; the message names the paths.
    ValueError
        Another part, a session that `subjects` lacks, or files that do not fit together.

    See Also
    --------
    load_array : Load any matrix of responses.

    References
    ----------
    Cowley et al. 2023, doi 10.1101/2023.11.22.568315 (preprint).

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import tempfile, zipfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> np.save(folder / "responses_avg_190923.npy", [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> with zipfile.ZipFile(folder / "images_190923.zip", "w") as images:
    ...     _ = [images.writestr(f"image000{i}.jpg", "") for i in (1, 2)]
    >>> load_cowley(folder, session=190923, part="averaged").sel(stimulus="image0002").values.tolist()
    [2.0, 4.0, 6.0]
    """
    if part not in RESPONSES:
        raise ValueError(f"part must be 'raw' or 'averaged', got {part!r}")
    if subjects is not None and str(session) not in subjects:
        raise ValueError(f"subjects has no session {session}, it has {name_some(list(subjects))}; add it")
    file = _find(Path(path), RESPONSES[part], session)
    counts = load_array(file, DIMS[part], stimuli=_find(Path(path), IMAGES, session), measured_in="spike count")
    about = {"area": "V4"} | ({} if subjects is None else {"subject": subjects[str(session)]})
    coords = {name: ("unit", np.full(counts.sizes["unit"], value)) for name, value in about.items()}
    return counts.assign_coords(coords).assign_attrs(modality="spikes", dataset=f"Cowley V4 {session}")


def _find(folder: Path, names: Sequence[str], session: str | int) -> Path:
    paths = [folder / name.format(session) for name in names]
    for path in paths:
        if path.is_file():
            return path
    wanted = " or ".join(path.relative_to(folder).as_posix() for path in paths)
    raise FileNotFoundError(
        f"no {wanted} in {folder}; check path and session (if there are only averages, pass part='averaged')"
    )
