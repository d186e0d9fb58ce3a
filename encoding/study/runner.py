"""Runs a study: what is done is skipped, what is missing is made, results and report are written at the end."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import xarray as xr

from ... import __version__
from ...models.memory import format_bytes
from .archive import write_results
from .format import Study
from .graph import Cache, Inputs, Step, format_seconds, in_order
from .report import write_report
from .workflow import Workflow

RESULTS, REPORT, CACHE = "results.nc", "report.html", "cache"


class Runner:
    """One study and the folder that its results go to.

    Parameters
    ----------
    study
        A checked study.
    out
        Folder for ``results.nc``, ``report.html`` and ``cache/``; default the study's name. Results of steps in the
        cache are used again, by this and any other study.
    device
        Instead of the study's.
    say
        Where progress goes, one line at a time; default standard output.

    Raises
    ------
    OSError
        If the folder cannot be made.
    """

    def __init__(
        self,
        study: Study,
        out: str | Path | None = None,
        *,
        device: str | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.study = study
        self.out = Path(study.name if out is None else out)
        self.say = say or _print
        self.analyses = Workflow(study, device).analyses()
        self.steps = in_order([analysis.step for analysis in self.analyses])
        self.cache = Cache(self.out / CACHE)

    def run(self) -> Path:
        """Do what is missing and write both files.

        Returns
        -------
        pathlib.Path
            Of the report.
        """
        started = time.perf_counter()
        needed = self._needed()
        for number, step in enumerate(self.steps, start=1):
            place = f"[{number}/{len(self.steps)}] {step.title}"
            if step.key not in needed:
                self.say(f"{place}: skipped, done before")
                continue
            self._make(step, place)
        groups = {analysis.group: self._loaded(analysis.step) for analysis in self.analyses}
        seconds = time.perf_counter() - started
        self._write(groups, seconds)
        self.say(f"results: {self.out / RESULTS}\nreport: {self.out / REPORT}")
        return self.out / REPORT

    def plan(self) -> str:
        """What :meth:`run` would do, with bytes and seconds as far as they can be known before."""
        needed = self._needed()
        lines, total = [], {"bytes": 0.0, "seconds": 0.0}
        for step in self.steps:
            if step.key not in needed:
                lines.append(f"{step.title}: done before")
                continue
            known = all(self.cache.has(each) for each in step.inputs.values())
            inputs = {name: self.cache.load(each) for name, each in step.inputs.items()} if known else None
            expected = self._estimate(step, inputs) if known else {}
            lines.append(f"{step.title}: to do{_foreseen(expected)}")
            total = {name: total[name] + expected.get(name, 0.0) for name in total}
        lines.append(
            f"at least {format_bytes(total['bytes'])} and {format_seconds(total['seconds'])}, as far as is known now"
        )
        return "\n".join(lines)

    def _make(self, step: Step, place: str) -> None:
        inputs = {name: self.cache.load(each) for name, each in step.inputs.items()}
        planned = self._estimate(step, inputs)
        self.say(f"{place}: begins{_foreseen(planned)}")
        try:
            took = self.cache.make(step, inputs, planned)
        except OSError:
            # a damaged shard shows only when it is read; its folder is checked, and mended, in the next run
            for each in step.inputs.values():
                if each.form == "folder":
                    self.cache.forget(each)
            raise
        self.say(f"{place}: done in {format_seconds(took.seconds)}, {format_bytes(took.bytes)}")

    def _needed(self) -> set[str]:
        """Keys of the steps that must be done: analyses that are missing, and what they rest on."""
        needed: set[str] = set()

        def visit(step: Step) -> None:
            if step.key not in needed and not self._whole(step):
                needed.add(step.key)
                for each in step.inputs.values():
                    visit(each)

        for analysis in self.analyses:
            visit(analysis.step)
        return needed

    def _whole(self, step: Step) -> bool:
        """Whether a step's result is there and can be opened; a damaged one is made again."""
        if not self.cache.has(step):
            return False
        try:
            self.cache.load(step)
        except OSError as error:
            self.say(f"{error} It is made again.")
            self.cache.forget(step)
            return False
        return True

    def _loaded(self, step: Step) -> xr.Dataset:
        result = self.cache.load(step)
        assert isinstance(result, xr.Dataset)
        return result

    def _estimate(self, step: Step, inputs: Inputs | None) -> dict[str, float]:
        return {} if step.estimate is None or inputs is None else step.estimate(step.settings, inputs)

    def _write(self, groups: dict[str, xr.Dataset], seconds: float) -> None:
        attrs = {
            "title": self.study.table["study"]["title"] or self.study.name,
            "study": self.study.text,
            "study_hash": hashlib.blake2b(self.study.text.encode(), digest_size=12).hexdigest(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "cerebridge_version": __version__,
        }
        index = {a.group: {"kind": a.entry["kind"], "recording": a.recording} for a in self.analyses}
        write_results(self.out / RESULTS, groups, attrs, index)
        records = [(step.title, step.key, self.cache.record(step)) for step in self.steps]
        write_report(
            self.out / REPORT, self.study, self.analyses, groups, records, {**attrs, "seconds": seconds}
        )


def _foreseen(expected: dict[str, float]) -> str:
    parts = []
    if "seconds" in expected:
        parts.append(f"about {format_seconds(expected['seconds'])}")
    if "bytes" in expected:
        parts.append(f"{format_bytes(expected['bytes'])} to store")
    if "memory" in expected:
        parts.append(f"{format_bytes(expected['memory'])} of memory beside the data")
    return "".join(f", {part}" for part in parts)


def _print(line: str) -> None:
    print(line, file=sys.stdout, flush=True)
