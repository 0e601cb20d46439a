"""Finders as estimators of scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

if TYPE_CHECKING:  # scikit-learn has no types, and mypy accepts any setting of a dataclass with an untyped base
    from typing import Self

    class BaseEstimator:
        """Typed twin of `sklearn.base.BaseEstimator`."""

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            """Return the settings."""

        def set_params(self, **params: Any) -> Self:
            """Change settings."""

else:
    from sklearn.base import BaseEstimator


class Estimator(BaseEstimator):
    """What a finder is to scikit-learn."""

    directions_: xr.DataArray
    mean_: xr.DataArray
