"""Run the cascade over many scans and keep the record of it."""

import argparse
import contextlib
import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app import __version__
from app.cascade.bundle import Cascade, hurried, observed, open_cascade
from app.cascade.engine import Precision, cpu_features
from app.cascade.memory import GIB, MIB, memory_limit, parse_bytes
from app.cli.cases import Case, find_cases
from app.cli.extras import Extras
from app.cli.folders import hand_over, prepare_folder, sole_writer
from app.cli.info import versions
from app.cli.preview import BatchReport
from app.cli.progress import BatchProgress, clock
from app.cli.record import (
    RECORD_NAME,
    dicom_uids,
    ended_by_signals,
    finished_cases,
    process_age_s,
    remove_partial_files,
    state_and_content,
    state_of,
    weights_used,
    write_record,
)
from app.control_groups import container_peak
from app.errors import CascadeError, UnreadableScanError, WeightsError
from app.manifest import sha256_of

if TYPE_CHECKING:
    from app.cascade.report import CaseReport

logger = logging.getLogger(__name__)


def run_batch(arguments: argparse.Namespace) -> int:
    """Segment every scan of a folder, whatever becomes of the others.

    Parameters
    ----------
    arguments : Namespace
        As described by :mod:`app.cli.predict`.

    Returns
    -------
    int
        0 if every scan was segmented, else 1.

    Raises
    ------
    UsageError
        If what is asked for cannot be done, or another run writes to the output folder.
    """
    import_s = process_age_s()
    asked_bytes = parse_bytes(arguments.memory_limit) if arguments.memory_limit else None
    extras = Extras(arguments)
    cases = find_cases(arguments.input, arguments.output)
    extras.check_not_replaced(cases)
    prepare_folder(arguments.output)
    if extras.confidence is not None:
        prepare_folder(extras.confidence)
    with sole_writer(arguments.output):
        extras.open_tables(arguments)
        return _run_alone(arguments, cases, extras, import_s=import_s, asked_bytes=asked_bytes)


def _run_alone(
    arguments: argparse.Namespace,
    cases: list[Case],
    extras: Extras,
    *,
    import_s: float | None,
    asked_bytes: int | None,
) -> int:
    """Segment the cases into a folder that no other run writes to."""
    if arguments.resume:
        remove_partial_files(arguments.output)
    cpu = cpu_features()
    precision = cpu.precision if arguments.precision == "auto" else arguments.precision
    cascade = _open_cascade(arguments, extras, precision, asked_bytes)
    decisive = {
        "version": __version__,
        "precision": precision,
        **weights_used(arguments.weights),
        **extras.as_record(),
    }
    finished: dict[str, dict[str, Any]] = {}
    if arguments.resume and extras.boxes is None:
        recorded = finished_cases(arguments.output, cases, decisive)
        finished = {
            case.name: recorded[case.name]
            for case in cases
            if case.name in recorded and extras.are_there(case, recorded[case.name])
        }
    record: dict[str, Any] = {
        **decisive,
        "versions": versions(),
        "cpu": cpu.name,
        "threads": arguments.threads or cpu.threads,
        "startup_seconds": {
            "import": None if import_s is None else round(import_s, 3),
            "compile": None,
        },
        "memory_limit_mib": round(cascade.memory_limit_bytes / MIB),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "num_cases": len(cases),
        "cases": [],
    }
    return _run_recorded(arguments, cases, finished, record, cascade, extras)


def _open_cascade(
    arguments: argparse.Namespace, extras: Extras, precision: Precision, asked_bytes: int | None
) -> Cascade:
    """Open both phases, to compute and to plan memory for what was asked for."""
    cascade = replace(
        open_cascade(
            arguments.weights,
            memory_limit_bytes=memory_limit(asked_bytes),
            threads=arguments.threads,
            precision=precision,
            locate_only=extras.boxes is not None,
        ),
        keeps_scan=arguments.statistics,
        writes_more=arguments.preview or extras.formats_beside,
    )
    return hurried(cascade) if extras.fast else cascade


