"""Folders that results go to: made, tried, and owned by whom they should be."""

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from app.errors import UsageError

logger = logging.getLogger(__name__)


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


def check_dicom(folder: Path) -> None:
    """Refuse a folder of DICOM series that cannot be looked into.

    Raises
    ------
    UsageError
        If it is no folder, or may not be read or entered.
    """
    try:
        if not folder.is_dir():
            raise UsageError(f"--dicom {folder}: no such folder")
        if not os.access(folder, os.R_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UsageError(
            f"--dicom {folder}: cannot be read ({error.strerror}); allow reading and entering it"
        ) from error


_kept: set[int] = set()  # descriptors of the folders that this process keeps


def _let_go() -> None:
    """Close in a forked process what keeps a folder: it may outlive the one that was killed."""
    while _kept:
        os.close(_kept.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Keep a folder to this process, which removes partial files and writes the record anew.

    The folder itself is locked, so no file is left behind, and the system lets go of it when
    the process ends, however it does. Containers that mount one folder share the lock. Where
    there are no locks to be had, as on some network drives, the block runs all the same.

    Parameters
    ----------
    folder : Path
        An existing one.

    Yields
    ------
    None
        While the folder is kept.

    Raises
    ------
    UsageError
        If another process keeps it.
    """
    # Here, as Windows has none, where commands are listed before one is refused.
    import fcntl

    with contextlib.ExitStack() as kept:
        try:
            descriptor = os.open(folder, os.O_RDONLY)
            _kept.add(descriptor)
            kept.callback(_close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"--output {folder}: another run writes to it; wait until that ends, or choose "
                "another --output"
            ) from None
        except OSError as error:
            logger.debug("%s: not locked: %s", folder, error)
        yield


def _close(descriptor: int) -> None:
    if descriptor in _kept:
        _kept.remove(descriptor)
        os.close(descriptor)


def hand_over(path: Path) -> None:
    """Give a new file to the owner of its folder, if we are root and may do so."""
    if _user_id() != 0:
        return
    owner = path.parent.stat()
    try:
        os.chown(path, owner.st_uid, owner.st_gid)
    except OSError as error:
        logger.warning("%s stays with root: %s", path, error)


def _user_id() -> int:
    return os.getuid() if hasattr(os, "getuid") else -1
