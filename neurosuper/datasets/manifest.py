"""Manifests: one TOML file per dataset with everything specific to it: where its files are and how to read them.

Manifests that come with the package are in `data_manifests/`; users can write their own. Values that could not be
checked are marked `unverified`.
"""

from __future__ import annotations

import difflib
import itertools
import re
import string
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from neurosuper._toml import parse_toml

__all__ = ["Manifest", "manifest_ids", "read_manifest"]

UNVERIFIED = "unverified"
Value = str | int
Choice = dict[str, list[Value]]
Scalar = str | int | float | bool
Filters = dict[str, Scalar | list[Scalar] | list[list[str | int | float]]]
FILTERS = "a value, a list of values, [operator, number], or a list of such pairs; see load_nwb"


def _refuse_climbing(path: str) -> str:
    """Refuse a path that could leave the folder that it is relative to."""
    plain = re.sub(r"{\w+(:\w+)?}", "x", path)
    if not plain or plain.startswith(("/", "~")) or set(plain) & {"\\", ":"} or ".." in PurePosixPath(plain).parts:
        raise ValueError(f"{path!r} must be a relative path with forward slashes that stays in the dataset's folder")
    return path


def _placeholders(template: str) -> set[str]:
    """Return the names in a template such as `{subject}/session{session:02d}.hdf5`."""
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def _refuse_odd_template(template: str) -> str:
    """Refuse placeholders that are no plain key of [subset] with an optional width."""
    for _, name, spec, conversion in string.Formatter().parse(template):
        if name is not None and not name.isidentifier():
            raise ValueError(f"{template!r} has the placeholder {name!r}; a placeholder is a key of [subset]")
        if conversion or not re.fullmatch(r"(0?[1-9]d?)?", spec or ""):  # a width of millions fills memory
            raise ValueError(f"{template!r} has the format {spec!r}; it is a width up to 9, such as 02d")
    return template


RelativePath = Annotated[str, AfterValidator(_refuse_climbing)]
Template = Annotated[str, AfterValidator(_refuse_climbing), AfterValidator(_refuse_odd_template)]
Doi = Annotated[str, Field(pattern=r"^(10\.\d{4,}/\S+|unverified)$")]
Url = Annotated[str, Field(pattern=r"^https?://\S+$")]


class _Table(BaseModel):
    """A table of a manifest; unknown keys and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Dandi(_Table):
    """A dandiset at one version."""

    kind: Literal["dandi"]
    dandiset: Annotated[str, Field(pattern=r"^\d{6}$")]
    version: str = Field(description="pinned version; 'unverified' uses the latest published one and warns which")
    instance: str = Field(
        "dandi", description="name of a DANDI instance, or the URL of its API, which receives your API key"
    )
    allow_draft: bool = False


class Http(_Table):
    """Files below one address."""

    kind: Literal["http"]
    url: Url
    version: str = UNVERIFIED


class S3(_Table):
    """A public bucket, read without an account."""

    kind: Literal["s3"]
    bucket: str
    endpoint: Url = "https://s3.amazonaws.com"
    version: str = UNVERIFIED
    agreement_url: Url | None = Field(None, description="terms to accept before use")


class Local(_Table):
    """Files that users download themselves, since the archive has no address for each file."""

    kind: Literal["local"]
    obtain: str = Field(description="where and how to get the files")
    env_var: str | None = Field(None, description="environment variable that names their folder")
    version: str = UNVERIFIED


class SubsetKey(_Table):
    """One way to choose a part of a dataset, such as by subject or session."""

    about: str
    values: list[Value] | None = Field(None, description="all values; null if there are many")
    default: list[Value] = Field(min_length=1)
    together: bool = Field(False, description="several values are passed to the loader in one call, not one call each")


class File(_Table):
    """Files of the archive; `{key}` is replaced by a chosen value of `[subset]`, `*` (DANDI only) matches any text."""

    path: Template
    role: Literal["responses", "companion", "images", "support"] = "responses"


class Checksum(_Table):
    """Checksum that one file must have."""

    path: RelativePath
    algorithm: Literal["sha256", "sha1", "md5", "dandi-etag"] = "sha256"
    value: str
    size: int | None = Field(None, ge=0, description="bytes")


class Stimulus(_Table):
    """How stimuli are named."""

    label: str = Field(description="what the labels are, in words")
    presentations: str | None = Field(None, description="NWB: table of intervals, one row per presentation")
    column: str | None = Field(None, description="NWB: column of that table that names the image")
    index_series: str | None = Field(None, description="NWB: IndexSeries that names the image of each row")
    onset_column: str | None = Field(None, description="NWB: column of that table with the onset, if not start_time")
    filters: Filters = Field({}, description=f"NWB: which presentations are kept, by columns of that table: {FILTERS}")
    blanks: list[str | int | float] = []
    own_to: list[str] = Field(
        [], description="keys of [subset] whose values each have their own images, under the same labels"
    )


class NoiseCeiling(_Table):
    """The noise ceiling, and the rule by which it is computed."""

    rule: Literal["ncsnr_file", "ncsnr_repeats", "split_half_spearman_brown", "provided", "none"]
    source: str | None = Field(None, description="where a provided ceiling is stored")
    min_repeats: int | None = Field(None, ge=1)


class Response(_Table):
    """How a unit's response is measured, and which units are kept."""

    measure: str
    units: str
    window_ms: dict[str, Annotated[list[float], Field(min_length=2, max_length=2)]] | None = Field(
        None, description="[start, stop] after onset, by area, or for `all`"
    )
    series: list[str] | None = Field(None, description="NWB: time series that contain the responses")
    area_column: str | None = None
    area_map: dict[str, str] = Field({}, description="area by its name in the file")
    filters: Filters = Field({}, description=f"which units are kept: {FILTERS}")
    noise_ceiling: NoiseCeiling

    @model_validator(mode="after")
    def _stop_after_start(self) -> Response:
        for area, (start, stop) in (self.window_ms or {}).items():
            if not start < stop:
                raise ValueError(f"window_ms.{area} must end after it starts, got [{start}, {stop}]")
        return self


