"""Power of the test between two mean indices, with stimuli and items as random samples.

v(n) variance of a mean index over samples of n stimuli, for given items (see `variance_components`). S, I and J are its
components `var_stimuli`, `var_interaction` and `var_items`. ν degrees of freedom, ν_s those of v.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from neurosuper._checks import check_counts
from neurosuper.inference.power import power_of_t


def index_power(
    pilot: xr.Dataset,
    *,
    n_stimuli: int | Sequence[int],
    n_items: int | Sequence[int],
    difference: float | None = None,
    alpha: float = 0.05,
) -> xr.DataArray:
    """Return the power of `index_difference` with other numbers of stimuli and items.

    Parameters
    ----------
    pilot : Dataset
        From `index_difference`, without `subjects`.
    n_stimuli : int or sequence of int
        Numbers of stimuli to score on.
    n_items : int or sequence of int
        Numbers of items in each of the two sets, such as units and equally many directions.
    difference : float, optional
        The true difference of means, in the unit of the index. None: that of the pilot, which gives too high a power if
        the pilot was chosen because its difference is large.
    alpha : float, optional
        Significance level of the test.

    Returns
    -------
    DataArray (n_stimuli, n_items)
        Name `power`, from `alpha` to 1.

    Raises
    ------
    TypeError
        Not a Dataset from `index_difference`.
    ValueError
        A pilot of subjects, or with too few stimuli to estimate how variances decrease; numbers below 2; `alpha` not
        between 0 and 1.

    See Also
    --------
    index_difference : The test, which also gives the pilot.
    neurosuper.inference.statistical_power : Power over items alone, for given stimuli.

    Notes
    -----
    The power is that of noncentral t, with the degrees of freedom of the test by Satterthwaite; those of the variance
    over stimuli are assumed to be the pilot's. The difference is assumed not to depend on the number of stimuli, and
    variances over stimuli to decrease at the rate seen from quarters to halves of the pilot. The farther from the
    pilot's number of stimuli, the less certain this is. In simulations (`make validate`), the mean prediction of pilots
    of 200 stimuli and 20 items was within 0.06 of the actual power, from 0.02 to 0.84; predictions for three times as
    many stimuli and items varied between pilots by up to 0.2 (standard deviation).

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurosuper.interpretability import index_difference
    >>> from neurosuper import Color, load_images
    >>> rng = np.random.default_rng(0)
    >>> images = load_images(rng.integers(0, 256, (80, 1, 1, 3), dtype=np.uint8))
    >>> a, b = (xr.DataArray(rng.normal(size=(80, 20)), dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": [f"u{i}" for i in range(20)]}) for _ in "ab")
    >>> pilot = index_difference(a, b, images, Color())
    >>> power = index_power(pilot, n_stimuli=[80, 320], n_items=[20, 80], difference=0.1)
    >>> power.dims, bool((power.diff("n_items") > 0).all())
    (('n_stimuli', 'n_items'), True)
    """
    if not isinstance(pilot, xr.Dataset) or not {"difference", "var_stimuli", "fall"} <= set(pilot):
        raise TypeError(f"pilot must be a Dataset from index_difference, got {type(pilot).__name__}")
    if "n_subjects" in pilot.attrs:
        raise ValueError("the pilot compares subjects, not items; pass index_difference(…) without `subjects`")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be strictly between 0 and 1, got {alpha!r}; 0.05 is usual")
    if np.isnan(pilot.fall):
        raise ValueError(
            f"the pilot has {pilot.n_stimuli} stimuli, too few to estimate how variances decrease with their number; "
            "lower its `top`, or use at least 4 × `top` stimuli, shown to both sets"
        )
    stimuli, items = (
        xr.DataArray(counts, dims=name, coords={name: counts})
        for name, counts in (
            ("n_stimuli", check_counts("n_stimuli", n_stimuli)),
            ("n_items", check_counts("n_items", n_items)),
        )
    )
    of_items = {side: float(pilot[f"var_items_{side}"]) for side in "ab"}
    interaction = float(pilot.var_interaction_a + pilot.var_interaction_b)
    # v(n) = v(n₀) fall^log₂(n/n₀): each doubling of the stimuli multiplies the variance over them by `fall`
    falls = pilot.fall ** np.log2(stimuli / pilot.n_stimuli)
    # Var(difference) = v + J_a/k + J_b/k, with v = (S + I/k) v(n)/v(n₀) and k items in each set
    over_stimuli, over_items = (pilot.var_stimuli + interaction / items) * falls, sum(of_items.values()) / items
    total = over_stimuli + over_items
    # ν by Satterthwaite: (v + Σ J/k)² / (v²/ν_s + Σ (J/k)²/(k − 1))
    spread = over_stimuli**2 / _stimulus_df(pilot, of_items)
    spread = spread + sum((own / items) ** 2 for own in of_items.values()) / (items - 1)
    effect = abs(float(pilot.difference) if difference is None else difference) / np.sqrt(total)
    power = xr.apply_ufunc(power_of_t, effect, total**2 / spread, kwargs={"alpha": alpha})
    return power.transpose("n_stimuli", "n_items").rename("power").assign_attrs(alpha=alpha)


def _stimulus_df(pilot: xr.Dataset, of_items: dict[str, float]) -> float:
    """Return ν_s, the degrees of freedom of the pilot's variance over stimuli, from those of all variances."""
    counts = {side: int(pilot[f"n_{side}"]) for side in of_items}
    total = float(pilot.standard_error) ** 2
    over_stimuli = total - sum(own / counts[side] for side, own in of_items.items())
    spread = total**2 / float(pilot.degrees_of_freedom)
    spread -= sum((own / counts[side]) ** 2 / (counts[side] - 1) for side, own in of_items.items())
    # Without a variance over stimuli, or with that of infinitely many, rounding decides.
    return max(1.0, over_stimuli**2 / spread) if spread > 1e-9 * total**2 else np.inf
