"""Command line: parse arguments, call public functions, print results."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
import traceback
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from neurosuper import __version__

if TYPE_CHECKING:
    import xarray as xr

LEVELS = {-1: logging.WARNING, 0: logging.INFO, 1: logging.DEBUG}  # of messages, with -q, without option and with -v
BARS = {-1: "1", 0: None, 1: "0"}  # TQDM_DISABLE: progress bars never, in terminals, or in log files too
KEPT = (  # after an interruption
    "activations (and embeddings with cache_embeddings, fits with a checkpoint) are kept; the rest starts again if you "
    "run the same command"
)
EXPECTED = (ValueError, TypeError, OSError, ImportError, RuntimeError)  # their messages need no traceback


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status of a command: 0, 2 after a one-line error, or 130 if it was interrupted.

    Results are printed to standard output, messages and progress to standard error. `reproduce` returns 1 if a number
    differs.

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
        with _messages(options.verbosity):
            status = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        kept = getattr(options, "kept", "")
        print("; ".join(["neurosuper: interrupted", *([kept] if kept else [])]), file=sys.stderr)
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
    return status or 0


class _Handler(logging.Handler):
    """Write messages to standard error, above progress bars that are open there."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


@contextmanager
def _messages(verbosity: int) -> Iterator[None]:
    """Show messages and progress bars of the package as the options ask, while a command runs."""
    logger, handler, bars = logging.getLogger("neurosuper"), _Handler(), os.environ.get("TQDM_DISABLE")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(LEVELS[verbosity])
    if BARS[verbosity] is not None:
        os.environ["TQDM_DISABLE"] = str(BARS[verbosity])
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        if bars is None:
            os.environ.pop("TQDM_DISABLE", None)
        else:
            os.environ["TQDM_DISABLE"] = bars


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
        epilog="First steps: `neurosuper demo`, then `neurosuper new`, `check` and `run` with your data.",
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error came from, in full")
    parser.add_argument("--version", action="version", version=f"neurosuper {__version__}")
    _add_verbosity(parser, 0)
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_study_commands(commands)
    _add_result_commands(commands)
    _add_dataset_commands(commands)
    completions = _add(commands, "completions", _completions, "print the script by which a shell completes commands")
    completions.add_argument("shell", choices=["bash", "zsh", "fish"], help="your shell")
    completions.epilog = "Example: neurosuper completions bash > ~/.local/share/bash-completion/completions/neurosuper"
    for command in commands.choices.values():
        _add_verbosity(command, argparse.SUPPRESS)  # after the command too, without undoing the option before it
    return parser


def _add_verbosity(parser: argparse.ArgumentParser, default: object) -> None:
    group = parser.add_mutually_exclusive_group()
    for flag, name, value, text in (
        ("-q", "--quiet", -1, "no messages and no progress bars, only results, warnings and errors"),
        ("-v", "--verbose", 1, "more messages, and progress bars in log files too"),
    ):
        group.add_argument(flag, name, dest="verbosity", action="store_const", const=value, default=default, help=text)