class Images(_Table):
    """The images that were shown, if the archive has them."""

    loader: Literal["load_images", "load_nwb_images", "load_nsd_images", "load_mat_images", "none"]
    opens: Template = Field("images", description="path passed to the loader, relative to the dataset's folder")
    options: dict[str, Any] = {}
    obtain: str | None = Field(None, description="where the images are, if not in the archive")


class Manifest(_Table):
    """Everything specific to a dataset; the files in `data_manifests/` are examples."""

    schema_version: Literal[1]
    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    title: str
    species: str
    modality: Literal["spikes", "multi-unit activity", "calcium imaging", "fMRI", "human judgements"]
    areas: list[str]
    doi: Doi
    licence: str
    citation: str
    homepage: Url
    size: str = Field(UNVERIFIED, description="size of the whole dataset, in words")
    notes: str = ""
    loader: str
    opens: Template = Field(".", description="path passed to the loader, relative to the dataset's folder")
    companion: Template | None = Field(None, description="second file that the loader needs, found like `opens`")
    options: dict[str, Any] = Field({}, description="further arguments of the loader")
    source: Annotated[Dandi | Http | S3 | Local, Field(discriminator="kind")]
    subset: dict[str, SubsetKey] = {}
    files: Annotated[list[File], Field(min_length=1)]
    checksums: list[Checksum] = []
    stimulus: Stimulus
    response: Response
    images: Images

    @model_validator(mode="after")
    def _images_have_a_place(self) -> Manifest:
        if self.images.loader == "none" and not self.images.obtain:
            raise ValueError("images.obtain must state where the images are, since images.loader is 'none'")
        return self

    @model_validator(mode="after")
    def _placeholders_are_subset_keys(self) -> Manifest:
        templates = [file.path for file in self.files] + [self.opens, self.companion or "", self.images.opens]
        for template in templates:
            if unknown := _placeholders(template) - set(self.subset):
                raise ValueError(f"{template!r} needs [subset.{sorted(unknown)[0]}]")
        if unknown := set(self.stimulus.own_to) - set(self.subset):
            raise ValueError(f"stimulus.own_to names {sorted(unknown)[0]!r}, which is not a key of [subset]")
        return self

    def choose(self, subset: Mapping[str, object] | None = None) -> Choice:
        """Return the values of every subset key: those in `subset`, else the defaults.

        Raises
        ------
        ValueError
            A key or value that the dataset does not have; the error lists the available ones.
        """
        asked = dict(subset or {})
        if unknown := sorted(set(asked) - set(self.subset)):
            allowed = "; ".join(f"{key} ({entry.about})" for key, entry in self.subset.items()) or "nothing"
            raise ValueError(f"{self.id} has no subset key {unknown[0]!r}; it has {allowed}")
        return {key: _check_values(self.id, key, entry, asked.get(key)) for key, entry in self.subset.items()}

    def paths(self, choice: Choice, *roles: str) -> list[str]:
        """Return the paths of the files with some roles (all by default), relative to the dataset's folder.

        A path of a DANDI manifest may contain `*`.
        """
        wanted = [file.path for file in self.files if not roles or file.role in roles]
        return list(dict.fromkeys(path for template in wanted for path, _ in expand(template, choice)))


