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


_CELLS = "The histograms of cells x cells parts of the image, side by side"
_ROOT = (
    "Square roots of the shares: differences are then Hellinger's, which do not let the few "
    "most frequent bins decide"
)


class ColorOptions(Options):
    """Histogram of colours, normalised to sum 1, over a joint grid of bins."""

    space: Literal["hsv", "lab"] = Field(default="hsv", description="Colour space")
    bins: tuple[_Bins, _Bins, _Bins] = Field(
        default=(8, 3, 3), description="Bins of each of the three channels"
    )
    cells: int = Field(default=1, ge=1, le=16, description=_CELLS)
    root: bool = Field(default=False, description=_ROOT)


class LbpOptions(Options):
    """Histogram of uniform local binary patterns of the grey image (Ojala et al. 2002)."""

    size: int = Field(
        default=64, ge=8, le=1024, description="Images are resized to size x size pixels"
    )
    points: int = Field(default=8, ge=4, le=16, description="Points around a pixel")
    radius: float = Field(default=1.0, ge=1, le=16, description="Their distance, in pixels")
    cells: int = Field(default=4, ge=1, le=16, description=_CELLS)
    root: bool = Field(default=False, description=_ROOT)

    @model_validator(mode="after")
    def _a_cell_has_pixels(self) -> LbpOptions:
        if self.cells > self.size:
            raise ValueError(f"{self.size} pixels cannot be parted into {self.cells} cells")
        return self


class SiftOptions(Options):
    """Bag of visual words: SIFT descriptors of the grey image (Lowe 2004), by their nearest words.

    The words are the centres of clusters of the training rows' descriptors.
    """

    words: int = Field(default=512, ge=2, le=4096, description="Clusters, and dimensions")
    assignment: Literal["soft", "hard"] = Field(
        default="soft",
        description="A descriptor counts for its five nearest words by their distance, or for "
        "the nearest alone",
    )
    size: int = Field(
        default=256,
        ge=16,
        le=1024,
        description="Images are scaled so that their longer side has so many pixels",
    )
    keypoints: int = Field(
        default=500, ge=1, le=10_000, description="At most so many an image, the strongest"
    )
    contrast: float = Field(
        default=0.04, ge=0, le=1, description="Weaker keypoints are left out; lower keeps more"
    )
    sample: int = Field(
        default=30_000,
        ge=2,
        le=1_000_000,
        description="Descriptors of the training rows that the words are learnt from, at most",
    )


class FisherOptions(Options):
    """Fisher vectors (Perronnin et al. 2010) of local descriptors on a dense grid.

    How the image's patches differ from those of the training rows, as gradients of a Gaussian
    mixture of theirs.
    """

    descriptors: tuple[Literal["sift", "color"], ...] = Field(
        default=("sift", "color"),
        min_length=1,
        description="What describes a patch: SIFT of its grey levels; means and deviations of its "
        "colours (Lab) in 4 x 4 cells. Each has Gaussians of its own",
    )
    gaussians: int = Field(
        default=16,
        ge=1,
        le=256,
        description="Of the mixture; each gives 2 x 66 + 1 dimensions a kind of descriptor",
    )
    size: int = Field(
        default=96,
        ge=16,
        le=1024,
        description="Images are scaled so that their longer side has so many pixels",
    )
    step: int = Field(default=6, ge=1, le=128, description="Pixels between patches")
    patches: tuple[Annotated[int, Field(ge=4, le=512)], ...] = Field(
        default=(24, 36, 48), min_length=1, description="Sides of the patches, in pixels"
    )
    sample: int = Field(
        default=50_000,
        ge=2,
        le=1_000_000,
        description="Patches of the training rows that it learns from, at most",
    )


class HuOptions(Options):
    """Hu's seven moments of the grey image, logarithms with their sign."""

    invert: bool = Field(default=False, description="The dark is the object, not the bright")


class PixelsOptions(Options):
    """The image itself, resized (area interpolation), values 0 to 1, row by row."""

    size: int = Field(
        default=16, ge=1, le=512, description="Images are resized to size x size pixels"
    )
    color: bool = Field(default=False, description="Red, green and blue instead of grey")


class ImageExtract(Extract):
    """Extractors for images."""

    builtin: ClassVar[tuple[str, ...]] = (
        *("hog", "sift", "fisher", "color", "lbp", "pixels", "hu"),
        *("onnx", "handler"),
    )
    hog: HogOptions | None = Field(default=None, description="Histogram of oriented gradients")
    sift: SiftOptions | None = Field(default=None, description="Bag of visual words")
    fisher: FisherOptions | None = Field(
        default=None, description="Fisher vectors of dense SIFT and local colours"
    )
    color: ColorOptions | None = Field(default=None, description="Histogram of colours")
    lbp: LbpOptions | None = Field(default=None, description="Local binary patterns")
    pixels: PixelsOptions | None = Field(default=None, description="The image itself, small")
    hu: HuOptions | None = Field(default=None, description="Hu's moments of the whole shape")
    onnx: ImageOnnxOptions | None = Field(default=None, description="A model in an ONNX file")
    handler: HandlerOptions | None = Field(default=None, description="A Beam ModelHandler")
