"""A recipe's text to change, and what loading it says; a test's folder is the working one."""

from pathlib import Path

import pytest

from schemas.loading import RecipeError, load_recipe
from schemas.recipe import Recipe

GOOD = """\
name: digits
modalities:
  image:
    kind: image
    source: {path: images.csv, key: id, uri: file}
    extract:
      hog: {size: 32}
      pixels:
      my.vision.Edges:
        strength: 1e-3
  sound:
    kind: audio
    source: {path: audio.jsonl, uri: wav}
    extract: {log_mel: }
  facts:
    kind: table
    source:
      path: table.csv
      columns: {1: number, on: category}
target: {source: facts, column: no}
"""


def load(text: str, *overrides: str) -> Recipe:
    Path("recipe.yaml").write_text(text)
    return load_recipe("recipe.yaml", overrides)


def problems(text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load(text, *overrides)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return str(caught.value)


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)
