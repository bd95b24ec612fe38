"""Extractors of vectors and their options."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from schemas.options.base import Extract, Options
from schemas.options.model import BatchOnnxOptions, HandlerOptions


class VectorOptions(Options):
    """The columns as they are."""


class VectorExtract(Extract):
    """Extractors for vectors."""

    builtin: ClassVar[tuple[str, ...]] = ("vector", "onnx", "handler")
    vector: VectorOptions | None = Field(default=None, description="The columns as they are")
    onnx: BatchOnnxOptions | None = Field(default=None, description="A model in an ONNX file")
    handler: HandlerOptions | None = Field(default=None, description="A Beam ModelHandler")
