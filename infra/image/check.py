"""Run while the image is built: everything can be imported, and Beam is the base's version."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import apache_beam

MODULES = ("cv2", "soundfile", "soxr", "sklearn", "skops", "pipelines.flow", "pipelines.commands")
BOOT = Path("/opt/apache/beam/boot")


def main() -> None:
    """Import all, or end with what is missing."""
    for module in MODULES:
        importlib.import_module(module)
    if not BOOT.exists():
        sys.exit(f"{BOOT} is missing: the base is not Beam's image of a Python SDK")
    wanted = sys.argv[1]
    if apache_beam.__version__ != wanted:
        sys.exit(f"Beam {apache_beam.__version__} was installed over the base's {wanted}")
    sys.stdout.write(f"Beam {apache_beam.__version__} and {len(MODULES)} modules are there\n")


if __name__ == "__main__":
    main()
