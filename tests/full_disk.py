"""A full disk, for the tests of what is written."""

import contextlib
import resource


@contextlib.contextmanager
def room_for(num_bytes):
    """Limit the size of files, which is met as a full disk is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
