"""Compile a network for this CPU and run patches through it.

The only file that imports OpenVINO.
"""

import math
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Literal, Protocol, TypeAlias, cast, get_args

from app.control_groups import processor_quota
from app.errors import UsageError, WeightsError
from app.imaging.geometry import FloatVolume, IndexZYX

# On import, OpenVINO's converter reports usage over the network and writes to the
# home folder. Where this package cannot be found it uses a silent stand-in.
sys.modules.setdefault("openvino_telemetry", cast("ModuleType", None))
# The converter takes as long to import as all the rest of it. Only export needs it, which imports
# it by its name; the image is without.
_CONVERTER = "openvino.tools.ovc"
sys.modules.setdefault(_CONVERTER, cast("ModuleType", None))

import openvino as ov  # noqa: E402

if not sys.modules[_CONVERTER]:
    del sys.modules[_CONVERTER]

INPUT_NAME = "patch"
"""Name of the network's input, of static shape (1, 1, Z, Y, X)."""

Precision: TypeAlias = Literal["auto", "f32", "bf16"]

_TYPES = {"f32": ov.Type.f32, "bf16": ov.Type.bf16}

_MOST_INSTRUCTIONS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Environment variables that hide instructions from oneDNN, which OpenVINO computes with."""

_WITHOUT_BF16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"}
"""Their values that leave none for bfloat16."""


class PatchNetwork(Protocol):
    """A network that scores one patch at a time."""

    @property
    def patch_shape(self) -> IndexZYX:
        """Size of a patch, in voxels."""

    @property
    def num_channels(self) -> int:
        """Number of scores per voxel."""

    def run(self, patch: FloatVolume) -> FloatVolume:
        """Score a patch of shape (Z, Y, X).

        The result has shape (C, Z, Y, X) and is valid until the next call.
        """

    def release(self) -> None:
        """Give back the memory that patches are computed in, until the next one comes.

        Results are not valid any longer.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuFeatures:
    """What this CPU offers.

    Parameters
    ----------
    name : str
        As the CPU calls itself.
    threads : int
        Threads this process may use.
    capabilities : tuple of str
        Number formats that run faster than by emulation.
    """

    name: str
    threads: int
    capabilities: tuple[str, ...]

    @property
    def precision(self) -> Literal["f32", "bf16"]:
        """What ``auto`` picks: bfloat16 where the CPU computes in it, else float32."""
        return "bf16" if "BF16" in self.capabilities else "f32"


