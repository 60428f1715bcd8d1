"""Show versions, networks, weights and what this machine offers."""

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

from app import __version__
from app.cli.predict import add_weights_argument

HELP = "show versions, networks, weights and what this machine offers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    add_weights_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what is known."""
    facts = gather(arguments.weights)
    if arguments.json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(facts)) + "\n")
    return 0


def gather(weights: Path) -> dict[str, Any]:
    """Collect versions, both phases' networks, and the CPU's features.

    Parameters
    ----------
    weights : Path
        Folder that holds ``locate`` and ``segment``.

    Returns
    -------
    dict
        Ready for JSON.
    """
    from app.cascade.bundle import read_manifest
    from app.cascade.engine import cpu_features

    cpu = cpu_features()
    phases = {name: read_manifest(weights / name, name) for name in ("locate", "segment")}
    return {
        "version": __version__,
        "versions": versions(),
        "phases": {
            name: {
                "parameters": manifest.parameters,
                "gmacs_per_patch": manifest.gmacs_per_patch,
                "patch_shape": manifest.config.patch_shape,
                "spacing_mm": manifest.config.spacing_mm,
                "checksums": dict(manifest.files),
                "license": manifest.license,
                "provenance": manifest.provenance,
                "training": dict(manifest.training),
            }
            for name, manifest in phases.items()
        },
        "cpu": {
            "name": cpu.name,
            "threads": cpu.threads,
            "features": list(cpu.capabilities),
            "precision": cpu.precision,
        },
    }


def versions() -> dict[str, str]:
    """Give the versions of Python and of the libraries a prediction depends on."""
    # Here, since `predict` asks while the networks compile.
    from importlib import metadata

    packages = ("numpy", "scipy", "simpleitk", "openvino")
    return {
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


def _lines(facts: dict[str, Any]) -> list[str]:
    libraries = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines = [f"version    {facts['version']}", f"libraries  {libraries}"]
    for name, phase in facts["phases"].items():
        patch = " x ".join(str(size) for size in phase["patch_shape"])
        spacing = " x ".join(f"{step:g}" for step in phase["spacing_mm"])
        lines += [
            "",
            name,
            f"  parameters  {phase['parameters']:,}",
            f"  work        {phase['gmacs_per_patch']:g} GMAC per patch of {patch} voxels",
            f"  spacing     {spacing} mm (z, y, x)",
            f"  license     {phase['license']}",
            f"  provenance  {phase['provenance']}",
            *(f"  sha256      {digest}  {file}" for file, digest in phase["checksums"].items()),
        ]
    cpu = facts["cpu"]
    return [
        *lines,
        "",
        f"cpu        {cpu['name']}, {cpu['threads']} threads",
        f"features   {', '.join(cpu['features'])}",
        f"precision  {cpu['precision']} (what --precision auto picks here)",
    ]
