import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from resident import NOTHING_KEPT

from app.cascade import engine
from app.cascade.engine import CpuFeatures, CpuNetwork, available_threads
from app.cascade.memory import MIB
from app.errors import UsageError, WeightsError

ROOT = Path(__file__).resolve().parents[2]


def test_network_scores_a_patch(stand_in_weights):
    network = CpuNetwork(stand_in_weights / "locate" / "model.xml", threads=1, precision="f32")
    patch = np.zeros(network.patch_shape, np.float32)
    patch[1, 2, 3], patch[31, 63, 0] = 2.0, -1.5
    scores = network.run(patch)
    assert scores.shape == (1, 32, 64, 32)
    assert scores.dtype == np.float32
    assert scores[0, 1, 2, 3] == pytest.approx(10)  # 10 * (|2| - 1)
    assert scores[0, 31, 63, 0] == pytest.approx(5)
    assert scores[0, 0, 0, 0] == pytest.approx(-10)


RELEASE = """
import sys
from pathlib import Path
import numpy as np
from app.cascade.engine import CpuNetwork
from resident import resident_bytes
network = CpuNetwork(Path(sys.argv[1]), threads=1, precision="f32")
patch = np.random.default_rng(0).standard_normal(network.patch_shape, np.float32)
scores = network.run(patch).copy()
at_work = resident_bytes()
network.release()
print(at_work - resident_bytes())
np.testing.assert_array_equal(network.run(patch), scores)
"""


def test_released_memory_is_given_back_and_taken_again_for_the_next_patch():
    """In a process of its own: in this one the memory may be what other tests have freed."""
    model = ROOT / "weights" / "locate" / "model.xml"
    environment = {**os.environ, **NOTHING_KEPT, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    given_back = subprocess.check_output([sys.executable, "-c", RELEASE, model], env=environment)
    assert int(given_back) > 16 * MIB  # of 27


@pytest.mark.parametrize(
    ("capabilities", "precision"), [(("FP32", "INT8"), "f32"), (("BF16", "FP32"), "bf16")]
)
def test_auto_takes_bf16_only_where_the_processor_computes_in_it(capabilities, precision):
    assert CpuFeatures(name="", threads=1, capabilities=capabilities).precision == precision


@pytest.mark.parametrize(("variable", "value", "precision"), [
    (None, "", "bf16"),
    ("ONEDNN_MAX_CPU_ISA", "", "bf16"),
    ("ONEDNN_MAX_CPU_ISA", "ALL", "bf16"),
    ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX", "bf16"),
    ("ONEDNN_MAX_CPU_ISA", "AVX2", "f32"),
    ("ONEDNN_MAX_CPU_ISA", "avx512_core", "f32"),
    ("DNNL_MAX_CPU_ISA", "AVX2_VNNI", "f32"),
])  # fmt: skip
def test_auto_takes_no_bf16_where_its_instructions_are_hidden(
    monkeypatch, variable, value, precision
):
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, value)
    told = {"FULL_DEVICE_NAME": "any", "OPTIMIZATION_CAPABILITIES": ["FP32", "BF16"]}
    core = SimpleNamespace(get_property=lambda device, name: told[name])
    monkeypatch.setattr(engine.ov, "Core", lambda: core)

    assert engine.resolve_precision("auto") == precision
    assert engine.resolve_precision("bf16") == "bf16"


def test_threads_must_be_positive(stand_in_weights):
    with pytest.raises(UsageError, match="threads"):
        CpuNetwork(stand_in_weights / "locate" / "model.xml", threads=0)


def test_file_that_is_no_network_is_a_weights_error(tmp_path):
    (tmp_path / "model.xml").write_text("<net/>")
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match="model.xml"):
        CpuNetwork(tmp_path / "model.xml", threads=1)


def test_available_threads_are_at_most_those_of_the_machine():
    assert 1 <= available_threads() <= os.cpu_count()


@pytest.mark.parametrize(
    ("quota", "threads"),
    [
        *((None, 4), (8.0, 4), (2.0, 2), (1.0, 1), (0.3, 1)),
        *((0.5, 1), (1.4, 1), (1.5, 2), (2.5, 3), (3.5, 4)),  # a half counts as a whole one
    ],
)
def test_a_quota_of_processor_time_counts_like_processors(monkeypatch, quota, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4), raising=False)
    monkeypatch.setattr(engine, "processor_quota", lambda: quota)
    assert available_threads() == threads


CHOSEN = """
import os, sys
from pathlib import Path
from app.cascade.engine import CpuNetwork, available_threads
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[2])])  # as taskset does
network = CpuNetwork(Path(sys.argv[1]), precision="f32")
compiled = network._request.get_compiled_model()
chosen = [compiled.get_property(name) for name in ("NUM_STREAMS", "INFERENCE_NUM_THREADS")]
print(available_threads(), *chosen)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no processors can be taken away")
@pytest.mark.parametrize("most", [1, 64])
def test_a_patch_has_all_processors_that_are_left_to_itself(stand_in_weights, most):
    model = stand_in_weights / "locate" / "model.xml"
    told = subprocess.check_output([sys.executable, "-c", CHOSEN, model, str(most)], cwd=ROOT)
    available, streams, threads = map(int, told.split())
    assert available == min(most, available_threads())
    assert (streams, threads) == (1, available)


def test_a_network_tells_the_threads_it_has_got(stand_in_weights):
    model = stand_in_weights / "locate" / "model.xml"
    assert CpuNetwork(model, threads=1, precision="f32").threads == 1
    wanted = 4 * os.cpu_count()
    assert 1 <= CpuNetwork(model, threads=wanted, precision="f32").threads <= os.cpu_count()


def test_importing_the_engine_reports_to_nobody(tmp_path):
    # OpenVINO's usage reports keep an identity in the home folder.
    subprocess.run(
        [sys.executable, "-c", "import app.cascade.engine"],
        cwd=ROOT,
        env={"HOME": str(tmp_path), "PATH": ""},
        check=True,
    )
    assert list(tmp_path.iterdir()) == []