def expand(template: str, choice: Choice) -> Iterator[tuple[str, dict[str, Value]]]:
    """Yield the paths of a template for every combination of the chosen values, each with its combination.

    Examples
    --------
    >>> [path for path, _ in expand("{subject}/run{run:02d}.h5", {"subject": ["a"], "run": [1, 2]})]
    ['a/run01.h5', 'a/run02.h5']
    """
    keys = [key for key in choice if key in _placeholders(template)]
    for values in itertools.product(*(choice[key] for key in keys)):
        named = dict(zip(keys, values, strict=True))
        yield template.format(**named), named


def _check_values(dataset: str, key: str, entry: SubsetKey, asked: object) -> list[Value]:
    if asked is None:
        return entry.default
    listed = [asked] if isinstance(asked, str | int) else list(asked)  # type: ignore[call-overload]
    values = [_like(entry.default[0], value, key) for value in listed]
    for value in values:
        if entry.values is not None and value not in entry.values:
            raise ValueError(f"{dataset} has no {key} {value!r}; it has {', '.join(map(str, entry.values))}")
        if not re.fullmatch(r"\w[\w.+-]*", str(value)) or ".." in str(value):
            raise ValueError(f"{key} {value!r} cannot be part of a path; use letters, digits, '-', '_' and '.'")
    if not values:
        raise ValueError(f"no {key} was given; name at least one, such as {entry.default[0]!r}")
    return values


def _like(example: Value, value: object, key: str) -> Value:
    """Return a value with the type of an example: text, or a number (which may be given as text)."""
    if isinstance(example, str):
        return str(value)
    try:
        return int(str(value))
    except ValueError:
        raise ValueError(f"{key} takes numbers, got {value!r}") from None


@cache
def manifest_ids() -> list[str]:
    """Return the ids of the datasets that come with the package, sorted.

    See Also
    --------
    neurosuper.list_datasets : a table of them.

    Examples
    --------
    >>> "nsd" in manifest_ids()
    True
    """
    return sorted(Path(entry.name).stem for entry in _shipped().iterdir() if entry.name.endswith(".toml"))


def _shipped() -> Any:
    return files("neurosuper.data_manifests")


def read_manifest(dataset: str | Path | Manifest) -> Manifest:
    """Return the manifest of a dataset, after checking all its keys and values.

    Parameters
    ----------
    dataset : str, path or Manifest
        An id, as `neurosuper.list_datasets()` lists them, or the path of your own manifest, whose name must be its id
        plus ".toml". A Manifest is returned unchanged.

    Returns
    -------
    Manifest
        Its tables, as attributes.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        No dataset has this id, or the manifest is not valid; the error names every wrong key.

    See Also
    --------
    neurosuper.list_datasets : the ids.
    neurosuper.datasets.info : the main facts in a manifest, as text.

    Examples
    --------
    >>> read_manifest("nsd").modality
    'fMRI'
    """
    if isinstance(dataset, Manifest):
        return dataset
    if isinstance(dataset, Path) or str(dataset).endswith(".toml"):
        path = Path(dataset)
        if not path.is_file():
            raise FileNotFoundError(f"no manifest at {path}; check the path")
        return _parse(path.read_bytes(), path.name)
    if dataset not in manifest_ids():
        near = difflib.get_close_matches(str(dataset), manifest_ids(), n=1)
        meant = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(
            f"no dataset {dataset!r}{meant} There are {', '.join(manifest_ids())}; or give the path of a manifest"
        )
    return _parse((_shipped() / f"{dataset}.toml").read_bytes(), f"{dataset}.toml")


def _parse(content: bytes, name: str) -> Manifest:
    try:
        manifest = Manifest.model_validate(parse_toml(content, name))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ValueError(f"manifest {name}: {wrong}") from error
    except ValueError as error:
        raise ValueError(f"{name} is not valid TOML: {error}") from error
    if manifest.id != Path(name).stem:
        raise ValueError(f"manifest {name} has id = {manifest.id!r}; name the file {manifest.id}.toml")
    return manifest
