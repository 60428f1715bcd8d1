"""What ISA-L saves over zlib: seconds to inflate a scan, seconds and size of a deflated label map.

``python tests/trials/compression.py --scan SCAN.nii.gz --labels LABELS.nii.gz``
"""

import argparse
import gzip
import io
import time
from pathlib import Path

from isal import igzip

REPEATS = 3
LEVELS = {"zlib": (gzip, 6), "zlib, level 1": (gzip, 1), "ISA-L, level 1": (igzip, 1)}


def least_s(work):
    """Give the least seconds of a few calls."""
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scan", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    options = parser.parse_args()
    packed = options.scan.read_bytes()
    for name, library in (("zlib", gzip), ("ISA-L", igzip)):
        seconds = least_s(lambda library=library: library.decompress(packed))
        print(f"inflate the scan, {len(packed) / 2**20:.0f} MiB, {name}: {seconds:.2f} s")
    labels = gzip.decompress(options.labels.read_bytes())
    for name, (library, level) in LEVELS.items():

        def deflate(library=library, level=level):
            buffer = io.BytesIO()
            with library.open(buffer, "wb", level) as stream:
                stream.write(labels)
            return len(buffer.getvalue())

        print(
            f"deflate {len(labels) / 2**20:.0f} MiB of labels, {name}: {least_s(deflate):.2f} s, "
            f"{deflate() / 1e6:.2f} MB"
        )


if __name__ == "__main__":
    main()
