"""A study file runs code in its own folder and networks of neurosuper and writes below its folder, or needs trust."""

import os
import py_compile
import re
import sys
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image

from neurosuper import run_study
from neurosuper.cli import main
from neurosuper.networks import load_network
from neurosuper.networks.named import COLLECTIONS
from neurosuper.study.references import References
from tests.study.minimal import MINIMAL_STUDY

MARKS = "from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\ndef build(**_): return None\n"


@pytest.fixture
def folder(tmp_path):
    """A study's folder `in`, with a folder `out` next to it that contains foreign code, `theirs.py`."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "theirs.py").write_text(MARKS)
    return tmp_path / "in"


@pytest.fixture
def files(folder):
    return References(folder / "study.toml")


@pytest.fixture
def study(folder, rng):
    """A small study that runs."""
    (folder / "images").mkdir()
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / "images" / f"p{i:02d}.png")
    np.save(folder / "brain.npy", rng.gamma(1, 5, (3, 20)))
    (folder / "study.toml").write_text(MINIMAL_STUDY)
    return folder / "study.toml"


def refused(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["model", "preprocess"])
@pytest.mark.parametrize(
    "text",
    [
        "os:system",
        "builtins:exec",
        "theirs:build",  # can be imported
        "{out}/theirs.py:build",
        "../out/theirs.py:build",
        "sub/../../out/theirs.py:build",
        "$THEIRS/theirs.py:build",
        "link.py:build",
        "linked/theirs.py:build",
        "code.txt.py:build",  # a link to a file that is no Python file
        "neurosuper:study",
        "neurosuper.cli:main",
        "neurosuper.study:run_study",
        "neurosuper.study.run:Path",  # imported from another package
        "neurosuper.study.write:version",
        "neurosuper.datasets:clear_cache",
        "neurosuper.loaders.file_checks:check_file",
        "neurosuper.demo.network:_block",  # private
        "neurosuper.demo:network.small_cnn",
        "neurosuper/../theirs:build",
        "neurosuper_theirs:build",
    ],
)
def test_foreign_code_is_refused_and_not_even_imported(files, folder, text, key, monkeypatch):
    out = folder.parent / "out"
    monkeypatch.syspath_prepend(out)
    monkeypatch.setenv("THEIRS", str(out))
    (folder / "link.py").symlink_to(out / "theirs.py")
    (folder / "linked").symlink_to(out)
    (folder / "text.txt").write_text(MARKS)
    (folder / "code.txt.py").symlink_to(folder / "text.txt")
    text = text.format(out=out)
    with pytest.raises(ValueError, match="asks to run|cannot find") as caught:
        files.function(key, text, {"command": "rm -r /"})
    assert "\n" not in str(caught.value)
    assert not list(folder.parent.rglob("*.ran"))
    assert "theirs" not in sys.modules


def test_the_error_shows_what_would_have_run_and_how_to_allow_it(files):
    message = "asks to run os:system(command='touch x', 1=[2]) as its model, which was not run: "
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        files.function("model", "os:system", {"command": "touch x", "1": [2]})
    assert "--trust (run_study(…, trust=True))" in str(caught.value)
    with pytest.raises(ValueError, match="asks to run os:system") as caught:
        files.function("model", "os:system", {"command": "touch\n" * 10_000})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("text", ["net.py:build", "sub/net.py:build", "./sub/../net.py:build", "inner.py:build"])
def test_code_in_the_folder_of_the_study_runs(files, folder, text):
    (folder / "sub").mkdir()
    for path in (folder / "net.py", folder / "sub" / "net.py"):
        path.write_text("def build(): return 7\n")
    (folder / "inner.py").symlink_to(folder / "sub" / "net.py")
    assert files.function("model", text)() == 7


@pytest.mark.parametrize("text", ["neurosuper.demo.network:small_cnn", "neurosuper.demo.gabor:GaborEnergy"])
def test_networks_of_neurosuper_run(files, text):
    assert files.function("model", text).__module__.startswith("neurosuper.demo.")


@pytest.mark.parametrize("text", ["theirs:build", "{out}/theirs.py:build", "../out/theirs.py:build"])
def test_a_trusted_study_runs_code_from_anywhere(folder, text, monkeypatch):
    monkeypatch.syspath_prepend(folder.parent / "out")
    files = References(folder / "study.toml", trust=True)
    assert files.function("model", text.format(out=folder.parent / "out"))() is None
    assert (folder.parent / "out" / "theirs.ran").exists()
    sys.modules.pop("theirs", None)


NAMED = {"model": "torchvision:squeezenet1_1", "model_args": {"pretrained": False, "random_state": 3}}


def test_a_trusted_study_has_networks_by_name_with_their_own_transform(folder):
    filled = References(folder / "study.toml", trust=True).fill(NAMED)
    expected = load_network("torchvision:squeezenet1_1", pretrained=False, random_state=3)
    images = torch.rand(2, 3, 40, 30, generator=torch.Generator().manual_seed(0))
    assert torch.equal(filled["preprocess"](images), expected.preprocess(images))
    for name, weights in expected.model.state_dict().items():
        assert torch.equal(filled["model"].state_dict()[name], weights)
    assert "model_args" not in filled
    (folder / "own.py").write_text("def scale(x):\n    return x / 2\n")
    own = References(folder / "study.toml", trust=True).fill(NAMED | {"preprocess": "own.py:scale"})
    assert torch.equal(own["preprocess"](images), images / 2)


def test_networks_by_name_are_code_of_others(files, folder, monkeypatch):
    refused(lambda: files.fill(NAMED), r"asks to run torchvision:squeezenet1_1\(pretrained=False, random_state=3\)")
    refused(lambda: files.check_code([{"model": "hub:owner/repository:net"}]), "asks to run hub:owner/repository:net")
    trusted = References(folder / "study.toml", trust=True)
    refused(
        lambda: trusted.fill({"model": "torchvision:resnet81"}), "cannot build .* torchvision has no network 'resnet81'"
    )
    refused(lambda: trusted.fill({"model": "timm:x", "model_args": 3}), "model_args of 'timm:x' must be a table")
    refused(
        lambda: trusted.fill({"model": "torchvision:resnet18", "model_args": {"weights": "DEFAULT"}}),
        "load_network takes name, pretrained, random_state",
    )
    monkeypatch.setitem(COLLECTIONS, "hub", lambda name, pretrained: (torch.nn.Identity(), None))
    refused(
        lambda: trusted.fill({"model": "hub:owner/repository:net"}), "without a transform of images; add preprocess"
    )


def test_the_source_runs_and_not_an_old_compiled_file(files, folder):
    net = folder / "net.py"
    net.write_text("def build(): return 1\n")
    py_compile.compile(str(net))
    time = net.stat().st_mtime_ns
    net.write_text("def build(): return 2\n")
    os.utime(net, ns=(time, time))
    assert files.function("model", "net.py:build")() == 2


def test_a_pipe_in_the_place_of_code_is_refused_at_once(files, folder):
    os.mkfifo(folder / "net.py")
    refused(lambda: files.function("model", "net.py:build"), "no Python file")


@pytest.mark.parametrize("table", ["systems.net", "metrics.net", "finders.net", "images"])
def test_foreign_code_is_refused_before_the_studys_own_runs(study, table):
    (study.parent / "net.py").write_text(MARKS)
    own = '[metrics.own]\nmetric = "Features"\nmodel = "net.py:build"\nlayer = "0"\n'
    text = MINIMAL_STUDY.replace('images.path = "images"', "") + own if table == "images" else MINIMAL_STUDY + own
    path = 'path = "images"\n' if table == "images" else ""
    study.write_text(f'{text}[{table}]\n{path}model = "os:system"\nmodel_args = {{ command = "touch {study}.ran" }}\n')
    refused(lambda: run_study(study), r"study.toml asks to run os:system\(command='touch ")
    assert not list(study.parent.glob("*.ran"))
    assert not (study.parent / "study_output").exists()


def test_trust_is_given_on_the_command_line(study, capsys):
    out = study.parent.parent / "out" / "theirs.py"
    study.write_text(f'{MINIMAL_STUDY}[metrics.theirs]\nmetric = "Features"\nmodel = "{out}:build"\nlayer = "0"\n')
    assert main(["run", str(study)]) == 2
    assert "--trust" in capsys.readouterr().err
    assert not out.with_suffix(".ran").exists()
    with suppress(Exception):  # it builds no network
        main(["run", str(study), "--trust"])
    assert out.with_suffix(".ran").exists()


@pytest.mark.parametrize(
    "output", ["{out}/deep", "../out", "results/../../out", "$THEIRS/deep", "linked/deep", "linked"]
)
def test_output_outside_the_folder_is_refused(study, output, monkeypatch):
    out = study.parent.parent / "out"
    monkeypatch.setenv("THEIRS", str(out))
    (study.parent / "linked").symlink_to(out)
    study.write_text(f'output = "{output.format(out=out)}"\n{MINIMAL_STUDY}')
    refused(
        lambda: run_study(study), "^output = .* leads to .*out.*, outside the folder of study.toml; .* --output, or"
    )
    assert [path.name for path in out.iterdir()] == ["theirs.py"]


@pytest.mark.parametrize("link", ["study_output", "study_output/cache", "study_output/cache/embeddings"])
def test_links_in_the_folder_of_the_study_do_not_lead_output_out_of_it(study, link):
    (study.parent / link).parent.mkdir(parents=True, exist_ok=True)
    (study.parent / link).symlink_to(study.parent.parent / "out")
    refused(lambda: run_study(study), "outside the folder of study.toml")


def test_output_goes_where_the_caller_or_a_trusted_study_asks(study, tmp_path):
    run_study(study, tmp_path / "mine")
    study.write_text(f'output = "../theirs"\n{MINIMAL_STUDY}')
    run_study(study, trust=True)
    for folder in ("mine", "theirs"):
        assert (tmp_path / folder / "report.html").exists()


@pytest.mark.parametrize("key", ["stimuli", "trials"])
def test_labels_are_a_file_or_a_name_within_the_file_of_responses(files, folder, key):
    (folder / "trials.csv").write_text("image\ncat\n")
    assert files.fill({key: "trials.csv"}) == {key: folder / "trials.csv"}
    assert files.fill({key: "image_names"}) == {key: "image_names"}


@pytest.mark.parametrize("key", ["checkpoint", "cache"])
def test_other_files_that_a_run_writes_stay_below_the_folder(files, folder, key):
    assert files.fill({key: "mine/x"}) == {key: str(folder / "mine" / "x")}
    refused(lambda: files.fill({key: "../x"}), f"^{key} = '../x' leads to ")
    trusted = References(folder / "study.toml", trust=True)
    assert trusted.fill({key: "../x"}) == {key: str(folder / "../x")}


def test_shared_files_contain_no_absolute_path_and_no_secret(study, monkeypatch):
    monkeypatch.setenv("A_SECRET", "s3cr3t")
    (study.parent / "brain.npy").rename(study.parent / "s3cr3t.npy")
    text = MINIMAL_STUDY.replace('"brain.npy"', '"$A_SECRET.npy"').replace(
        'stimuli = "images"', f'stimuli = "{study.parent}/images"'
    )
    sae = '[finders.SAE]\nfinder = "SparseAutoencoder"\nn_directions = 2\nn_active = 2\nmax_iter = 20\n'
    study.write_text(f'{text}[finders.PCA]\nn_directions = 2\n{sae}checkpoint = "sae.pt"\n')
    output = study.parent / "study_output"
    monkeypatch.setattr(sys, "argv", ["/bin/neurosuper", "run", str(study), f"--output={output}"])
    result = run_study(study)
    assert "neurosuper run study.toml --output=study_output" in result.provenance
    for name in ("study.nc", "report.html"):
        content = (output / name).read_bytes()
        assert str(study.parent).encode() not in content
        assert b"s3cr3t" not in content
