"""What the tests of reading share: the same rows in files of each format."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.plan import SourcePlan
from transforms.records.sources import (
    parts,
    read_part,
    rows_schema,
)


def plan(*files, format="csv", key="key", **more) -> SourcePlan:
    files = tuple(map(str, files))
    return SourcePlan(files=files, names=files, format=format, key=key, **more)


def rows_of(source: SourcePlan, max_rows: int = 65_536) -> list[dict]:
    tables = [table for part in parts(source) for table in read_part(source, part, max_rows)]
    assert all(table.schema == rows_schema(source) for table in tables)
    assert all(0 < len(table) <= max_rows for table in tables)
    for table in tables:
        table.validate(full=True)
    return [row for table in tables for row in table.to_pylist()]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_all(folder: Path, columns: dict[str, list]) -> dict[str, Path]:
    """The same rows in each format."""
    rows = list(zip(*columns.values(), strict=True))
    paths = {f: folder / f"rows.{f}" for f in ("csv", "tsv", "jsonl", "parquet")}
    for format, delimiter in (("csv", ","), ("tsv", "\t")):
        with open(paths[format], "w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter, lineterminator="\r\n").writerows([columns, *rows])
    lines = [json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows]
    write(paths["jsonl"], "".join(lines))
    pq.write_table(pa.table(columns), paths["parquet"], row_group_size=3)
    return paths
