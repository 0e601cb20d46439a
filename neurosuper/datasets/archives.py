"""List the files of a dataset in its archive: their sizes, digests and addresses.

A `*` in a path matches any text without "/". Archives are not trusted: a path that could leave the folder of the
dataset is refused, and a user's API key is sent to no other server than the archive's API.
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

from neurosuper._optional import require
from neurosuper.datasets.http_headers import retry_after
from neurosuper.datasets.manifest import S3, UNVERIFIED, Choice, Dandi, Http, Local, Manifest
from neurosuper.datasets.threads import call_unless_stopped, run_in_threads

if TYPE_CHECKING:
    from dandi.dandiapi import DandiAPIClient, RemoteAsset, RemoteDandiset

__all__ = ["Digest", "RemoteFile", "check_path", "list_files", "local_folder"]

TIMEOUT = (10, 60)  # seconds to connect, and between bytes
LONGEST_WAIT = 20  # seconds that the API may ask to wait before each of dandi's 12 attempts
OWN_FOLDERS = (".receipts", ".listings")
DRAFT = "draft"
S3_ENDPOINT = S3.model_fields["endpoint"].default
DANDI_DIGESTS = {"sha256": "dandi:sha2-256", "dandi-etag": "dandi:dandi-etag", "sha1": "dandi:sha1", "md5": "dandi:md5"}
MALFORMED = (ValidationError, KeyError, TypeError, AssertionError)  # raised by dandi on incomplete responses
SILENT = logging.NullHandler()
Response = TypeVar("Response")


class Digest(NamedTuple):
    """The digest that a file must have, and its source: the manifest or an archive."""

    algorithm: str
    value: str
    source: str


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
    """Return a path of an archive; refuse one that could leave the dataset's folder or overwrite receipts in it."""
    parts = path.split("/")
    odd = any(not part.strip(" .") or part.startswith("~") or part != part.strip() for part in parts)
    if odd or re.search(r'[\\:\x00-\x1f\x7f*?"<>|]', path) or parts[0] in OWN_FOLDERS:
        raise ValueError(
            f"the path {path!r} is refused: it must be relative, with forward slashes, and stay in the folder of the "
            "dataset; report it to the archive or the author of the manifest"
        )
    return path


def list_files(manifest: Manifest, choice: Choice, roles: Sequence[str]) -> list[RemoteFile]:
    """Return the files with some roles that a choice of subsets needs.

    Parameters
    ----------
    manifest : Manifest
        Manifest of the dataset.
    choice : mapping of str to list
        As `manifest.choose` returns it.
    roles : sequence of str
        Roles in [[files]] of the manifest.

    Returns
    -------
    list of RemoteFile
        In the order of the manifest. Only for DANDI is the archive contacted.

    Raises
    ------
    FileNotFoundError
        There is no such dandiset, version or file; or the folder of a local dataset is not known.
    PermissionError
        The archive requires an API key; the error names the environment variable to set.
    ConnectionError
        The archive does not respond.
    ValueError
        A path is refused, a draft is used without permission in the manifest, or the archive contradicts the manifest.
    RuntimeError
        The installed dandi is too old for the archive.
    ImportError
        The files are in a dandiset, and dandi is not installed: `pip install 'neurosuper[dandi]'`.
    """
    paths = manifest.paths(choice, *roles)
    source = manifest.source
    if isinstance(source, Dandi):
        stop = threading.Event()
        (listed,) = run_in_threads(lambda _: _list_dandi(manifest, source, paths, stop), [None], 1, stop.set)
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
    """Return the folder of a dataset whose files the user provides."""
    source = manifest.source
    if not isinstance(source, Local):
        raise ValueError(f"{manifest.id} is fetched and has no folder of its own")
    folder = os.environ.get(source.env_var, "") if source.env_var else ""
    if not folder or not Path(folder).is_dir():
        remedy = f"name their folder in {source.env_var} (now {folder!r})" if source.env_var else "pass path="
        raise FileNotFoundError(f"the files of {manifest.id} are not fetched: {source.obtain}; then {remedy}")
    return Path(folder)


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
    manifest: Manifest, path: str, size: int | None, given: Mapping[str, str]
) -> tuple[int | None, Digest | None]:
    """Return the expected size and digest of a file: the manifest's, with which those of the archive must agree."""
    pins = sorted((pin for pin in manifest.checksums if pin.path == path), key=lambda pin: pin.algorithm != "sha256")
    if not pins:
        found = next((name for name in ("sha256", "dandi-etag") if name in given), None)
        return size, Digest(found, given[found].lower(), "DANDI") if found else None
    pin = pins[0]
    expected = {"bytes": pin.size, pin.algorithm: pin.value.lower()}
    offered = {"bytes": size, pin.algorithm: given.get(pin.algorithm, pin.value).lower()}
    for what, value in expected.items():
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
            "pin a published version, or set allow_draft = true"
        )
    require("dandi.dandiapi", "dandi")
    # dandi first requests information on the server, without a timeout.
    client = _ask(source, lambda: call_unless_stopped(stop, partial(_client, source, stop), limit=sum(TIMEOUT)))
    dandiset = _ask(source, partial(_version, client, source))
    assets = _ask(source, lambda: {asset.path: asset for path in paths for asset in _matching(dandiset, path)})
    for path in paths:
        if not any(_pattern(path).fullmatch(name) for name in assets):
            raise FileNotFoundError(
                f"DANDI {source.dandiset}, version {dandiset.version_id}, has no file {path}; "
                f"choose another subset, or correct [[files]] of {manifest.id}"
            )
    blobs = [_as_blob(asset) for asset in assets.values()]
    files = run_in_threads(partial(_remote_file_of, manifest, source), blobs, 4, stop.set)
    for file in files:
        if isinstance(file, BaseException):
            raise file
    return [file for file in files if isinstance(file, RemoteFile)]


