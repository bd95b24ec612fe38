"""Very many buckets: more steps in the graph, the same content, and nothing that lists it all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import fsspec
import numpy as np
import pyarrow as pa
import pytest
from flows import hashes, times
from report_outputs import Page, write_audit, write_fused, write_letters
from report_outputs import make_plan as reported_plan

from pipelines import report
from pipelines.flow import build
from pipelines.planning import make_plan
from pipelines.progress import done_now
from pipelines.resume import all_there, clear_stale
from pipelines.resume import hashes as state_of
from pipelines.running import _run
from schemas import storage
from schemas.arrays import load_arrays
from schemas.layout import Layout
from schemas.loading import locate_recipe
from schemas.plan import Plan
from schemas.receipts import Receipt
from schemas.tables import read_table
from transforms import ingest
from transforms.audit import add_counts, audit_of, counts_of
from transforms.fusion import fusing, grouping
from transforms.records.packing import unpack

RECIPE = """\
name: many
modalities:
  note:
    kind: text
    source: {path: note.csv, columns: [note]}
    extract: {tfidf: {dimension: 64}}
  facts:
    kind: table
    source: {path: facts.csv, columns: {a: number, b: number}}
    extract: {columns: {}}
split: {test_share: 0.2}
join: {missing: mean}
fuse: {method: concatenate, scale: standard, pca: {note: 4}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(30)]
    notes = [f"k{i},{' '.join(rng.choice(words, 6))}" for i in range(400)]
    facts = [f"k{i},{rng.normal():.4f},{rng.normal():.4f}" for i in range(20, 420)]
    (folder / "note.csv").write_text("\n".join(["key,note", *notes]))
    (folder / "facts.csv").write_text("\n".join(["key,a,b", *facts]))
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def plan_of(folder: Path, output: Path) -> Plan:
    path = str(folder / "recipe.yaml")
    recipe, place = locate_recipe(path)
    return make_plan(recipe, path, str(output), place).plan


def run(plan: Plan) -> None:
    _run(plan, "fuse", ["--runner=FnApiRunner"], None, None, lambda _: None)


def steps(plan: Plan) -> set[str]:
    pipeline = beam.Pipeline(runner="FnApiRunner")
    build(pipeline, plan)
    transforms = pipeline.to_runner_api().components.transforms.values()
    return {part for one in transforms for part in one.unique_name.split("/")}


