"""Whether a variable in a MATLAB file of versions 5 to 7.2 is whole: its parts end where it ends, and fit its class."""

from __future__ import annotations

import math
import struct
from typing import BinaryIO

__all__ = ["MATRIX", "has_whole_parts"]

MAX_NESTED = 50  # cells and structs of MATLAB within each other
MATRIX, UINT32 = 14, 6  # types of parts of a MATLAB file
CELL, STRUCT, CHAR, SPARSE, NUMBERS = 1, 2, 4, 5, range(6, 16)  # classes of matrices
PART_TYPES = {1, 2, 3, 4, 5, UINT32, 7, 9, 12, 13, MATRIX, 16, 17, 18}


def has_whole_parts(file: BinaryIO, start: int, end: int, order: str, depth: int = 0) -> bool:
    """Return whether a matrix of MATLAB 5 to 7.2 has the parts of its class, which end where it ends.

    scipy ends the process (a segmentation fault) if parts are missing or of an unknown type. Compressed variables are
    not checked here: they have a checksum.
    """
    kinds: list[int] = []
    words: list[tuple[int, ...]] = []
    while start < end and depth < MAX_NESTED:
        file.seek(start)
        kind, n_bytes = struct.unpack(order + "II", file.read(8).ljust(8, b"\0"))
        # A small part has its number of bytes in the upper half of the first word, and its data in the second word.
        if kind >> 16:
            kind, n_bytes, first, start = kind & 0xFFFF, kind >> 16, start + 4, start + 8
        else:
            first, start = start + 8, start + 8 + n_bytes
            start = min(start + -n_bytes % 8, max(start, end))  # the last part may lack its padding
        if kind not in PART_TYPES or start > end or first + n_bytes > start:
            return False
        if kind == MATRIX and not has_whole_parts(file, first, start, order, depth + 1):
            return False
        if len(kinds) < 2:  # flags and class, then the size along each axis
            file.seek(first)
            words.append(struct.unpack(f"{order}{n_bytes // 4}I", file.read(n_bytes // 4 * 4)))
        kinds.append(kind)
    return start == end and (not kinds or _fit_class(kinds, words))


def _fit_class(kinds: list[int], words: list[tuple[int, ...]]) -> bool:
    """Return whether the parts of a matrix after flags, size and name are those of its class."""
    if len(kinds) < 3 or kinds[0] != UINT32 or len(words[0]) != 2:
        return False
    kind, data, has_imaginary = words[0][0] & 0xFF, kinds[3:], bool(words[0][0] & 0x800)
    if kind in NUMBERS:
        return len(data) == 1 + has_imaginary and MATRIX not in data
    if kind in (CELL, STRUCT):
        members = data if kind == CELL else data[2:]
        return all(part == MATRIX for part in members) and (kind == STRUCT or len(members) == math.prod(words[1]))
    return len(data) == {CHAR: 1, SPARSE: 3 + has_imaginary}.get(kind, len(data))
