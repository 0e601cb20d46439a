"""An extra that is missing is named together with the command that installs it."""

import math

import pytest

from neurosuper._optional import require


def test_what_is_installed_is_imported():
    assert require("math", "fmri") is math


def test_what_is_missing_names_the_extra_that_brings_it():
    message = r"no_such_module\.sub is not installed; run: pip install 'neurosuper\[fmri\]'"
    with pytest.raises(ImportError, match=message) as caught:
        require("no_such_module.sub", "fmri")
    assert "\n" not in str(caught.value)
