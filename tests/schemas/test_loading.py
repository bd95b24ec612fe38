"""Reading recipes: files and stores, YAML's traps, overrides."""

from itertools import pairwise
from pathlib import Path

import fsspec
import pytest
from texts import GOOD, changed, load, problems

from schemas.loading import RecipeError, load_recipe
from schemas.options.fuse import Average
from schemas.recipe import Left

# --- the file and its YAML -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "recipe.yaml: is empty"),
        ("# only this\n", "recipe.yaml: is empty"),
        ("- a\n", "recipe.yaml:1: must be a mapping"),
        ("digits", "recipe.yaml:1: must be a mapping"),
        ("a: b: c\n", "recipe.yaml:1:5: not valid YAML: mapping values are not allowed here"),
        ("a: [1,\n", "recipe.yaml:2:1: not valid YAML"),
        ("a:\n\t- b\n", "recipe.yaml:2:1: not valid YAML: found character '\\t'"),
        ("a: 1\n---\nb: 2\n", "recipe.yaml:2:1: not valid YAML: but found another document"),
        ("a: 1\nb: \x01", "recipe.yaml:2:4: not valid YAML: the character 0x1 in it"),
        ("a: *b\n", "recipe.yaml:1:4: not valid YAML: found undefined alias"),
        ("name: &a [*a]\n", "recipe.yaml:1: name.0: holds itself"),
        ("a: &a\n  <<: *a\n", "recipe.yaml:1: a: << needs a mapping"),
        ("a: !!python/name:os.system\n", "recipe.yaml:1: a: the tag !!python/name:os.system"),
        ("a: " + "[" * 2000 + "]" * 2000, "recipe.yaml: is nested too deeply"),
        (
            "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in pairwise("abcdef")),
            "recipe.yaml:1: e.7.8.8.8.9: is one of more than 100,000 values",
        ),
        ("a: 1\n? [b]\n: 2\n", "recipe.yaml:2: a name before ':' must be text"),
        (
            "a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n",
            "recipe.yaml:5: b.c: is given twice, in lines 3 and 5",
        ),
    ],
)
def test_what_is_not_a_recipe_at_all(folder: Path, text: str, expected: str) -> None:
    assert problems(text).startswith(expected)


def test_bytes_that_are_not_text(folder: Path) -> None:
    Path("recipe.yaml").write_bytes(b"name: x\ntitle: \xff\n")
    with pytest.raises(RecipeError, match=r"recipe\.yaml:2: is not UTF-8 text"):
        load_recipe("recipe.yaml")


def test_a_byte_order_mark_is_no_matter(folder: Path) -> None:
    Path("recipe.yaml").write_bytes(GOOD.encode("utf-8-sig"))
    assert load_recipe("recipe.yaml").name == "digits"


def test_no_such_file_names_the_nearest(folder: Path) -> None:
    (folder / "recipe.yaml").write_text(GOOD)
    with pytest.raises(RecipeError, match=r"no such file; did you mean 'recipe\.yaml'\?"):
        load_recipe("recipe.yml")
    with pytest.raises(RecipeError, match="nor a folder nowhere"):
        load_recipe("nowhere/recipe.yaml")


def test_a_folder_is_not_a_file(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "recipe.yaml").write_text(GOOD)
    with pytest.raises(RecipeError, match=r"is a folder; did you mean .*/recipe\.yaml\?"):
        load_recipe(str(folder))
    with pytest.raises(RecipeError, match=r"is a folder, which has no recipe\.yaml"):
        load_recipe("empty")


def test_recipes_come_from_any_store(folder: Path) -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe("/recipes/recipe.yaml", GOOD.encode())
    assert load_recipe("memory://recipes/recipe.yaml") == load(GOOD)
    with pytest.raises(RecipeError, match=r"did you mean 'recipe\.yaml'"):
        load_recipe("memory://recipes/recipes.yaml")
    with pytest.raises(RecipeError, match="storage that fsspec knows"):
        load_recipe("nosuch://recipes/recipe.yaml")


def test_traps_of_older_yaml(folder: Path) -> None:
    made = load(GOOD + "fuse: {keep_modalities: no}\nmax_dead_letters: 1e-3\n")
    assert made.max_dead_letters == 0.001
    assert made.fuse.keep_modalities is False
    assert made.target is not None
    assert made.target.column == "no"
    source = made.modalities["facts"].source.model_dump()
    assert source["columns"] == {"1": "number", "on": "category"}
    own = dict(made.modalities["image"].extract.named())["my.vision.Edges"]
    assert own == {"strength": 0.001}