def _remote_file_of(manifest: Manifest, source: Dandi, asset: RemoteAsset) -> RemoteFile:
    digests = _ask(source, asset.get_raw_metadata).get("digest") or {}
    given = {name: str(digests[key]) for name, key in DANDI_DIGESTS.items() if key in digests}
    size, digest = _expected(manifest, check_path(asset.path), asset.size, given)
    url = partial(_ask, source, partial(_signed_url, asset))
    return RemoteFile(manifest.id, asset.version_id, asset.path, size, digest, url, _access_hint(source))


def _as_blob(asset: RemoteAsset) -> RemoteAsset:
    if asset.asset_type.name != "BLOB":
        raise ValueError(f"{asset.path} is a Zarr store, which cannot be fetched as one file; choose other files")
    return asset


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile("[^/]*".join(map(re.escape, path.split("*"))))


def _matching(dandiset: RemoteDandiset, path: str) -> Iterator[RemoteAsset]:
    """Return the assets that match a path; the archive's own matching ignores case, and its `*` matches "/"."""
    listed = dandiset.get_assets_by_glob(path) if "*" in path else dandiset.get_assets_with_path_prefix(path)
    return (asset for asset in sorted(listed, key=lambda asset: asset.path) if _pattern(path).fullmatch(asset.path))


def _signed_url(asset: RemoteAsset) -> str:
    """Return the address of the bytes, without following it: only the archive's API may receive the API key."""
    response = asset.client.request("HEAD", asset.base_download_url, json_resp=False, allow_redirects=False)
    return response.headers.get("Location") or asset.base_download_url


def _version(client: DandiAPIClient, source: Dandi) -> RemoteDandiset:
    if source.version != UNVERIFIED:
        return client.get_dandiset(source.dandiset, source.version)
    latest = client.get_dandiset(source.dandiset).most_recent_published_version
    if latest is None and not source.allow_draft:
        raise ValueError(f"DANDI {source.dandiset} has no published version; set allow_draft = true to use its draft")
    version = DRAFT if latest is None else latest.identifier
    warnings.warn(
        f"the manifest pins no version of DANDI {source.dandiset}: using {version}; pin it with version = {version!r}",
        UserWarning,
        stacklevel=2,
    )
    return client.get_dandiset(source.dandiset, version)


def _client(source: Dandi, stop: threading.Event) -> DandiAPIClient:
    from dandi.consts import known_instances
    from dandi.dandiapi import DandiAPIClient

    logging.getLogger("dandi").addHandler(SILENT)  # its errors are raised by _ask
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
    """Prevent dandi from contacting a third party about new versions of itself."""
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
    """Return a response of the API unless the user interrupts; limit the wait that it asks for, which dandi obeys."""
    response = call_unless_stopped(stop, partial(request, *arguments, timeout=TIMEOUT, **options))
    if "Retry-After" in response.headers:
        response.headers["Retry-After"] = str(int(min(retry_after(response), LONGEST_WAIT)))
    return response


class _Key(AuthBase):
    """Sends an API key to one server, and to no other."""

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


def _access_hint(source: Dandi) -> str:
    key = _key_variable(source)
    hint = f"{key} is set, but its key is not accepted" if os.environ.get(key) else f"set {key} to your API key"
    return f"if the dandiset is embargoed, only its owners may read it: {hint}"


def _ask(source: Dandi, ask: Callable[[], Response]) -> Response:
    """Return the response of DANDI to a request, or raise a one-line error."""
    from dandi.exceptions import CliVersionError, NotFoundError

    try:
        return ask()
    except (CliVersionError, NotFoundError, requests.RequestException, TimeoutError, *MALFORMED) as error:
        fault = _one_line_error(source, error)
    except RuntimeError as error:
        if "server info" not in str(error):
            raise
        fault = _one_line_error(source, error)
    raise fault  # outside `except`: its context would contain the request with the API key


def _one_line_error(source: Dandi, error: Exception) -> Exception:
    from dandi.exceptions import CliVersionError, NotFoundError

    where = f"DANDI {source.dandiset} ({source.instance})"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, CliVersionError):
        return RuntimeError(f"{' '.join(str(error).split())}; run: pip install --upgrade dandi")
    if isinstance(error, NotFoundError) or status == 404:
        return FileNotFoundError(f"{where}: {' '.join(str(error).split())}; check dandiset and version in the manifest")
    if status in (401, 403):
        return PermissionError(f"{where} denies access ({status}); {_access_hint(source)}")
    reason = f"it responds {status}" if status else f"no valid response ({type(error).__name__})"
    return ConnectionError(f"{where} cannot be read: {reason}; check the network, and try again later")
