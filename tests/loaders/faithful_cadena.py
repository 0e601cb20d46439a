"""Small recordings of Cadena et al. in exactly the published layout: sessions of 2024, and the pickle of 2019."""

import csv
import hashlib
import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def write_cadena(
    folder: Path,
    counts: np.ndarray,
    image_ids: Sequence[int],
    *,
    trial_ids: Sequence[int] | None = None,
    subject_id: str = "31",
    session_id: int = 3631896544452,
) -> Path:
    """Write counts (trial, unit, bin) as one session; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta_data.json").write_text(json.dumps({"subject_id": subject_id, "session_id": session_id}))
    rows = {"responses": [str(trial.tolist()) for trial in counts], "image_id": list(image_ids)}
    if trial_ids is not None:
        rows |= {"previous_image_id": [0, *list(image_ids)[:-1]], "trial_id": list(trial_ids)}
    with (folder / "responses.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(rows)
        writer.writerows(zip(*rows.values(), strict=True))
    return folder


def write_cadena2019(path: Path, responses: np.ndarray, image_ids: np.ndarray, image_types: Sequence[str]) -> str:
    """Write counts (repetition, image, neuron); return the sha256 of the pickle.

    Each text is in an array of its own, as scipy reads cells of MATLAB.
    """
    types = np.empty((len(image_types), 1), dtype=object)
    for i, kind in enumerate(image_types):
        types[i, 0] = np.array([kind])
    data = {
        "images": np.zeros((len(image_ids), 14, 14)),
        "responses": responses,
        "repetitions": np.where(np.isnan(responses[2:]).all(axis=(0, 1)), 2, 4),
        "subject_id": np.array([[31.0 + 2 * (i % 2)] for i in range(responses.shape[2])]),
        "image_ids": np.asarray(image_ids)[:, None],
        "image_numbers": np.unique(image_ids, return_inverse=True)[1][:, None] + 1,
        "image_types": types,
    }
    content = pickle.dumps(data, protocol=3)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
