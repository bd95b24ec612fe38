"""What the package and some of its extras need, a line each, from pyproject.toml.

python infra/image/requirements.py onnx,s3
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(project: dict, extras: list[str]) -> list[str]:
    """Requirements of a `[project]` table and of extras.

    Raises:
        SystemExit: if there is no such extra.
    """
    known = project["optional-dependencies"]
    wrong = [extra for extra in extras if extra not in known]
    if wrong:
        sys.exit(f"pyproject.toml has no extra {wrong[0]!r}: there are {', '.join(sorted(known))}")
    return [*project["dependencies"], *(one for extra in extras for one in known[extra])]


if __name__ == "__main__":
    table = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    asked = [extra for extra in sys.argv[1].replace(",", " ").split() if extra]
    sys.stdout.write("\n".join(requirements(table, asked)) + "\n")
