"""Headers whose voxels lie in another file: only one beside them is opened."""

from pathlib import Path

from app.errors import UnreadableScanError, UnsupportedScanError


def voxel_file(header_path: Path, name: str) -> Path:
    """Find the file that a header names, if it lies in the header's own folder.

    A header may come from anywhere and must not make the program read, say,
    ``/etc/passwd`` or ``../secret.raw``, neither by name nor through a link.

    Parameters
    ----------
    header_path : Path
        The file that holds the header.
    name : str
        What it says.

    Returns
    -------
    Path
        An existing regular file.

    Raises
    ------
    UnsupportedScanError
        If the file lies elsewhere.
    UnreadableScanError
        If there is no such file.
    """
    folder = header_path.parent.resolve()
    if not name or "\0" in name:
        raise UnreadableScanError(f"{header_path}: names no file of voxels; export it again")
    path = header_path.parent / name
    try:
        inside = path.resolve().parent == folder
        exists = path.is_file()
    except OSError as error:
        raise UnreadableScanError(f"{header_path}: {name!r}: {error.strerror}") from error
    if not inside:
        raise UnsupportedScanError(
            f"{header_path}: its voxels are said to lie in {name!r}; only a file in the same "
            "folder is read, so put it there and correct the header"
        )
    if not exists:
        raise UnreadableScanError(f"{header_path}: {name!r} is missing; copy both files")
    return path
