"""What the system's control groups allow this process: memory, and a share of the processors.

Both versions are read, and each group around the process, for the tightest limit holds.
"""

from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
# Beyond "high" a version 2 group is not ended but slowed down to a crawl.
_LIMITS = ("memory.max", "memory.high", "memory.limit_in_bytes")
# A version 1 group without a limit reports a number near 2**63.
NO_LIMIT_BYTES = 2**60


def container_limit(root: Path = _ROOT, membership: Path = _MEMBERSHIP) -> int | None:
    """Read the tightest memory limit of the control groups around this process.

    What a group is slowed down beyond counts as much as what it is ended beyond.

    Parameters
    ----------
    root : Path
        Where control groups are mounted.
    membership : Path
        The file that says which groups this process is in.

    Returns
    -------
    int or None
        Bytes; None if there is no limit.
    """
    found = [
        value
        for folder in _folders("memory", root, membership)
        for name in _LIMITS
        if (value := _number_in(folder / name)) is not None and value < NO_LIMIT_BYTES
    ]
    return min(found, default=None)


def container_peak(root: Path = _ROOT, membership: Path = _MEMBERSHIP) -> int | None:
    """Read the highest memory use of this process's control group, page cache included.

    Returns
    -------
    int or None
        Bytes since the group was made; None where the system does not say.
    """
    for folder in _folders("memory", root, membership):
        for name in ("memory.peak", "memory.max_usage_in_bytes"):
            if (value := _number_in(folder / name)) is not None:
                return value
    return None


def processor_quota(root: Path = _ROOT, membership: Path = _MEMBERSHIP) -> float | None:
    """Read how many processors' time the control groups around this process allow.

    Returns
    -------
    float or None
        Such as 1.5, as ``docker run --cpus 1.5`` sets it; None if there is no limit.
    """
    found = [
        quota
        for folder in _folders("cpu", root, membership)
        if (quota := _quota_of(folder)) is not None
    ]
    return min(found, default=None)


def _quota_of(folder: Path) -> float | None:
    quota = _number_in(folder / "cpu.cfs_quota_us")
    period = _number_in(folder / "cpu.cfs_period_us")
    if quota is None:
        try:
            quota, period = map(int, (folder / "cpu.max").read_text().split())
        except (OSError, ValueError):  # the latter where it says "max"
            return None
    # Version 1 says -1 for no limit.
    return quota / period if period and quota > 0 else None


def _folders(controller: str, root: Path, membership: Path) -> Iterator[Path]:
    """Give this process's control groups for memory or the processor, innermost first."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / controller if controllers else root
        # Inside a container the path is often that of the host and does not exist.
        for folder in [base / group.lstrip("/"), *(base / group.lstrip("/")).parents]:
            if folder == base or base in folder.parents:
                yield folder


def _number_in(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
