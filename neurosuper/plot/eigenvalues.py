"""Figure of spectra: variance along each dimension, with its power law."""

from __future__ import annotations

from typing import overload

import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from neurosuper.plot.figure import PAGE_WIDTH, draw_legend, open_axes
from neurosuper.plot.named_results import Results, check_results
from neurosuper.plot.style import PLAIN, system_looks

__all__ = ["plot_spectrum"]


@overload
def plot_spectrum(result: Results, *, ax: None = None) -> Figure: ...
@overload
def plot_spectrum(result: Results, *, ax: Axes) -> Axes: ...
@rc_context(PLAIN)
def plot_spectrum(result: Results, *, ax: Axes | None = None) -> Figure | Axes:
    """Return a figure of the variance along each component, with its power law and the critical exponent.

    Parameters
    ----------
    result : Dataset (component,), or mapping of name to Dataset
        From `neurosuper.superposition.spectrum`. Each entry of a mapping is a curve, such as that of a system.
    ax : Axes, optional
        Draw here instead of on a new figure.

    Returns
    -------
    Figure, or `ax`
        Both axes are logarithmic. Variances are shares of their sum; those that cross-validated PCA estimates at or
        below 0 are not drawn. Dashed: the power law, where it was fitted; the legend shows its exponent α with its
        interval. Dotted, if a result has `alpha_critical`: the slope below which a code of such stimuli is not smooth.

    Raises
    ------
    TypeError
        Neither Datasets nor a mapping of them.
    ValueError
        No result, or one of another function; variances whose sum is not above 0.

    See Also
    --------
    neurosuper.superposition.spectrum : Returns the results.
    plot_interference : Whether directions share these dimensions.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper.superposition import spectrum
    >>> r = xr.DataArray(np.random.default_rng(0).normal(size=(100, 30)) / np.arange(1, 31), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": np.arange(100).astype(str), "unit": np.arange(30).astype(str)})
    >>> figure = plot_spectrum({"V4": spectrum(r, fit=(1, 20), n_resamples=10)})
    >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
    ('component', 'share of the variance')
    """
    named = check_results(result, "neurosuper.superposition.spectrum", ("variance", "alpha"))
    axes, drawn = open_axes(ax, (PAGE_WIDTH, 4))
    axes.set(xscale="log", yscale="log", xlabel="component", ylabel="share of the variance")
    looks = system_looks(each.name for each in named)
    critical: dict[float, tuple[np.ndarray, np.ndarray]] = {}
    for name, _, _, spectrum in named:
        x, share = _shares(name, spectrum)
        line, label = power_law(spectrum), _describe(name, spectrum)
        axes.plot(x, share, color=looks[name].color, linewidth=1.6, label=label)
        axes.plot(*line, color="0.15", linewidth=1, linestyle="--", label="_power law")
        if "alpha_critical" in spectrum:
            critical.setdefault(float(spectrum.alpha_critical), line)
    for exponent, (x, fitted) in critical.items():
        # above the power law of the first system, so that both slopes are seen
        axes.plot(x, 2 * fitted[0] * (x / x[0]) ** -exponent, ":", color="0.35", label=f"critical α = {exponent:.3g}")
    axes.plot([], [], color="0.15", linewidth=1, linestyle="--", label="power law, where it was fitted")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")  # the default would be mathematics
        axis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)
    draw_legend(drawn, axes.get_legend_handles_labels()[0], 1 if len(named) == 1 and not critical else 2)
    return drawn


def _shares(name: str, spectrum: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return components with variance above 0, and their shares of the sum."""
    variance = spectrum.variance.values
    if not (total := variance.sum()) > 0:
        whose = f" of {name!r}" if name else ""
        raise ValueError(f"the variances{whose} sum to {total:.3g}, and have no shares; average more repetitions")
    above = variance > 0
    return spectrum.component.values[above], variance[above] / total


def power_law(spectrum: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last component that were fitted, and the shares of the variance that the power law has."""
    first, last = spectrum.attrs["fit"]
    n, variance = spectrum.component.values, spectrum.variance.values
    used = (n >= first) & (n <= last) & (variance > 0)
    # a regression with weights 1/n passes through the weighted mean of ln n and ln λ
    x, y = (np.average(np.log(each[used]), weights=1 / n[used]) for each in (n, variance / variance.sum()))
    ends = np.array([n[used][0], n[used][-1]], float)
    return ends, np.exp(y - float(spectrum.alpha) * (np.log(ends) - x))


def _describe(name: str, spectrum: xr.Dataset) -> str:
    interval = ""
    if "alpha_low" in spectrum:
        interval = f" [{float(spectrum.alpha_low):.2f}, {float(spectrum.alpha_high):.2f}]"
    alpha = f"α = {float(spectrum.alpha):.2f}{interval}".replace("-", "−")
    return f"{name}: {alpha}" if name else alpha
