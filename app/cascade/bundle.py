"""Open weights folders and refuse what does not belong together."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from app.cascade.engine import (
    CpuNetwork,
    PatchNetwork,
    PendingNetwork,
    Precision,
    available_threads,
    check_precision,
    check_threads,
)
from app.cascade.memory import (
    MemoryPlan,
    check_program_fits,
    plan_memory,
    within_address_space,
)
from app.cascade.progress import Observer, nobody
from app.config import LOCATE, PREPROCESSING_VERSION, SEGMENT, PhaseConfig
from app.errors import WeightsError
from app.imaging.geometry import SpacingZYX
from app.imaging.io import ScanHeader
from app.manifest import MANIFEST_NAME, MODEL_NAME, MODEL_WEIGHTS_NAME, Manifest, sha256_of

HURRIED_COARSENING = 1.25
"""How much coarser phase two's grid is in a hurry; docs/site/outputs.md has what it costs."""

_CLASS_NAMES = {config.name: config.class_names for config in (LOCATE, SEGMENT)}
# The locator gives one score, how much more likely organs are than background.
_NUM_CHANNELS = {LOCATE.name: 1, SEGMENT.name: len(SEGMENT.class_names)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One phase, ready to run.

    Parameters
    ----------
    config : PhaseConfig
        Grid and intensities the network was trained with.
    network : PatchNetwork
        Scores one patch.
    on_patch : callable
        Told after each patch what share of them is done.
    """

    config: PhaseConfig
    network: PatchNetwork
    on_patch: Callable[[float], None] = partial(nobody, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """Both phases, ready to run, and the memory they may use.

    Parameters
    ----------
    locate, segment : Phase
        Phase one and phase two.
    memory_limit_bytes : int
        Scans that need more are refused.
    second_look : bool
        Whether phase two looks on beyond a box that cuts an organ.
    keeps_scan, num_copies, writes_more, locate_only
        What else memory is planned for; see :func:`plan_memory`.
    observer : Observer
        Told how far a scan has come.
    """

    locate: Phase
    segment: Phase
    memory_limit_bytes: int
    second_look: bool = True
    keeps_scan: bool = False
    num_copies: int = 0
    writes_more: bool = False
    locate_only: bool = False
    observer: Observer = nobody

    def compile_s(self) -> float | None:
        """Give the seconds that compiling in the background took; None if it was not done so.

        From the first network's beginning to the last one's end.
        """
        networks = [self.locate.network]
        if not self.locate_only:
            networks.append(self.segment.network)
        times = [one.compiled_from_to for one in networks if isinstance(one, PendingNetwork)]
        if not times:
            return None
        return max(ended for _, ended in times) - min(began for began, _ in times)

    def threads(self) -> int | None:
        """Give the threads of a network compiled in the background; None if it was not done so.

        Both phases have the same.
        """
        network = self.locate.network
        return network.threads if isinstance(network, PendingNetwork) else None

    def plan(self, header: ScanHeader, region_mm: SpacingZYX | None = None) -> MemoryPlan:
        """Check that a scan fits the memory cap; see :func:`plan_memory`."""
        return plan_memory(
            header,
            locate=self.locate.config,
            segment=self.segment.config,
            limit_bytes=self.memory_limit_bytes,
            region_mm=region_mm,
            keeps_scan=self.keeps_scan,
            num_copies=self.num_copies,
            writes_more=self.writes_more,
            locate_only=self.locate_only,
        )


def hurried(cascade: Cascade) -> Cascade:
    """Trade a little accuracy for time: fewer patches, and no second look at a cut organ.

    Parameters
    ----------
    cascade : Cascade
        Stays as it is.

    Returns
    -------
    Cascade
        The same networks, phase two on a coarser grid than it was trained on;
        its patches overlap only where the region's size makes them.
    """
    config = cascade.segment.config
    z, y, x = (round(step_mm * HURRIED_COARSENING, 6) for step_mm in config.spacing_mm)
    config = replace(config, spacing_mm=(z, y, x), overlap=0.0)
    return replace(cascade, segment=replace(cascade.segment, config=config), second_look=False)


def observed(cascade: Cascade, observer: Observer) -> Cascade:
    """Give the same cascade, reporting to someone.

    Parameters
    ----------
    cascade : Cascade
        Stays as it is.
    observer : Observer
        Told of each step, and of each patch in the steps that run a network.

    Returns
    -------
    Cascade
        Shares the networks of the other.
    """
    locate = replace(cascade.locate, on_patch=partial(observer, "locate"))
    segment = replace(cascade.segment, on_patch=partial(observer, "segment"))
    return replace(cascade, locate=locate, segment=segment, observer=observer)


def open_cascade(
    weights: Path,
    *,
    memory_limit_bytes: int,
    threads: int | None = None,
    precision: Precision = "auto",
    locate_only: bool = False,
) -> Cascade:
    """Open both phases.

    Each network is compiled in a thread of its own; whoever runs a patch first waits
    for that. Until then a scan can be read.

    Parameters
    ----------
    weights : Path
        Folder that holds ``locate`` and ``segment``.
    memory_limit_bytes : int
        Scans that need more are refused.
    threads : int, optional
        As for :class:`app.cascade.engine.CpuNetwork`.
    precision : {"auto", "f32", "bf16"}
        Phase two's; phase one computes in float32.
    locate_only : bool
        Whether phase one alone is compiled and memory is to do for that, as
        :func:`app.cascade.pipeline.locate_scan` runs it.

    Returns
    -------
    Cascade
        Ready to run.

    Raises
    ------
    WeightsError
        If the folder does not hold both phases, whole and unchanged. One that only
        compiling can find is raised by the first patch.
    UsageError
        If ``threads`` is not positive, or ``precision`` is none of these.
    MemoryLimitError
        If the program alone would exceed the container's limit or ``ulimit -v``.
    """
    check_threads(threads)
    check_precision(precision)
    num_threads = threads or available_threads()
    check_program_fits(num_threads, locate_only=locate_only)
    limit_bytes = within_address_space(memory_limit_bytes, num_threads)
    compiler = ThreadPoolExecutor(max_workers=2, thread_name_prefix="compile")
    locate, segment = (
        open_phase(
            weights / name,
            name,
            None if locate_only and name == SEGMENT.name else compiler,
            threads=threads,
            precision=precision,
        )
        for name in (LOCATE.name, SEGMENT.name)
    )
    compiler.shutdown(wait=False)
    return Cascade(
        locate=locate, segment=segment, memory_limit_bytes=limit_bytes, locate_only=locate_only
    )


def open_phase(
    folder: Path,
    name: str,
    compiler: ThreadPoolExecutor | None = None,
    *,
    threads: int | None = None,
    precision: Precision = "auto",
) -> Phase:
    """Open a weights folder; who first asks for the network waits until it is compiled.

    Parameters
    ----------
    folder : Path
        ``weights/<phase>``.
    name : {"locate", "segment"}
        The phase that is expected there.
    compiler : ThreadPoolExecutor, optional
        As for :class:`app.cascade.engine.PendingNetwork`.
    threads, precision
        As for :func:`open_cascade`.

    Returns
    -------
    Phase

    Raises
    ------
    WeightsError
        If the folder does not hold that phase, whole and unchanged. One that only
        compiling can find is raised to who asks for the network.
    """
    config = read_manifest(folder, name).config
    compile_network = partial(
        _compile, folder, config, threads=threads, precision=_precision_of(name, precision)
    )
    return Phase(config=config, network=PendingNetwork(compile_network, compiler))


def _precision_of(name: str, precision: Precision) -> Precision:
    """Give what a phase computes in where phase two is to compute in `precision`."""
    # A voxel more or less of what phase one sees moves phase two's patches, and labels with them.
    return "f32" if name == LOCATE.name else precision


def read_manifest(folder: Path, name: str) -> Manifest:
    """Read and check the manifest of one phase, and the files it speaks of.

    Parameters
    ----------
    folder : Path
        ``weights/<phase>``.
    name : {"locate", "segment"}
        The phase that is expected there.

    Returns
    -------
    Manifest
        Agrees with this code and with the files.

    Raises
    ------
    WeightsError
        If a file is missing or changed, or the network was made for something else.
    """
    path = folder / MANIFEST_NAME
    try:
        manifest = Manifest.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error}); run the export first") from error
    except UnicodeDecodeError as error:
        raise WeightsError(
            f"{path}: the manifest is no text in UTF-8 ({error}); restore it or export again"
        ) from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    _check_config(path, manifest.config, name)
    for file_name in (MODEL_NAME, MODEL_WEIGHTS_NAME):
        _check_file(folder / file_name, manifest.files.get(file_name))
    return manifest


def _compile(
    folder: Path, config: PhaseConfig, *, threads: int | None, precision: Precision
) -> CpuNetwork:
    network = CpuNetwork(folder / MODEL_NAME, threads=threads, precision=precision)
    num_channels = _NUM_CHANNELS[config.name]
    if network.patch_shape != config.patch_shape or network.num_channels != num_channels:
        raise WeightsError(
            f"{folder / MODEL_NAME}: patches {network.patch_shape} with {network.num_channels} "
            f"scores found, {config.patch_shape} with {num_channels} expected"
        )
    return network


def _check_config(path: Path, config: PhaseConfig, name: str) -> None:
    if config.name != name:
        raise WeightsError(f"{path}: weights for phase {config.name!r} found, {name!r} expected")
    if config.preprocessing_version != PREPROCESSING_VERSION:
        raise WeightsError(
            f"{path}: trained with preprocessing {config.preprocessing_version}, "
            f"this program has {PREPROCESSING_VERSION}; use matching weights"
        )
    if config.class_names != _CLASS_NAMES[name]:
        raise WeightsError(
            f"{path}: classes {config.class_names} found, {_CLASS_NAMES[name]} expected"
        )


def _check_file(path: Path, expected: str | None) -> None:
    if expected is None:
        raise WeightsError(f"{path}: the manifest gives no checksum; export again")
    if not path.is_file():
        raise WeightsError(f"{path}: missing; run the export first")
    found = sha256_of(path)
    if found != expected:
        raise WeightsError(
            f"{path}: SHA-256 {found} found, {expected} expected; the file was changed, "
            "restore it or export again"
        )
