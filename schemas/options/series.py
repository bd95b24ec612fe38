"""Extractors of series and their options."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from schemas.options.base import Extract, FieldError, Options

_Quantile = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=1, le=4096)]
_Hertz = Annotated[float, Field(ge=0)]


class StatisticsOptions(Options):
    """Statistics of the values, their changes and their spectrum."""

    quantiles: tuple[_Quantile, ...] = Field(
        default=(0.25, 0.5, 0.75), max_length=16, description="Quantiles of the values"
    )
    rolloff: float = Field(
        default=0.85, gt=0, lt=1, description="Share of the magnitude that is below the roll-off"
    )

    @model_validator(mode="after")
    def _quantiles_differ(self) -> StatisticsOptions:
        if len(set(self.quantiles)) < len(self.quantiles):
            raise FieldError(("quantiles",), "holds one of them twice")
        return self


class ResampledOptions(Options):
    """The values, brought to one length."""

    length: int = Field(
        default=64,
        ge=1,
        le=65536,
        description="Values: interpolated from fewer, averaged from more",
    )
    standardize: bool = Field(
        default=False, description="Bring each series to mean 0 and deviation 1"
    )


class BandsOptions(Options):
    """Power in bands of frequency, in decibels."""

    bands: _Count | tuple[_Hertz, ...] = Field(
        default=8, description="Number of equal bands up to half the rate, or their edges, Hz"
    )

    @model_validator(mode="after")
    def _edges_ascend(self) -> BandsOptions:
        edges = self.bands
        if isinstance(edges, tuple) and (len(edges) < 2 or list(edges) != sorted(set(edges))):
            raise FieldError(("bands",), "edges must ascend, and be two at least")
        return self


class SeriesExtract(Extract):
    """Extractors for series."""

    builtin: ClassVar[tuple[str, ...]] = ("statistics", "resampled", "bands")
    statistics: StatisticsOptions | None = Field(
        default=None, description="Statistics of the values, their changes and their spectrum"
    )
    resampled: ResampledOptions | None = Field(
        default=None, description="The values, brought to one length"
    )
    bands: BandsOptions | None = Field(default=None, description="Power in bands of frequency")
