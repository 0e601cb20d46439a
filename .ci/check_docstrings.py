"""Validate the docstring of every public name with numpydoc: all sections must be there, and agree with the signature.

`numpydoc lint` (see `[tool.numpydoc_validation]` in pyproject.toml) checks the form of all docstrings from the source
alone. It does not see the parameters of a dataclass, and cannot require more of public names than of private ones.
"""

import importlib
import inspect
import sys
from pathlib import Path

from numpydoc.validate import validate

ROOT = Path(__file__).resolve().parents[1] / "neurosuper"
REQUIRED = {  # not PR07, a description of each parameter: `path : str or Path` needs none
    "GL08": "a docstring",
    "PR01": "every parameter",
    "PR02": "no other parameter",
    "PR03": "parameters in the order of the signature",
    "RT01": "Returns",
    "RT03": "a description of what is returned",
    "YD01": "Yields",
    "SA01": "See Also",
    "EX01": "Examples",
}
FINDERS = (
    *("Units", "Random", "Exemplars", "CovarianceMatched"),
    *("PCA", "ICA", "NMF", "KMeans", "DictionaryLearning", "SparseAutoencoder", "Archetypal"),
)
EXCEPTIONS = {  # (public name, check): reason
    ("neurosuper.metrics.ImageMetric", "PR01"): "a protocol has no constructor of its own",
    ("neurosuper.directions.DirectionFinder", "PR02"): "an abstract base: settings that some finders add",
    ("neurosuper.directions.DirectionFinder", "EX01"): "an abstract base: see tutorials/methods/write_a_finder.md",
    ("neurosuper.directions.IterativeFinder", "PR01"): "an abstract base: those of DirectionFinder are described there",
    ("neurosuper.directions.IterativeFinder", "EX01"): "an abstract base: see tutorials/methods/write_a_finder.md",
    # a dataclass has the fields of its base first; the docstrings have what a user sets most often first
    **{(f"neurosuper.directions.{name}", "PR03"): "the order of reading" for name in FINDERS},
    ("neurosuper.comparison.SharedSpace", "PR03"): "the order of reading",
}


def public_names() -> dict[str, str]:
    """Return {full name: public name} of the functions and classes that the package's stubs list."""
    names: dict[str, str] = {}
    for stub in sorted(ROOT.rglob("__init__.pyi")):
        module = ".".join(("neurosuper", *stub.parent.relative_to(ROOT).parts))
        for name in importlib.import_module(module).__all__:
            member = getattr(importlib.import_module(module), name)
            if inspect.isfunction(member) or inspect.isclass(member):
                names[f"{member.__module__}.{member.__qualname__}"] = f"{module}.{name}"
    return names


def main() -> int:
    """Print what is missing, one line each; return 1 if anything is."""
    n_missing = 0
    for name, address in sorted(public_names().items()):
        for check, message in validate(name)["errors"]:
            if check in REQUIRED and (address, check) not in EXCEPTIONS:
                n_missing += 1
                print(f"{address}: {check} {message}")
    if n_missing:
        print(f"{n_missing} sections of public docstrings are missing or wrong", file=sys.stderr)
    return bool(n_missing)


if __name__ == "__main__":
    sys.exit(main())
