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
    run.set_defaults(run=_run)
    demo = commands.add_parser("demo", help="run the main job offline on simulated and shipped data")
    demo.add_argument("output", type=Path, nargs="?", default=Path("demo_output"), help="folder to write to")
    demo.add_argument("--lpips-weights", type=Path, help="AlexNet trunk (.pth or .npz): adds LPIPS to the demo")
    demo.set_defaults(run=_demo)
    return parser


def _run(options: argparse.Namespace) -> None:
    from neurosuper.study import run_study

    _tell(run_study(options.study, options.output))


def _demo(options: argparse.Namespace) -> None:
    from neurosuper.demo import run_demo

    _tell(run_demo(options.output, options.lpips_weights))


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
