"""Image metric from a given matrix of distances, such as human judgements of similarity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import pandas as pd
import torch
import xarray as xr

from neurosuper.metrics.base import ImageMetric, Images
from neurosuper.responses import check_labels, name_some

__all__ = ["Precomputed"]

TOLERANCE = 1e-5  # share of the largest distance that asymmetry and diagonal may have: rounding of float32 tables
OF_SIMILARITY = "from similarities s, pass s.max() - s"


class Precomputed(ImageMetric):
    """Metric given as a matrix of distances between stimuli, such as human judgements or results of another program.

    Distances are looked up by label, without images; so it has `distances_between` in place of embeddings.

    Parameters
    ----------
    matrix : DataArray (stimulus, any other name)
        Distances, at least 0, in any unit; both dims are labelled by the same stimuli, in any order.
    name : str, optional
        None is the matrix's attr `metric`, or `"precomputed"`.
    quantity : str, optional
        The measured quantity, as text for an axis label; None is the matrix's attr `quantity`, or
        `"precomputed distance"`.

    Raises
    ------
    TypeError
        Not a DataArray, or not real numbers.
    ValueError
        Not square, or a distance that is not finite, is negative, differs between (a, b) and (b, a), or is not 0
        between a stimulus and itself: the pair is named. The last two are accepted up to 10⁻⁵ of the largest distance,
        and then averaged or set to 0.

    See Also
    --------
    neurosuper.metrics.pairwise_distances : compute such a matrix with another metric.
    Label : agreement of labels.

    Examples
    --------
    >>> import xarray as xr
    >>> judged = xr.DataArray([[0, 3], [3, 0]], dims=("stimulus", "other"),
    ...                       coords={"stimulus": ["cat", "dog"], "other": ["cat", "dog"]})
    >>> metric = Precomputed(judged, name="human", quantity="judged distance (1–7)")
    >>> metric.distances_between(["dog", "cat", "dog"]).tolist()
    [[0.0, 3.0, 0.0], [3.0, 0.0, 3.0], [0.0, 3.0, 0.0]]
    """

    name = "precomputed"
    quantity = "precomputed distance"
    squared = False
    self_similarity = 0.0
    batch_size = None

    def __init__(self, matrix: xr.DataArray, *, name: str | None = None, quantity: str | None = None) -> None:
        self.matrix = matrix
        self._labels, self._distances = _check_matrix(matrix)
        self.name = matrix.attrs.get("metric", "precomputed") if name is None else name
        self.quantity = matrix.attrs.get("quantity", "precomputed distance") if quantity is None else quantity

    def __repr__(self) -> str:
        return f"Precomputed({len(self._labels)} stimuli, name={self.name!r}, quantity={self.quantity!r})"

    def distances_between(self, labels: Sequence[str] | np.ndarray | xr.DataArray) -> torch.Tensor:
        """Return the distances between all pairs of the given stimuli.

        Parameters
        ----------
        labels : sequence of str
            Labels of stimuli, in any order; they may repeat.

        Returns
        -------
        Tensor (image, image)
            In the matrix's unit, on the CPU; float32 where the matrix is float32 or float16, else float64.

        Raises
        ------
        ValueError
            Stimuli that are not in the matrix, which are named.
        """
        asked = np.atleast_1d(np.asarray(labels))
        places = self._labels.get_indexer(asked)
        if (places < 0).any():
            raise ValueError(
                f"{self.name} has no distance for stimulus {name_some(pd.unique(asked[places < 0]))}; it has "
                f"{name_some(self._labels)}"
            )
        return torch.from_numpy(self._distances[np.ix_(places, places)])

    def embed(self, images: Images) -> NoReturn:
        """Raise an error: given distances have no embeddings.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError(f"{self.name} gives distances, not embeddings; call distances_between(labels)")


def _check_matrix(matrix: xr.DataArray) -> tuple[pd.Index, np.ndarray]:
    """Return labels, and distances with rows and columns in the same order; raise an error if they are wrong."""
    if not isinstance(matrix, xr.DataArray):
        got = type(matrix).__name__
        raise TypeError(f"distances must be an xarray.DataArray with both dims labelled by stimulus, got {got}")
    others = [dim for dim in matrix.dims if dim != "stimulus"]
    if matrix.ndim != 2 or len(others) != 1:
        raise ValueError(f"distances need the dim 'stimulus' and one other, got {matrix.dims}; rename the dims")
    other = str(others[0])
    for dim in ("stimulus", other):
        matrix = check_labels(matrix, dim, "distances")
    labels = matrix.get_index("stimulus")
    strangers = labels.symmetric_difference(matrix.get_index(other))
    if len(strangers):
        raise ValueError(
            f"distances must be square, but stimulus {name_some(strangers)} is on only one of the dims 'stimulus' and "
            f"{other!r}; leave it out, or add its distances to the others"
        )
    if matrix.dtype.kind not in "iuf":
        raise TypeError(f"distances must be real numbers, got dtype {matrix.dtype}; convert them with .astype(float)")
    kind = np.float32 if matrix.dtype in (np.float16, np.float32) else np.float64
    return labels, _check_distances(labels, matrix.sel({other: labels}).transpose("stimulus", other).values, kind)


def _check_distances(labels: pd.Index, given: np.ndarray, kind: type) -> np.ndarray:
    """Return exactly symmetric distances with a zero diagonal; raise an error that names the first wrong pair."""
    values: np.ndarray = given.astype(kind)

    def refuse(wrong: np.ndarray, rule: str) -> None:
        if wrong.any():
            i, j = np.unravel_index(wrong.argmax(), wrong.shape)
            reason = rule.format(back=values[j, i])
            raise ValueError(f"the distance of {labels[i]!r} and {labels[j]!r} is {values[i, j]:.6g}, {reason}")

    refuse(~np.isfinite(values), "not finite; leave out stimuli whose distances are unknown")
    refuse(values < 0, f"but distances are at least 0; {OF_SIMILARITY}")
    tolerance = TOLERANCE * values.max(initial=0)
    refuse(np.diag(np.diag(values) > tolerance), f"but a stimulus is at distance 0 from itself; {OF_SIMILARITY}")
    apart = values - values.T
    refuse(
        np.abs(apart, out=apart) > tolerance, "but {back:.6g} the other way round; average the two if both are meant"
    )
    values = (values + values.T) / 2
    np.fill_diagonal(values, 0)
    return values
