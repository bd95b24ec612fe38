"""Extractors of texts and their options."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from schemas.options.base import Extract, FieldError, Options
from schemas.options.model import HandlerOptions, OnnxOptions

LARGEST_WITH_COMPONENTS = 4096
"""Most hash slots of which components are learnt: their second moments then take 128 MiB."""

_Length = Annotated[int, Field(ge=1, le=8)]


class TfidfOptions(Options):
    """Hashed bag of words, weighted by inverse document frequency, rows of length 1."""

    dimension: int = Field(default=1024, ge=16, le=65536, description="Hash slots")
    analyzer: Literal["word", "char_wb", "char"] = Field(
        default="word", description="Words, characters within words, or characters of all the text"
    )
    ngrams: tuple[_Length, _Length] = Field(
        default=(1, 1), description="Shortest and longest n-gram"
    )
    sublinear: bool = Field(default=False, description="1 + log(count) instead of the count")
    components: int | None = Field(
        default=None,
        ge=1,
        le=LARGEST_WITH_COMPONENTS,
        description="Project onto this many axes of a truncated SVD (latent semantic analysis)",
    )

    @model_validator(mode="after")
    def _ngrams_in_order(self) -> TfidfOptions:
        if self.ngrams[0] > self.ngrams[1]:
            raise FieldError(("ngrams",), "must be [shortest, longest]")
        return self

    @model_validator(mode="after")
    def _components_of_few_slots(self) -> TfidfOptions:
        if self.components is None:
            return self
        if self.dimension > LARGEST_WITH_COMPONENTS:
            raise FieldError(
                ("dimension",),
                f"must be at most {LARGEST_WITH_COMPONENTS} with components, got {self.dimension}",
            )
        if self.components > self.dimension:
            raise FieldError(
                ("components",), f"must not be more than dimension, which is {self.dimension}"
            )
        return self


class TfidfCharactersOptions(TfidfOptions):
    """Hashed bag of character n-grams, weighted and normalised likewise."""

    analyzer: Literal["char_wb", "char"] = Field(
        default="char_wb", description="Characters within words, or of all the text"
    )
    ngrams: tuple[_Length, _Length] = Field(
        default=(2, 4), description="Shortest and longest n-gram"
    )


class TextStatisticsOptions(Options):
    """Lengths, kinds of characters, scripts and variety of words."""


class TextExtract(Extract):
    """Extractors for texts."""

    builtin: ClassVar[tuple[str, ...]] = (
        "tfidf",
        "tfidf_characters",
        "statistics",
        "onnx",
        "handler",
    )
    tfidf: TfidfOptions | None = Field(default=None, description="Hashed bag of words")
    tfidf_characters: TfidfCharactersOptions | None = Field(
        default=None, description="Hashed bag of character n-grams"
    )
    statistics: TextStatisticsOptions | None = Field(
        default=None, description="Lengths, kinds of characters, scripts and variety of words"
    )
    onnx: OnnxOptions | None = Field(default=None, description="A model in an ONNX file")
    handler: HandlerOptions | None = Field(default=None, description="A Beam ModelHandler")
