"""Read a study file and check its keys and values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from neurosuper._toml import parse_toml
from neurosuper.directions import CovarianceMatched
from neurosuper.metrics.cache import Stored
from neurosuper.study.analyses import Factors, Populations, Superposition, Twins, refuse_repeats
from neurosuper.study.references import Table, refuse_escapes, shared_name

Name = Annotated[str, Field(pattern=r"^[^/|$]*[^/|$.\s][^/|$]*$")]
RANDOMIZED = ("init", "shuffle")  # see `neurosuper.networks.randomize`
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Hypothesis(BaseModel):
    """A difference in the mean index that a study states before it computes scores: a table `[[hypotheses]]` of a file.

    Parameters
    ----------
    system, finder, metric : str
        Names in the study; a layer of a network is called by both names, as in "net layer1".
    against : str, optional
        The finder that `finder` is tested against: one of the study, or a matched baseline that it adds, such as
        "CovarianceMatched".
    correction : {"hub", "none"}, optional
        Of the index; see `neurosuper.interpretability_index`.
    alternative : {"greater", "less", "two-sided"}, optional
        Whether the index of `finder` is expected to be greater or less than that of `against`.

    See Also
    --------
    Study : all settings of a study.
    neurosuper.comparison.contrast_hypotheses : the tests.

    Examples
    --------
    >>> Hypothesis(system="V4", finder="KMeans", metric="LPIPS").alternative
    'greater'
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str
    finder: str
    metric: str
    against: str = "Units"
    correction: Literal["hub", "none"] = "hub"
    alternative: Literal["greater", "less", "two-sided"] = "greater"


