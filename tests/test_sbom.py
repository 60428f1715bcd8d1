import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "requirements" / "add_debian.py"
PINS = SCRIPT.with_name("run.txt")


def test_debian_packages_join_the_list_once_with_their_package_urls(tmp_path):
    path = tmp_path / "sbom.json"
    python_package = {"bom-ref": "requirements-L1", "name": "numpy", "type": "library"}
    path.write_text(json.dumps({"bomFormat": "CycloneDX", "components": [python_package]}))
    for _ in range(2):
        subprocess.run(
            [sys.executable, SCRIPT, path],
            input="zlib1g\t1:1.2.13.dfsg-1\tamd64\nlibstdc++6\t12.2.0-14+deb12u1\tamd64\n",
            text=True,
            check=True,
        )
    components = json.loads(path.read_text())["components"]
    assert [one["name"] for one in components] == ["numpy", "zlib1g", "libstdc++6"]
    assert [one.get("purl") for one in components] == [
        None,
        "pkg:deb/debian/zlib1g@1%3A1.2.13.dfsg-1?arch=amd64",
        "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64",
    ]


def test_every_package_that_ships_is_pinned_by_version_and_hash():
    entries = PINS.read_text().replace("\\\n", " ").splitlines()
    assert len(entries) >= 10
    for entry in entries:
        pin, *hashes = entry.split()
        assert "==" in pin
        assert hashes
        assert all(one.startswith("--hash=sha256:") for one in hashes)
