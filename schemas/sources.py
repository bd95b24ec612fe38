"""Sources: where a modality's rows come from, and which columns of theirs count."""

from __future__ import annotations

import os
import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from schemas.options.base import FieldError, Options

Format = Literal["csv", "tsv", "jsonl", "parquet", "files"]

_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


def compression_of(path: str) -> str | None:
    """How a file is packed, as its ending tells: fsspec's name of it, or None."""
    if os.path.splitext(path)[1].lower() in _FORMATS:
        return None
    from fsspec.utils import infer_compression  # it imports much, and few files are packed

    return infer_compression(path)


def _told_from(path: str) -> Format | None:
    """The format by a path's ending; of text formats, what packs the file (`.gz`) may follow."""
    if compression_of(path) is None:
        return _FORMATS.get(os.path.splitext(path)[1].lower())
    told = _told_from(os.path.splitext(path)[0])
    return None if told == "parquet" else told


class Source(Options):
    """Where rows come from: manifests with a key column, or bare files whose name holds the key."""

    path: str | list[str] = Field(
        description="File, glob or fsspec URL, or a list; relative to the recipe"
    )
    format: Format | None = Field(
        default=None,
        description="Told from the ending (`.csv.gz` too) if not given; `files` with key_pattern",
    )
    key: str = Field(default="key", description="Column that holds the key")
    key_pattern: str | None = Field(
        default=None,
        description="Each file is a record; its key is this regular expression's first group, "
        "searched in the file's path",
    )
    key_from_row: bool = Field(
        default=False, description="The row's number, from 0, is the key (one file only)"
    )

    @property
    def paths(self) -> list[str]:
        """The paths as a list, as they were written."""
        return [self.path] if isinstance(self.path, str) else list(self.path)

    @property
    def kind_of_file(self) -> Format:
        """The format, told from the paths' ending where it is not given."""
        if self.key_pattern is not None:
            return "files"
        told = self.format or _told_from(self.paths[0])
        assert told is not None, "checked by _format_is_known"
        return told

    @field_validator("path")
    @classmethod
    def _some_path(cls, value: str | list[str]) -> str | list[str]:
        if not value or (isinstance(value, list) and not all(value)):
            raise ValueError("give at least one path, and no empty one")
        return value

    @field_validator("key_pattern")
    @classmethod
    def _one_group(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if groups < 1:
            raise ValueError("needs a group that matches the key, such as '([^/]+)\\.png$'")
        return value

    @model_validator(mode="after")
    def _one_kind_of_key(self) -> Source:
        if self.key_pattern is not None and self.key_from_row:
            raise ValueError("give key_pattern or key_from_row, not both")
        for name in ("key_pattern", "key_from_row"):
            if getattr(self, name) and self.key != "key":
                raise ValueError(f"give key or {name}, not both")
        if self.key_from_row and len(self.paths) > 1:
            raise FieldError(("key_from_row",), "needs a single file")
        return self

    @model_validator(mode="after")
    def _format_is_known(self) -> Source:
        if self.key_pattern is not None:
            if self.format not in (None, "files"):
                raise ValueError("key_pattern goes with bare files, not with a manifest's format")
            return self
        if self.format == "files":
            raise ValueError("bare files need key_pattern, which finds the key in a file's path")
        if self.format is None:
            told = {path: _told_from(path) for path in self.paths}
            for path, one in told.items():
                if one is None:
                    raise FieldError(
                        ("path",),
                        f"cannot tell the format of {path!r}: give `format` for a manifest, "
                        "or `key_pattern` where each file is a record",
                    )
            if len(set(told.values())) > 1:
                raise FieldError(
                    ("path",), "files of several formats: give `format`, or one format's files"
                )
        return self

    def _must_be_a_manifest(self) -> None:
        if self.key_pattern is not None:
            raise FieldError(("key_pattern",), "bare files have no columns: give a manifest")


class PayloadSource(Source):
    """Rows that point at files: images, recordings."""

    uri: str = Field(
        default="uri", description="Column with the file's path (relative to the manifest) or URL"
    )

    @model_validator(mode="after")
    def _bare_files_have_no_columns(self) -> PayloadSource:
        if self.key_pattern is not None and self.uri != "uri":
            raise ValueError("give key_pattern (bare files) or uri (a manifest's column), not both")
        return self


class TextSource(Source):
    """Texts in columns of a manifest, or in files of their own."""

    columns: list[str] | None = Field(
        default=None, min_length=1, description="Columns, joined by a line end"
    )
    uri: str | None = Field(default=None, description="Column with the text file's path or URL")

    @model_validator(mode="after")
    def _columns_or_files(self) -> TextSource:
        if self.key_pattern is not None:
            if self.columns is not None or self.uri is not None:
                raise ValueError("bare files (key_pattern) have no columns and no uri")
        elif (self.columns is None) == (self.uri is None):
            raise ValueError("give either columns (the texts) or uri (where they are)")
        return self


class TableSource(Source):
    """Typed columns of a manifest."""

    columns: dict[str, Literal["number", "category", "time", "boolean"]] | None = Field(
        default=None,
        min_length=1,
        description="Columns and what they hold; in Parquet, all but the key and labels, by their "
        "own types, if none",
    )
    exclude: list[str] = Field(
        default=[], description="Without `columns`, those left out, by name or pattern"
    )

    @model_validator(mode="after")
    def _manifest(self) -> TableSource:
        self._must_be_a_manifest()
        if self.columns is not None and self.exclude:
            raise FieldError(("exclude",), "goes without `columns`, which names all that count")
        if self.columns is None and self.kind_of_file != "parquet":
            raise FieldError(
                ("columns",), f"is missing; {self.kind_of_file} does not say what columns hold"
            )
        return self


class SeriesSource(Source):
    """A column of lists of numbers."""

    column: str = Field(
        description="Column of lists, or of text that lists numbers, such as [1, 2.5, 3]"
    )

    @model_validator(mode="after")
    def _manifest(self) -> SeriesSource:
        self._must_be_a_manifest()
        return self


class VectorSource(Source):
    """Columns of numbers, wide or as lists."""

    columns: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Columns, or patterns with * and ?; all but the key if none",
    )
    exclude: list[str] = Field(default=[], description="Columns left out, by name or pattern")

    @model_validator(mode="after")
    def _manifest(self) -> VectorSource:
        self._must_be_a_manifest()
        return self
