"""An NWB-Zarr folder that hdmf-zarr wrote is refused in one line, which says how to export it."""

import ast
import shutil
import zipfile
from pathlib import Path

import pytest

from neurosuper import inspect_nwb, load_nwb
from neurosuper.loaders import inspect_file, load_nwb_images, load_presentations
from neurosuper.loaders.file_checks import EXPORT_ZARR

SESSION = Path(__file__).parent / "nwb_zarr" / "session.zip"  # written by write.py beside it


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    with zipfile.ZipFile(SESSION) as archive:
        archive.extractall(folder := tmp_path_factory.mktemp("nwb"))
    return folder / "session.nwb.zarr"


@pytest.mark.parametrize(
    "read",
    [
        lambda path: load_nwb(path, stimulus_column="image", window=(0.0, 0.2)),
        load_presentations,
        load_nwb_images,
        inspect_nwb,
        inspect_file,
        lambda path: inspect_file(shutil.copytree(path, path.parent / "session.zarr")),
    ],
)
def test_a_folder_of_hdmf_zarr_is_refused_with_the_way_to_export_it(folder, read):
    with pytest.raises(
        ValueError, match="is a Zarr folder, not a NWB file; in an environment with hdmf-zarr"
    ) as caught:
        read(folder)
    assert str(caught.value).endswith(EXPORT_ZARR)
    assert "\n" not in str(caught.value)


def test_the_way_to_export_is_python():
    code = EXPORT_ZARR.partition("export it: ")[2].partition(";")[0]
    names = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    assert names == {"NWBHDF5IO", "NWBZarrIO", "path"}
