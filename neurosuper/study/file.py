"""The study file: what it may say, and its checks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from neurosuper._toml import parse_toml
from neurosuper.metrics.cache import Stored
from neurosuper.study.references import Table, refuse_escapes

Name = Annotated[str, Field(pattern=r"^[^/|$]*[^/|$.\s][^/|$]*$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _refuse_repeats(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("each seed may be named once")
    return seeds


class Study(BaseModel):
    """What a study file says; see the file `tutorials/v4_squeezenet.toml` for a complete one.

    `cache_embeddings = "float32"` keeps the embeddings of `LPIPS` and `Features` in `cache/embeddings`, beside the
    outputs: a run after an interruption, or with other systems, finders or seeds, embeds no image again, and nothing is
    rounded. "float16" takes half the disk (LPIPS by AlexNet, 112 × 112 pixels: 220 in place of 440 KB an image) and
    rounds, see `cached`. Both need the extra `zarr`. Whether kept or not, within a run each image is embedded once per
    metric, for all systems, finders and seeds.

    A metric may be given as distances: `[metrics.human]` with `metric = "Precomputed"` and the `path` of a netCDF file
    of one array `(stimulus, any other name)` over all the images; see `Precomputed`, also for `name` and `quantity`.
    """

    model_config = ConfigDict(extra="forbid")

    title: str
    note: str = ""
    output: str | None = None
    top: Annotated[int, Field(ge=2)] = 5
    score_on: Literal["held-out", "all"] = "held-out"
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(_refuse_repeats)] = [0]
    device: str | None = None
    cache_embeddings: Stored | None = None
    images: Table
    systems: Annotated[dict[Name, Table], Field(min_length=1)]
    finders: Annotated[dict[Name, Table], Field(min_length=1)]
    metrics: Annotated[dict[Name, Table], Field(min_length=1)]


def read_study(path: str | Path) -> Study:
    """Read and check a study file.

    Parameters
    ----------
    path : path of a TOML file

    Returns
    -------
    Study

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not TOML, a key that is missing or unknown, or a value of the wrong kind: each is named.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no study file {path}; tutorials/v4_squeezenet.toml is one to start from")
    try:
        study = Study.model_validate(parse_toml(path.read_bytes(), path))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{path}: {wrong}") from error
    named = [("images", study.images), ("study", {"output": study.output})]
    for kind in ("systems", "finders", "metrics"):
        named += [(f"{kind}.{name}", table) for name, table in getattr(study, kind).items()]
    for where, table in named:
        refuse_escapes(table, f"{path}: [{where}]")
    return study
