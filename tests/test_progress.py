"""Progress bars are shown in terminals and notebooks, elsewhere only if asked; compilation says what takes time."""

import ast
import io
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numba
import pytest
from nbclient import NotebookClient

import neurosuper
import neurosuper._kernels
from neurosuper._progress import is_shown, progress

COUNT = "from neurosuper._progress import progress; list(progress([1, 2], desc='counting', unit='step', delay=0))"
pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")


def run_in_terminal(code: str, **variables: str) -> str:
    """Return what a Python process writes to its terminal."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))  # a terminal of width 0 shows no bar
    process = subprocess.Popen([sys.executable, "-c", code], stdout=theirs, stderr=theirs, env=os.environ | variables)
    os.close(theirs)
    written = b""
    try:
        while block := os.read(ours, 4096):
            written += block
    except OSError:  # Linux: the other end is closed
        pass
    assert process.wait() == 0
    os.close(ours)
    return written.decode()


def run_in_pipe(**variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", COUNT], capture_output=True, text=True, check=True, env=os.environ | variables
    )
    assert done.stdout == ""
    return done.stderr


def test_a_bar_is_shown_in_a_terminal_unless_tqdm_is_disabled():
    assert "counting: 100%" in run_in_terminal(COUNT, TQDM_DISABLE="")
    assert run_in_terminal(COUNT, TQDM_DISABLE="1") == ""


def test_elsewhere_a_bar_is_shown_only_if_asked():
    assert run_in_pipe(TQDM_DISABLE="") == ""
    assert "counting: 100%" in run_in_pipe(TQDM_DISABLE="0")


def test_a_process_without_standard_error_shows_no_bar(monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr(sys, "stderr", None)
    assert not is_shown()


@pytest.mark.slow
def test_a_notebook_without_widgets_shows_a_bar_and_no_warning():
    code = f"import os, warnings\nos.environ.pop('TQDM_DISABLE', None)\nwarnings.simplefilter('error')\n{COUNT}"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, kernel_name="python3", timeout=60).execute()
    texts = "".join(str(output) for output in notebook.cells[0].outputs)
    assert "counting" in texts
    assert "IProgress" not in texts


def test_every_bar_is_made_by_one_function():
    """Others would appear in log files, and warn in notebooks without widgets."""
    package = Path(neurosuper.__file__).parent
    called = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("tqdm", "trange", "_Bar")
    }
    assert called == {"_progress.py"}


INTERRUPT = """
import signal, threading
from neurosuper._progress import progress

def stop(*_):
    raise KeyboardInterrupt

def count():
    for _ in range(20):
        progress([1], desc="counting", unit="step").close()

for microseconds in 10 * list(range(5, 500, 5)):
    signal.signal(signal.SIGALRM, stop)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, microseconds * 1e-6)
            count()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        pass
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
thread = threading.Thread(target=count, daemon=True)
thread.start()
thread.join(60)
print(thread.is_alive())
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
def test_after_interrupts_other_threads_still_have_bars():
    """The locks of tqdm stay locked if an interrupt comes while they are taken; threads that fit then wait forever."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", INTERRUPT], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_an_interrupt_while_a_bar_is_drawn_leaves_it_unlocked(monkeypatch):
    bar = progress(total=2, desc="counting", unit="step", disable=False, file=io.StringIO())

    def stop(*_args, **_settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(bar, "display", stop)
    with pytest.raises(KeyboardInterrupt):
        bar.refresh()
    thread = threading.Thread(target=bar.clear, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    monkeypatch.undo()
    bar.close()


@pytest.fixture
def bars(monkeypatch):
    """The descriptions of bars that kernels open, and whether each was closed."""
    opened = []

    def open_bar(*, desc, **_settings):
        bar = SimpleNamespace(desc=desc, closed=False)
        bar.close = lambda: setattr(bar, "closed", True)
        opened.append(bar)
        return bar

    monkeypatch.setattr("neurosuper._kernels.progress", open_bar)
    return opened


def compile_kernels(module: str) -> None:
    """Compile a kernel that calls another one, both of a module of this name."""

    def double(x):
        return 2 * x

    double.__module__ = module
    inner = numba.njit(double)

    def quadruple(x):
        return inner(inner(x))

    quadruple.__module__ = module
    assert numba.njit(quadruple)(2) == 8


def test_compilation_is_announced_once_in_the_log_and_shown_while_it_lasts(bars, caplog, monkeypatch):
    (notice,) = [
        listener
        for listener in numba.core.event._registered["numba:compile"]
        if isinstance(listener, neurosuper._kernels._Notice)
    ]
    monkeypatch.setattr(notice, "_is_logged", False)
    with caplog.at_level(logging.INFO, "neurosuper"):
        compile_kernels("neurosuper.some_room")
        compile_kernels("neurosuper.some_room")
    assert caplog.messages == [neurosuper._kernels.COMPILING]
    assert [(bar.desc, bar.closed) for bar in bars] == [(neurosuper._kernels.COMPILING, True)] * 2


def test_compilation_of_other_packages_is_not_announced(bars):
    compile_kernels("another_package")
    assert bars == []


def test_importing_configures_no_logging():
    code = "import logging, neurosuper; print(logging.root.handlers, logging.getLogger('neurosuper').handlers)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] [<NullHandler (NOTSET)>]\n"
