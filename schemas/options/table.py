"""Extractors of tables and their options."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.options.base import Extract, Options
from schemas.options.model import BatchOnnxOptions, HandlerOptions

Scale = Literal["standard", "rank", "none"]
_Slots = Annotated[int, Field(ge=2, le=4096)]


class ColumnsOptions(Options):
    """Numbers and times scaled, categories one-hot or hashed; missing values told apart."""

    scale: Scale | dict[str, Scale] = Field(
        default="standard",
        description="standard: numbers and elapsed times to mean 0, deviation 1; rank: to their "
        "rank among the training rows, 0 to 1; none. By column: those not named are standard",
    )
    max_categories: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="The most frequent categories of a column kept; the others are rare",
    )
    min_count: int = Field(
        default=1, ge=1, description="Categories with fewer training rows are rare: they share one"
    )
    hash: _Slots | dict[str, _Slots] | None = Field(
        default=None,
        description="Categories hashed to so many slots instead, nothing counted: of all columns, "
        "or of those named",
    )


class TableExtract(Extract):
    """Extractors for tables."""

    builtin: ClassVar[tuple[str, ...]] = ("columns", "onnx", "handler")
    columns: ColumnsOptions | None = Field(
        default=None, description="Numbers, categories, times and booleans"
    )
    onnx: BatchOnnxOptions | None = Field(default=None, description="A model in an ONNX file")
    handler: HandlerOptions | None = Field(default=None, description="A Beam ModelHandler")
