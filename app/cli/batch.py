"""Run the cascade over many scans and keep the record of it."""

import argparse
import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app import __version__
from app.cascade.bundle import Cascade, open_cascade
from app.cascade.engine import cpu_features
from app.cascade.memory import GIB, MIB, container_peak, memory_limit, parse_bytes
from app.cascade.pipeline import segment_scan
from app.cascade.report import CaseReport
from app.cli.cases import Case, find_cases
from app.cli.info import versions
from app.cli.record import (
    RECORD_NAME,
    ended_by_signals,
    finished_cases,
    remove_partial_files,
    state_of,
    write_record,
)
from app.errors import CascadeError, UnreadableScanError, UsageError
from app.manifest import sha256_of

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
    """
    asked_bytes = parse_bytes(arguments.memory_limit) if arguments.memory_limit else None
    cases = find_cases(arguments.input, arguments.output)
    finished = finished_cases(arguments.output, cases) if arguments.resume else {}
    prepare_folder(arguments.output)
    if arguments.resume:
        remove_partial_files(arguments.output)
    limit_bytes = memory_limit(asked_bytes)
    cpu = cpu_features()
    precision = cpu.precision if arguments.precision == "auto" else arguments.precision
    cascade = open_cascade(
        arguments.weights,
        memory_limit_bytes=limit_bytes,
        threads=arguments.threads,
        precision=precision,
    )
    record: dict[str, Any] = {
        "version": __version__,
        "versions": versions(),
        "cpu": cpu.name,
        "threads": arguments.threads or cpu.threads,
        "precision": precision,
        "memory_limit_mib": round(limit_bytes / MIB),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "num_cases": len(cases),
        "cases": [],
    }
    _say(
        f"{len(cases)} scan(s), precision {precision}, {record['threads']} thread(s), "
        f"memory limit {limit_bytes / GIB:.1f} GiB"
    )
    keeper = _Keeper(record, arguments.output)
    with ended_by_signals(keeper.close):
        _run_all(cases, finished, cascade, keeper)
    num_failed = sum(entry["status"] != "ok" for entry in record["cases"])
    if num_failed:
        _say(f"{num_failed} of {len(cases)} scan(s) failed; see {arguments.output / RECORD_NAME}")
    return 1 if num_failed else 0


class _Keeper:
    """Keep the record on disk, from the batch and from the thread that ends it."""

    def __init__(self, record: dict[str, Any], folder: Path) -> None:
        self.record = record
        self.folder = folder
        self._lock = threading.Lock()

    def add(self, entry: dict[str, Any]) -> None:
        """Add a case and write the record."""
        peak = container_peak()
        with self._lock:
            self.record["cases"].append(entry)
            self.record["container_peak_mib"] = None if peak is None else round(peak / MIB)
            self._write()

    def close(self, signal_name: str) -> None:
        """Write the record of a batch that a signal ends."""
        with self._lock:
            self.record["ended_by"] = signal_name
            self._write()
        remove_partial_files(self.folder)
        _say(f"ended by {signal_name}; --resume goes on from here")

    def _write(self) -> None:
        path = self.folder / RECORD_NAME
        write_record(self.record, path)
        if path.exists():
            hand_over(path)


def _run_all(
    cases: list[Case], finished: dict[str, dict[str, Any]], cascade: Cascade, keeper: _Keeper
) -> None:
    """Segment the cases that are not finished yet, and record each."""
    for case in cases:
        if case.name in finished:
            keeper.add(finished[case.name])
    waiting = [case for case in cases if case.name not in finished]
    if finished:
        _say(f"{len(finished)} of them finished before and left alone")
    started = time.perf_counter()
    for index, case in enumerate(waiting, start=1):
        entry = run_case(case, cascade)
        keeper.add(entry)
        left = _time_left(waiting[:index], waiting[index:], time.perf_counter() - started)
        _say(f"[{index}/{len(waiting)}] {_summary(entry)}{left}")


def prepare_folder(folder: Path) -> None:
    """Make sure that results can be written before any work is done.

    Parameters
    ----------
    folder : Path
        Made if it does not exist; then it belongs to the owner of the folder it
        is made in.

    Raises
    ------
    UsageError
        If it is no folder, or cannot be made or written to.
    """
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            hand_over(path)
        probe = folder / f".partial-{os.getpid()}-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"--output {folder}: cannot be written to ({error.strerror}); "
            "give a folder that user "
            f"{_user_id()} may write to"
        ) from error


def hand_over(path: Path) -> None:
    """Give a new file to the owner of its folder, if we are root and may do so."""
    if _user_id() != 0:
        return
    owner = path.parent.stat()
    try:
        os.chown(path, owner.st_uid, owner.st_gid)
    except OSError as error:
        logger.warning("%s stays with root: %s", path, error)


def run_case(case: Case, cascade: Cascade) -> dict[str, Any]:
    """Segment one scan and turn whatever happens into an entry of the record.

    Parameters
    ----------
    case : Case
        The scan.
    cascade : Cascade
        Both networks.

    Returns
    -------
    dict
        Ready for JSON; ``status`` is ``"ok"`` or ``"failed"``.
    """
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
        report = segment_scan(case.scan_path, case.label_path, cascade)
        _check_unchanged(case, entry["input_state"])
        hand_over(case.label_path)
        digest = sha256_of(case.label_path)
        entry |= {"status": "ok", "output": case.label_path.name, "output_sha256": digest}
    except CascadeError as error:
        entry["error"] = str(error)
    except Exception as error:  # one bad scan must never end the batch
        logger.debug("unexpected error", exc_info=True)
        entry["error"] = f"{case.scan_path}: unexpected {type(error).__name__}: {error}"
    return entry | _figures(report) | {"total_seconds": round(time.perf_counter() - started, 2)}


def _check_unchanged(case: Case, state_before: dict[str, int]) -> None:
    """Take a label map back whose scan changed while it was worked on."""
    if state_of(case.scan_path) != state_before:
        case.label_path.unlink(missing_ok=True)
        raise UnreadableScanError(
            f"{case.scan_path}: changed while it was being read; run again when it is complete"
        )


def _figures(report: CaseReport) -> dict[str, Any]:
    return {
        "seconds": {name: round(seconds, 3) for name, seconds in report.seconds.items()},
        "planned_mib": round(report.planned_mib),
        "peak_mib": round(report.peak_mib),
        "box": None if report.box is None else asdict(report.box),
        "num_patches": report.num_patches,
        "num_patches_skipped": report.num_skipped,
        "volumes_ml": {name: round(ml, 2) for name, ml in report.volumes_ml.items()},
        "warnings": report.warnings,
        "flags": [asdict(flag) for flag in report.flags],
    }


def _summary(entry: dict[str, Any]) -> str:
    if entry["status"] != "ok":
        return f"{entry['name']}: FAILED: {entry['error']}"
    warned = "".join(f"; warning: {warning}" for warning in entry["warnings"])
    return f"{entry['name']}: {entry['total_seconds']:.1f} s, peak {entry['peak_mib']} MiB{warned}"


def _time_left(done: Sequence[Case], waiting: Sequence[Case], seconds: float) -> str:
    """Guess from the size of the files how long the rest will take."""
    if not waiting:
        return ""
    rate = seconds / max(1, sum(case.num_bytes for case in done))
    minutes, left = divmod(round(rate * sum(case.num_bytes for case in waiting)), 60)
    return f", about {minutes}:{left:02d} left"


def _user_id() -> int:
    return os.getuid() if hasattr(os, "getuid") else -1


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
