"""The record of a batch: written whole, read again to resume, closed when a signal ends it."""

import hashlib
import json
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from app.cli.cases import Case
from app.cli.extras import CONFIDENCE_NAME
from app.config import LOCATE, SEGMENT
from app.errors import InputError, OutputError, UnreadableScanError, UsageError
from app.imaging.io import atomic_path, peek
from app.manifest import CHECKPOINT_NAME, MANIFEST_NAME, Manifest, sha256_of

logger = logging.getLogger(__name__)

RECORD_NAME = "run.json"

# No scan that fits into memory is as large. A file may be, by what follows its voxels.
_MOST_BYTES = 16 << 30
_ENDING = (signal.SIGTERM, signal.SIGINT)


def process_age_s() -> float | None:
    """Give the time since this process was started, in s; None where the system does not say."""
    try:
        stat = Path("/proc/self/stat").read_text()
    except OSError:
        return None
    # Field 22, in clock ticks since boot; field 2, the name, may hold blanks and brackets.
    ticks = int(stat.rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def state_of(scan_path: Path) -> dict[str, int]:
    """Give what changes when a scan is written anew.

    Parameters
    ----------
    scan_path : Path
        As for :func:`app.imaging.io.peek`; every file that the scan is read from counts.

    Returns
    -------
    dict of str to int
        Number of files, their size in bytes, and in ns the last time that any content
        was modified and that any file was changed in whatever way. The second one, unlike
        the first, cannot be set back by who writes a file.

    Raises
    ------
    UnreadableScanError
        If a file is not there.
    """
    return _state_of(scan_path, _files_of(scan_path))


def state_and_content(scan_path: Path) -> tuple[dict[str, int], str | None]:
    """Give the state of a scan and the SHA-256 of all that it is read from.

    Parameters
    ----------
    scan_path : Path
        As for :func:`state_of`.

    Returns
    -------
    dict of str to int
        As from :func:`state_of`, after the content was read.
    str or None
        In hexadecimal: of the file; of several, of their bytes one file after the other, by
        name. None if they hold more than 16 GiB, which are not read.

    Raises
    ------
    UnreadableScanError, OSError
        If a file is not there, or cannot be read.
    """
    files = _files_of(scan_path)
    sha256 = _sha256_of_all(files)
    return _state_of(scan_path, files), sha256


def dicom_uids(scan_path: Path) -> dict[str, str] | None:
    """Give what a scan is called in an archive; None if it is no DICOM or cannot be read.

    Parameters
    ----------
    scan_path : Path
        As for :func:`state_of`.
    """
    with suppress(InputError):
        return dict(peek(scan_path).dicom_uids) or None
    return None


def _state_of(scan_path: Path, files: Iterable[Path]) -> dict[str, int]:
    try:
        stats = [file.stat() for file in files]
    except OSError as error:
        raise UnreadableScanError(
            f"{scan_path}: cannot be read ({error.strerror}); copy it again"
        ) from error
    return {
        "files": len(stats),
        "bytes": sum(stat.st_size for stat in stats),
        "modified_ns": max(stat.st_mtime_ns for stat in stats),
        "changed_ns": max(stat.st_ctime_ns for stat in stats),
    }


def _sha256_of_all(files: Collection[Path]) -> str | None:
    if sum(file.stat().st_size for file in files) > _MOST_BYTES:
        return None
    digest = hashlib.sha256()
    for file in sorted(files):
        with file.open("rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


def _files_of(scan_path: Path) -> tuple[Path, ...]:
    try:
        return peek(scan_path).files
    except InputError:  # what cannot be read cannot be finished, and says so when it is tried
        return (scan_path,)


def weights_used(weights: Path) -> dict[str, dict[str, str | None]]:
    """Tell which networks a run uses.

    Parameters
    ----------
    weights : Path
        Folder that holds ``locate`` and ``segment``, both found whole.

    Returns
    -------
    dict of str to dict
        Fields of the record, each by phase. ``weights``: SHA-256 of the checkpoint by
        the manifest, None where that names none; networks converted anew have the
        same. ``manifests``: SHA-256 of the manifest itself, which names all files.
    """
    paths = {phase: weights / phase / MANIFEST_NAME for phase in (LOCATE.name, SEGMENT.name)}
    checkpoints = {
        phase: Manifest.from_json(path.read_text(encoding="utf-8")).files.get(CHECKPOINT_NAME)
        for phase, path in paths.items()
    }
    manifests: dict[str, str | None] = {phase: sha256_of(path) for phase, path in paths.items()}
    return {"weights": checkpoints, "manifests": manifests}


def finished_cases(
    output: Path, cases: list[Case], choices: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Find the cases that an earlier run has finished.

    A case is finished if it was recorded as such in a run of the same program, weights,
    number format and choices, and its scan and its label map are to the byte what was
    recorded. A scan is read for that only if size or times of its files are others.

    Parameters
    ----------
    output : Path
        Folder with the label maps and the record of the earlier run, if any.
    cases : list of Case
        The cases of this run.
    choices : mapping of str to object
        Fields of the record that say what was to be computed and written, and by what.

    Returns
    -------
    dict of str to dict
        Entries of the record, by case name.

    Raises
    ------
    UsageError
        If there is a record that cannot be read.
    """
    path = output / RECORD_NAME
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        entries = {entry["name"]: entry for entry in recorded["cases"]}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: not the record of a run ({error!r}); remove it, or run without --resume"
        ) from error
    if any(recorded.get(name) != choice for name, choice in choices.items()):
        return {}
    return {case.name: entries[case.name] for case in cases if _is_finished(case, entries)}


def is_unchanged(scan_path: Path, entry: Mapping[str, Any]) -> bool:
    """Tell whether a scan holds what it held when it was segmented.

    Parameters
    ----------
    scan_path : Path
        As for :func:`state_of`.
    entry : mapping of str to object
        The scan's entry of the record.

    Returns
    -------
    bool
        False if it cannot be read.
    """
    sha256 = entry.get("input_sha256")
    try:
        files = _files_of(scan_path)
        return entry.get("input_state") == _state_of(scan_path, files) or (
            sha256 is not None and sha256 == _sha256_of_all(files)
        )
    except (InputError, OSError):
        return False


def write_record(record: dict[str, Any], path: Path) -> None:
    """Write a record, whole or not at all; complain in the log where it cannot be written."""
    try:
        with atomic_path(path) as partial:
            partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except OutputError as error:
        # The label maps matter more than the record of them.
        logger.error("%s", error)


@contextmanager
def ended_by_signals(close: Callable[[str], None]) -> Iterator[None]:
    """End the process at once, but in order, when SIGTERM or SIGINT arrives.

    Python runs signal handlers between two of its own instructions, and a patch in
    a network or the reading of a scan is a single one that takes seconds. What it
    does at once is to write the signal's number into a pipe; a thread waits there.

    Parameters
    ----------
    close : callable
        Called with the signal's name before the process ends.

    Yields
    ------
    None
        While signals are waited for; not outside of the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in _ENDING}
    previous = signal.set_wakeup_fd(sender)
    waiting = threading.Thread(target=_wait, args=(receiver, close), daemon=True)
    waiting.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(sender)
        waiting.join()
        os.close(receiver)


def remove_partial_files(folder: Path) -> None:
    """Remove what this process, or one that was killed, had begun to write."""
    for path in (*folder.glob(".partial-*"), *folder.glob(f"{CONFIDENCE_NAME}/.partial-*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
            continue
        with suppress(OSError):
            path.unlink()


def _wait(receiver: int, close: Callable[[str], None]) -> None:
    """Wait for a signal's number; nothing comes when the other end is closed."""
    for number in iter(lambda: os.read(receiver, 1), b""):
        if number[0] not in _ENDING:
            continue
        try:
            close(signal.Signals(number[0]).name)
        finally:
            # The shell's code for a process that a signal ended.
            os._exit(128 + number[0])


def _is_finished(case: Case, entries: dict[str, dict[str, Any]]) -> bool:
    entry = entries.get(case.name, {})
    return (
        entry.get("status") == "ok"
        and case.label_path.is_file()
        and entry.get("output_sha256") == sha256_of(case.label_path)
        and is_unchanged(case.scan_path, entry)
    )
