"""Tables of human judgements: reading and checking.

A judgement is the answer of one person to one trial of the two-alternative task of IMI: given nine references from the
top and nine from the bottom, which of two queries drives the unit more? A unit is identified by `model`, `layer` and
`channel`, and each of its trials by `batch`; some trials have several judgements.
"""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

import pandas as pd

from neurosuper._checks import one_line
from neurosuper.responses import name_some

UNIT = ["model", "layer", "channel"]
NEEDED = [*UNIT, "batch", "correct", "confidence"]
LEFT_OUT = ("is_demo", "catch_trial")  # columns that mark demonstrations and checks of attention
TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
MAX_BYTES = 2**28  # of an unpacked table: five times that of IMI; a larger file is refused before it fills memory


def read_judgements(path: str | Path) -> pd.DataFrame:
    r"""Return a table of human judgements, one answer per row, from a file as published by IMI.

    In their archive (Zenodo 8131197) it is `responses_main.csv`.

    Parameters
    ----------
    path : str or Path
        A .csv or .csv.gz file with the columns `model`, `layer`, `channel`, `batch`, `correct` (true or false, 1 or 0)
        and `confidence` (1, 2 or 3). `neurosuper.datasets.info("imi-2023")` says where to get that of IMI, and
        `neurosuper.datasets.fetch("imi-2023")` returns its path.

    Returns
    -------
    DataFrame
        Without demonstrations and catch trials, where columns `is_demo` and `catch_trial` mark them. Labels are
        strings, `correct` is bool, `confidence` int; further columns are unchanged. To select a condition, index the
        table: `judgements[judgements["mode"] == "natural"]`.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Another kind of file, missing columns, or values that are not allowed.

    See Also
    --------
    validate_against_humans : How well scores predict these judgements.
    agreement_with_humans : How often a machine gives the same answers.

    References
    ----------
    Zimmermann, Klein, Brendel 2023, "Scale alone does not improve mechanistic interpretability in vision models",
    arXiv 2307.05471.

    Examples
    --------
    >>> from pathlib import Path
    >>> import tempfile
    >>> table = "model,layer,channel,batch,correct,confidence\nresnet50,layer1,7,0,True,3\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "judgements.csv")
    ...     written = path.write_text(table)
    ...     read_judgements(path).loc[0, "channel"]
    '7'
    """
    path = Path(path)
    if not path.name.endswith((".csv", ".csv.gz")):
        raise ValueError(f"judgements are a .csv or .csv.gz file, got {path.name}; write one with DataFrame.to_csv")
    if not path.is_file():
        raise FileNotFoundError(f"no judgements at {path}; check the path")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES / 1e6:.0f} MB")
        table = pd.read_csv(io.BytesIO(content), low_memory=False)
    except (ValueError, EOFError, OSError, zlib.error) as error:
        reason = one_line(error)
        raise ValueError(f"{path.name} is not a readable table ({reason}); fetch it again") from error
    return check_judgements(table)


def check_judgements(judgements: pd.DataFrame) -> pd.DataFrame:
    """Return judgements with checked and converted columns, without demonstrations and catch trials."""
    if not isinstance(judgements, pd.DataFrame):
        raise TypeError(f"judgements must be a DataFrame, got {type(judgements).__name__}; see read_judgements")
    require_columns(judgements, NEEDED, "judgements")
    for mark in LEFT_OUT:
        if mark in judgements:
            marks = judgements[mark]
            judgements = judgements[~truth(marks.astype(object).where(marks.notna(), False))]
    if judgements.empty:
        raise ValueError("judgements have only demonstrations and catch trials; check the table")
    confidence = pd.to_numeric(judgements["confidence"], errors="coerce")
    if (wrong := ~confidence.isin([1, 2, 3])).any():
        raise ValueError(f"confidence must be 1, 2 or 3, got {name_some(judgements['confidence'][wrong].unique())}")
    checked = {"correct": truth(judgements["correct"]), "confidence": confidence.astype(int)}
    return judgements.assign(**label_columns(judgements, [*UNIT, "batch"]), **checked).reset_index(drop=True)


def require_columns(table: pd.DataFrame, names: list[str], what: str) -> None:
    """Raise an error if a table lacks one of these columns."""
    if missing := [name for name in names if name not in table]:
        has = name_some(table.columns, 12)
        raise ValueError(
            f"no column {name_some(missing, len(NEEDED))} in {what}, which has {has}; rename or add columns"
        )


def truth(values: pd.Series) -> pd.Series:
    """Return values as bool, from any spelling in `TRUTH`."""
    truth = values.astype(str).str.lower().map(TRUTH)
    if (wrong := truth.isna()).any():
        raise ValueError(f"{values.name} must be true or false, or 1 or 0, got {name_some(values[wrong].unique())}")
    return truth.astype(bool)


def label_columns(table: pd.DataFrame, names: list[str]) -> dict[str, pd.Series]:
    """Return columns of labels as strings; a channel or batch 7 is read as 7.0 if its column had gaps."""
    labels = {name: table[name].astype(str) for name in names}
    for name in names:
        if (missing := table[name].isna()).any():
            raise ValueError(f"no {name} in {int(missing.sum())} rows; drop them with .dropna(subset=[{name!r}])")
        if name in ("channel", "batch"):
            labels[name] = labels[name].str.replace(r"^(-?\d+)\.0$", r"\1", regex=True)
    return labels
