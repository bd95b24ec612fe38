"""Extractors of recordings and their options."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from schemas.options.base import Extract, FieldError, Options
from schemas.options.model import AudioOnnxOptions, HandlerOptions


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


class AudioExtract(Extract):
    """Extractors for recordings."""

    builtin: ClassVar[tuple[str, ...]] = ("log_mel", "onnx", "handler")
    log_mel: LogMelOptions | None = Field(default=None, description="Log-mel spectrum over time")
    onnx: AudioOnnxOptions | None = Field(default=None, description="A model in an ONNX file")
    handler: HandlerOptions | None = Field(default=None, description="A Beam ModelHandler")