def cpu_features() -> CpuFeatures:
    """Ask OpenVINO what this CPU offers."""
    core = ov.Core()
    capabilities = set(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    # OpenVINO asks the processor, whatever is hidden from oneDNN, and then finds no kernel.
    if any(os.environ.get(name, "").upper() in _WITHOUT_BF16 for name in _MOST_INSTRUCTIONS):
        capabilities.discard("BF16")
    return CpuFeatures(
        name=str(core.get_property("CPU", "FULL_DEVICE_NAME")),
        threads=available_threads(),
        capabilities=tuple(sorted(capabilities)),
    )


def engine_version() -> str:
    """Give the version of OpenVINO."""
    return str(ov.get_version())


def resolve_precision(precision: Precision) -> Literal["f32", "bf16"]:
    """Turn ``auto`` into what this CPU is best at."""
    return cpu_features().precision if precision == "auto" else precision


def available_threads() -> int:
    """Count the processors this process may use, a container's CPU quota included.

    A quota is rounded to whole processors, a half up, and counts as one at least.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:
        allowed = os.cpu_count() or 1
    quota = processor_quota()
    # Up, unlike round(): with a thread too few half a processor would lie idle.
    return allowed if quota is None else max(1, min(allowed, math.floor(quota + 0.5)))


def check_threads(threads: int | None) -> None:
    """Refuse a number of threads that cannot be.

    Raises
    ------
    UsageError
        If ``threads`` is given and not positive.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, got {threads}")


def check_precision(precision: str) -> None:
    """Refuse a number format that phase two cannot be asked for.

    Raises
    ------
    UsageError
        If it is none of :data:`Precision`.
    """
    if precision not in get_args(Precision):
        *others, last = get_args(Precision)
        raise UsageError(f"precision must be {', '.join(others)} or {last}, got {precision!r}")


class CpuNetwork:
    """A compiled network.

    Parameters
    ----------
    model_path : Path
        The IR's ``model.xml``; ``model.bin`` lies beside it.
    threads : int, optional
        Threads to compute with; by default all that are available.
    precision : {"auto", "f32", "bf16"}
        Number format of the computation.

    Raises
    ------
    WeightsError
        If the IR cannot be read, is not a network over single patches, or cannot be compiled
        for this processor.
    UsageError
        If ``threads`` is not positive, or ``precision`` is none of these.
    """

    def __init__(
        self, model_path: Path, *, threads: int | None = None, precision: Precision = "auto"
    ) -> None:
        check_threads(threads)
        check_precision(precision)
        core = ov.Core()
        # No compiled blobs on disk: the file system may be read-only.
        core.set_property({"CACHE_DIR": ""})
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or available_threads(),
            "INFERENCE_PRECISION_HINT": _TYPES[resolve_precision(precision)],
        }
        try:
            model = core.read_model(model_path)
            shape = tuple(model.input(INPUT_NAME).shape)
            scores_shape = tuple(model.output(0).shape)
        except RuntimeError as error:
            raise WeightsError(f"{model_path}: not a usable network ({error})") from error
        if len(shape) != 5 or shape[:2] != (1, 1) or scores_shape[2:] != shape[2:]:
            raise WeightsError(
                f"{model_path}: input {shape} and output {scores_shape} found, "
                "(1, 1, Z, Y, X) and (1, C, Z, Y, X) expected"
            )
        try:
            compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise WeightsError(
                f"{model_path}: not compiled for this processor ({error}); the engine needs one "
                "with AVX, as `lscpu` tells, so run on another; where ONEDNN_MAX_CPU_ISA hides "
                "instructions, unset it or ask for --precision f32"
            ) from error
        self._request = compiled.create_infer_request()
        self._threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        self._patch_shape: IndexZYX = (shape[2], shape[3], shape[4])
        self._num_channels = int(scores_shape[1])

    @property
    def patch_shape(self) -> IndexZYX:
        """Size of a patch, in voxels."""
        return self._patch_shape

    @property
    def num_channels(self) -> int:
        """Number of scores per voxel."""
        return self._num_channels

    @property
    def threads(self) -> int:
        """Threads that the engine computes with, of those asked for: no more than processors."""
        return self._threads

    def run(self, patch: FloatVolume) -> FloatVolume:
        """Score one patch.

        Parameters
        ----------
        patch : (Z, Y, X) array of float32, C-contiguous
            What :func:`app.imaging.preprocess.network_input` makes.

        Returns
        -------
        (C, Z, Y, X) array of float32
            A view that the next call overwrites.
        """
        outputs = self._request.infer(
            {INPUT_NAME: patch[None, None]}, share_inputs=True, share_outputs=True
        )
        return cast("FloatVolume", outputs[0][0])

    def release(self) -> None:
        """Give back what patches are computed in; see :class:`PatchNetwork`."""
        self._request.get_compiled_model().release_memory()


class PendingNetwork:
    """A network that is compiled while something else is done, such as reading a scan.

    Parameters
    ----------
    compile_network : callable
        Gives the network.
    compiler : ThreadPoolExecutor or None
        Does it. None leaves it to who first asks for the network, if anyone ever does.
    """

    def __init__(
        self, compile_network: Callable[[], CpuNetwork], compiler: ThreadPoolExecutor | None
    ) -> None:
        self._compiled: Callable[[], tuple[CpuNetwork, float, float]] = (
            cache(partial(_timed, compile_network))
            if compiler is None
            else compiler.submit(_timed, compile_network).result
        )

    @property
    def compiled_from_to(self) -> tuple[float, float]:
        """When compiling began and ended, by :func:`time.perf_counter`; waits for its end."""
        _, began, ended = self._compiled()
        return began, ended

    @property
    def threads(self) -> int:
        """Threads that the engine computes with; waits for the network."""
        return self._compiled()[0].threads

    @property
    def patch_shape(self) -> IndexZYX:
        """Size of a patch, in voxels; waits for the network."""
        return self._compiled()[0].patch_shape

    @property
    def num_channels(self) -> int:
        """Number of scores per voxel; waits for the network."""
        return self._compiled()[0].num_channels

    def run(self, patch: FloatVolume) -> FloatVolume:
        """Score one patch, once the network is there; see :class:`PatchNetwork`."""
        return self._compiled()[0].run(patch)

    def release(self) -> None:
        """Give back what patches are computed in; see :class:`PatchNetwork`."""
        self._compiled()[0].release()


def _timed(compile_network: Callable[[], CpuNetwork]) -> tuple[CpuNetwork, float, float]:
    began = time.perf_counter()
    return compile_network(), began, time.perf_counter()
