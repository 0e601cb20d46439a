"""Report retired words and names in code and documents, as listed in `retired_words.txt` next to this file.

Run as `python .ci/check_prose.py [--count] [PATH …]`; without paths, it reads everything in `CHECKED`. Where a listed
word is right, write "prose: ok" in a comment on that line. The exit status is 1 if anything is found.
"""

import argparse
import re
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CHECKED = [
    *("neurosuper", "data_manifests", "tutorials", "docs", "changes", "benchmarks", ".ci", ".github", "README.md"),
    *(
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CODE_OF_CONDUCT.md",
        "RELEASING.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "Makefile",
    ),
    *("pyproject.toml", "setup.cfg", "setup.py"),
]
SUFFIXES = {"", ".cff", ".cfg", ".css", ".html", ".js", ".md", ".py", ".pyi", ".toml", ".yaml", ".yml"}
ALLOWED = "prose: ok"
GAP = r"[\s#]+"  # what a space in a pattern matches: also a line break, and the "#" of a comment on the next line


class Entry(NamedTuple):
    """A retired word or name, and what to write instead."""

    pattern: re.Pattern[str]
    instead: str


def read_list(path: Path) -> list[Entry]:
    """Return the entries of a list: lines `pattern -> instead` below a heading [names] (case counts) or [words]."""
    entries, flags = [], 0
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.strip()
        if line in ("[names]", "[words]"):
            flags = re.IGNORECASE if line == "[words]" else 0
        elif line and not line.startswith("#"):
            pattern, _, instead = (part.strip() for part in line.rpartition(" -> "))
            entries.append(Entry(re.compile(rf"(?<!\w)(?:{pattern.replace(' ', GAP)})(?!\w)", flags), instead))
    return entries


def find(text: str, entries: list[Entry]) -> list[tuple[int, str, str]]:
    """Return (line number, words found, what to write instead) for each retired word in a text, in order."""
    lines, found = text.split("\n"), []
    for entry in entries:
        for match in entry.pattern.finditer(text):
            first, last = (text.count("\n", 0, place) for place in match.span())
            if not any(ALLOWED in line for line in lines[first : last + 1]):
                found.append((first + 1, " ".join(match.group().split()), entry.instead))
    return sorted(found)


def files_of(paths: list[Path]) -> list[Path]:
    """Return the text files among paths and below folders, sorted; notebooks are copies of scripts and left out."""
    inside = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return sorted(
        {file for file in inside if file.is_file() and file.suffix in SUFFIXES and "__pycache__" not in file.parts}
    )


def main() -> int:
    """Print every retired word with its place; return 1 if there are any."""
    parser = argparse.ArgumentParser(description="Report retired words and names.")
    parser.add_argument("paths", nargs="*", type=Path, help="files or folders (default: all that are checked)")
    parser.add_argument("--count", action="store_true", help="print one count per folder, not every place")
    options = parser.parse_args()
    entries = read_list(Path(__file__).with_name("retired_words.txt"))
    paths = options.paths or [ROOT / name for name in CHECKED if (ROOT / name).exists()]
    counts: Counter[str] = Counter()
    for file in files_of(paths):
        name = file.resolve()
        name = name.relative_to(ROOT) if name.is_relative_to(ROOT) else name
        for line, words, instead in find(file.read_text(encoding="utf-8"), entries):
            counts[str(name.parent)] += 1
            if not options.count:
                print(f"{name}:{line}: {words!r}: write {instead}")
    if options.count:
        print("\n".join(f"{count:5} {folder}" for folder, count in sorted(counts.items())))
    if counts:
        print(f"{counts.total()} retired words or names; see .ci/retired_words.txt", file=sys.stderr)
    return bool(counts)


if __name__ == "__main__":
    sys.exit(main())
