"""What was tried in an output folder: `registry.json` shows which hypotheses were stated before scores existed.

The file is a list of events. "hypotheses": a run stated these, for these settings. "scores": a run with these settings
computed scores. Each event contains a digest of itself and all events before it, so that a later change is noticed. It
shows the order of events in this folder only: not what was tried elsewhere, or in a folder that was deleted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xarray as xr

from neurosuper._files import whole_file
from neurosuper.comparison.contrast import KEPT, NothingToTestError, name_contrasts
from neurosuper.study.file import Hypothesis, Study
from neurosuper.study.write import NUMBERS, cannot_write

REGISTRY = "registry.json"
# Change no score:
NOT_SETTINGS = {"title", "note", "output", "device", "cache_embeddings", "hypotheses"}
NOT_SETTINGS |= {"superposition", "factors", "populations", "twins"}

Event = dict[str, Any]


class Registry:
    """The events of an output folder that a run has locked.

    Parameters
    ----------
    folder : Path
        Output folder of a study.
    study : Study
        The settings of this run.
    checksums : mapping of str to str
        SHA-256 of the data and code that the run reads: with others, its settings are others.

    Raises
    ------
    ValueError
        The file was edited or is damaged.
    """

    def __init__(self, folder: Path, study: Study, checksums: Mapping[str, str]) -> None:
        self.path = folder / REGISTRY
        self.events = _read(self.path)
        self.study = study
        settings = study.model_dump(mode="json", exclude=NOT_SETTINGS) | {"files": dict(sorted(checksums.items()))}
        self.settings = _digest(settings)
        if not self.events and (folder / NUMBERS).exists():  # written before there was a registry
            self._append({"event": "scores", "settings": "unknown", "n_tests": 0})

    def state(self) -> None:
        """Write down the hypotheses of this run, unless the same were stated before for the same settings."""
        stated = {"event": "hypotheses", "settings": self.settings, "hypotheses": self._stated()}
        if stated["hypotheses"] and not any(stated.items() <= event.items() for event in self.events):
            self._append(stated)

    def score(self, result: xr.Dataset) -> dict[str, Any]:
        """Write down that scores exist, and return what a report says about hypotheses and everything tried.

        Parameters
        ----------
        result : Dataset (item, metric)
            The scores of this run.

        Returns
        -------
        dict
            `hypotheses`: those of this run, each with the `time` it was first stated and whether that was
            `before_scores`. `n_runs` with scores, `n_settings` of all runs, and `n_tests`: the contrasts of finders and
            of systems that these settings have together, and the hypotheses that are not among them.
        """
        n_tests = _count_tests(result, self._stated())
        with suppress(OSError):  # no room: `publish` writes the results to a folder of their own, and raises
            self._append({"event": "scores", "settings": self.settings, "n_tests": n_tests})
        scored = [event for event in self.events if event["event"] == "scores"]
        by_settings = {event["settings"]: event["n_tests"] for event in scored}
        return {
            "hypotheses": [stated | self._first_stated(stated) for stated in self._stated()],
            "n_runs": len(scored),
            "n_settings": len(by_settings),
            "n_tests": sum(by_settings.values()),
        }

    def _stated(self) -> list[dict[str, Any]]:
        """Return the hypotheses of this run, with the settings that are part of each."""
        shared = {"top": self.study.top, "score_on": self.study.score_on, "seed": self.study.seeds[0]}
        return [hypothesis.model_dump(mode="json") | shared for hypothesis in self.study.hypotheses]

    def _first_stated(self, hypothesis: dict[str, Any]) -> dict[str, Any]:
        """Return when it was first stated for these settings and data: after a change it is another hypothesis."""
        places = [
            i
            for i, event in enumerate(self.events)
            if event["settings"] == self.settings and hypothesis in event.get("hypotheses", [])
        ]
        before_scores = all(event["event"] != "scores" for event in self.events[: places[0]])
        return {"time": self.events[places[0]]["time"], "before_scores": before_scores}

    def _append(self, event: Event) -> None:
        event = {"time": datetime.now(UTC).isoformat(timespec="seconds")} | event
        self.events = [*self.events, event | {"sha256": _digest([*self.events, event])}]
        try:
            with whole_file(self.path) as partial:
                partial.write_text(json.dumps(self.events, indent=1), encoding="utf-8")
        except OSError as error:
            raise cannot_write(self.path.parent, error) from error


def _count_tests(result: xr.Dataset, hypotheses: list[dict[str, Any]]) -> int:
    """Return the number of contrasts of finders and of systems, and of hypotheses that are not among them."""
    n_tests, against = 0, set()
    for varied in KEPT:
        with suppress(NothingToTestError):  # such as only one system
            tests = name_contrasts(result, varied)
            n_tests += len(tests)
            against |= {test["against"] for test in tests} if varied == "finder" else set()
    return n_tests + sum(stated["against"] not in against for stated in hypotheses)


def check_hypotheses(hypotheses: list[Hypothesis], systems: Iterable[str], finders: Iterable[str]) -> None:
    """Refuse hypotheses about systems or finders that the study does not have."""
    for key, known in (("system", list(systems)), ("finder", list(finders)), ("against", list(finders))):
        if unknown := [name for each in hypotheses if (name := getattr(each, key)) not in known]:
            raise ValueError(f"a hypothesis has the {key} {unknown[0]!r}; the study has {', '.join(known)}")


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> list[Event]:
    """Return the events in a file, none if there is no file; refuse one that does not agree with its digests."""
    if not path.exists():
        return []
    try:
        events = json.loads(path.read_text(encoding="utf-8"))
        for i, event in enumerate(events):
            rest = {key: value for key, value in event.items() if key != "sha256"}
            if event["sha256"] != _digest([*events[:i], rest]):
                raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} was edited or is damaged: its events do not agree with their digests; restore it, or choose "
            "another output folder"
        ) from error
    return list(events)
