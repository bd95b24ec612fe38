"""Extractors of images and their options."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from schemas.options.base import Extract, Options
from schemas.options.model import HandlerOptions, ImageOnnxOptions


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


class ImageExtract(Extract):
    """Extractors for images."""

    builtin: ClassVar[tuple[str, ...]] = ("hog", "color", "pixels", "onnx", "handler")
    hog: HogOptions | None = Field(default=None, description="Histogram of oriented gradients")
    color: ColorOptions | None = Field(default=None, description="Histogram of colours")
    pixels: PixelsOptions | None = Field(default=None, description="The image itself, small")
    onnx: ImageOnnxOptions | None = Field(default=None, description="A model in an ONNX file")
    handler: HandlerOptions | None = Field(default=None, description="A Beam ModelHandler")
