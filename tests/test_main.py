"""The command runs without the folder of scripts on the path."""

import subprocess
import sys

from neurosuper import __version__


def test_python_m_neurosuper_is_the_command(tmp_path):
    command = [sys.executable, "-m", "neurosuper", "--version"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == f"neurosuper {__version__}\n"


def test_its_exit_status_is_that_of_the_command(tmp_path):
    ran = subprocess.run([sys.executable, "-m", "neurosuper", "run", "missing.toml"], capture_output=True, text=True)
    assert ran.returncode == 2
    assert "missing.toml" in ran.stderr
