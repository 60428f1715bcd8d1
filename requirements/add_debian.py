"""Add the Debian packages of an image to a CycloneDX list.

The list is dpkg's, read from standard input: a line a package, its name, version and
architecture with tabs between them; `make sbom` shows how. Usage: add_debian.py sbom.json
"""

import json
import sys
from pathlib import Path
from urllib.parse import quote


def component(line: str) -> dict[str, str]:
    """Turn a line of dpkg's list into a component with a package URL."""
    name, version, architecture = line.split("\t")
    url = f"pkg:deb/debian/{quote(name, safe='')}@{quote(version, safe='')}?arch={architecture}"
    return {"bom-ref": url, "name": name, "purl": url, "type": "library", "version": version}


def main() -> None:
    """Read the list from standard input and write it into the file that is named."""
    path = Path(sys.argv[1])
    told = json.loads(path.read_text(encoding="utf-8"))
    known = {entry.get("bom-ref") for entry in told["components"]}
    found = [component(line) for line in sys.stdin.read().splitlines()]
    told["components"] += [entry for entry in found if entry["bom-ref"] not in known]
    path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
