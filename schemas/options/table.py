"""Extractors of tables and their options."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from schemas.options.base import Extract, Options
from schemas.options.model import BatchOnnxOptions, HandlerOptions


class ColumnsOptions(Options):
    """Numbers scaled to mean 0 and deviation 1, categories one-hot; both fitted."""

    scale: bool = Field(default=True, description="Scale the numbers")
    max_categories: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="The most frequent categories kept; all others share a slot",
    )


class TableExtract(Extract):
    """Extractors for tables."""

    builtin: ClassVar[tuple[str, ...]] = ("columns", "onnx", "handler")
    columns: ColumnsOptions | None = Field(default=None, description="Numbers and categories")
    onnx: BatchOnnxOptions | None = Field(default=None, description="A model in an ONNX file")
    handler: HandlerOptions | None = Field(default=None, description="A Beam ModelHandler")
