"""Read TOML files (studies and manifests) as any editor saves them."""

from __future__ import annotations

import codecs
import re
import tomllib
from typing import Any

MAX_DEPTH = 50  # nested tables; a study needs 4, and a thousand would exceed Python's recursion limit later
# A key of 100 parts: tomllib needs time proportional to the square of the depth, so refuse it before parsing.
LONG_KEY = re.compile(r"""(?<![\w"'-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){100}""")
MAX_MESSAGE = 300  # characters of the parser's message, which quotes keys of any length
PATHS = "write paths with / (also on Windows), or in single quotes: in double quotes a backslash starts an escape"


def parse_toml(content: bytes, name: object) -> dict[str, Any]:
    r"""Return the tables in the bytes of a TOML file; errors are one line.

    Parameters
    ----------
    content : bytes
        UTF-8, with or without a byte order mark.
    name : path or str
        Name of the file for errors.

    Returns
    -------
    dict
        Tables as dictionaries.

    Raises
    ------
    ValueError
        The encoding is not UTF-8, the text is not TOML, or tables are nested too deeply.

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


def _remedy(text: str, message: str) -> str:
    """Return advice about backslashes if the parser's error is about one; else nothing."""
    number = re.search(r"at line (\d+)", message)
    line = text.split("\n")[int(number[1]) - 1] if number else ""
    return f"; {PATHS}" if "\\" in line and re.search("hex|scape|Illegal", message) else ""


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
