"""Options of the built-in extractors and models, as they are written in a recipe."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

DOTTED = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+$"


class FieldError(ValueError):
    """An error of one field, found by a model that holds it.

    Args:
        field: names and positions from that model down to the field.
        message: what is wrong, for a person.
    """

    def __init__(self, field: tuple[str | int, ...], message: str) -> None:
        self.field = field
        super().__init__(message)


class UnknownName(FieldError):
    """A name that is none of the known ones; the loader adds the nearest right one."""

    def __init__(self, name: str, known: list[str], field: tuple[str | int, ...] = ()) -> None:
        self.name, self.known = name, known
        super().__init__(field, f"unknown name {name!r}; known are: {', '.join(known)}")


class Options(BaseModel):
    """Base of every recipe model: unknown fields are errors, values cannot change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )

    @model_validator(mode="before")
    @classmethod
    def _true_is_not_one(cls, value: Any) -> Any:
        # Python counts True as the number 1; who writes `pca: true` does not mean one component.
        for name, field in cls.model_fields.items() if isinstance(value, dict) else ():
            if isinstance(value.get(name), bool) and field.annotation not in (bool, str):
                raise FieldError((name,), "must not be true or false")
        return value


# --- image -----------------------------------------------------------------------------------


class HogOptions(Options):
    """Histogram of oriented gradients on the grey image (Dalal & Triggs 2005)."""

    size: int = Field(
        default=64, ge=8, le=1024, description="Images are resized to size x size pixels"
    )
    orientations: int = Field(default=9, ge=2, le=36, description="Bins over 0 to 180 degrees")
    cell: int = Field(default=8, ge=2, le=128, description="Side of a cell, in pixels")
    block: int = Field(default=2, ge=1, le=8, description="Side of a block, in cells")

    @model_validator(mode="after")
    def _a_block_must_fit(self) -> HogOptions:
        if self.size // self.cell < self.block:
            raise ValueError(
                f"a block of {self.block} cells of {self.cell} pixels does not fit into "
                f"{self.size} pixels"
            )
        return self


_Bins = Annotated[int, Field(ge=1, le=64)]


class ColorOptions(Options):
    """Histogram of colours, normalised to sum 1, over a joint grid of bins."""

    space: Literal["hsv", "lab"] = Field(default="hsv", description="Colour space")
    bins: tuple[_Bins, _Bins, _Bins] = Field(
        default=(8, 3, 3), description="Bins of each of the three channels"
    )


class PixelsOptions(Options):
    """The image itself, resized (area interpolation), values 0 to 1, row by row."""

    size: int = Field(
        default=16, ge=1, le=512, description="Images are resized to size x size pixels"
    )
    color: bool = Field(default=False, description="Red, green and blue instead of grey")


# --- audio -----------------------------------------------------------------------------------


class LogMelOptions(Options):
    """Log-mel spectrum: mean and deviation of each band over equal segments of time."""

    bands: int = Field(default=40, ge=4, le=256, description="Mel bands")
    window: int = Field(
        default=512, ge=64, le=8192, description="Samples of a window (a power of two)"
    )
    hop: int = Field(default=160, ge=16, le=8192, description="Samples between windows")
    segments: int = Field(default=4, ge=1, le=64, description="Equal segments of time, each pooled")
    low: float = Field(default=0.0, ge=0, description="Lowest frequency, Hz")
    high: float | None = Field(
        default=None, gt=0, description="Highest frequency, Hz; half the rate if none"
    )
    trim: float | None = Field(
        default=30.0,
        gt=0,
        le=120,
        description="Silence this many dB under the peak is cut at both ends",
    )
    cepstra: int | None = Field(
        default=None,
        ge=2,
        le=256,
        description="Take the first cepstral coefficients (DCT) of the bands",
    )

    @model_validator(mode="after")
    def _sizes_make_sense(self) -> LogMelOptions:
        if self.window & (self.window - 1):
            raise FieldError(("window",), f"must be a power of two, got {self.window}")
        if self.high is not None and self.high <= self.low:
            raise FieldError(("high",), f"must be above low, which is {self.low:g}")
        if self.cepstra is not None and self.cepstra > self.bands:
            raise FieldError(("cepstra",), f"must not be more than bands, which is {self.bands}")
        return self


