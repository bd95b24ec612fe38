"""What the launcher and single workers do for all buckets: does any of it grow too large?

    python -m infra.benchmarks.scale                                  1,000,000 buckets or so
    python -m infra.benchmarks.scale --buckets 16384 1048576 8388608  the README's figures
    python -m infra.benchmarks.scale --part audit splits              some of the parts

Nothing is extracted: receipts are made up, and the functions of the project see them as they would
in a run of as many buckets (2,000 keys each, four modalities and labels). Each part is a
process of its own, on one thread. Seconds are the processor's; memory is how far its peak is above
that of a process that has only imported.
"""

from __future__ import annotations

import argparse
import json
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from apache_beam.coders import FastPrimitivesCoder

from infra.benchmarks.synthetic import make
from pipelines.planning import make_plan
from pipelines.progress import done_now
from pipelines.resume import all_there
from schemas import storage
from schemas.arrays import save_arrays
from schemas.layout import FUSED, Layout
from schemas.loading import locate_recipe
from schemas.plan import Plan
from schemas.receipts import Receipt, fingerprint, once
from schemas.recipe import Split
from transforms.audit import add_counts, audit_of, counts_of
from transforms.extract import fit_size
from transforms.extractors.extracting import finish_fit, merge_fits
from transforms.fusion.fusing import _merged, merge_statistics, statistics_size
from transforms.fusion.grouping import merge_sizes
from transforms.fusion.moments import Moments
from transforms.ingest import block_size, cut, cut_gathered
from transforms.join import by_bucket, upstream_of
from transforms.records.keys import buckets as bucket_of_key
from transforms.records.packing import to_blob
from transforms.records.sources import rows_schema
from transforms.split import split_groups

KEYS = 2000  # a bucket
BUNDLE = 1000  # receipts whose counts a worker adds before it hands them on
WIDTH = 256  # dimensions of the matrices whose merging is timed
SAMPLE = 65_536  # buckets of which work that all workers share is timed
MOST_FILES = 1 << 20  # that are made to be listed
GROUPS = (10_000, 1_000_000)  # of keys kept together by the split


@dataclass
class Found:
    """What a part took: of `units` pieces of work the seconds, and what to say of it."""

    seconds: float
    units: int
    unit: str
    note: str = ""


class Clock:
    """Processor seconds of a block, the system's included: others on the machine do not count."""

    def __enter__(self) -> Clock:
        self.start = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.process_time() - self.start


def plan_of(folder: Path, buckets: int) -> Plan:
    """The plan of a small real set, with as many buckets as asked for."""
    path = str(make(folder / "set", 32))
    recipe, place = locate_recipe(path, ["fuse.scale=standard", "join.missing=mean"])
    plan = make_plan(recipe, path, str(folder / "output"), place).plan
    return replace(plan, buckets=buckets)


def receipts(plan: Plan, step: str, name: str, counts: dict[str, int]) -> Iterator[Receipt]:
    """A receipt of each bucket."""
    for bucket in range(plan.buckets):
        yield Receipt(step, name, bucket, f"{bucket:064x}", counts)


# --- the launcher --------------------------------------------------------------------------------


