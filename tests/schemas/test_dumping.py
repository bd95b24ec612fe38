"""Writing recipes, so that they can be read again, and their JSON Schema."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from texts import GOOD, load, problems

from schemas.loading import dump_recipe, json_schema, load_recipe
from schemas.recipe import Recipe

# --- writing ---------------------------------------------------------------------------------

text_values = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
tricky = st.sampled_from(
    ["no", "on", "1", "010", "0o7", "1e-3", "~", "null", ".5", "1:30", "2024-01-31", "<<", "=", "-"]
)
names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: (
        name not in ("target", "key", "label", "group", "split", "fold", "present", "fused")
    )
)
columns = st.one_of(text_values, tricky)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), columns)
tables = st.fixed_dictionaries(
    {
        "kind": st.just("table"),
        "source": st.fixed_dictionaries(
            {
                "path": st.just("a.csv"),
                "key": columns,
                "columns": st.dictionaries(
                    columns,
                    st.sampled_from(["number", "category", "time", "boolean"]),
                    min_size=1,
                    max_size=3,
                ),
            }
        ),
    },
    optional={
        "extract": st.fixed_dictionaries(
            {
                "columns": st.fixed_dictionaries(
                    {},
                    optional={
                        "scale": st.sampled_from(["rank", {"a": "none", "no": "standard"}]),
                        "hash": st.sampled_from([None, 4, {"1": 8}]),
                    },
                )
            }
        )
    },
)
images = st.fixed_dictionaries(
    {
        "kind": st.just("image"),
        "source": st.fixed_dictionaries(
            {
                "path": st.lists(text_values.map(lambda t: t + "a.csv"), min_size=1),
                "uri": columns,
            }
        ),
        "extract": st.fixed_dictionaries(
            {},
            optional={
                "hog": st.none(),
                "color": st.fixed_dictionaries({"bins": st.just([4, 2, 2])}),
                "handler": st.fixed_dictionaries(
                    {
                        "class": st.just("a.B"),
                        "options": st.dictionaries(columns, scalars, max_size=2),
                    }
                ),
                "my.Class": st.dictionaries(columns, scalars | st.lists(scalars), max_size=3),
            },
        ).filter(bool),
        "background": st.lists(st.integers(0, 255), min_size=3, max_size=3),
    }
)
recipes = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["digits", "1e-3", "007", "no"]),
        "modalities": st.dictionaries(names, tables | images, min_size=1, max_size=3),
    },
    optional={
        "join": st.sampled_from([{"how": "inner"}, {"missing": "zero"}]),
        "fuse": st.sampled_from([{"pca": 3}, {"scale": "block"}, {"scale": "none"}]),
        "train": st.sampled_from(
            [None, {"models": {"ridge": None}}, {"models": {"lda": {"shrinkage": ["auto", 0.1]}}}]
        ),
        "target": st.fixed_dictionaries(
            {
                "source": st.fixed_dictionaries({"path": st.just("l.parquet"), "key": columns}),
                "column": columns,
                "task": st.just("regression"),
            }
        ),
        "max_dead_letters": st.floats(0, 1),
    },
)
recipes = recipes.filter(
    lambda r: "target" not in r or "lda" not in ((r.get("train") or {}).get("models", {}))
).filter(lambda r: len(r["modalities"]) > 1 or "method" not in r.get("fuse", {}))


@given(recipes)
def test_a_written_recipe_is_read_as_an_equal_one(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]
) -> None:
    recipe = Recipe.model_validate(data)
    path = tmp_path_factory.getbasetemp() / "written.yaml"
    path.write_bytes(dump_recipe(recipe).encode())
    again = load_recipe(str(path))
    assert again == recipe
    assert dump_recipe(again) == dump_recipe(recipe)


def test_a_written_recipe_reads_the_same_to_an_older_yaml(folder: Path) -> None:
    recipe = load(GOOD)
    assert yaml.safe_load(dump_recipe(recipe)) == recipe.model_dump(mode="json")


def test_a_written_recipe_has_every_default_in_order(folder: Path) -> None:
    written = dump_recipe(load(GOOD))
    assert "\n      hog:\n        size: 32\n        orientations: 9\n" in written
    assert "    background: [255, 255, 255]\n" in written
    top = [line.split(":")[0] for line in written.splitlines() if line[0] not in " -"]
    assert top == list(Recipe.model_fields)
    inner = written.split("  image:\n")[1].split("  sound:\n")[0]
    fields = [line.strip().split(":")[0] for line in inner.splitlines() if line[4] != " "]
    assert fields == list(type(load(GOOD).modalities["image"]).model_fields)


# --- JSON Schema -----------------------------------------------------------------------------


def test_json_schema_accepts_and_refuses_as_the_loader_does(folder: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    table = {"kind": "table", "source": {"path": "a.csv", "columns": {"a": "number"}}}

    def recipe(extract: Any = None, **more: Any) -> dict[str, Any]:
        image = {
            "kind": "image",
            "source": {"path": "a.csv"},
            "extract": {"hog": None} if extract is None else extract,
        }
        return {"name": "x", "modalities": {"image": image, "facts": table}, **more}

    good = [
        recipe(),
        recipe({"hog": {"size": 16}, "my.own.Class": None, "my.Other": {"a": [1]}}),
        recipe(fuse={}),
        recipe(fuse={"pca": {"image": 3}}),
        recipe(fuse={"method": "average", "dimension": 3}),
        recipe(join={"how": {"left": "image"}}),
        recipe(split={"folds": "group", "group": "w"}, target={"source": "facts", "column": "y"}),
        recipe(target={"source": {"path": "l.csv"}, "column": "y"}),
        recipe(modalities={"t": {"kind": "table", "source": {"path": "a.parquet"}}}),
        recipe(modalities={"t": table | {"extract": {"columns": {"scale": {"a": "rank"}}}}}),
        recipe(train=None),
        recipe(train={"models": {"lda": {"shrinkage": ["auto", 0.5]}, "logistic": None}}),
    ]
    bad = [
        {"name": "x"},
        recipe({}),
        recipe({"hogg": None}),
        recipe({"hog": {"size": 4}}),
        recipe({"hog": 3}),
        recipe({"my.Class": 3}),
        recipe({"color": {"bins": [1, 2]}}),
        recipe({"color": {"bins": [1, 2, 65]}}),
        recipe(fuse={"method": "averag"}),
        recipe(fuse={"dimension": 3}),
        recipe(fuse={"pca": 0}),
        recipe(join={"how": {"lft": "image"}}),
        recipe(join={"how": "outr"}),
        recipe(split={"folds": 1}),
        recipe(colour="red"),
        recipe(modalities={}),
        recipe(modalities={"t": table | {"extract": {"columns": {"scale": True}}}}),
        recipe(modalities={"t": table | {"extract": {"columns": {"hash": {"a": 1}}}}}),
        recipe(modalities={"Image": table}),
        recipe(modalities={"target": table}),
        recipe(modalities={"t": {"kind": "tabel", "source": table["source"]}}),
        recipe(modalities={"t": {"source": table["source"]}}),
        recipe(train={"models": {"lda": {"shrinkage": [2]}}}),
    ]
    for one in good:
        assert not list(validator.iter_errors(one)), one
        assert load(yaml.safe_dump(one))
    for one in bad:
        assert list(validator.iter_errors(one)), one
        problems(yaml.safe_dump(one))
    written = yaml.safe_load(dump_recipe(load(GOOD)))
    assert not list(validator.iter_errors(written))


def test_json_schema_describes_every_field() -> None:
    schema = json_schema()
    for name, model in schema["$defs"].items():
        assert model["description"], name
        for field, inner in model["properties"].items():
            assert inner.get("description"), f"{name}.{field}"