# --- text ------------------------------------------------------------------------------------


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


# --- table and vector ------------------------------------------------------------------------


class ColumnsOptions(Options):
    """Numbers scaled to mean 0 and deviation 1, categories one-hot; both fitted."""

    scale: bool = Field(default=True, description="Scale the numbers")
    max_categories: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="The most frequent categories kept; all others share a slot",
    )


class VectorOptions(Options):
    """The columns as they are."""


# --- which extractors a modality may name ----------------------------------------------------


class Extract(Options):
    """Extractors by name; a name with a dot is a class of the user's own."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        json_schema_extra={
            "additionalProperties": False,
            "minProperties": 1,
            "patternProperties": {
                DOTTED: {
                    "type": ["object", "null"],
                    "description": "Options of an extractor class of your own, by dotted name",
                }
            },
        },
    )
    builtin: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _no_options_means_defaults(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if not value:
            raise ValueError("name at least one extractor, one of: " + ", ".join(cls.builtin))
        return {k: ({} if v is None else v) for k, v in value.items()}

    @model_validator(mode="after")
    def _only_dotted_names_may_be_added(self) -> Extract:
        for name, options in (self.model_extra or {}).items():
            if not re.match(DOTTED, name):
                if "." in name:
                    raise FieldError((name,), "is not a dotted name of a class")
                raise UnknownName(name, list(self.builtin), (name,))
            if not isinstance(options, dict):
                raise FieldError((name,), "must be a mapping of options")
        return self

    @model_serializer(mode="plain")
    def _only_what_is_used(self) -> dict[str, Any]:
        return dict(self.named())

    def named(self) -> list[tuple[str, dict[str, Any]]]:
        """The extractors in order: built-in ones as listed here, then the user's as written.

        Returns (name, options) pairs with every default filled in.
        """
        chosen = [
            (name, getattr(self, name).model_dump(mode="json"))
            for name in self.builtin
            if getattr(self, name) is not None
        ]
        return chosen + list((self.model_extra or {}).items())


class ImageExtract(Extract):
    """Extractors for images."""

    builtin: ClassVar[tuple[str, ...]] = ("hog", "color", "pixels")
    hog: HogOptions | None = Field(default=None, description="Histogram of oriented gradients")
    color: ColorOptions | None = Field(default=None, description="Histogram of colours")
    pixels: PixelsOptions | None = Field(default=None, description="The image itself, small")


class AudioExtract(Extract):
    """Extractors for recordings."""

    builtin: ClassVar[tuple[str, ...]] = ("log_mel",)
    log_mel: LogMelOptions | None = Field(default=None, description="Log-mel spectrum over time")


class TextExtract(Extract):
    """Extractors for texts."""

    builtin: ClassVar[tuple[str, ...]] = ("tfidf",)
    tfidf: TfidfOptions | None = Field(default=None, description="Hashed bag of words")


class TableExtract(Extract):
    """Extractors for tables."""

    builtin: ClassVar[tuple[str, ...]] = ("columns",)
    columns: ColumnsOptions | None = Field(default=None, description="Numbers and categories")


class VectorExtract(Extract):
    """Extractors for vectors."""

    builtin: ClassVar[tuple[str, ...]] = ("vector",)
    vector: VectorOptions | None = Field(default=None, description="The columns as they are")


# --- models ----------------------------------------------------------------------------------


class LogisticOptions(Options):
    """Multinomial logistic regression, L2 penalty."""

    C: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(0.01, 0.1, 1.0), min_length=1, description="Inverse penalties tried"
    )


class LdaOptions(Options):
    """Linear discriminant analysis with a shrunken covariance."""

    shrinkage: tuple[Annotated[float, Field(ge=0, le=1)] | Literal["auto"], ...] = Field(
        default=("auto",),
        min_length=1,
        description="Shrinkages tried: 0 to 1, or auto (Ledoit & Wolf 2004)",
    )


class RidgeOptions(Options):
    """Ridge regression."""

    alpha: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(0.1, 1.0, 10.0, 100.0, 1000.0), min_length=1, description="Penalties tried"
    )
