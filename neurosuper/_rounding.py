"""Numbers in text: as many decimals as their standard error supports, and a real minus sign."""

from __future__ import annotations

import math

WITHOUT_ERROR = 3  # decimals of a number whose standard error is 0 or not known
MAX_DECIMALS = 12
ROUNDING = 1e-12  # of a number: a smaller standard error is 0 up to rounding
MIN_P = 1e-3  # smaller p are reported as below this
ALPHA = 0.05  # a p on one side of it is shown on this side


def decimals_for(standard_error: float, value: float = 0.0) -> int:
    """Return the number of decimals that shows two significant digits of a standard error.

    Parameters
    ----------
    standard_error : float
    value : float
        A number whose two digits decide if the standard error is 0, NaN or infinite; without either, 3 decimals are
        returned.

    Examples
    --------
    >>> [decimals_for(error) for error in (0.0107, 0.0996, 2.3, 250)]
    [3, 2, 1, 0]
    >>> decimals_for(0.0, -0.00012)
    5
    """
    for least in (standard_error, abs(value)):
        if math.isfinite(least) and least > ROUNDING * abs(value):
            # The exponent is that of the rounded error: 0.0996 is 0.10 to two digits, and has two decimals.
            exponent = int(f"{least:.1e}".partition("e")[2])
            return min(max(1 - exponent, 0), MAX_DECIMALS)
    return WITHOUT_ERROR


def format_number(value: float, decimals: int, *, sign: bool = False) -> str:
    """Return a number with this many decimals, a real minus sign and, with `sign`, a plus; "–" for NaN.

    Examples
    --------
    >>> format_number(-0.0501, 2), format_number(0.05, 3, sign=True), format_number(-0.0001, 2)
    ('−0.05', '+0.050', '0.00')
    """
    if math.isnan(value):
        return "–"
    plus = "+" if sign else ""
    return f"{value:{plus}z.{decimals}f}".replace("-", "−").replace("inf", "∞")


def format_interval(low: float, high: float, decimals: int) -> str:
    """Return an interval in brackets.

    Examples
    --------
    >>> format_interval(-0.0123, 0.0456, 3)
    '[−0.012, 0.046]'
    """
    return f"[{format_number(low, decimals)}, {format_number(high, decimals)}]"


def format_p(p: float, sign: str = "=") -> str:
    """Return a p-value to two significant digits, with the sign before it; never 0.05 for one that is smaller.

    Examples
    --------
    >>> format_p(0.04256), format_p(1e-7), format_p(0.0499)
    ('= 0.043', '< 0.001', '< 0.05')
    """
    if p < MIN_P:
        return f"< {MIN_P}"
    text = f"{p:#.2g}"
    return f"< {ALPHA}" if p < ALPHA <= float(text) else f"{sign} {text}"