def _run_recorded(
    arguments: argparse.Namespace,
    cases: list[Case],
    finished: dict[str, dict[str, Any]],
    record: dict[str, Any],
    cascade: Cascade,
    extras: Extras,
) -> int:
    """Segment the cases that an earlier run has not finished; tell how it goes and ended."""
    waiting = [case for case in cases if case.name not in finished]
    with (
        BatchProgress(waiting, arguments.progress) as progress,
        BatchReport(arguments.output, record, hand_over)
        if arguments.preview
        else contextlib.nullcontext() as pictures,
    ):
        progress.say(
            f"{len(cases)} scan(s), precision {record['precision']}, "
            f"{record['threads']} thread(s), "
            f"memory limit {cascade.memory_limit_bytes / GIB:.1f} GiB"
        )
        keeper = _Keeper(record, arguments.output, progress, pictures)
        with ended_by_signals(keeper.close):
            if finished:
                # All before any is drawn: what ends the batch meanwhile must not lose them.
                keeper.add(*finished.values())
                for case in cases:
                    if case.name in finished:
                        keeper.draw(case, finished[case.name])
                progress.say(f"{len(finished)} of them finished before and left alone")
            _run_all(waiting, observed(cascade, progress.observe), extras, keeper)
    num_failed = sum(entry["status"] != "ok" for entry in record["cases"])
    if num_failed:
        progress.say(
            f"{num_failed} of {len(cases)} scan(s) failed; see {arguments.output / RECORD_NAME}"
        )
    if pictures is not None and pictures.page is not None:
        progress.say(f"now open {pictures.page} in a browser")
    elif num_failed < len(cases):
        progress.say(f"results are in {arguments.output}")
    return 1 if num_failed else 0


class _Keeper:
    """Keep record and page on disk, from the batch and from the thread that ends it."""

    def __init__(
        self,
        record: dict[str, Any],
        folder: Path,
        progress: BatchProgress,
        pictures: BatchReport | None,
    ) -> None:
        self.record = record
        self.folder = folder
        self.progress = progress
        self.pictures = pictures
        self._lock = threading.Lock()

    def note_compiled(self, cascade: Cascade) -> None:
        """Note how long the networks took to compile, in the background, and their threads."""
        seconds = cascade.compile_s()
        self.record["startup_seconds"]["compile"] = None if seconds is None else round(seconds, 3)
        # Until then it was what was asked for.
        self.record["threads"] = cascade.threads() or self.record["threads"]

    def add(self, *entries: dict[str, Any]) -> None:
        """Add cases and write the record."""
        peak = container_peak()
        with self._lock:
            self.record["cases"] += entries
            self.record["container_peak_mib"] = None if peak is None else round(peak / MIB)
            self._write()

    def draw(self, case: Case, entry: dict[str, Any]) -> None:
        """Draw a case of the record, if pictures are wanted; a failure becomes its warning."""
        if self.pictures is None:
            return
        told = entry.get("warnings")
        self.pictures.draw(case, entry)
        if entry.get("warnings") != told:
            with self._lock:
                self._write()

    def close(self, signal_name: str) -> None:
        """Write record and page of a batch that a signal ends."""
        with self._lock:
            self.record["ended_by"] = signal_name
            self._write()
        if self.pictures is not None:
            self.pictures.write()
        remove_partial_files(self.folder)
        self.progress.stop()
        self.progress.say(f"ended by {signal_name}; --resume goes on from here")

    def _write(self) -> None:
        path = self.folder / RECORD_NAME
        write_record(self.record, path)
        if path.exists():
            hand_over(path)


def _run_all(waiting: list[Case], cascade: Cascade, extras: Extras, keeper: _Keeper) -> None:
    """Segment the cases that are not finished yet, and record each."""
    progress = keeper.progress
    for index, case in enumerate(waiting):
        progress.begin(index)
        entry = run_case(case, cascade, extras)
        keeper.note_compiled(cascade)
        keeper.add(entry)
        keeper.draw(case, entry)
        progress.end(entry["status"])
        left = f", about {clock(progress.seconds_left())} left" if case is not waiting[-1] else ""
        progress.say(f"[{index + 1}/{len(waiting)}] {_summary(entry)}{left}")


