"""A space of directions that several subjects share, with a map from the units of each.

R (stimulus, unit) responses of all subjects side by side, Rᵢ those of subject i, mᵢ their mean, W (unit, direction)
maps, Wᵢ its rows of subject i; Z (stimulus, direction) codes, Z = Σᵢ (Rᵢ − mᵢ) Wᵢ / number of subjects.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
import xarray as xr
from sklearn.exceptions import ConvergenceWarning

from neurosuper._checks import check_one_of
from neurosuper.comparison.populations import positions_by
from neurosuper.comparison.shared_maps import Maps, Products, align_maps, principal_maps, products_of, regress_maps
from neurosuper.directions import DirectionFinder, Rows
from neurosuper.directions._rows.moments import sign_rows, skew_signs
from neurosuper.directions.hooks import Learned
from neurosuper.directions.settings import check_stopping
from neurosuper.responses import coords_along, name_some

__all__ = ["SharedSpace"]

Method = Literal["procrustes", "srm", "ridge"]


@dataclass(kw_only=True, eq=False, repr=False)
class SharedSpace(DirectionFinder, auto_wrap_output_keys=None):
    """Directions that several subjects share: codes of stimuli, and a map to them from the units of each subject.

    A finder of the responses of several subjects side by side, from `concatenate_systems`. Codes are the mean over the
    subjects that `transform` is given, one of those of the fit or more, so that stimuli that only some of them saw
    have codes too. The responses of each subject are centred and divided by one number, the square root of their total
    variance, so that all count the same, however many units they have, in any physical unit.

    "procrustes"
        Generalised Procrustes analysis (Gower 1975): the first principal components of each subject, as many as
        directions, are rotated to be as near as possible to the mean of all.
    "srm"
        The deterministic shared response model (Chen et al. 2015): orthonormal maps Wᵢ and shared codes S of least
        Σ ‖Rᵢ − S Wᵢᵀ‖². In contrast to "procrustes", it prefers components that subjects share to those that are
        private to each, up to as many times their variance as there are subjects.
    "ridge"
        Ridge regressions from each subject to the first principal components of one of them, the `reference`.

    All need products of responses only: dask arrays are passed over twice, and are read into memory if they have fewer
    stimuli than units. Memory, in addition: a few times min(stimuli, units)² numbers for each pair of subjects, in
    float64.

    Parameters
    ----------
    n_directions : int, str or None, optional
        A number, a multiple of the units of all subjects such as "0.1x", or None: the rank of the subject of least
        rank. At most that.
    method : {"procrustes", "srm", "ridge"}, optional
        See above.
    reference : str, optional
        With "ridge": the subject whose components the others predict; None: the first in the order of names.
    penalty : float, optional
        With "ridge": the penalty relative to the mean variance of the components of a subject, at least 0; None chooses
        it for each subject by generalised cross-validation.
    max_iter : int, optional
        Largest number of iterations, of "procrustes" and "srm".
    tol : float or None, optional
        Stop when an iteration lowers the objective by at most this. None runs all of `max_iter`.
    random_state : int, Generator, RandomState or None, optional
        Not used: all methods start from the principal components of all subjects side by side.
    device : {"cpu", "cuda"}, optional
        None: a GPU if available.
    dtype : {"float32", "float64"}, optional
        Precision of codes; maps are computed in float64.

    Attributes
    ----------
    directions_ : DataArray (direction, unit)
        The maps of all subjects side by side, as rows of unit length, by decreasing variance of the shared codes, which
        are uncorrelated; each with the sign that skews codes to the right.
    lengths_ : DataArray (direction,)
        Lengths of the maps: W is `directions_` times these, transposed.
    mean_ : DataArray (unit,)
        Mean response of each unit.
    objective_ : float
        Share of the variance that is left: of the responses of all subjects ("srm"), of their first principal
        components ("procrustes"), or of those of the reference ("ridge"); 0 if the subjects agree.
    learning_curve_ : DataArray (iteration,)
        The objective before each iteration.
    n_iter_ : int
        Number of iterations.

    See Also
    --------
    concatenate_systems : Puts the responses of subjects side by side.
    transfer_top : What the directions of the others predict in a subject.
    procrustes : How similar two systems are after a rotation.

    Notes
    -----
    With fewer stimuli than units, any subjects can be rotated onto one another. Whether they share a space is seen on
    other stimuli: the correlation of the codes of two subjects, each from its own responses.

    References
    ----------
    Gower 1975, "Generalized Procrustes analysis", Psychometrika 40, 33–51.
    Chen, Chen, Yeshurun, Hasson, Haxby and Ramadge 2015, "A reduced-dimension fMRI shared response model", NeurIPS.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper.comparison import SharedSpace, concatenate_systems
    >>> rng = np.random.default_rng(0)
    >>> r = xr.DataArray(rng.gamma(1, size=(80, 4)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": np.arange(80).astype(str), "unit": list("abcd")})
    >>> turned = r.copy(data=r.values @ np.linalg.qr(rng.normal(size=(4, 4)))[0])
    >>> both = concatenate_systems({"M1": r, "M2": turned})
    >>> space = SharedSpace(3, dtype="float64").fit(both[:40])
    >>> one, other = (space.transform(both[40:, (both.subject == name).values]) for name in ("M1", "M2"))
    >>> bool(np.allclose(one, other))  # of stimuli that were not fitted
    True
    """

    method: Method = "procrustes"
    reference: str | None = None
    penalty: float | None = None
    max_iter: int = 1000
    tol: float | None = 1e-9

    @property
    def prepared_scale(self) -> float:
        """1: codes have no physical unit."""
        return 1.0

    def scale_of(self, name: str) -> float:
        """Return the factor from a learned array in the unit of the user to that of the computation."""
        return self.scale_**-1 if name == "lengths" else super().scale_of(name)

    def prepare_rows(self, responses: xr.DataArray) -> Rows:
        """Return the rows of checked responses, whose units name their subjects in the coord `subject`."""
        check_one_of("method", self.method, get_args(Method))
        check_stopping(self.max_iter, self.tol)
        p = self.penalty
        if p is not None and not (isinstance(p, Real) and not isinstance(p, bool) and 0 <= p < np.inf):
            raise ValueError(f"penalty must be None or a number of at least 0, got {p!r}")
        names = sorted(positions_by(responses, "subject"))
        if len(names) < 2:
            raise ValueError(
                f"a shared space needs at least 2 subjects, got only {names[0]!r}; put others next to it with "
                "neurosuper.comparison.concatenate_systems"
            )
        if self.reference is not None and self.reference not in names:
            raise ValueError(f"reference must be one of the subjects {name_some(names)}, got {self.reference!r}")
        return super().prepare_rows(responses)

    def fit_rows(self, responses: xr.DataArray, rows: Rows) -> Self:
        """Find directions in rows that `prepare_rows` returned for these responses, and return the finder."""
        parts = positions_by(responses, "subject")
        self._subjects = {name: parts[name] for name in sorted(parts)}  # results do not depend on the order of subjects
        try:
            return super().fit_rows(responses, rows)
        finally:
            del self._subjects

    def find_directions(self, rows: Rows, n_directions: int) -> Learned:
        """Return the maps of all subjects, as directions and their lengths."""
        products = products_of(rows, list(self._subjects.values()))
        n = self._count(products, n_directions, rows)
        products = products.reduced(n) if self.method == "procrustes" else products
        maps = self._solve(products, n, rows.n_rows)
        self.n_iter_, self.objective_ = len(maps.curve), maps.curve[-1]
        self.learning_curve_ = xr.DataArray(
            np.array(maps.curve), {"iteration": np.arange(1, len(maps.curve) + 1)}, ("iteration",), "objective"
        )
        by_subject = principal_maps(products, maps.W)
        W = torch.empty_like(by_subject)
        # ‖X‖ = 1 becomes a total variance of 1, for any number of stimuli.
        W[np.concatenate(list(self._subjects.values()))] = by_subject * rows.n_rows**0.5
        lengths = W.norm(dim=0)
        D, mean = (W / lengths).T.to(rows.dtype).contiguous(), products.mean.to(rows.dtype)
        D = skew_signs(rows.take(sign_rows(rows)), mean, D) * D
        return {
            "directions": (("direction", "unit"), D),
            "mean": (("unit",), mean),
            "lengths": (("direction",), lengths.to(rows.dtype)),
        }

    def _count(self, products: Products, n_directions: int, rows: Rows) -> int:
        """Return the number of directions: no more than the rank of any subject."""
        ranks = [each.shape[1] for each in products.basis]
        least = int(np.argmin(ranks))
        if self.n_directions is None:
            return ranks[least]
        name, units = list(self._subjects.items())[least]
        limit = f"subject {name!r} varies along {ranks[least]} ({rows.n_rows} stimuli × {len(units)} units)"
        return self.at_most(n_directions, ranks[least], limit)

    def _solve(self, products: Products, n: int, n_stimuli: int) -> Maps:
        if self.method == "ridge":
            reference = 0 if self.reference is None else list(self._subjects).index(self.reference)
            return regress_maps(products, n, reference, n_stimuli, self.penalty)
        maps = align_maps(products, n, self.max_iter, self.tol)
        if not maps.has_converged:
            warnings.warn(
                f"{type(self).__name__} stopped after {len(maps.curve)} iterations while the objective still fell by "
                f"more than tol={self.tol:g}; raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=5,
            )
        return maps

    def encode(self, X: torch.Tensor) -> torch.Tensor:
        """Return the mean over subjects of their codes."""
        return X @ self._weights() / len(positions_by(self.mean_, "subject"))

    def decode(self, Z: torch.Tensor) -> torch.Tensor:
        """Return the responses of each subject nearest to its mean that have these codes."""
        W, parts = self._weights(), positions_by(self.mean_, "subject")
        X = torch.empty(len(Z), len(W), dtype=Z.dtype, device=Z.device)
        for units in parts.values():
            X[:, units] = Z @ torch.linalg.pinv(W[units])
        return X

    def _weights(self) -> torch.Tensor:
        """Return W (unit, direction)."""
        return (self.tensor("directions_") * self.tensor("lengths_")[:, None]).T

    def transform(self, responses: Any) -> Any:
        """Return the codes of stimuli: the mean over the subjects whose responses are given.

        Parameters
        ----------
        responses : DataArray (stimulus, unit)
            All units of one or more of the subjects of the fit, in any order, with the coord `subject`; a dask array
            gives lazy codes. A plain array has all units, in the order of the fit.

        Returns
        -------
        DataArray (stimulus, direction)
            Name `code`, without physical unit; stimulus coords are carried over.

        See Also
        --------
        inverse_transform : Gives the responses of all subjects that have these codes.
        """
        self._require_fitted()
        present = self._of_subjects(responses) if isinstance(responses, xr.DataArray) else self
        return super(SharedSpace, present).transform(responses)

    def code_responses(self, responses: xr.DataArray) -> xr.DataArray:
        """Return the codes of checked responses, which have no physical unit."""
        return super().code_responses(responses).assign_attrs(units="1")

    def _of_subjects(self, responses: xr.DataArray) -> Self:
        """Return the finder with the maps of the subjects in these responses only."""
        if "unit" not in responses.dims or "subject" not in coords_along(responses, "unit"):
            return self
        fitted, given = positions_by(self.mean_, "subject"), positions_by(responses, "subject")
        if unknown := sorted(given.keys() - fitted.keys()):
            raise ValueError(
                f"subject {name_some(unknown)} is not among those of the fit, {name_some(list(fitted), 10)}; fit again "
                "with it, or leave it out"
            )
        if len(given) == len(fitted):
            return self
        units = np.sort(np.concatenate([fitted[name] for name in given]))
        part = copy.copy(self)
        part.mean_, part.directions_ = self.mean_.isel(unit=units), self.directions_.isel(unit=units)
        return part