class Study(BaseModel):
    """Settings of a study, as its file states them; `tutorials/v4_squeezenet.toml` is a complete example.

    `cache_embeddings = "float32"` stores the embeddings of `LPIPS` and `Features` in `cache/embeddings` of the output
    folder. A later run, after an interruption or with other systems, finders or seeds, then reuses them, and nothing is
    rounded. "float16" takes half the disk (LPIPS with AlexNet on 112 × 112 pixels: 220 instead of 440 KB per image) and
    rounds; see `neurosuper.metrics.cached`. Both need the extra `zarr`. With or without stored embeddings, a run embeds
    each image once per metric, for all systems, finders and seeds.

    A metric can be a matrix of distances: `[metrics.human]` with `metric = "Precomputed"` and the `path` of a netCDF
    file with one array `(stimulus, any other name)` over all images; `Precomputed` explains `name` and `quantity`.

    A network with random weights is a control for what training contributes: a system with `loader = "activations"`
    and `randomize = "init"` or `"shuffle"` shows the images to `neurosuper.networks.randomize(model, how=…)`, with the
    first of the seeds. Give it as a system of its own, next to the trained network.

    A network is named as `model = "file.py:function"`, a function in the folder of the study that returns it. In a
    trusted study it may also be one of a collection, `model = "timm:resnet18"`, as for `neurosuper.activations`: with
    its own preprocessing, and `model_args = { pretrained = false }` for its random weights.

    Two keys of a system are for all loaders. `select_units = { reliability = 0.3 }` keeps the units that reach a
    threshold, by `neurosuper.select_units`: of split-half reliability if the responses have repetitions, or of any unit
    coord. `fit_on = { path = "other.npy", stimuli = "other_images" }` finds directions in the responses of the same
    units to other stimuli, and scores them on all stimuli of the system, as `fit_on` of `neurosuper.compare`: it
    contains the keys that differ from those of the system. For `loader = "activations"` it contains the keys that
    differ from those of `[images]`, such as `fit_on = { path = "other_images" }`.

    Parameters
    ----------
    title : str
        Heads the report.
    note : str, optional
        Shown below the title.
    output : str, optional
        Folder of the results, below that of the study file; None: named after the file.
    top : int, optional
        Number of top stimuli, at least 2.
    score_on : {"held-out", "all"}, optional
        Stimuli that items are scored on; see `neurosuper.compare`.
    seeds : list of int, optional
        Every finder with a seed is fitted once for each.
    baselines : bool, optional
        Add the matched baseline of each finder, as in `neurosuper.compare`.
    stimulus_groups : str, optional
        A stimulus coord, such as "burst" or "category", whose groups of dependent stimuli are never divided; see
        `neurosuper.compare`. A system without this coord has that of the images.
    drop_constant_units : bool, optional
        Leave out units that do not vary over the stimuli to fit on or over those to score on, as in
        `neurosuper.compare`; the note counts them. False: they are an error.
    device : str, optional
        For torch; None: a GPU if there is one.
    cache_embeddings : {"float32", "float16"}, optional
        Store embeddings of images, in this precision.
    images : dict
        `path` of a folder or file of images, or `dataset`.
    systems, finders, metrics : dict of dict
        By name, at least one of each: the keys are settings of the loader, finder or metric.
    hypotheses : list of Hypothesis, optional
        Written to `registry.json` in the output folder before scores exist; the report tests them separately from all
        other contrasts, which are exploratory.
    superposition : Superposition, optional
        Measures of superposition, in `superposition.nc` and a section of the report.
    factors : Factors, optional
        What is known of the stimuli, for the disentanglement among these measures.
    populations : Populations, optional
        Similarity of all pairs of systems, in `populations.nc` and a section of the report.
    twins : Twins, optional
        Which item of one system is which of another, in `twins.nc` and a section of the report.

    See Also
    --------
    read_study : read a study file.
    run_study : run it.

    Examples
    --------
    >>> table = {"path": "v4.npy", "loader": "load_array"}
    >>> Study(title="V4", images={"path": "photos"}, systems={"V4": table}, finders={"Units": {}},
    ...       metrics={"Color": {}}).seeds
    [0]
    """

    model_config = ConfigDict(extra="forbid")

    title: str
    note: str = ""
    output: str | None = None
    top: Annotated[int, Field(ge=2)] = 5
    score_on: Literal["held-out", "all"] = "held-out"
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(refuse_repeats)] = [0]
    baselines: Annotated[bool, Field(strict=True)] = True
    stimulus_groups: str | None = None
    drop_constant_units: Annotated[bool, Field(strict=True)] = True
    device: str | None = None
    cache_embeddings: Stored | None = None
    images: Table
    systems: Annotated[dict[Name, Table], Field(min_length=1)]
    finders: Annotated[dict[Name, Table], Field(min_length=1)]
    metrics: Annotated[dict[Name, Table], Field(min_length=1)]
    hypotheses: list[Hypothesis] = []
    superposition: Superposition | None = None
    factors: Factors | None = None
    populations: Populations | None = None
    twins: Twins | None = None

    @model_validator(mode="after")
    def _check_randomized(self) -> Study:
        """Refuse random weights of something that is not a network, before anything is loaded."""
        for name, table in self.systems.items():
            how, loader = table.get("randomize", RANDOMIZED[0]), table.get("loader")
            if how not in RANDOMIZED:
                raise ValueError(f"systems.{name}.randomize must be one of {', '.join(RANDOMIZED)}; got {how!r}")
            if "randomize" in table and loader != "activations":
                raise ValueError(f"systems.{name}.randomize is for loader = 'activations', got {loader!r}; remove it")
        return self

    @model_validator(mode="after")
    def _check_system_keys(self) -> Study:
        """Refuse `select_units` and `fit_on` that are no tables, before anything is loaded."""
        for name, table in self.systems.items():
            for key, kind, example in (
                ("select_units", int | float, "{ reliability = 0.3 }"),
                ("fit_on", object, '{ path = "other.npy" }'),
            ):
                value = table.get(key, {"": 0})
                if not isinstance(value, dict) or not value or not all(isinstance(n, kind) for n in value.values()):
                    raise ValueError(f"systems.{name}.{key} must be a table such as {example}, got {value!r}")
            if wrong := {"truth", "select_units", "fit_on", "randomize"} & table.get("fit_on", {}).keys():
                raise ValueError(f"systems.{name}.fit_on has {min(wrong)!r}; set it in systems.{name}, for both")
        return self

    @model_validator(mode="after")
    def _check_hypotheses(self) -> Study:
        """Refuse names that the study does not have; those of layers are known only when systems are loaded."""
        if len(set(self.hypotheses)) < len(self.hypotheses):
            raise ValueError("a hypothesis is stated twice")
        for hypothesis in self.hypotheses:
            for key, known in (("finder", self.finders), ("against", self.finders), ("metric", self.metrics)):
                name = getattr(hypothesis, key)
                # The names of baselines that are added are known when finders are made.
                may_be_baseline = key != "metric" and self.baselines and name.startswith(CovarianceMatched.__name__)
                if name not in known and not may_be_baseline:
                    raise ValueError(f"a hypothesis has the {key} {name!r}; the study has {', '.join(known)}")
            if hypothesis.finder == hypothesis.against:
                raise ValueError(f"a hypothesis tests {hypothesis.finder!r} against itself")
        return self

    @model_validator(mode="after")
    def _check_superposition(self) -> Study:
        """Refuse measures that lack what they need, before anything is loaded."""
        table = self.superposition
        if table is None:
            if self.factors is not None:
                raise ValueError(
                    "[factors] is for measures of superposition; add a table [superposition], or remove it"
                )
            return self
        if table.metric is not None and table.metric not in self.metrics:
            raise ValueError(f"superposition.metric is {table.metric!r}; the study has {', '.join(self.metrics)}")
        if "disentanglement" in (table.measures or []) and self.factors is None:
            raise ValueError("superposition.measures has 'disentanglement', which needs a table [factors]; add one")
        return self

    @model_validator(mode="after")
    def _check_finders_of_pairs(self) -> Study:
        """Refuse finders that the study does not have; names of systems are known when these are loaded."""
        for key, table in (("populations", self.populations), ("twins", self.twins)):
            for name in (table and table.finders) or []:
                if name not in self.finders:
                    raise ValueError(f"{key}.finders has {name!r}; the study has {', '.join(self.finders)}")
                if self.finders[name].get("finder", name) == "Units":
                    raise ValueError(f"{key}.finders has {name!r}: units are always compared; remove it")
        return self