def _add(
    commands: argparse._SubParsersAction, name: str, run: Callable[[argparse.Namespace], int | None], text: str
) -> argparse.ArgumentParser:
    """Return the parser of a new command."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.set_defaults(run=run)
    return command


def _add_study_commands(commands: argparse._SubParsersAction) -> None:
    new = _add(commands, "new", _new, "write a study file for your data, with every setting explained")
    new.add_argument(
        "source", type=Path, help="an NWB file, a matrix (.npy, .nc, .mat, .h5, .csv, …), or a folder of images"
    )
    new.add_argument("--images", type=Path, help="folder or zip file of the images, unless the NWB file contains them")
    new.add_argument("--output", type=Path, default=Path("study.toml"), help="file to write; default: study.toml")
    new.epilog = "Example: neurosuper new session.nwb --images photographs"
    check = _add(commands, "check", _check, "read a study without running it; estimate time, memory and disk")
    run = _add(commands, "run", _run, "run a study file; writes study.nc, report.html and more")
    check.epilog = "Example: neurosuper check study.toml"
    run.epilog = "Example: neurosuper run study.toml -q"
    run.set_defaults(kept=KEPT)
    for command in (check, run):
        command.add_argument("study", type=Path, help="a TOML file, such as `neurosuper new` writes")
        command.add_argument("--output", type=Path, help="folder of the results; default: the file's `output`")
        trust = "run any code that the file names, and write anywhere it asks to"
        command.add_argument("--trust", action="store_true", help=trust)
    demo = _add(commands, "demo", _demo, "run a complete analysis on simulated and shipped data, in a minute")
    demo.set_defaults(kept=KEPT)
    demo.add_argument("output", type=Path, nargs="?", default=Path("demo_output"), help="folder to write to")
    demo.add_argument("--lpips-weights", type=Path, help="AlexNet trunk (.pth or .npz): adds LPIPS to the demo")
    demo.add_argument("--offline", action="store_true", help="do not fetch the weights of LPIPS (5 MB)")


def _add_result_commands(commands: argparse._SubParsersAction) -> None:
    inspect = _add(commands, "inspect", _inspect, "show what a file contains, and how to load it")
    inspect.add_argument("file", type=Path, help="an NWB file, a study.nc, arrays, a table, or images")
    inspect.add_argument("--companion", type=Path, help="another NWB file of the session, with the responses")
    inspect.epilog = "Example: neurosuper inspect session.nwb"
    report = _add(commands, "report", _report, "write the report of a study.nc again, from its numbers")
    report.add_argument("numbers", type=Path, help="a study.nc")
    report.add_argument("--images", type=Path, help="folder or zip file of the images, if they were moved")
    report.epilog = "Example: neurosuper report study_output/study.nc --open"
    report.add_argument("--open", action="store_true", help="show the report in the browser")
    reproduce = _add(commands, "reproduce", _reproduce, "run the study of a study.nc again, and compare all numbers")
    reproduce.add_argument("numbers", type=Path, help="a study.nc")
    reproduce.add_argument("--folder", type=Path, help="folder that paths in the study are relative to")
    reproduce.add_argument("--trust", action="store_true", help="run any code that the study names")
    reproduce.epilog = "Exit status: 0 if all numbers are the same, 1 if some differ, 2 after an error."
    export = _add(
        commands, "export", _export, "write the scores of a study.nc as a table, or directions into an NWB file"
    )
    export.add_argument("numbers", type=Path, help="a study.nc")
    export.add_argument("output", type=Path, help="a new .csv or .parquet of scores, or the .nwb of the recording")
    export.add_argument("--system", help="for .nwb: the system whose directions are written")
    export.add_argument("--finder", help="for .nwb: the finder that found them")
    export.epilog = "Example: neurosuper export study_output/study.nc scores.csv"


def _add_dataset_commands(commands: argparse._SubParsersAction) -> None:
    known = "an id, as `neurosuper datasets` lists them, or your own manifest (.toml)"
    _add(commands, "datasets", _datasets, "list the datasets that have an id")
    info = _add(commands, "info", _info, "describe a dataset: size, subsets, how it is read, licence, citation")
    cite = _add(commands, "cite", _cite, "show how to cite a dataset")
    fetch = _add(commands, "fetch", _fetch, "fetch the files of a dataset into the cache; interrupted downloads resume")
    for command in (info, cite, fetch):
        command.add_argument("dataset", help=known)
    fetch.add_argument(
        "--subset", nargs="*", default=[], metavar="KEY=VALUE", help="such as subject=subj01 session=1,2"
    )
    fetch.set_defaults(kept="what was fetched is kept; the same command continues where it stopped")
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


def _new(options: argparse.Namespace) -> None:
    from neurosuper.study import new_study

    path = new_study(options.source, options.output, images=options.images)
    print(f"{path}: look at its settings, then\n  neurosuper check {path}\n  neurosuper run {path}")


def _check(options: argparse.Namespace) -> None:
    from neurosuper.study import check_study

    print(check_study(options.study, options.output, trust=options.trust))


def _run(options: argparse.Namespace) -> None:
    from neurosuper.study import run_study

    _print_summary(run_study(options.study, options.output, trust=options.trust))


def _inspect(options: argparse.Namespace) -> None:
    from neurosuper.study import describe_file

    print(describe_file(options.file, companion=options.companion))


def _report(options: argparse.Namespace) -> None:
    from neurosuper.study import write_report

    path = write_report(options.numbers, images=options.images)
    print(f"report:  {path}")
    if options.open:
        webbrowser.open(path.resolve().as_uri())


def _reproduce(options: argparse.Namespace) -> int:
    from neurosuper.study import reproduce

    found = reproduce(options.numbers, folder=options.folder, trust=options.trust)
    print(found)
    return 0 if found.same else 1


def _export(options: argparse.Namespace) -> None:
    from neurosuper.study import export_results

    n = export_results(options.numbers, options.output, system=options.system, finder=options.finder)
    what = "directions" if options.output.suffix.lower() == ".nwb" else "rows"
    print(f"{options.output}: {n:,} {what}")


def _completions(options: argparse.Namespace) -> None:
    from neurosuper._optional import require

    print(require("shtab", "completions").complete(_parser(), options.shell))


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
    for name in ("superposition", "populations", "twins"):
        if (path := numbers.with_name(f"{name}.nc")).exists():
            print(f"{name}: {path}")


if __name__ == "__main__":
    sys.exit(main())
