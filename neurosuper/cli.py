"""The command line: parses arguments, calls public functions, prints."""

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


EXPECTED = (ValueError, TypeError, OSError, ImportError, RuntimeError)  # whose message says enough


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0, or 2 after a one-line error, or 130 when interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks "−" or "×" gets "\u2212"
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("neurosuper: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except BaseException as error:  # the user's own code may raise anything, SystemExit too
        if isinstance(error, BrokenPipeError) and _reader_left():
            return 0
        if options.traceback and isinstance(error, Exception):
            raise
        if options.traceback:
            traceback.print_exc()
        print(f"neurosuper: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _reader_left() -> bool:
    """Return whether nobody reads what is printed, as after `| head -1`; then nothing more is printed."""
    try:
        print(flush=True)  # an empty line: other pipes break too, such as one to a worker
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # lest Python complains when it exits
        return True
    return False


def _one_line(error: BaseException) -> str:
    """Return what an error says and its notes, in one line of printable characters."""
    said = " ".join(" ".join([str(error), *getattr(error, "__notes__", [])]).split())
    if not isinstance(error, EXPECTED) or not str(error).strip():
        kind = type(error).__name__
        said = f"{kind}: {said}" if said else kind
        said += "; to see where it comes from, put --traceback before the command"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in said)


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
    fetch.add_argument(
        "--verify",
        choices=["receipt", "always"],
        default="receipt",
        help="read again which files that were fetched before: those that were touched since, or all",
    )
    help_cache, actions = "what was fetched", "list|verify|clear"
    cache = commands.add_parser("cache", help=help_cache).add_subparsers(required=True, metavar=actions)
    cache.add_parser("list", help="list what was fetched").set_defaults(run=_cache_list)
    verify = cache.add_parser("verify", help="read again what was fetched, and compare it with its receipts")
    verify.add_argument("dataset", nargs="?", help="only this dataset")
    verify.set_defaults(run=_cache_verify)
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
    """Return what `key=value,value` words say."""
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
        heal = " && ".join(f"neurosuper fetch {dataset} --verify always" for dataset in damaged.dataset.unique())
        raise ValueError(f"{len(damaged)} of {len(table)} files are damaged; to fetch them again: {heal}")


def _cache_clear(options: argparse.Namespace) -> None:
    from neurosuper.datasets import clear_cache

    print(f"{_megabytes(clear_cache(options.dataset))} freed")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _tell(comparison: xr.Dataset) -> None:
    """Print what a study says, and where it lies."""
    from neurosuper.comparison import headline

    numbers = Path(comparison.encoding["source"])
    if comparison.attrs["note"]:
        print(comparison.attrs["note"])
    print("\n".join(headline(comparison)))
    print(f"report:  {numbers.with_name('report.html')}")
    print(f"numbers: {numbers}")


if __name__ == "__main__":
    sys.exit(main())
