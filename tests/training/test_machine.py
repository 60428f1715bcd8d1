"""What training asks of the machine, and what it tells the C library."""

import subprocess
import sys
from types import MappingProxyType

import pytest
import torch

from app.training.config import TrainingConfig
from app.training.loop import Trainer
from app.training.machine import computes_in_bfloat16
from app.training.objective import Objective

CPU = torch.device("cpu")

# 64 MiB, filled and freed, again and again: told in page faults of a round after the first.
FILL_AND_FREE = """
import resource, torch
from app.training.machine import keep_freed_memory
{first}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)
before = faults()
for _ in range(10):
    torch.ones(2**24)
print((faults() - before) / 10)
"""


def _faults_a_round(first):
    command = [sys.executable, "-c", FILL_AND_FREE.format(first=first)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told")
def test_freed_memory_is_kept_for_the_next_tensor():
    # As it comes, each round asks the system for its memory again, in large pages or small ones.
    assert _faults_a_round("pass") > 20
    assert _faults_a_round("assert keep_freed_memory()") < 2


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
        ({"neon": True, "bf16": False}, False),
    ],
)
def test_only_a_processor_with_instructions_for_it_computes_in_bfloat16(
    monkeypatch, capabilities, expected
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType(capabilities))

    assert computes_in_bfloat16(CPU) is expected


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("asked", [True, False])
def test_mixed_precision_is_left_out_where_it_would_be_emulated(
    monkeypatch, tmp_path, native, asked
):
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: MappingProxyType({"avx512_bf16": native})
    )
    config = TrainingConfig(
        steps=1, patch_shape=(4, 5, 6), batch_size=1, mixed_precision=asked, warmup_steps=0
    )
    seen = []

    class Probe(torch.nn.Conv3d):
        def forward(self, x):
            found = super().forward(x)
            seen.append(found.dtype)
            return found

    trainer = Trainer(Probe(1, 2, 1), config, tmp_path, objective=Objective())
    trainer.train_step(torch.zeros(1, 1, 4, 5, 6), torch.zeros(1, 1, 4, 5, 6, dtype=torch.int64))

    assert seen == [torch.bfloat16 if native and asked else torch.float32]