def run_case(case: Case, cascade: Cascade, extras: Extras) -> dict[str, Any]:
    """Segment one scan and turn whatever happens into an entry of the record.

    Parameters
    ----------
    case : Case
        The scan.
    cascade : Cascade
        Both networks.
    extras : Extras
        What else is to be written.

    Returns
    -------
    dict
        Ready for JSON; ``status`` is ``"ok"`` or ``"failed"``.
    """
    # Here, since SciPy takes as long to import as all before it: the networks compile meanwhile.
    from app.cascade.pipeline import locate_scan, segment_scan
    from app.cascade.report import CaseReport

    entry: dict[str, Any] = {
        "name": case.name,
        "input": case.scan_path.name,
        "status": "failed",
        "error": None,
    }
    started = time.perf_counter()
    report = CaseReport()
    try:
        entry["input_state"] = state_of(case.scan_path)
        entry["dicom"] = dicom_uids(case.scan_path)
        if extras.boxes is not None:
            report, source = locate_scan(case.scan_path, cascade)
            _check_unchanged(case, entry)
            extras.boxes.put(case.name, report.box, source)
            paths = [extras.boxes.path]
        else:
            extras.check(case)
            report = segment_scan(
                case.scan_path,
                case.label_path,
                cascade,
                organs=extras.organs,
                statistics=extras.table is not None,
                confidence_path=extras.confidence_path(case),
                before_replaced=partial(_check_unchanged, case, entry),
                on_replaced=partial(_forget, case, extras),
            )
            hand_over(case.label_path)
            entry["output"] = case.label_path.name
            entry["output_sha256"] = sha256_of(case.label_path)
            paths = extras.write(case, report)
            entry["files"] = [
                path.relative_to(extras.output).as_posix() for path in extras.files_beside(case)
            ]
        _hand_over_all(paths)
        entry["status"] = "ok"
    except WeightsError:
        raise  # no scan can be segmented with these
    except CascadeError as error:
        entry["error"] = str(error)
    except MemoryError as error:
        entry["error"] = f"{case.scan_path}: memory ran out ({error}); give it more, or less to do"
    except Exception as error:  # one bad scan must never end the batch
        logger.debug("unexpected error", exc_info=True)
        entry["error"] = f"{case.scan_path}: unexpected {type(error).__name__}: {error}"
    report.warnings = [*case.notes, *report.warnings]
    return entry | _figures(report) | {"total_seconds": round(time.perf_counter() - started, 2)}


def _forget(case: Case, extras: Extras) -> None:
    """Remove what an earlier run left of a case besides its label map."""
    _hand_over_all(extras.forget(case))


def _hand_over_all(paths: Iterable[Path]) -> None:
    for path in paths:
        hand_over(path)


def _check_unchanged(case: Case, entry: dict[str, Any]) -> None:
    """Fail a scan that changed or went away while it was worked on; note what it holds."""
    try:
        state, sha256 = state_and_content(case.scan_path)
        changed = state != entry["input_state"]
    except (CascadeError, OSError):
        changed = True
    if changed:
        raise UnreadableScanError(
            f"{case.scan_path}: changed while it was being read, or was removed; run again when "
            "it is complete"
        )
    entry["input_sha256"] = sha256


def _figures(report: "CaseReport") -> dict[str, Any]:
    return {
        "seconds": {name: round(seconds, 3) for name, seconds in report.seconds.items()},
        "planned_mib": round(report.planned_mib),
        "peak_mib": round(report.peak_mib),
        "box": None if report.box is None else asdict(report.box),
        "num_patches": report.num_patches,
        "volumes_ml": {name: round(ml, 2) for name, ml in report.volumes_ml.items()},
        "warnings": report.warnings,
        "flags": [asdict(flag) for flag in report.flags],
    }


def _summary(entry: dict[str, Any]) -> str:
    if entry["status"] != "ok":
        return f"{entry['name']}: FAILED: {entry['error']}"
    warned = "".join(f"; warning: {warning}" for warning in entry["warnings"])
    return f"{entry['name']}: {entry['total_seconds']:.1f} s, peak {entry['peak_mib']} MiB{warned}"