@pytest.fixture
def as_if_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds so low that sixteen buckets are very many."""
    monkeypatch.setattr(grouping, "GROUPS", 8)
    monkeypatch.setattr(grouping, "MOST", 2)
    monkeypatch.setattr(grouping, "FAN_IN", 2)
    monkeypatch.setattr(fusing, "GROUP", 1)
    monkeypatch.setattr(ingest, "MOST_BUCKETS", 8)
    monkeypatch.setattr(ingest, "BLOCKS", 4)
    monkeypatch.setattr(ingest, "GATHERED", 50)


def test_steps_are_added_only_where_there_are_many_buckets(folder: Path, tmp_path: Path) -> None:
    plan = plan_of(folder, tmp_path / "out")
    few, more = steps(plan), steps(replace(plan, buckets=256))
    assert few == more
    many = steps(replace(plan, buckets=1 << 20))
    assert {"Blocks", "Cut", "Merge 16384 buckets"} <= many - few
    assert steps(replace(plan, buckets=1 << 24)) - many == {
        f"{words} {64 << 12} buckets" for words in ("By", "Group", "Merge")
    }


@pytest.mark.slow
def test_merged_in_levels_it_is_the_same(
    folder: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    plain = plan_of(folder, tmp_path / "plain")
    run(plain)
    request.getfixturevalue("as_if_many")
    levels = plan_of(folder, tmp_path / "levels")
    assert {"Blocks", "Merge 4 buckets", "Merge 8 buckets"} <= steps(levels)
    run(levels)
    # Counts are integers, so whatever only counts is the same to the bit.
    one, other = (hashes(Path(p.output), "records", "features") for p in (plain, levels))
    assert one == other
    assert len(one) == 2 * 2 * plain.buckets
    for name in ("note.npz", "fusion.npz"):
        a, b = (load_arrays(Layout(p.output, 16).fitted(name)) for p in (plain, levels))
        assert a.keys() == b.keys()
        for array in a:
            np.testing.assert_allclose(a[array], b[array], rtol=1e-9, atol=1e-12)
    for bucket in range(plain.buckets):
        a, b = (read_table(Layout(p.output, 16).fused(bucket)) for p in (plain, levels))
        assert a.drop_columns("fused").equals(b.drop_columns("fused"))
    audits = [json.loads(storage.read_bytes(Layout(p.output, 16).audit)) for p in (plain, levels)]
    assert audits[0]["balanced"]
    assert audits[0]["modalities"] == audits[1]["modalities"]
    # Nothing is done again, sums included.
    folders = ("records", "features", "fused", "fitted", "statistics", "receipts")
    before = times(Path(levels.output), *folders)
    assert len([path for path in before if "of-" in Path(path).parts[-2]]) > 0
    run(levels)
    after = times(Path(levels.output), *folders)
    # The sign of the first worker is not of anything done.
    after["receipts/begun.json"] = before["receipts/begun.json"]
    assert after == before
    # Sums that are gone are made again where they are needed, and give the same.
    for path in Path(levels.output, "statistics").rglob("*.npz"):
        path.unlink()
    fused = hashes(Path(levels.output), "fused", "fitted")
    Path(Layout(levels.output, 16).fitted("fusion.npz")).unlink()
    run(levels)
    assert hashes(Path(levels.output), "fused", "fitted") == fused


@pytest.mark.parametrize("put_away", [False, True], ids=["sent", "put away"])
def test_rows_of_a_block_are_cut_as_all_at_once(
    folder: Path, tmp_path: Path, put_away: bool
) -> None:
    scratch = str(tmp_path) if put_away else None
    plan = replace(plan_of(folder, tmp_path), buckets=8192)
    assert ingest.block_size(plan) == 8
    part = ingest.parts_of(b"", plan, ingest.versions())
    work = [(number, [one]) for number, one in part]
    blocks: dict[tuple[str, int], list[bytes]] = {}
    for one in work:
        for key, blob in ingest.read_bucketed(one, plan, scratch):
            blocks.setdefault(key, []).append(blob)
    assert set(blocks) == {(name, block) for name in plan.branches for block in range(1024)}
    found: dict[tuple[str, int], list[bytes]] = {}
    for grouped in blocks.items():
        for key, blob in ingest.cut_block(grouped, plan, scratch):
            found.setdefault(key, []).append(blob)
    assert set(found) == {(n, b) for n in plan.branches for b in range(8192)}
    keys = [
        (bucket, key)
        for (name, bucket), blobs in found.items()
        for blob in blobs
        if blob and name == "note"
        for key in unpack(blob).column("key").to_pylist()
    ]
    assert sorted(key for _, key in keys) == sorted(f"k{i}" for i in range(400))
    assert bool(list(tmp_path.glob("*.rows"))) == put_away
    where = ingest.buckets(pa.array([key for _, key in keys]), 8192)
    assert where.tolist() == [bucket for bucket, _ in keys]


@pytest.mark.parametrize("root", ["memory://scale/out", None])
def test_a_finished_step_is_told_by_counting_names(root: str | None, tmp_path: Path) -> None:
    output = root or str(tmp_path / "out")
    layout = Layout(output, 32)
    folders = [layout.at("records", name) for name in ("a", "b")]
    assert not all_there(layout, folders)
    for name in ("a", "b"):
        for bucket in range(32):
            storage.write_bytes(layout.records(name, bucket), b"")
    storage.write_bytes(layout.at("records", "a", "sub", "bucket-00000-of-00032.parquet"), b"")
    assert all_there(layout, folders)
    storage.remove(layout.records("b", 7))
    for other in (Layout(output, 16).records("b", 7), layout.at("records", "b", "notes.parquet")):
        storage.write_bytes(other, b"")
    assert not all_there(layout, folders)
    storage.write_bytes(layout.records("b", 7), b"")
    assert all_there(layout, folders)
    if root:
        fsspec.filesystem("memory").rm("/scale", recursive=True)


def test_remote_files_are_looked_at_side_by_side_in_their_order(tmp_path: Path) -> None:
    paths = [f"memory://side/{i}" for i in range(100)]
    for i, path in enumerate(paths):
        storage.write_bytes(path, b"x" * i)
    assert list(storage.side_by_side(storage.size, paths)) == list(range(100))
    (tmp_path / "a").write_bytes(b"abc")
    assert list(storage.side_by_side(storage.size, [str(tmp_path / "a")])) == [3]
    with pytest.raises(FileNotFoundError):
        list(storage.side_by_side(storage.read_bytes, [*paths, "memory://side/none"]))
    fsspec.filesystem("memory").rm("/side", recursive=True)


def test_progress_counts_receipts_on_any_storage(folder: Path) -> None:
    plan = replace(plan_of(folder, Path("x")), output="memory://progress/out")
    layout = Layout(plan.output, plan.buckets)
    assert done_now(plan, {("ingest", "note"): ""}) == {("ingest", "note"): 0}
    for bucket in range(5):
        storage.write_bytes(layout.receipt("ingest", "note", bucket), b"{}")
    assert done_now(plan, {("ingest", "note"): ""}) == {("ingest", "note"): 5}
    fsspec.filesystem("memory").rm("/progress", recursive=True)


@pytest.mark.parametrize("buckets", [16, 65_536, 1 << 17, 1 << 20])
def test_names_sort_as_buckets_do(buckets: int) -> None:
    layout = Layout("out", buckets)
    numbers = sorted([0, 1, 9, 10, buckets // 3, buckets - 2, buckets - 1])
    names = [Path(layout.fused(number)).name for number in numbers]
    assert names == sorted(names)
    assert [layout.bucket_of(name) for name in names] == numbers
    assert all(sum(name.startswith(p) for p in layout.prefixes) == 1 for name in names)
    for other in ("bucket-00001-of-00008.parquet", "bucket-00001.parquet", "x", names[0] + ".tmp"):
        assert layout.bucket_of(other) is None
    assert layout.bucket_of(Path(Layout("out", 2 * buckets).fused(0)).name) is None


def test_files_that_a_killed_process_left_are_removed(folder: Path, tmp_path: Path) -> None:
    plan = plan_of(folder, tmp_path / "out")
    left = tmp_path / "out" / "receipts" / "ingest" / "note" / ".bucket.json.abc.tmp"
    kept = left.with_name("bucket-00000-of-00016.json")
    left.parent.mkdir(parents=True)
    left.touch(), kept.touch()
    clear_stale(plan, None, state_of(plan, dict.fromkeys(plan.branches, "")))
    assert not left.exists()
    assert kept.exists()


def test_the_audit_tells_missing_and_changed_receipts(folder: Path, tmp_path: Path) -> None:
    plan = plan_of(folder, tmp_path / "out")
    counts = {"rows": 1, "records": 1, "duplicates": 0, "dead_letters": 0}
    made = [
        Receipt("ingest", name, bucket, f"{name} {bucket}", counts)
        for name in plan.branches
        for bucket in range(plan.buckets)
    ]

    def audit(receipts: list[Receipt], bundle: int) -> dict:
        parts = [
            add_counts(counts_of(one)[1] for one in receipts[at : at + bundle])
            for at in range(0, len(receipts), bundle)
        ]
        return audit_of(add_counts(parts), plan)

    whole = audit(made, 7)
    assert whole["balanced"]
    assert audit(made[::-1], 5) == whole
    changed = audit([replace(made[0], fingerprint="other"), *made[1:]], 7)
    assert [s for s, d in changed["digests"].items() if d != whole["digests"][s]] == ["ingest/note"]
    swapped = [replace(made[0], bucket=1), replace(made[1], bucket=0), *made[2:]]
    assert audit(swapped, 7)["digests"] != whole["digests"]
    assert audit(made[1:], 7)["problems"] == ["ingest note: 15 receipts of 16 buckets"]


def test_the_report_reads_some_of_very_many_dead_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = reported_plan(tmp_path / "out")
    write_audit(plan)
    write_letters(plan)
    write_fused(plan)
    report.write_report(plan)
    layout = Layout(plan.output, plan.buckets)
    whole = Page(Path(layout.report).read_text())
    monkeypatch.setattr(report, "MOST_FILES", 1)
    report.write_report(plan)
    some = Page(Path(layout.report).read_text())
    assert "in the first 1 files of a step with any" in some.text
    assert "in the first" not in whole.text
    assert "Balanced: nothing was lost silently." in some.text
