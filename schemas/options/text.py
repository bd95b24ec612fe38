"""Extractors of texts and their options."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from schemas.options.base import Extract, FieldError, Options
from schemas.options.model import HandlerOptions, OnnxOptions

_Length = Annotated[int, Field(ge=1, le=8)]


class TfidfOptions(Options):
    """Hashed bag of words, weighted by inverse document frequency, rows of length 1."""

    dimension: int = Field(default=1024, ge=16, le=65536, description="Hash slots")
    analyzer: Literal["word", "char_wb"] = Field(
        default="word", description="Words, or characters within"
    )
    ngrams: tuple[_Length, _Length] = Field(
        default=(1, 1), description="Shortest and longest n-gram"
    )
    sublinear: bool = Field(default=False, description="1 + log(count) instead of the count")

    @model_validator(mode="after")
    def _ngrams_in_order(self) -> TfidfOptions:
        if self.ngrams[0] > self.ngrams[1]:
            raise FieldError(("ngrams",), "must be [shortest, longest]")
        return self


class TextExtract(Extract):
    """Extractors for texts."""

    builtin: ClassVar[tuple[str, ...]] = ("tfidf", "onnx", "handler")
    tfidf: TfidfOptions | None = Field(default=None, description="Hashed bag of words")
    onnx: OnnxOptions | None = Field(default=None, description="A model in an ONNX file")
    handler: HandlerOptions | None = Field(default=None, description="A Beam ModelHandler")
