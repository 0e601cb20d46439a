"""Command line: parse arguments, call public functions, print results."""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from neurosuper import __version__

if TYPE_CHECKING:
    import xarray as xr

EXPECTED = (ValueError, TypeError, OSError, ImportError, RuntimeError)  # their messages need no traceback


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status of a command: 0, 2 after a one-line error, or 130 if it was interrupted.

    Parameters
    ----------
    arguments : list of str, optional
        By default those of the process.

    Returns
    -------
    int
        Exit status.

    See Also
    --------
    neurosuper.run_study : what `neurosuper run` calls.

    Examples
    --------
    >>> main(["cite", "nsd"])  # doctest: +SKIP
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without "−" or "×" gets "\u2212"
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("neurosuper: interrupted; run the same command again to continue where it stopped", file=sys.stderr)
        return 130
    except BaseException as error:  # the user's own code may raise anything, SystemExit too
        if isinstance(error, BrokenPipeError) and _output_closed():
            return 0
        if options.traceback and isinstance(error, Exception):
            raise
        if options.traceback:
            traceback.print_exc()
        print(f"neurosuper: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _output_closed() -> bool:
    """Return whether the reader of the output has closed it, as `| head -1` does; then nothing more is printed."""
    try:
        # Print to find out: the error may be from another pipe, such as one to a worker process.
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python reports the closed pipe at exit
        return True
    return False


def _one_line(error: BaseException) -> str:
    """Return the message and notes of an error in one line of printable characters."""
    message = " ".join(" ".join([str(error), *getattr(error, "__notes__", [])]).split())
    if not isinstance(error, EXPECTED) or not str(error).strip():
        kind = type(error).__name__
        message = f"{kind}: {message}" if message else kind
        message += "; to see where it comes from, put --traceback before the command"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)


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
    run.add_argument("--output", type=Path, help="folder to write to; default: the file's `output`")
    run.add_argument(
        "--trust", action="store_true", help="run any code that the file names, and write anywhere it asks to"
    )
    run.set_defaults(run=_run)
    demo = commands.add_parser("demo", help="run a complete analysis on simulated and shipped data, in a minute")
    demo.add_argument("output", type=Path, nargs="?", default=Path("demo_output"), help="folder to write to")
    demo.add_argument("--lpips-weights", type=Path, help="AlexNet trunk (.pth or .npz): adds LPIPS to the demo")
    demo.add_argument("--offline", action="store_true", help="do not fetch the weights of LPIPS (5 MB)")
    demo.set_defaults(run=_demo)
    _add_dataset_commands(commands)
    return parser


def _add_dataset_commands(commands: argparse._SubParsersAction) -> None:
    known = "an id, as `neurosuper datasets` lists them, or your own manifest (.toml)"
    commands.add_parser("datasets", help="list the datasets that have an id").set_defaults(run=_datasets)
    info = commands.add_parser("info", help="describe a dataset: size, subsets, how it is read, licence, citation")
    cite = commands.add_parser("cite", help="show how to cite a dataset")
    fetch = commands.add_parser(
        "fetch", help="fetch the files of a dataset into the cache; interrupted downloads resume"
    )
    for command, run in ((info, _info), (cite, _cite), (fetch, _fetch)):
        command.add_argument("dataset", help=known)
        command.set_defaults(run=run)
    fetch.add_argument(
        "--subset", nargs="*", default=[], metavar="KEY=VALUE", help="such as subject=subj01 session=1,2"
    )
    fetch.add_argument("--images", action="store_true", help="fetch the images that were shown, too")
    fetch.add_argument(
        "--verify",
        choices=["receipt", "always"],
        default="receipt",
        help="cached files to check again: those whose size or date differ from their receipt, or all",
    )
    cache = commands.add_parser("cache", help="list, verify or delete fetched files")
    actions = cache.add_subparsers(required=True, metavar="list|verify|clear")
    actions.add_parser("list", help="list fetched datasets").set_defaults(run=_cache_list)
    verify = actions.add_parser("verify", help="read fetched files again, and compare them with their receipts")
    verify.add_argument("dataset", nargs="?", help="only this dataset")
    verify.set_defaults(run=_cache_verify)
    clear = actions.add_parser("clear", help="delete fetched files")
    clear.add_argument("dataset", nargs="?", help="only this dataset")
    clear.set_defaults(run=_cache_clear)


def _run(options: argparse.Namespace) -> None:
    from neurosuper.study import run_study

    _print_summary(run_study(options.study, options.output, trust=options.trust))


def _demo(options: argparse.Namespace) -> None:
    from neurosuper.demo import run_demo

    _print_summary(run_demo(options.output, options.lpips_weights, offline=options.offline))


def _datasets(options: argparse.Namespace) -> None:
    from neurosuper.datasets import list_datasets

    table = list_datasets()
    table["cached"] = [_megabytes(size) if size else "" for size in table.cached]
    print(table[["modality", "areas", "source", "cached"]].to_string(justify="left"))


def _info(options: argparse.Namespace) -> None:
    from neurosuper.datasets import info

    print(info(options.dataset))


def _cite(options: argparse.Namespace) -> None:
    from neurosuper.datasets import cite

    print(cite(options.dataset))


def _fetch(options: argparse.Namespace) -> None:
    from neurosuper.datasets import fetch

    roles = ("responses", "companion", "support") + (("images",) if options.images else ())
    for path in fetch(options.dataset, subset=_subset(options.subset), roles=roles, verify=options.verify):
        print(path)


def _subset(pairs: list[str]) -> dict[str, list[str]]:
    """Return `key=value,value` words as a mapping."""
    for pair in pairs:
        if not all(pair.partition("=")):
            raise ValueError(f"--subset takes KEY=VALUE, such as session=1,2, got {pair!r}")
    return {key: values.split(",") for key, _, values in (pair.partition("=") for pair in pairs)}


def _cache_list(options: argparse.Namespace) -> None:
    from neurosuper.datasets import cache_folder, list_cache

    table = list_cache()
    if table.empty:
        print(f"nothing is cached in {cache_folder()}")
        return
    table["size"] = table["size"].map(_megabytes)
    print(table.to_string(index=False))


def _cache_verify(options: argparse.Namespace) -> None:
    from neurosuper.datasets import cache_folder, verify_cache

    table = verify_cache(options.dataset)
    if table.empty:
        print(f"nothing is cached in {cache_folder()}")
        return
    print(table.to_string(index=False, justify="left"))
    damaged = table[table.state == "damaged"]
    if len(damaged):
        remedy = " && ".join(f"neurosuper fetch {dataset} --verify always" for dataset in damaged.dataset.unique())
        raise ValueError(f"{len(damaged)} of {len(table)} files are damaged; to fetch them again: {remedy}")


def _cache_clear(options: argparse.Namespace) -> None:
    from neurosuper.datasets import clear_cache

    print(f"{_megabytes(clear_cache(options.dataset))} freed")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _print_summary(comparison: xr.Dataset) -> None:
    """Print the note and headline of a study, and the paths of its outputs."""
    from neurosuper.comparison import headline

    numbers = Path(comparison.encoding["source"])
    if comparison.attrs["note"]:
        print(comparison.attrs["note"])
    print("\n".join(headline(comparison)))
    print(f"report:  {numbers.with_name('report.html')}")
    print(f"numbers: {numbers}")


if __name__ == "__main__":
    sys.exit(main())
