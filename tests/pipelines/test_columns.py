"""Tables and vectors from planning to features: which columns count, and what they become."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from flows import must, table

from pipelines.planning import Checked, make_plan
from schemas.loading import locate_recipe
from schemas.plan import Plan
from schemas.problems import RecipeError

N = 40
COLUMNS = {
    "key": [f"k{i}" for i in range(N)],
    "age": [None if i % 10 == 3 else i for i in range(N)],
    "share": [i / 7 for i in range(N)],
    "price": pa.array(range(N), pa.decimal128(8, 2)),
    "usage": pa.array(["fighter" if i % 3 else "archer" for i in range(N)]).dictionary_encode(),
    "city": [f"city {i % 9}" for i in range(N)],
    "when": [dt.datetime(2024, 1, 1) + dt.timedelta(hours=31 * i) for i in range(N)],
    "day": [dt.date(2024, 1, 1) + dt.timedelta(days=i) for i in range(N)],
    "active": [None if i == 5 else i % 2 == 0 for i in range(N)],
    "label": [str(i % 2) for i in range(N)],
}
KINDS = {
    "age": "number", "share": "number", "price": "number", "usage": "category", "city": "category",
    "when": "time", "day": "time", "active": "boolean",
}  # fmt: skip


def recipe(folder: Path, source: dict[str, Any], kind: str = "table", **more: Any) -> Path:
    modality = {"kind": kind, "source": source, **more}
    target = {"source": "facts", "column": "label"}
    written = {"name": "facts", "modalities": {"facts": modality}, "target": target}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(written, sort_keys=False))
    return path


def checked(path: Path, *sets: str) -> Checked:
    loaded, place = locate_recipe(str(path), sets)
    return make_plan(loaded, str(path), str(path.parent / "output"), place)


def planned(path: Path) -> Plan:
    return checked(path).plan


def refused(path: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        planned(path)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pq.write_table(pa.table(COLUMNS), tmp_path / "facts.parquet")
    return tmp_path


def test_columns_of_parquet_are_what_their_types_say(folder: Path) -> None:
    path = recipe(folder, {"path": "facts.parquet"})
    assert planned(path).modalities[0].source.columns == KINDS
    path = recipe(folder, {"path": "facts.parquet", "exclude": ["c*", "day"]})
    left = {name: kind for name, kind in KINDS.items() if name not in ("city", "day")}
    assert planned(path).modalities[0].source.columns == left
    written = {"age": "category", "active": "number"}
    path = recipe(folder, {"path": "facts.parquet", "columns": written})
    assert planned(path).modalities[0].source.columns == written


def test_columns_that_cannot_be_told_are_asked_for(folder: Path) -> None:
    (folder / "facts.csv").write_text("key,age,label\na,1,x\n")
    assert "source.columns: is missing; csv does not" in refused(
        recipe(folder, {"path": "facts.csv"})
    )
    both = {"path": "facts.parquet", "columns": {"age": "number"}, "exclude": ["day"]}
    assert "source.exclude: goes without `columns`" in refused(recipe(folder, both))
    wrong = {"path": "facts.parquet", "exclude": ["dya"]}
    assert "has no column 'dya'; did you mean 'day'?" in refused(recipe(folder, wrong))
    pq.write_table(pa.table({**COLUMNS, "tags": [["a"]] * N}), folder / "facts.parquet")
    told = refused(recipe(folder, {"path": "facts.parquet"}))
    assert "column 'tags' holds list<element: string>, which is neither" in told


@pytest.mark.parametrize(
    ("delimiter", "told"),
    [
        (";", "only 'key;age;label': if ';' is between its values, write the file anew with ','"),
        ("\t", r"only 'key\tage\tlabel': if '\t' is between its values, set `format: tsv`"),
    ],
)
def test_another_delimiter_than_the_comma_is_told(
    tmp_path: Path, delimiter: str, told: str
) -> None:
    text = "key,age,label\na,1,x\n".replace(",", delimiter)
    (tmp_path / "facts.csv").write_text(text)
    path = recipe(tmp_path, {"path": "facts.csv", "columns": {"age": "number"}})
    assert refused(path).endswith(f"source.key: facts.csv has no column 'key', {told}")


def test_the_file_without_a_column_is_named(tmp_path: Path) -> None:
    for name, columns in (("a", "key,label,x,y"), ("b", "label,y,key,x"), ("c", "key,label,z")):
        (tmp_path / f"{name}.csv").write_text(f"{columns}\nk{name},l,1,2\n")
    path = recipe(tmp_path, {"path": "[ab].csv", "columns": {"x": "number"}})
    assert planned(path).modalities[0].source.columns == {"x": "number"}
    path = recipe(tmp_path, {"path": "*.csv", "columns": {"x": "number"}})
    assert "c.csv has no column 'x'; there are: 'key', 'label', 'z'" in refused(path)
    path = recipe(tmp_path, {"path": "*.csv", "columns": ["[xy]"]}, "vector")
    assert "c.csv has no column '[xy]'" in refused(path)


@pytest.mark.parametrize(
    ("options", "told"),  # after `modalities.facts.extract.columns.`
    [
        ({"scale": {"agee": "rank"}}, "scale.agee: the table has no column 'agee' that holds a "
         "number or time; did you mean 'age'?"),
        ({"scale": {"city": "rank"}}, "scale.city: the table has no column 'city' that holds a"),
        ({"hash": {"age": 8}}, "hash.age: the table has no column 'age' that holds a category"),
        ({"scale": "ranks"}, "scale: must be one of standard, rank, none or a mapping, got"),
        ({"scale": True}, "scale: must not be true or false"),
        ({"hash": {"city": 1}}, "hash.city: must be at least 2, got 1"),
    ],
)  # fmt: skip
def test_options_of_columns_must_fit(folder: Path, options: dict[str, Any], told: str) -> None:
    path = recipe(folder, {"path": "facts.parquet"}, extract={"columns": options})
    assert f"modalities.facts.extract.columns.{told}" in refused(path)


@pytest.mark.slow
def test_features_of_a_table_of_all_types(folder: Path) -> None:
    options = {"scale": {"share": "rank"}, "hash": {"city": 4}}
    path = recipe(folder, {"path": "facts.parquet"}, extract={"columns": options})
    must("run", path, "--to", folder / "output", "--set", "train={models: {lda: {}}}")
    features = table(folder / "output", "features/facts")
    assert len(features) == N
    file = next((folder / "output/features/facts").glob("*.parquet"))
    names = json.loads(pq.read_schema(file).metadata[b"names"])
    assert [name.removeprefix("columns.") for name in names] == [
        *("age", "age is missing", "share", "price"),
        *("usage=archer", "usage=fighter", "usage is unseen", *(f"city#{i}" for i in range(4))),
        *(f"when: {part} {wave}" for part in ("hour", "weekday", "day", "month") for wave in WAVES),
        "when: elapsed",
        *(f"day: {part} {wave}" for part in ("weekday", "day", "month") for wave in WAVES),
        *("day: elapsed", "active", "active is missing"),
    ]
    rows = dict(zip(features["key"].to_pylist(), features["features"].to_pylist(), strict=True))

    def value(key: str, name: str) -> float:
        return rows[key][names.index(f"columns.{name}")]

    assert value("k3", "age is missing") == value("k5", "active is missing") == 1
    assert value("k4", "active") == value("k1", "usage=fighter") == 1
    assert value("k12", "when: hour cos") == -1  # 372 hours after midnight
    assert value("k39", "share") == 1
    records = table(folder / "output", "records/facts")
    assert records.schema.field("when").type == pa.timestamp("us", "UTC")
    # New records: with a city, a usage and a time of day that were never seen, and gaps.
    new = {name: pa.array(values)[:3] for name, values in COLUMNS.items() if name != "label"}
    new["usage"], new["age"] = pa.array(["mage", None, "archer"]), pa.array([None, 1, 2])
    (folder / "new").mkdir()
    # Their columns are in another order, which is no matter.
    pq.write_table(pa.table(new).select(list(new)[::-1]), folder / "new/facts.parquet")
    other = recipe(folder / "new", {"path": "facts.parquet"}, extract={"columns": options})
    must("predict", folder / "output", "--recipe", other, "--to", folder / "predictions")
    found = table(folder / "predictions", "features/facts")
    rows = dict(zip(found["key"].to_pylist(), found["features"].to_pylist(), strict=True))
    assert value("k0", "usage is unseen") == value("k0", "age is missing") == 1
    assert [value("k1", f"usage{end}") for end in ("=archer", "=fighter", " is unseen")] == [0] * 3


WAVES = ("sin", "cos")


def test_vectors_of_wide_columns_and_of_lists_of_all_types(tmp_path: Path) -> None:
    values = [[i, 2 * i] for i in range(N)]
    tensor = pa.fixed_shape_tensor(pa.float32(), [2])
    lists = {
        "a": pa.array(values, pa.list_(pa.float32())),
        "b": pa.array(values, pa.large_list(pa.float64())),
        "c": pa.array(values, pa.list_(pa.float64(), 2)),
        "d": pa.array(values, pa.list_view(pa.int16())),
        "e": pa.array(values, pa.large_list_view(pa.float32())),
        "f": pa.ExtensionArray.from_storage(tensor, pa.array(values, tensor.storage_type)),
    }
    own = {name: COLUMNS[name] for name in ("key", "label")}
    rows = pa.table({**own, "w": list(range(N)), **lists, "v": [0.5] * N})
    pq.write_table(rows, tmp_path / "facts.parquet")
    path = recipe(tmp_path, {"path": "facts.parquet"}, "vector")
    modality = planned(path).modalities[0]
    assert modality.source.columns == {"w": "number", **dict.fromkeys(lists, "list"), "v": "number"}
    assert modality.widths == dict.fromkeys(lists, 2)
    must("extract", path, "--to", tmp_path / "output")
    features = table(tmp_path / "output", "features/facts")
    found = dict(zip(features["key"].to_pylist(), features["features"].to_pylist(), strict=True))
    assert found == {f"k{i}": [i, *[i, 2 * i] * 6, 0.5] for i in range(N)}
    file = next((tmp_path / "output/features/facts").glob("*.parquet"))
    names = json.loads(pq.read_schema(file).metadata[b"names"])
    expected = ["w", *(f"{name}[{i}]" for name in lists for i in range(2)), "v"]
    assert names == [f"vector.{name}" for name in expected]


def test_a_type_tells_the_length_of_lists_where_no_row_does(tmp_path: Path) -> None:
    fixed, tensor = pa.list_(pa.float32(), 3), pa.fixed_shape_tensor(pa.float32(), [2, 3])
    none = {
        "fixed": pa.array([], fixed),
        "tensor": pa.ExtensionArray.from_storage(tensor, pa.array([], tensor.storage_type)),
    }
    rows = {"key": pa.array([], pa.string()), "label": pa.array([], pa.string())}
    pq.write_table(pa.table({**rows, **none}), tmp_path / "facts.parquet")
    path = recipe(tmp_path, {"path": "facts.parquet"}, "vector")
    assert planned(path).modalities[0].widths == {"fixed": 3, "tensor": 6}
    none["any"] = pa.array([], pa.list_(pa.float32()))
    pq.write_table(pa.table({**rows, **none}), tmp_path / "facts.parquet")
    assert refused(path).endswith("column 'any' has no value to tell its length")
    rows = {"key": ["a"], "label": ["x"], "any": pa.array([[]], pa.list_(pa.float32()))}
    pq.write_table(pa.table(rows), tmp_path / "facts.parquet")
    assert refused(path).endswith("list of column 'any' is empty: a vector has numbers")


def test_labels_that_hardly_repeat_are_noted(tmp_path: Path) -> None:
    ids = [f"id {i % 37}" for i in range(N)]
    pq.write_table(pa.table({**COLUMNS, "id": ids}), tmp_path / "facts.parquet")
    path = recipe(tmp_path, {"path": "facts.parquet"})
    assert checked(path).notes == checked(path, "target.column=usage").notes == []
    assert checked(path, "target.column=id").notes == [
        "target.column: 'id' has 37 distinct labels in the first 40 rows that have one, too many "
        "for classes: is it the column that you mean?"
    ]
    assert checked(path, "target.column=age").notes == [
        "target.column: 'age' has 36 distinct labels in the first 36 rows that have one, too many "
        "for classes: for numbers, set target.task: regression"
    ]
    assert checked(path, "target.column=age", "target.task=regression").notes == []
