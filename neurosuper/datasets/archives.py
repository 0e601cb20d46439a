"""Archives: which files of a dataset there are, how big, what their digests are, and where their bytes come from.

A `*` in a path stands for any text without "/". What an archive says is material to judge: a path that could leave the
folder of the dataset is refused, and the API key of a user is shown to no other server than the archive's API.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

import requests
from pydantic import ValidationError
from requests.auth import AuthBase

from neurosuper.datasets.answers import retry_after
from neurosuper.datasets.manifest import S3, UNVERIFIED, Choice, Dandi, Http, Local, Manifest
from neurosuper.datasets.threads import side_by_side, unless

if TYPE_CHECKING:
    from dandi.dandiapi import DandiAPIClient, RemoteAsset, RemoteDandiset

__all__ = ["Digest", "RemoteFile", "check_path", "list_files", "local_folder"]

TIMEOUT = (10, 60)  # s to connect, s between bytes
LONGEST_WAIT = 20  # s that the API may ask to wait before each of dandi's 12 attempts
OWN_FOLDERS = (".receipts", ".listings")
DRAFT = "draft"
S3_ENDPOINT = S3.model_fields["endpoint"].default
DANDI_DIGESTS = {"sha256": "dandi:sha2-256", "dandi-etag": "dandi:dandi-etag", "sha1": "dandi:sha1", "md5": "dandi:md5"}
MALFORMED = (ValidationError, KeyError, TypeError, AssertionError)  # by what an answer may lack
SILENT = logging.NullHandler()
Answer = TypeVar("Answer")


class Digest(NamedTuple):
    """What the bytes of a file must amount to, and who says so."""

    algorithm: str
    value: str
    said_by: str


@dataclass(frozen=True)
class RemoteFile:
    """One file of an archive; `url` is called for every attempt, since a signed address expires."""

    dataset: str
    version: str
    path: str
    size: int | None
    digest: Digest | None
    url: Callable[[], str]
    access: str = ""


def check_path(path: str) -> str:
    """Return a path of an archive, or refuse one that could leave the dataset's folder or get at what is kept there."""
    parts = path.split("/")
    odd = any(not part.strip(" .") or part.startswith("~") or part != part.strip() for part in parts)
    if odd or re.search(r'[\\:\x00-\x1f\x7f*?"<>|]', path) or parts[0] in OWN_FOLDERS:
        raise ValueError(
            f"the path {path!r} is refused: it must be relative, with forward slashes, and stay in the folder of the "
            "dataset; tell the archive or the author of the manifest"
        )
    return path


def list_files(manifest: Manifest, choice: Choice, roles: Sequence[str]) -> list[RemoteFile]:
    """Return the files of some roles that a choice needs.

    Parameters
    ----------
    manifest : Manifest
    choice : mapping of str to list
        As `manifest.choose` returns it.
    roles : sequence of str

    Returns
    -------
    list of RemoteFile
        In the order of the manifest; only DANDI is asked over the network.

    Raises
    ------
    FileNotFoundError
        No such dandiset, version or file; or the folder of a local dataset is not known.
    PermissionError
        The archive wants an API key: the environment variable to set is named.
    ConnectionError
        The archive does not answer.
    ValueError
        A path that is refused, a draft that was not asked for, or an archive that contradicts the manifest.
    RuntimeError
        The installed dandi is too old for the archive.
    """
    paths = manifest.paths(choice, *roles)
    source = manifest.source
    if isinstance(source, Dandi):
        stop = threading.Event()
        (listed,) = side_by_side(lambda _: _list_dandi(manifest, source, paths, stop), [None], 1, stop.set)
        if isinstance(listed, BaseException):
            raise listed
        return listed
    if isinstance(source, Local):
        return _list_local(manifest, source, paths)
    return [_at_address(manifest, source, path) for path in paths]


def _at_address(manifest: Manifest, source: Http | S3, path: str) -> RemoteFile:
    if "*" in path:
        raise ValueError(f"{path!r} of {manifest.id} has '*', but {source.kind} cannot be searched; name every file")
    size, digest = _expected(manifest, check_path(path), None, {})
    agreement = getattr(source, "agreement_url", None)
    access = f"accept its terms first: {agreement}" if agreement else f"see {manifest.homepage} on access"
    url = f"{_base_url(source)}/{quote(path)}"
    return RemoteFile(manifest.id, source.version, path, size, digest, lambda: url, access)


def _base_url(source: Http | S3) -> str:
    if isinstance(source, Http):
        return source.url.rstrip("/")
    if source.endpoint == S3_ENDPOINT and "." not in source.bucket:
        return f"https://{source.bucket}.s3.amazonaws.com"
    return f"{source.endpoint.rstrip('/')}/{source.bucket}"


