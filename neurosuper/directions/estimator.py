"""Finders as scikit-learn estimators: tags, names of features, and outputs of plain arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

if TYPE_CHECKING:  # scikit-learn has no types, and mypy accepts any setting of a dataclass with an untyped base
    from typing import Literal, Self

    class BaseEstimator:
        """Typed twin of `sklearn.base.BaseEstimator`."""

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            """Return the settings."""

        def set_params(self, **params: Any) -> Self:
            """Change settings."""

        def __sklearn_tags__(self) -> Any:
            """Return what scikit-learn may expect of the estimator."""

    class TransformerMixin:
        """Typed twin of `sklearn.base.TransformerMixin`."""

        def __init_subclass__(cls, *, auto_wrap_output_keys: tuple[str, ...] | None = ("transform",)) -> None: ...

        def set_output(self, *, transform: Literal["default", "pandas", "polars"] | None = None) -> Self:
            """Choose what `transform` returns for plain arrays and data frames."""

else:
    from sklearn.base import BaseEstimator, TransformerMixin


class Estimator(TransformerMixin, BaseEstimator):
    """Base of `DirectionFinder`: its methods and attributes that scikit-learn asks for.

    scikit-learn wraps the `transform` of this class, which is called for plain arrays and data frames only: what they
    return is as `set_output` says. Labelled responses give labelled codes, with any setting.
    """

    directions_: xr.DataArray
    mean_: xr.DataArray
    dtype: str

    def transform(self, responses: Any) -> Any:
        """Return the codes of a plain array or a data frame, as an array."""
        return self._code_plain(responses)

    def _code_plain(self, responses: Any) -> np.ndarray:
        raise NotImplementedError

    @property
    def direction_index(self) -> pd.Index:
        """Labels of the directions."""
        return self.directions_.indexes["direction"]

    @property
    def n_features_in_(self) -> int:
        """Number of units of the fit."""
        return self.mean_.sizes["unit"]

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Labels of the units of the fit; not defined if they are only numbered, as those of a plain array."""
        labels = self.mean_.unit.values
        if (labels == np.arange(len(labels)).astype(str)).all():
            raise AttributeError("the units of the fit have no names, only numbers")
        return labels.astype(object)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the labels of the directions.

        Parameters
        ----------
        input_features : array-like of str or None, optional
            Not used; if given, it must be the labels of the units.

        Returns
        -------
        array (direction,) of str

        Raises
        ------
        ValueError
            Other labels of units than those of the fit.

        See Also
        --------
        sklearn.base.TransformerMixin : Defines this method for all transformers.
        """
        self._require_fitted()
        names = getattr(self, "feature_names_in_", None)
        if input_features is not None and names is not None and not np.array_equal(names, input_features):
            raise ValueError("input_features is not equal to feature_names_in_, the labels of the units; omit it")
        if input_features is not None and len(input_features) != self.n_features_in_:
            raise ValueError(
                "input_features should have length equal to the number of units, n_features_in_="
                f"{self.n_features_in_}, got {len(input_features)}; omit it"
            )
        return self.direction_index.values.astype(object)

    def _require_fitted(self) -> None:
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn may expect: codes have the dtype of the computation."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = [self.dtype]
        return tags