def read_study(path: str | Path) -> Study:
    """Return the settings in a study file, after checking every key and value.

    Parameters
    ----------
    path : path of a TOML file
        What it can contain is described in `Study`.

    Returns
    -------
    Study
        The settings, as attributes.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is not TOML, a key is missing or unknown, or a value has the wrong type. The error names each of them.

    See Also
    --------
    run_study : run the study.

    Examples
    --------
    >>> from pathlib import Path
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "study.toml")
    >>> _ = path.write_text('''
    ... title = "Four units"
    ... images.path = "photos"
    ... metrics.Color = {}
    ... finders.Units = {}
    ... systems.V4 = { loader = "load_array", path = "v4.npy", dims = ["unit", "stimulus"], stimuli = "photos" }
    ... ''')
    >>> read_study(path).top
    5
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no study file {path}; `neurosuper new` writes one for your data")
    return check_settings(parse_toml(path.read_bytes(), path), path)


def check_settings(settings: Table, path: Path) -> Study:
    """Return the settings of a study after checking every key and value; errors name the file that they are from."""
    try:
        study = Study.model_validate(settings)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{path}: {wrong}") from error
    for where, table in (tables_of(study) | {"study": {"output": study.output}}).items():
        refuse_escapes(table, f"{path}: [{where}]")
    return study


def tables_of(study: Study) -> dict[str, Table]:
    """Return all tables that name inputs or code, by their place in the file."""
    tables = {"images": study.images}
    for kind in ("systems", "finders", "metrics"):
        tables |= {f"{kind}.{name}": table for name, table in getattr(study, kind).items()}
    if study.factors is not None:
        tables["factors"] = study.factors.model_dump(exclude_none=True)
    fit_on = {name: table["fit_on"] for name, table in study.systems.items() if "fit_on" in table}
    return tables | {f"systems.{name}.fit_on": table for name, table in fit_on.items()}


def shareable_settings(study: Study) -> Table:
    """Return all settings but `output` as JSON values, with each absolute path shortened to its last part.

    Comments of the study file are left out, too: results are shared, and these are not meant to be.
    """
    settings = study.model_dump(mode="json", exclude={"output"})
    return {key: value if key in ("title", "note") else _shorten(value) for key, value in settings.items()}


def has_absolute_paths(study: Study) -> bool:
    """Return whether `shareable_settings` shortened a path, so that they do not say where inputs are."""
    return shareable_settings(study) != study.model_dump(mode="json", exclude={"output"})


def _shorten(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shorten(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shorten(inner) for inner in value]
    return shared_name(value) if isinstance(value, str) else value
