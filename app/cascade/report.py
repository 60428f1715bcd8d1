"""What is told about one scan: seconds, memory, box, organ volumes, warnings."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.cascade.memory import MIB, MemoryPlan, process_peak
from app.cascade.plausibility import Flag, as_sentences
from app.cascade.progress import Observer, nobody
from app.imaging.geometry import Box
from app.imaging.organ_statistics import OrganStatistics

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class CaseReport:
    """What happened to one scan.

    Parameters
    ----------
    seconds : dict of str to float
        Wall time of each step, in s.
    planned_mib, peak_mib : float
        Memory planned for, and the process's highest use, in MiB.
    box : Box or None
        Around the organs, in voxels of the scan in canonical orientation: what phase one located
        and, once phase two has looked, what of that holds organs.
    located_mm3 : float
        What phase one took for organs, in mm³.
    num_patches : int
        Patches phase two ran.
    volumes_ml : dict of str to float
        Volume of each organ, in ml.
    organs : list of OrganStatistics
        What was measured of each organ, if that was asked for.
    warnings : list of str
        What a user should look at, in words.
    flags : list of Flag
        The same for machines; each is told in ``warnings`` too.
    observer : Observer
        Told when a step begins.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    planned_mib: float = 0.0
    peak_mib: float = 0.0
    box: Box | None = None
    located_mm3: float = 0.0
    num_patches: int = 0
    volumes_ml: dict[str, float] = field(default_factory=dict)
    organs: list[OrganStatistics] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    flags: list[Flag] = field(default_factory=list)
    observer: Observer = field(default=nobody, repr=False)

    def flag(self, code: str, text: str, organ: str | None = None) -> None:
        """Note one finding that a sentence of its own tells."""
        self.flags.append(Flag(code=code, organ=organ, text=text))
        self.warnings.append(text)

    def add_flags(self, flags: list[Flag]) -> None:
        """Note findings that are told together, those of one kind in one sentence."""
        self.flags += flags
        self.warnings += as_sentences(flags)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step and log it with the peak memory so far."""
        self.observer(name, 0.0)
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started
        self.peak_mib = process_peak() / MIB
        logger.info("%s: %.2f s, peak %.0f MiB", name, self.seconds[name], self.peak_mib)

    def note_plan(self, plan: MemoryPlan) -> None:
        """Keep what was planned last, and log it."""
        self.planned_mib = plan.peak_bytes / MIB
        logger.info("plan: %.0f MiB of %.0f", self.planned_mib, plan.limit_bytes / MIB)
