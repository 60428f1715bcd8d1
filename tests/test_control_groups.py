import pytest

from app.cascade.memory import GIB, MIB
from app.control_groups import container_limit, container_peak, processor_quota


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


@pytest.mark.parametrize(
    ("high", "most", "limit"),
    [(2 * GIB, 3 * GIB, 2 * GIB), (2 * GIB, "max", 2 * GIB), ("max", 3 * GIB, 3 * GIB)],
)
def test_what_a_version_2_group_is_slowed_down_beyond_is_a_limit(tmp_path, high, most, limit):
    places = cgroups(tmp_path, "0::/\n", memory_dot_high=high, memory_dot_max=most)
    assert container_limit(**places) == limit


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


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/\n", {"cpu_dot_max": "100000 100000"}, 1),  # docker run --cpus 1
        ("0::/\n", {"cpu_dot_max": "max 100000"}, None),
        (
            "0::/outer/inner\n",
            {"outer__cpu_dot_max": "150000 100000", "outer__inner__cpu_dot_max": "400000 100000"},
            1.5,
        ),
        (
            "3:cpu,cpuacct:/docker/0123\n5:memory:/x\n0::/\n",
            {"cpu__cpu_dot_cfs_quota_us": 200000, "cpu__cpu_dot_cfs_period_us": 100000},
            2,
        ),
        (
            "3:cpu:/\n",
            {"cpu__cpu_dot_cfs_quota_us": -1, "cpu__cpu_dot_cfs_period_us": 100000},
            None,
        ),
    ],
)
def test_share_of_the_processors_in_either_version(tmp_path, membership, files, quota):
    assert processor_quota(**cgroups(tmp_path, membership, **files)) == quota


def test_system_without_control_groups_has_no_quota(tmp_path):
    assert processor_quota(tmp_path, tmp_path / "none") is None
