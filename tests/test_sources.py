"""Code is an installed package's, with its version, or the user's own, with all the files that it imports."""

import importlib
import sys

import pytest

from neurosuper._sources import package_of, sources_of


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder on the path: main imports helper, in a function deep.inner, and numpy; nothing imports other."""
    texts = {
        "sources_main.py": "import numpy\nfrom sources_helper import SIZE\ndef f():\n    import sources_deep.inner\n",
        "sources_helper.py": "SIZE = 1\n",
        "sources_deep/__init__.py": "",
        "sources_deep/inner.py": "from . import near\n",
        "sources_deep/near.py": "NEAR = 1\n",
        "sources_other.py": "",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    importlib.invalidate_caches()
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("sources_")]:
        del sys.modules[name]


def load(*names):
    for name in [name for name in sys.modules if name.startswith("sources_")]:
        del sys.modules[name]
    first, *_ = [importlib.import_module(name) for name in names]
    return first


ALL = ("sources_main", "sources_deep.inner", "sources_other")


def test_the_own_files_that_a_module_imports_are_its_sources(files):
    names = [name for name, _ in sources_of(load(*ALL))]
    assert names == ["__init__.py", "inner.py", "near.py", "sources_helper.py", "sources_main.py"]


@pytest.mark.parametrize(
    ("edited", "counts"),
    [
        ("sources_main.py", True),
        ("sources_helper.py", True),
        ("sources_deep/near.py", True),
        ("sources_other.py", False),
    ],
)
def test_an_edit_of_any_of_them_counts(files, edited, counts):
    before = sources_of(load(*ALL))
    (files / edited).write_text((files / edited).read_text() + "# edited\n")
    assert (sources_of(load(*ALL)) != before) is counts


def test_a_file_edited_after_it_was_imported_is_what_was_imported(files):
    module = load(*ALL)
    before = sources_of(module)
    (files / "sources_helper.py").write_text("SIZE = 2\n")
    with pytest.warns(UserWarning, match=r"sources_helper\.py was edited after it was imported; restart Python"):
        assert sources_of(module) == before


def test_installed_code_has_a_version_and_ones_own_has_none(files):
    load(*ALL)
    assert package_of("torch.nn.modules.conv").startswith("torch ")
    assert package_of("torch.nn.modules.conv") != package_of("torch.nn.modules.linear")
    assert package_of("json.decoder").startswith("Python 3")
    assert package_of("builtins").startswith("Python 3")
    assert package_of("neurosuper._torch").startswith("neurosuper ")
    assert package_of("sources_main") is None
    assert package_of(None) is None
    assert sources_of(sys) == []