def local_folder(manifest: Manifest) -> Path:
    """Return the folder in which a user keeps a dataset that is not fetched."""
    source = manifest.source
    if not isinstance(source, Local):
        raise ValueError(f"{manifest.id} is fetched and has no folder of its own")
    named = os.environ.get(source.env_var, "") if source.env_var else ""
    if not named or not Path(named).is_dir():
        name_it = f"name their folder in {source.env_var} (now {named!r})" if source.env_var else "pass path="
        raise FileNotFoundError(f"the files of {manifest.id} are not fetched: {source.obtain}; then {name_it}")
    return Path(named)


def _list_local(manifest: Manifest, source: Local, paths: Sequence[str]) -> list[RemoteFile]:
    folder, files = local_folder(manifest), []
    for path in paths:
        found = sorted(folder.glob(path)) if "*" in path else [folder / path] if (folder / path).exists() else []
        if not found:
            raise FileNotFoundError(f"{folder} has no {path}, which {manifest.id} needs: {source.obtain}")
        for file in found:
            name = check_path(file.relative_to(folder).as_posix())
            size, digest = _expected(manifest, name, file.stat().st_size if file.is_file() else None, {})
            files.append(RemoteFile(manifest.id, source.version, name, size, digest, file.absolute().as_uri))
    return files


def _expected(
    manifest: Manifest, path: str, size: int | None, said: Mapping[str, str]
) -> tuple[int | None, Digest | None]:
    """Return the size and the digest that a file must have; the manifest's win, and the archive's must agree."""
    pins = sorted((pin for pin in manifest.checksums if pin.path == path), key=lambda pin: pin.algorithm != "sha256")
    if not pins:
        found = next((name for name in ("sha256", "dandi-etag") if name in said), None)
        return size, Digest(found, said[found].lower(), "DANDI") if found else None
    pin = pins[0]
    wanted = {"bytes": pin.size, pin.algorithm: pin.value.lower()}
    offered = {"bytes": size, pin.algorithm: said.get(pin.algorithm, pin.value).lower()}
    for what, value in wanted.items():
        if None not in (value, offered[what]) and value != offered[what]:
            raise ValueError(
                f"{path} of {manifest.id} has {what} {offered[what]} in the archive, but {value} in the manifest; "
                "do not use it before you know why, then correct [[checksums]]"
            )
    return (size if pin.size is None else pin.size), Digest(pin.algorithm, pin.value.lower(), "manifest")


def _list_dandi(manifest: Manifest, source: Dandi, paths: Sequence[str], stop: threading.Event) -> list[RemoteFile]:
    if source.version == DRAFT and not source.allow_draft:
        raise ValueError(
            f"{manifest.id} names the draft of DANDI {source.dandiset}, which may change any day; "
            "pin a published version, or say allow_draft = true"
        )
    # dandi asks once what it is that it talks to, and would wait for the answer without end.
    client = _ask(source, lambda: unless(stop, partial(_client, source, stop), limit=sum(TIMEOUT)))
    dandiset = _ask(source, partial(_version, client, source))
    assets = _ask(source, lambda: {asset.path: asset for path in paths for asset in _matching(dandiset, path)})
    for path in paths:
        if not any(_pattern(path).fullmatch(name) for name in assets):
            raise FileNotFoundError(
                f"DANDI {source.dandiset}, version {dandiset.version_id}, has no file {path}; "
                f"choose another subset, or correct [[files]] of {manifest.id}"
            )
    blobs = [_as_blob(asset) for asset in assets.values()]
    files = side_by_side(partial(_of_asset, manifest, source), blobs, 4, stop.set)
    for file in files:
        if isinstance(file, BaseException):
            raise file
    return [file for file in files if isinstance(file, RemoteFile)]


def _of_asset(manifest: Manifest, source: Dandi, asset: RemoteAsset) -> RemoteFile:
    digests = _ask(source, asset.get_raw_metadata).get("digest") or {}
    said = {name: str(digests[key]) for name, key in DANDI_DIGESTS.items() if key in digests}
    size, digest = _expected(manifest, check_path(asset.path), asset.size, said)
    url = partial(_ask, source, partial(_signed_url, asset))
    return RemoteFile(manifest.id, asset.version_id, asset.path, size, digest, url, _how_to_enter(source))


def _as_blob(asset: RemoteAsset) -> RemoteAsset:
    if asset.asset_type.name != "BLOB":
        raise ValueError(f"{asset.path} is a Zarr, many objects that cannot be fetched as one file; choose other files")
    return asset


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile("[^/]*".join(map(re.escape, path.split("*"))))


def _matching(dandiset: RemoteDandiset, path: str) -> Iterator[RemoteAsset]:
    """Yield the assets that a path means; the archive itself is laxer: it ignores case, and its `*` takes "/"."""
    listed = dandiset.get_assets_by_glob(path) if "*" in path else dandiset.get_assets_with_path_prefix(path)
    return (asset for asset in sorted(listed, key=lambda asset: asset.path) if _pattern(path).fullmatch(asset.path))