def test_plain_values_mean_what_yaml_1_2_says(folder: Path) -> None:
    values = "[1e3, 010, 1:30, off, 2024-01-31, ~, TRUE, -.5, .inf, 'x', 1_000]"
    made = load(changed("strength: 1e-3", f"strength: {values}"))
    own = dict(made.modalities["image"].extract.named())["my.vision.Edges"]
    assert own["strength"] == [
        *(1000.0, 10, "1:30", "off", "2024-01-31", None, True, -0.5, float("inf"), "x", "1_000")
    ]


def test_anchors_and_merges(folder: Path) -> None:
    made = load(
        changed("source: {path: images.csv", "source: &s {path: images.csv").replace(
            "{path: audio.jsonl, uri: wav}", "{<<: *s, path: b.csv}"
        ),
        "modalities.sound.source.key=other",
    )
    image, sound = made.modalities["image"].source, made.modalities["sound"].source
    assert sound.model_dump() == image.model_dump() | {"path": "b.csv", "key": "other"}
    assert image.key == "id"


# --- overrides -------------------------------------------------------------------------------


def test_overrides(folder: Path) -> None:
    made = load(
        GOOD,
        "modalities.image.extract.hog.size=64",
        "modalities.image.extract.my.vision.Edges.strength=[1, {a: b}]",
        "modalities.sound.extract.log_mel.bands=20",  # nothing stood there
        "modalities.facts.source.path=[a.csv, b.csv]",
        "modalities.facts.source.path.1=c.csv",
        "target.source.path=labels=1.csv",  # a mapping instead of a name; an = in the value
        "fuse.method=average",
        "join.how={left: image}",
        "train=",
    )
    options = dict(made.modalities["image"].extract.named())
    assert options["hog"]["size"] == 64
    assert options["my.vision.Edges"] == {"strength": [1, {"a": "b"}]}
    assert dict(made.modalities["sound"].extract.named())["log_mel"]["bands"] == 20
    assert made.modalities["facts"].source.paths == ["a.csv", "c.csv"]
    source = made.target_source()
    assert source is not None
    assert source.path == "labels=1.csv"
    assert isinstance(made.fuse, Average)
    assert made.join.how == Left(left="image")
    assert made.train is None


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "modalities.image.extract.hog.size=abc",
            "--set modalities.image.extract.hog.size: must be a whole number, got 'abc'",
        ),
        ("split={folds: 1}", "--set split: split.folds: must be at least 2, got 1"),
        (
            "split.fold=3",
            "--set split.fold: unknown field; did you mean 'folds'? "
            "known are: group, folds, test_share, seed",
        ),
        (
            "modalities.imgae.duplicates=mean",
            "--set modalities.imgae.duplicates: modalities.imgae: there is no such modality; did "
            "you mean 'image'?",
        ),
        (
            "modalities.x.source.path=a.csv",
            "--set modalities.x.source.path: modalities.x: there is no such modality; there are: "
            "image, sound, facts. A new one is set as a whole: --set 'modalities.x={kind: "
            "..., source: ...}'",
        ),
        ("name.x=1", "--set name.x: name: must be text, got a mapping"),
        ("name=[a", "--set name: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("name={a: 1, a: 2}", "--set name: name.a: is given twice, in lines 1 and 1"),
        ("foo", "--set foo: must be field=value, such as --set split.folds=3"),
        ("=3", "--set =3: must be field=value, such as --set split.folds=3"),
        ("a..b=3", "--set a..b=3: must be field=value, such as --set split.folds=3"),
    ],
)
def test_problems_of_overrides_name_the_override(
    folder: Path, override: str, expected: str
) -> None:
    assert problems(GOOD, override) == expected


def test_a_position_in_a_list_must_be_there(folder: Path) -> None:
    text = changed("path: table.csv", "path: [a.csv, b.csv]")
    for wrong in ("2", "-1", "x"):
        assert problems(text, f"modalities.facts.source.path.{wrong}=c.csv") == (
            f"--set modalities.facts.source.path.{wrong}: modalities.facts.source.path is a list "
            f"of 2: give a position from 0 to 1, not '{wrong}'"
        )


def test_a_new_modality_is_set_as_a_whole(folder: Path) -> None:
    whole = "{kind: text, source: {path: new.csv, columns: [t]}, extract: {tfidf: {}}}"
    made = load(GOOD, f"modalities.new={whole}", "modalities.new.source.key=id")
    assert made.modalities["new"].source.key == "id"


def test_an_override_mends_what_is_wrong_in_the_file(folder: Path) -> None:
    text = changed("size: 32", "size: abc")
    made = load(text, "modalities.image.extract.hog.size=16")
    assert dict(made.modalities["image"].extract.named())["hog"]["size"] == 16
