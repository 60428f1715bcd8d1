import os
from pathlib import Path

import numpy as np
import pytest

from app.cascade.memory import (
    GIB,
    MIB,
    container_limit,
    container_peak,
    memory_limit,
    parse_bytes,
    plan_memory,
    process_peak,
    reset_process_peak,
)
from app.config import LOCATE, SEGMENT
from app.errors import MemoryLimitError, UsageError
from app.imaging.geometry import Geometry
from app.imaging.io import ScanHeader


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("8GiB", 8 * GIB),
        ("8g", 8 * GIB),
        ("8 GB", 8 * GIB),
        ("1.5G", 1.5 * GIB),
        ("512MiB", 512 * MIB),
        ("64k", 64 * 1024),
        ("4096", 4096),
        ("4096B", 4096),
    ],
)
def test_sizes_are_read_as_people_write_them(text, num_bytes):
    assert parse_bytes(text) == num_bytes


@pytest.mark.parametrize("text", ["", "much", "-1g", "8 TiB", "0", "8ig", "1e9"])
def test_other_texts_are_no_sizes(text):
    with pytest.raises(UsageError, match="8GiB"):
        parse_bytes(text)


def cgroups(tmp_path, membership, **files):
    for name, content in files.items():
        path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    (tmp_path / "membership").write_text(membership)
    return {"root": tmp_path, "membership": tmp_path / "membership"}


def test_limit_of_a_version_2_container(tmp_path):
    places = cgroups(tmp_path, "0::/\n", memory_dot_max=3 * GIB, memory_dot_peak=5 * MIB)
    assert container_limit(**places) == 3 * GIB
    assert container_peak(**places) == 5 * MIB


def test_tightest_limit_of_nested_version_2_groups(tmp_path):
    places = cgroups(
        tmp_path,
        "0::/outer/inner\n",
        outer__memory_dot_max=2 * GIB,
        outer__inner__memory_dot_max="max",
    )
    assert container_limit(**places) == 2 * GIB


def test_limit_of_a_version_1_container_whose_path_is_that_of_the_host(tmp_path):
    places = cgroups(
        tmp_path,
        "4:cpu:/x\n5:memory:/docker/0123\n0::/\n",
        memory__memory_dot_limit_in_bytes=4 * GIB,
        memory__memory_dot_max_usage_in_bytes=6 * MIB,
    )
    assert container_limit(**places) == 4 * GIB
    assert container_peak(**places) == 6 * MIB


def test_no_limit_is_none_in_either_version(tmp_path):
    places = cgroups(
        tmp_path,
        "5:memory:/\n0::/\n",
        memory__memory_dot_limit_in_bytes=9223372036854771712,
        memory_dot_max="max",
    )
    assert container_limit(**places) is None


def test_system_without_control_groups_has_no_limit(tmp_path):
    assert container_limit(tmp_path, tmp_path / "none") is None
    assert container_peak(tmp_path, tmp_path / "none") is None


def test_what_the_user_asks_for_wins():
    assert memory_limit(123) == 123
    assert memory_limit() <= max(8 * GIB, container_limit() or 0)


def header(shape, spacing_mm, bytes_per_voxel=2):
    return ScanHeader(
        path=Path("scan.nii.gz"),
        geometry=Geometry(shape=shape, spacing_mm=spacing_mm),
        pixel_type="",
        bytes_per_voxel=bytes_per_voxel,
        nifti_header=None,
    )


def plan(scan_header, limit_bytes=8 * GIB, **kwargs):
    return plan_memory(
        scan_header, locate=LOCATE, segment=SEGMENT, limit_bytes=limit_bytes, **kwargs
    )


def test_headline_scan_is_planned_below_1_6_gib_and_the_longest_below_2():
    region_mm = (408.0, 221.0, 312.0)
    headline = plan(header((597, 512, 512), (1.25, 0.898, 0.898)), region_mm=region_mm)
    longest = plan(header((1338, 512, 512), (0.8, 0.9, 0.9)), region_mm=region_mm)
    assert headline.peak_bytes < 1.6 * GIB < longest.peak_bytes < 2 * GIB


def test_scan_that_does_not_fit_is_refused_before_it_is_loaded():
    with pytest.raises(MemoryLimitError, match=r"scan\.nii\.gz: needs about .* GiB, 1\.0 GiB"):
        plan(header((597, 512, 512), (1.25, 0.898, 0.898)), limit_bytes=GIB)


def test_wide_pixels_need_more():
    shape, spacing_mm = (1338, 512, 512), (0.8, 0.9, 0.9)
    narrow, wide = (plan(header(shape, spacing_mm, size), 20 * GIB) for size in (2, 8))
    assert wide.steps["read"] - narrow.steps["read"] == (16 - 4) * np.prod(shape)


def test_small_scan_needs_little_scores():
    assert plan(header((30, 100, 120), (3.0, 3.0, 3.0))).peak_bytes < 1.5 * GIB


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="this system does not reset peaks"
)
def test_peak_is_that_since_the_last_reset():
    # Twice what is asserted: the system may take other pages back in the meantime.
    np.ones(256 * MIB, np.uint8)
    with_block = process_peak()
    reset_process_peak()
    without_block = process_peak()
    assert without_block < with_block - 128 * MIB
    block = np.ones(128 * MIB, np.uint8)
    assert process_peak() > without_block + 64 * MIB
    assert block.size == 128 * MIB
