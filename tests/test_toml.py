"""Whatever is wrong in a TOML file is said in one line, and at once."""

import pytest

from neurosuper._toml import parse_toml
from neurosuper.load.manifest import read_manifest
from neurosuper.study import read_study

WRONG = {
    "values in values": "a = " + "[" * 100_000 + "]" * 100_000,
    "tables in tables": "[" + ".".join(["a"] * 50_000) + "]\n",
    "quoted tables in tables": "[" + " . ".join(['"a"', "b"] * 25_000) + "]\n",
    "a key of keys": "x = { " + ".".join(["a"] * 50_000) + " = 1 }\n",
    "a long number": "top = " + "9" * 200_000,
    "no TOML": "title = ",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_it_is_said_in_one_line_that_names_the_file(text, tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    for read in (read_manifest, read_study):
        with pytest.raises(ValueError, match="wrong.toml is not valid TOML: ") as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


def test_long_words_and_sentences_are_read_at_once():
    files = ", ".join(["'a.b.png'"] * 1000)
    text = f"note = '{'Two words. ' * 1000}'\nkey = '{'a' * 10**6}'\nfiles = [{files}]"
    assert len(parse_toml(text)["files"]) == 1000
