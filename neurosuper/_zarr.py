"""Check zarr stores: refuse codecs that could run code, and stores that declare far more than they contain.

A store names the codecs that decode its chunks. Some codecs unpickle, and a pickle can run any code; versions of zarr
and numcodecs differ in which of these they refuse. Therefore the names are read first, from the metadata files, and
every codec is refused that is not known to yield only numbers or text.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["check_codecs", "refuse_sparse"]

CODECS = frozenset(
    [
        *("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"),  # compressors
        *("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"),  # checksums
        *("astype", "bitround", "delta", "fixedscaleoffset", "packbits", "quantize", "shuffle"),  # numbers from numbers
        *("bytes", "cast_value", "endian", "scale_offset", "sharding_indexed", "transpose"),  # of zarr 3 alone
        *("base64", "json2", "vlen-bytes", "vlen-utf8"),  # text
    ]
)
DOCUMENTS = ("zarr.json", ".zarray", ".zmetadata")
MAX_DOCUMENT = 2**26  # bytes of one document of metadata; consolidated ones have a few hundred per array
MAX_CHUNKS = 2**20  # per array; each chunk is a file and a dask task
# Bytes declared per byte stored, as for HDF5 (file_checks.MAX_RATIO), and the declared bytes below which any ratio is
# harmless.
MAX_RATIO, FREE_BYTES = 2000, 2**30


def check_codecs(folder: str | Path) -> None:
    """Refuse a zarr store, of version 2 or 3, that names a codec which is not known to be safe.

    Only metadata files are read, no chunks.

    Parameters
    ----------
    folder : path
        Folder of an array or a group, with all groups and arrays in it.

    Raises
    ------
    ValueError
        A codec that is not among `CODECS`; metadata that cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / ".zarray").write_text('{"compressor": {"id": "pickle"}, "filters": null}')
    >>> check_codecs(folder)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: ... names the codec 'pickle', which may run code or is not known; save the array as .npy or .nc ...
    """
    for document in _documents(Path(folder)):
        for name in (name for array in _arrays(document.name, _parsed(document)) for name in _codecs(array)):
            if not isinstance(name, str) or name.removeprefix("numcodecs.") not in CODECS:
                raise ValueError(
                    f"{document} names the codec {name!r}, which may run code or is not known; save the array as .npy "
                    "or .nc where you trust it"
                )


def refuse_sparse(folder: Path, declared: int, n_chunks: int) -> None:
    """Refuse a zarr store that declares far more than it contains.

    Parameters
    ----------
    folder : Path
        Folder of the store.
    declared : int
        Bytes of the array according to its metadata.
    n_chunks : int
        Chunks of the array, stored or not.

    Raises
    ------
    ValueError
        More than `MAX_CHUNKS`; or more than `FREE_BYTES`, and more than `MAX_RATIO` bytes per byte stored.
    """
    if n_chunks > MAX_CHUNKS:
        raise ValueError(
            f"{folder} declares {n_chunks:,} chunks, but {MAX_CHUNKS:,} can be read; save it in larger chunks"
        )
    if declared <= FREE_BYTES:
        return
    stored = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            stored += os.path.getsize(os.path.join(parent, name))
            if stored * MAX_RATIO >= declared:
                return
    raise ValueError(
        f"{folder} declares {declared / 1e9:.1f} GB but stores {stored} bytes; it is damaged or was never filled: "
        "fetch it again"
    )


def _documents(folder: Path) -> Iterator[Path]:
    """Yield the metadata files of a store, without walking through folders of chunks, which may contain millions."""
    folders, seen = [folder], set[Path]()
    while folders:
        here = folders.pop()
        if (real := here.resolve()) in seen:
            continue  # a link that leads back
        seen.add(real)
        found = [here / name for name in DOCUMENTS if (here / name).exists()]
        yield from found
        if not _is_only_array(here, found):
            folders += [Path(entry) for entry in os.scandir(here) if entry.is_dir()]


def _is_only_array(folder: Path, documents: list[Path]) -> bool:
    names = {path.name for path in documents}
    if ".zmetadata" in names or (folder / ".zgroup").exists() or not names:
        return False
    return "zarr.json" not in names or _parsed(folder / "zarr.json").get("node_type") == "array"


def _parsed(document: Path) -> dict[str, Any]:
    try:
        if not document.is_file() or document.stat().st_size > MAX_DOCUMENT:
            raise ValueError(f"it is not a file of at most {MAX_DOCUMENT} bytes")
        content = json.loads(document.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{document} is not readable metadata of zarr: {error}") from error
    return content


def _arrays(name: str, content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the metadata of every array in a document, including consolidated metadata."""
    # Zarr 2 consolidates in a file of its own, .zmetadata; zarr 3 inside the zarr.json of the group.
    if name == ".zmetadata":
        entries = _object(content.get("metadata"))
        members = {key: entry for key, entry in entries.items() if not key.endswith(".zattrs")}
    else:
        yield content
        members = _object(_object(content.get("consolidated_metadata")).get("metadata"))
    for member in members.values():
        yield from _arrays("zarr.json", _object(member))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _codecs(array: dict[str, Any]) -> Iterator[Any]:
    """Yield the name of every codec of an array, including codecs inside other codecs."""
    # "compressor" and "filters" are keys of zarr 2, "codecs" of zarr 3, "index_codecs" of its sharding codec.
    for key in ("compressor", "filters", "codecs", "index_codecs"):
        several = array.get(key)
        for codec in several if isinstance(several, list) else [several]:
            if isinstance(codec, dict):
                yield from [codec[key] for key in ("id", "name") if key in codec] or [None]
                yield from _codecs(_object(codec.get("configuration")))
            elif codec is not None:
                yield codec
