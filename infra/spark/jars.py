"""Spark and Beam's job server for it, from Maven, into the cache.

    python -m infra.spark.jars

The first time takes a minute or two and some 250 MB from a Maven repository (~/.m2/settings.xml
says which, as for any other build); after that nothing is done.
"""

from __future__ import annotations

from pathlib import Path

from infra.maven import maven, scratch
from infra.processes import CACHE

POM = Path(__file__).resolve().parent / "pom.xml"


def spark_home() -> Path:
    """Folder that Spark takes for its installation: all there is in it is `jars`."""
    wanted = CACHE / "spark-home"
    if not wanted.is_dir():
        new = scratch(wanted)
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime"]
        maven(POM, "Spark and Beam's runner for it", *goal, f"-DoutputDirectory={new}/jars")
        new.rename(wanted)
    return wanted


if __name__ == "__main__":
    print(spark_home())
