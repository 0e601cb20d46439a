"""TOML, with whatever is wrong in it said as one kind of error, and at once."""

from __future__ import annotations

import re
import tomllib
from typing import Any

__all__ = ["parse_toml"]

# The time that tomllib takes grows with the square of the tables within tables; a study has three.
LONG_KEY = re.compile(r"""(?<![\w"'-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){100}""")


def parse_toml(text: str) -> dict[str, Any]:
    """Return what a TOML document says.

    Raises
    ------
    ValueError
        Not TOML, a number of thousands of digits, or tables within tables beyond all use.

    Examples
    --------
    >>> parse_toml("top = 5")
    {'top': 5}
    """
    if LONG_KEY.search(text):
        raise ValueError("a key has more than 100 parts")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("values are nested too deeply") from error
    except ValueError as error:  # of tomllib, or of Python's int
        told = str(error).partition("; use sys.")[0]
        raise ValueError(told) from error
