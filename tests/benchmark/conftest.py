"""Results made by hand, for the tests of what is done with them."""

from pathlib import Path

import pytest

from app.benchmark.cases import Scan
from app.benchmark.compare import CaseResult, Runs
from app.benchmark.curve import Curve, Sample
from app.benchmark.systems import Measurement

CURVE = Curve(
    (
        Sample(seconds=0.0, memory_mib=0.0, cpu_s=0.0),
        Sample(seconds=1.0, memory_mib=100.0, cpu_s=0.5),
        Sample(seconds=3.0, memory_mib=200.0, cpu_s=2.5),
    )
)


@pytest.fixture
def make_run():
    """Give a function that makes one run of 3 s, 200 MiB, 350 MiB·s and 2.5 CPU·s."""

    def make(**changes):
        fields = {"exit_code": 0, "wall_s": 3.0, "peak_mib": 200.0, "curve": CURVE, "record": {}}
        return Measurement(**fields | changes)

    return make


@pytest.fixture
def make_result():
    """Give a function that makes the result of a case from runs of ours and, perhaps, of theirs."""

    def make(ours, theirs=None, *, name="median160", shape=(160, 512, 512), **fields):
        scan = Scan(
            name=name, folder=Path(), truth=None, shape=shape, spacing_mm=(2.5, 0.8, 0.7),
            sha256="5ca9",
        )  # fmt: skip
        return CaseResult(
            scan=scan,
            ours=Runs("ours", ours),
            theirs=Runs("theirs", theirs) if theirs else None,
            **fields,
        )

    return make