def part_second_run(folder: Path, plan: Plan) -> Found:
    """A finished output is looked at again: the names of all files of a step, and progress."""
    layout = Layout(plan.output, plan.buckets)
    first = layout.receipt("ingest", "image", 0)
    pages = len(layout.prefixes) * -(-min(plan.buckets, 10_000) // 1000)
    asked = f"on S3 {pages:,} requests, 16 at a time"
    if plan.buckets > MOST_FILES:
        names = (layout.receipt("ingest", "image", bucket) for bucket in range(MOST_FILES))
        bare = [name.rpartition("/")[2] for name in names]
        with Clock() as clock:
            assert all(layout.bucket_of(name) is not None for name in bare)
        return Found(clock.seconds, MOST_FILES, "name", asked)
    parent = Path(storage.parent(first))
    parent.mkdir(parents=True)
    for bucket in range(plan.buckets):
        (parent / Path(layout.receipt("ingest", "image", bucket)).name).touch()
    with Clock() as whole:
        assert all_there(layout, [str(parent)])
    with Clock() as again:
        assert done_now(plan, {("ingest", "image"): ""}) == {("ingest", "image"): plan.buckets}
    note = f"progress {again.seconds:.1f} s; {asked}"
    return Found(whole.seconds, plan.buckets, "file of one step", note)


def part_audit(folder: Path, plan: Plan) -> Found:
    """Counts of all steps, added up in workers' bundles and then once."""
    ingest = {"rows": KEYS, "records": KEYS, "duplicates": 0, "dead_letters": 0}
    extract = {"records": KEYS, "features": KEYS, "pooled": 0, "dead_letters": 0}
    fuse = {"keys": KEYS, "fused": KEYS, "dropped": 0, "labelled": KEYS}
    fuse |= {"labels_without_records": 0, **{f"present/{m.name}": KEYS for m in plan.modalities}}
    steps = [("ingest", name, ingest) for name in plan.branches]
    steps += [("extract", m.name, extract) for m in plan.modalities] + [("fuse", FUSED, fuse)]
    some = replace(plan, buckets=min(plan.buckets, SAMPLE))
    bundles = []
    with Clock() as clock:
        for step in steps:
            made = receipts(some, *step)
            while bundle := list(islice(made, BUNDLE)):
                bundles.append(add_counts(counts_of(receipt)[1] for receipt in bundle))
    audit = audit_of(add_counts(bundles), some)
    assert audit["balanced"], audit["problems"]
    count = plan.buckets * len(steps) // BUNDLE
    with Clock() as last:
        add_counts(islice(cycle(bundles), count))
    note = f"by all workers; then in one {last.seconds:.2f} s for {count:,} bundles of them"
    return Found(clock.seconds, some.buckets * len(steps), "receipt", note)


def part_plan(folder: Path, plan: Plan) -> Found:
    """The plan as it travels with each step, by the number of manifests' files."""
    source = plan.modalities[0].source
    count = plan.buckets * KEYS // 1_000_000 or 1  # manifests of a million rows
    files = tuple(f"s3://bucket/manifests/images/part-{i:08d}.parquet" for i in range(count))
    whole = replace(source, files=files, names=tuple(f.removeprefix("s3://") for f in files))
    modalities = tuple(replace(m, source=whole) for m in plan.modalities)
    with Clock() as clock:
        size = len(pickle.dumps(replace(plan, modalities=modalities)))
    return Found(clock.seconds, 4 * count, "manifest", f"pickled {size / 2**20:.2f} MiB")


# --- what one worker does for many buckets -------------------------------------------------------


def rows_of(plan: Plan, count: int, seed: int) -> pa.Table:
    """Manifest rows as they are read."""
    keys = [f"k{seed:05d}{i:07d}" for i in range(count)]
    schema = rows_schema(plan.modality("image").source)
    columns: dict[str, object] = {name: pa.nulls(count) for name in schema.names}
    columns |= {"key": keys, "source": np.zeros(count, np.int32), "row": np.arange(count)}
    columns["uri"] = [f"s3://bucket/images/{key}.png" for key in keys]
    return pa.table(
        [pa.array(columns[n], f.type) for n, f in zip(schema.names, schema, strict=True)],
        schema=schema,
    )


def batches(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """A table in pieces."""
    return (table.slice(at, rows) for at in range(0, len(table), rows))


def part_rows(folder: Path, plan: Plan) -> Found:
    """A block of buckets: its rows are cut when they are read, and again when they are together."""
    size, count = block_size(plan), 65_536
    tables = [rows_of(plan, count, seed) for seed in range(4)]
    elements = total = 0
    with Clock() as clock:
        for table in tables:
            for _, rows in cut(table, bucket_of_key(table.column("key"), plan.buckets) // size):
                elements, total = elements + 1, total + len(to_blob(rows))
    told = f"{total / 4 / count:.0f} B a row in {4 * count / elements:.0f} rows an element"
    if size == 1:
        return Found(clock.seconds, 4 * count, "row", told)
    # Rows of all blocks stand for those of one: with as many buckets as that has.
    block = replace(plan, buckets=size)
    blobs = [to_blob(rows) for table in tables for rows in batches(table, 64)]
    with Clock() as again:
        second = list(cut_gathered("image", blobs, block, to_blob))
    told += (
        f"; again by block {again.seconds / 4 / count * 1e6:.2f} us a row, "
        f"{sum(len(blob) for _, blob in second) / 4 / count:.0f} B"
    )
    return Found(clock.seconds, 4 * count, "row", told)


def part_receipts(folder: Path, plan: Plan) -> Found:
    """Receipts are looked for, written and read, by the workers, a bucket at a time."""
    layout, some = Layout(plan.output, plan.buckets), range(min(plan.buckets, 5000))
    for again in (False, True):
        with Clock() as clock:
            for bucket in some:
                own = fingerprint(plan.fingerprints["fuse"], bucket)
                once(layout, "fuse", FUSED, bucket, own, lambda: ({"keys": KEYS}, {}))
        if not again:
            first = clock.seconds
    note = f"again {clock.seconds / len(some) * 1e6:.0f} us"
    return Found(first, len(some), "bucket and step", note)


def part_join(folder: Path, plan: Plan) -> Found:
    """Receipts of all modalities come together by bucket; of elements, not of files."""
    names, some = plan.branches, min(plan.buckets, SAMPLE)
    with Clock() as clock:
        for bucket in range(some):
            pairs = [by_bucket(Receipt("extract", n, bucket, "0" * 64)) for n in names]
            upstream_of((bucket, [pair for _, pair in pairs]), plan)
    coder = FastPrimitivesCoder()
    size = sum(len(coder.encode(pair)) for pair in pairs)
    note = f"by all workers; {size} B of a bucket shuffled, {size * plan.buckets / 2**20:,.0f} MiB"
    return Found(clock.seconds, some, "bucket", note)


def sums(plan: Plan, step: str, size: int, arrays: dict[str, np.ndarray]) -> list[Receipt]:
    """Files of sums, all alike, and their receipts."""
    layout, found = Layout(plan.output, plan.buckets), []
    for bucket in range(0, plan.buckets, size):
        path = layout.statistics(step, bucket)
        files = {layout.relative(path): save_arrays(path, arrays)}
        found.append(Receipt("fit", step, bucket, f"{bucket:064x}", {}, files))
    return found


Merging = Callable[[list[Receipt], int], Receipt]


def merged(
    parts: list[Receipt], plan: Plan, size: int, merge: Merging
) -> tuple[list[Receipt], float]:
    """All levels of merging, and the seconds of the longest chain: one group of each level."""
    longest = 0.0
    for larger in merge_sizes(plan.buckets, size):
        groups, count = [], larger // size
        for at in range(0, len(parts), count):
            with Clock() as clock:
                groups.append(merge(parts[at : at + count], larger))
            if at == 0:
                longest += clock.seconds
        parts, size = groups, larger
    return parts, longest


def part_fit(folder: Path, plan: Plan) -> Found:
    """What an extractor learns, from sums of all groups of buckets: tf-idf of 4,096 dimensions."""
    plan = _wider(plan)
    size = fit_size(plan)
    state = {"tfidf/documents": np.array([KEYS * size]), "tfidf/frequency": np.arange(4096)}
    parts = sums(plan, "text/round-1", size, state)
    with Clock() as clock:
        left, longest = merged(parts, plan, size, lambda p, n: merge_fits(plan, 1, "text", p, n))
        with Clock() as last:
            finish_fit(plan, "text", 1, left)
    return Found(clock.seconds, plan.buckets, "bucket", _levels(parts, left, longest, last))


def _wider(plan: Plan) -> Plan:
    text = plan.modality("text").recipe
    extract = type(text.extract).model_validate({"tfidf": {"dimension": 4096}})
    modalities = tuple(
        replace(m, recipe=text.model_copy(update={"extract": extract})) if m.name == "text" else m
        for m in plan.modalities
    )
    return replace(plan, modalities=modalities)


def part_fusion(folder: Path, plan: Plan) -> Found:
    """Second moments of a modality with principal components, from all groups of buckets."""
    fuse = plan.recipe.fuse.model_copy(update={"pca": {"image": 16}})
    plan = replace(plan, recipe=plan.recipe.model_copy(update={"fuse": fuse}))
    size = statistics_size(plan)
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for m in plan.modalities:
        wide = m.name == "image"
        rows = rng.normal(size=(32, WIDTH if wide else 4))
        arrays |= Moments.of(rows, full=wide).to_arrays(m.name)
    parts = sums(plan, f"{FUSED}/level-0", size, arrays)
    with Clock() as clock:
        left, longest = merged(
            parts, plan, size, lambda p, n: merge_statistics(plan, 0, FUSED, p, n)
        )
        with Clock() as last:
            _merged(plan, 0, left)
    stored = sum(sum(part.files.values()) for part in parts) / 2**30
    note = _levels(parts, left, longest, last) + f"; {stored:.1f} GiB of sums, {WIDTH} dimensions"
    return Found(clock.seconds, plan.buckets, "bucket", note)


def _levels(parts: list[Receipt], left: list[Receipt], longest: float, last: Clock) -> str:
    return (
        f"{len(parts):,} files -> {len(left):,} -> 1; in a row {longest:.2f} + {last.seconds:.2f} s"
    )


def part_splits(folder: Path, plan: Plan) -> Found:
    """Groups of keys kept together: their number counts, not that of the buckets."""
    told, found = [], 0.0
    for count in GROUPS:
        sizes = {f"group-{i:09d}": 1 + i % 7 for i in range(count)}
        with Clock() as clock:
            splits = split_groups(sizes, Split(group="group"))
        found = clock.seconds
        keys = pa.array([f"k{i}" for i in range(KEYS)])
        groups = pa.array([f"group-{i:09d}" for i in range(KEYS)])
        with Clock() as first:
            splits.assign(keys, groups), splits.fingerprint
        with Clock() as later:
            splits.assign(keys, groups), splits.fingerprint
        size = len(pickle.dumps(splits.groups)) / 2**20
        told.append(
            f"{count:,}: {size:.1f} MiB to each worker, first bucket {first.seconds:.2f} s, "
            f"later {later.seconds * 1000:.1f} ms"
        )
    return Found(found, GROUPS[-1], "group", "; ".join(told))


# --- the table -----------------------------------------------------------------------------------

PARTS: dict[str, Callable[[Path, Plan], Found]] = {
    name.removeprefix("part_"): function
    for name, function in list(globals().items())
    if name.startswith("part_")
}


def peak() -> float:
    """Peak memory of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def alone(name: str, buckets: int, folder: Path) -> None:
    """One part in this process: prints what it took as JSON."""
    pa.set_cpu_count(1)
    plan = plan_of(folder, buckets)
    before = peak()
    found = PARTS[name](folder, plan)
    print(json.dumps([found.seconds, found.units, found.unit, found.note, before, peak()]))


def main() -> None:
    """Parse the command line and print a line a part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--buckets", type=int, nargs="+", default=[1 << 20])
    parser.add_argument("--part", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if any(n & (n - 1) or n < 16 for n in args.buckets):
        parser.error("numbers of buckets are powers of two from 16")
    if args.alone:
        alone(args.part[0], args.buckets[0], args.alone)
        return
    print("part         buckets    seconds   us a unit            MiB more  ")
    for name in args.part:
        for buckets in args.buckets:
            with tempfile.TemporaryDirectory(prefix="sensorium-scale-") as folder:
                command = [sys.executable, "-m", "infra.benchmarks.scale", "--part", name]
                command += ["--buckets", str(buckets), "--alone", folder]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{name} failed:\n{done.stdout}{done.stderr}")
            seconds, units, unit, note, before, after = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{name:<11}{buckets:>10,} {seconds:>9.2f} {seconds / units * 1e6:>9.2f} "
                f"{unit:<17}{after - before:>7.0f}   {note}",
                flush=True,
            )


if __name__ == "__main__":
    main()
