"""Models as extractors and their options: an ONNX file, or a Beam ModelHandler."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from schemas.options.base import DOTTED, FieldError, Options


class OnnxOptions(Options):
    """A model of one input in an ONNX file, run by ONNX Runtime on the processor."""

    path: str = Field(
        min_length=1, description="The model's file, relative to the recipe, or an fsspec URL"
    )
    sha256: str | None = Field(
        default=None, description="What the file's SHA-256 must be; any if none"
    )
    output: str | None = Field(default=None, description="Name of the output; the first if none")
    pooling: Literal["mean", "max", "flatten"] = Field(
        default="mean",
        description="What becomes of an output's axes besides rows and features: pooled, or "
        "all numbers one after the other",
    )

    @field_validator("sha256")
    @classmethod
    def _hexadecimal(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch("[0-9a-f]{64}", value):
            raise ValueError("must be 64 digits from 0 to 9 and a to f")
        return value


class BatchOnnxOptions(OnnxOptions):
    """A model that takes several rows a call."""

    batch: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Rows a call, the last one filled up with zeros; if none, the number that "
        "is fixed in the model, or 1. More are faster in small models",
    )


class ImageOnnxOptions(BatchOnnxOptions):
    """A model of images: float32, 0 to 1, then (value - mean) / std; or uint8 as they are."""

    size: (
        tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]] | None
    ) = Field(
        default=None,
        description="Height and width that images are resized to; the model's own if none",
    )
    layout: Literal["NCHW", "NHWC"] = Field(
        default="NCHW", description="Order of the input's axes: rows, channels, height, width"
    )
    channels: Literal["grey", "rgb"] | None = Field(
        default=None, description="Grey, or red, green and blue; the model's own if none"
    )
    mean: tuple[float, ...] | None = Field(
        default=None, description="Subtracted from each channel's values; 0 if none"
    )
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        default=None, description="What each channel's values are then divided by; 1 if none"
    )


class AudioOnnxOptions(BatchOnnxOptions):
    """A model of recordings: float32[rows, samples] or [rows, 1, samples]."""

    seconds: float | None = Field(
        default=None,
        gt=0,
        le=3600,
        description="Recordings are cut, or filled up with zeros, to this length; if none, to "
        "the length that is fixed in the model, else they are taken one by one as they are",
    )


class HandlerOptions(Options):
    """A ModelHandler of Apache Beam, or anything with its methods."""

    model_config = ConfigDict(serialize_by_alias=True)

    class_: str = Field(
        alias="class",
        description="Dotted name of the ModelHandler, or of a function that makes one",
    )
    options: dict[str, Any] = Field(default={}, description="Its arguments, by name")
    batch: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Rows a call; the handler's max_batch_size, or 1, if none",
    )
    dimension: int | None = Field(
        default=None,
        ge=1,
        description="Length of its vectors; found by a try on an empty record if none",
    )

    @model_validator(mode="after")
    def _a_dotted_name(self) -> HandlerOptions:
        if not re.match(DOTTED, self.class_):
            raise FieldError(("class",), f"must be a dotted name, got {self.class_!r}")
        return self
