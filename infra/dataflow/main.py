"""What a flex template starts: it submits a recipe's graph to Dataflow, and does not wait for it.

Dataflow creates the job once this ends, so nothing here may wait for the job. What the launcher
does after the graph, training and the report, is done by `sensorium run` with the same recipe and
output, from any machine: it finds the graph's part done.
"""

from __future__ import annotations

import argparse
import os
import sys


def command(arguments: list[str]) -> list[str]:
    """The command line that is run, from the template's parameters and Dataflow's own options."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--set", default="")
    ours, beam = parser.parse_known_args(arguments)
    sets = [part for one in ours.set.split(";") if one for part in ("--set", one.strip())]
    return ["sensorium", "submit", ours.recipe, "--to", ours.output, *sets, *beam]


if __name__ == "__main__":
    made = command(sys.argv[1:])
    os.execvp(made[0], made)
