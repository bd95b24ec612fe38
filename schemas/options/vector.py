"""Extractors of vectors and their options."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from schemas.options.base import Extract, Options


class VectorOptions(Options):
    """The columns as they are."""


class VectorExtract(Extract):
    """Extractors for vectors."""

    builtin: ClassVar[tuple[str, ...]] = ("vector",)
    vector: VectorOptions | None = Field(default=None, description="The columns as they are")