def _signed_url(asset: RemoteAsset) -> str:
    """Return the address of the bytes; only the archive's API is asked for it, as only it may see the API key."""
    answer = asset.client.request("HEAD", asset.base_download_url, json_resp=False, allow_redirects=False)
    return answer.headers.get("Location") or asset.base_download_url


def _version(client: DandiAPIClient, source: Dandi) -> RemoteDandiset:
    if source.version != UNVERIFIED:
        return client.get_dandiset(source.dandiset, source.version)
    latest = client.get_dandiset(source.dandiset).most_recent_published_version
    if latest is None and not source.allow_draft:
        raise ValueError(f"DANDI {source.dandiset} has no published version; say allow_draft = true to use its draft")
    taken = DRAFT if latest is None else latest.identifier
    warnings.warn(
        f"the manifest pins no version of DANDI {source.dandiset}: took {taken}; pin it with version = {taken!r}",
        UserWarning,
        stacklevel=2,
    )
    return client.get_dandiset(source.dandiset, taken)


def _client(source: Dandi, stop: threading.Event) -> DandiAPIClient:
    from dandi.consts import known_instances
    from dandi.dandiapi import DandiAPIClient

    logging.getLogger("dandi").addHandler(SILENT)  # its errors are said once, by _ask
    if not _by_url(source) and source.instance not in known_instances:
        raise ValueError(
            f"no DANDI instance {source.instance!r}; there are {', '.join(known_instances)}, or give a URL"
        )
    api = source.instance if _by_url(source) else known_instances[source.instance].api
    with _without_telemetry():
        client = DandiAPIClient(api_url=api.rstrip("/"))
    client.session.request = partial(_request, client.session.request, stop)
    if token := os.environ.get(_key_variable(source)):
        client.session.auth = _Key(api, token)
    return client


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Keep dandi from asking a third party for news of itself."""
    before = os.environ.get("DANDI_NO_ET")
    os.environ["DANDI_NO_ET"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["DANDI_NO_ET"]
        else:
            os.environ["DANDI_NO_ET"] = before


def _request(
    request: Callable[..., requests.Response], stop: threading.Event, *arguments: Any, **options: Any
) -> requests.Response:
    """Ask the API, unless the user wants no more; dandi would sleep for as long as an answer says."""
    answer = unless(stop, partial(request, *arguments, timeout=TIMEOUT, **options))
    if "Retry-After" in answer.headers:
        answer.headers["Retry-After"] = str(int(min(retry_after(answer), LONGEST_WAIT)))
    return answer


class _Key(AuthBase):
    """Shows an API key to one server, and to no other."""

    def __init__(self, api: str, token: str) -> None:
        self._server, self._token = urlsplit(api)[:2], token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if urlsplit(request.url or "")[:2] == self._server:
            request.headers["Authorization"] = f"token {self._token}"
        return request


def _by_url(source: Dandi) -> bool:
    return source.instance.startswith(("http://", "https://"))


def _key_variable(source: Dandi) -> str:
    return "NEUROSUPER_DANDI_API_KEY" if _by_url(source) else f"{source.instance.upper().replace('-', '_')}_API_KEY"


def _how_to_enter(source: Dandi) -> str:
    key = _key_variable(source)
    told = f"{key} is set, but its key is not accepted" if os.environ.get(key) else f"set {key} to your API key"
    return f"if the dandiset is embargoed, only its owners may read it: {told}"


def _ask(source: Dandi, ask: Callable[[], Answer]) -> Answer:
    """Return what DANDI answers, or say in one line why it does not.

    The error is raised apart from what caused it, which would carry the request and its API key along.
    """
    from dandi.exceptions import CliVersionError, NotFoundError

    try:
        return ask()
    except (CliVersionError, NotFoundError, requests.RequestException, TimeoutError, *MALFORMED) as error:
        said = _in_one_line(source, error)
    except RuntimeError as error:
        if "server info" not in str(error):
            raise
        said = _in_one_line(source, error)
    raise said


def _in_one_line(source: Dandi, error: Exception) -> Exception:
    from dandi.exceptions import CliVersionError, NotFoundError

    where = f"DANDI {source.dandiset} ({source.instance})"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, CliVersionError):
        return RuntimeError(f"{' '.join(str(error).split())}; run: pip install --upgrade dandi")
    if isinstance(error, NotFoundError) or status == 404:
        return FileNotFoundError(f"{where}: {' '.join(str(error).split())}; check dandiset and version in the manifest")
    if status in (401, 403):
        return PermissionError(f"{where} refuses to be read ({status}); {_how_to_enter(source)}")
    told = f"it answers {status}" if status else f"no valid answer ({type(error).__name__})"
    return ConnectionError(f"{where} cannot be read: {told}; check the network, and try again later")
