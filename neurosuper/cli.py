"""The command line: parses arguments, calls public functions, prints."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from neurosuper import __version__

if TYPE_CHECKING:
    import xarray as xr


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0, or 2 after a one-line error, or 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        if options.traceback:
            raise
        print(f"neurosuper: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("neurosuper: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="neurosuper",
        description="Are the directions of a neural population more interpretable than its single units?",
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error came from, in full")
    parser.add_argument("--version", action="version", version=f"neurosuper {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    run = commands.add_parser("run", help="run a study file; writes study.nc and report.html")
    run.add_argument("study", type=Path, help="a TOML file, such as tutorials/v4_squeezenet.toml")
    run.add_argument("--output", type=Path, help="folder to write to; default: what the file says")
    run.add_argument(
        "--trust", action="store_true", help="run code from anywhere that the file names, and write anywhere it says"
    )
    run.set_defaults(run=_run)
    demo = commands.add_parser("demo", help="run the main job offline on simulated and shipped data")
    demo.add_argument("output", type=Path, nargs="?", default=Path("demo_output"), help="folder to write to")
    demo.add_argument("--lpips-weights", type=Path, help="AlexNet trunk (.pth or .npz): adds LPIPS to the demo")
    demo.set_defaults(run=_demo)
    _add_dataset_commands(commands)
    return parser


def _add_dataset_commands(commands: argparse._SubParsersAction) -> None:
    known = "an id, as `neurosuper datasets` lists them, or a manifest of your own (.toml)"
    commands.add_parser("datasets", help="list the datasets that are known by id").set_defaults(run=_datasets)
    info = commands.add_parser("info", help="what a dataset is: how big, how it is cut and read, licence, citation")
    cite = commands.add_parser("cite", help="how to cite a dataset")
    fetch = commands.add_parser("fetch", help="fetch the files of a dataset into the cache; an interrupted run goes on")
    for command, run in ((info, _info), (cite, _cite), (fetch, _fetch)):
        command.add_argument("dataset", help=known)
        command.set_defaults(run=run)
    fetch.add_argument(
        "--subset", nargs="*", default=[], metavar="KEY=VALUE", help="such as subject=subj01 session=1,2"
    )
    fetch.add_argument("--images", action="store_true", help="fetch the images that were shown, too")
    cache = commands.add_parser("cache", help="what was fetched").add_subparsers(required=True, metavar="list|clear")
    cache.add_parser("list", help="list what was fetched").set_defaults(run=_cache_list)
    clear = cache.add_parser("clear", help="delete what was fetched")
    clear.add_argument("dataset", nargs="?", help="only this dataset")
    clear.set_defaults(run=_cache_clear)


def _run(options: argparse.Namespace) -> None:
    from neurosuper.study import run_study

    _tell(run_study(options.study, options.output, trust=options.trust))


def _demo(options: argparse.Namespace) -> None:
    from neurosuper.demo import run_demo

    _tell(run_demo(options.output, options.lpips_weights))


def _datasets(options: argparse.Namespace) -> None:
    from neurosuper.load import datasets

    table = datasets()
    table["cached"] = [_megabytes(size) if size else "" for size in table.cached]
    print(table[["modality", "areas", "source", "cached"]].to_string(justify="left"))


def _info(options: argparse.Namespace) -> None:
    from neurosuper.load import describe

    print(describe(options.dataset))


def _cite(options: argparse.Namespace) -> None:
    from neurosuper.load import cite

    print(cite(options.dataset))


def _fetch(options: argparse.Namespace) -> None:
    from neurosuper.load import fetch

    roles = ("responses", "companion", "support") + (("images",) if options.images else ())
    for path in fetch(options.dataset, subset=_subset(options.subset), roles=roles):
        print(path)


def _subset(pairs: list[str]) -> dict[str, list[str]]:
    """Return what `key=value,value` words say."""
    for pair in pairs:
        if not all(pair.partition("=")):
            raise ValueError(f"--subset takes KEY=VALUE, such as session=1,2, got {pair!r}")
    return {key: values.split(",") for key, _, values in (pair.partition("=") for pair in pairs)}


def _cache_list(options: argparse.Namespace) -> None:
    from neurosuper.load import cache_folder, list_cache

    table = list_cache()
    if table.empty:
        print(f"nothing is cached in {cache_folder()}")
        return
    table["size"] = table["size"].map(_megabytes)
    print(table.to_string(index=False))


def _cache_clear(options: argparse.Namespace) -> None:
    from neurosuper.load import clear_cache

    print(f"{_megabytes(clear_cache(options.dataset))} freed")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _tell(comparison: xr.Dataset) -> None:
    """Print what a study says, and where it lies."""
    from neurosuper.compare import headline

    numbers = Path(comparison.encoding["source"])
    if comparison.attrs["note"]:
        print(comparison.attrs["note"])
    print("\n".join(headline(comparison)))
    print(f"report:  {numbers.with_name('report.html')}")
    print(f"numbers: {numbers}")


if __name__ == "__main__":
    sys.exit(main())
