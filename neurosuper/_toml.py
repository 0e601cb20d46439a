"""Read TOML: study files and manifests, as any editor saves them."""

from __future__ import annotations

import codecs
import re
import tomllib
from typing import Any

MAX_DEPTH = 50  # tables within tables; a study needs 4, and a thousand would break what walks through them
# The time that tomllib takes grows with the square of the tables within tables.
LONG_KEY = re.compile(r"""(?<![\w"'-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){100}""")
MAX_MESSAGE = 300  # characters of what the parser says, which repeats keys
PATHS = "write paths with / (also on Windows), or in single quotes: in double quotes a backslash starts an escape"


def parse_toml(content: bytes, name: object) -> dict[str, Any]:
    r"""Return the tables in the bytes of a TOML file, or say in one line what is wrong with it.

    Parameters
    ----------
    content : bytes
        UTF-8, with or without a byte order mark.
    name : path or str
        What to call the file.

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        Another encoding, not TOML, or nested too deeply.

    Examples
    --------
    >>> parse_toml(b'\xef\xbb\xbftop = 5', "study.toml")
    {'top': 5}
    """
    if b"\0" in content:
        raise ValueError(f"{name} is saved as UTF-16, or not as text; save it as UTF-8")
    try:
        text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8")
        if LONG_KEY.search(text):
            raise RecursionError(text[:MAX_MESSAGE])
        tables = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 ({error}); save it as UTF-8") from error
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deeply; at most {MAX_DEPTH} levels are read") from error
    except ValueError as error:  # TOMLDecodeError, or a number of more digits than Python reads
        raise ValueError(f"{name} is not valid TOML: {str(error)[:MAX_MESSAGE]}{_remedy(text, str(error))}") from error
    if _is_deep(tables):
        raise ValueError(f"{name} is nested too deeply; at most {MAX_DEPTH} levels are read")
    return tables


def _remedy(text: str, said: str) -> str:
    """Return what to do about a backslash in the line that a parser complains about."""
    place = re.search(r"at line (\d+)", said)
    line = text.split("\n")[int(place[1]) - 1] if place else ""
    return f"; {PATHS}" if "\\" in line and re.search("hex|scape|Illegal", said) else ""


def _is_deep(tables: dict[str, Any]) -> bool:
    level: list[Any] = [tables]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True
