"""Extractors of recordings and their options."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from schemas.options.base import Extract, FieldError, Options
from schemas.options.model import AudioOnnxOptions, HandlerOptions

_Quantile = Annotated[float, Field(ge=0, le=1)]


class OverTimeOptions(Options):
    """Windows over a recording, and how what is measured in each is pooled over time."""

    window: int = Field(
        default=512, ge=64, le=8192, description="Samples of a window (a power of two)"
    )
    hop: int = Field(default=160, ge=16, le=8192, description="Samples between windows")
    trim: float | None = Field(
        default=30.0,
        gt=0,
        le=120,
        description="Silence this many dB under the peak is cut at both ends",
    )
    segments: int = Field(
        default=4, ge=1, le=64, description="Equal segments of time, each pooled by itself"
    )
    quantiles: tuple[_Quantile, ...] = Field(
        default=(), max_length=16, description="Quantiles over time, besides mean and deviation"
    )

    @model_validator(mode="after")
    def _windows_are_powers_of_two(self) -> OverTimeOptions:
        if self.window & (self.window - 1):
            raise FieldError(("window",), f"must be a power of two, got {self.window}")
        return self

    @model_validator(mode="after")
    def _quantiles_differ(self) -> OverTimeOptions:
        if len(set(self.quantiles)) < len(self.quantiles):
            raise FieldError(("quantiles",), "holds one of them twice")
        return self


class MelOptions(OverTimeOptions):
    """Bands of frequency on the mel scale."""

    bands: int = Field(default=40, ge=4, le=256, description="Mel bands")
    low: float = Field(default=0.0, ge=0, description="Lowest frequency, Hz")
    high: float | None = Field(
        default=None, gt=0, description="Highest frequency, Hz; half the rate if none"
    )

    @model_validator(mode="after")
    def _frequencies_in_order(self) -> MelOptions:
        if self.high is not None and self.high <= self.low:
            raise FieldError(("high",), f"must be above low, which is {self.low:g}")
        return self


class LogMelOptions(MelOptions):
    """Log-mel spectrum over time."""


class MfccOptions(MelOptions):
    """Mel-frequency cepstral coefficients over time."""

    coefficients: int = Field(default=20, ge=2, le=256, description="Coefficients kept, from c0 on")
    deltas: Literal[0, 1, 2] = Field(
        default=0, description="1: also their first derivatives in time; 2: and the second"
    )

    @model_validator(mode="after")
    def _no_more_than_bands(self) -> MfccOptions:
        if self.coefficients > self.bands:
            raise FieldError(
                ("coefficients",), f"must not be more than bands, which is {self.bands}"
            )
        return self


class SpectralOptions(OverTimeOptions):
    """Centroid, roll-off, flatness, zero crossings and root mean square over time."""

    rolloff: float = Field(
        default=0.85, gt=0, lt=1, description="Share of the magnitude that is below the roll-off"
    )


class PitchOptions(OverTimeOptions):
    """Fundamental frequency (YIN) of voiced windows, and their share."""

    window: int = Field(
        default=1024, ge=64, le=8192, description="Samples of a window (a power of two)"
    )
    segments: int = Field(
        default=1, ge=1, le=64, description="Equal segments of time, each pooled by itself"
    )
    low: float = Field(default=65.0, gt=0, description="Lowest pitch, Hz")
    high: float = Field(default=1000.0, gt=0, description="Highest pitch, Hz")
    voiced: float = Field(
        default=0.4,
        gt=0,
        le=1,
        description="A window is voiced whose aperiodicity is below this: 0 repeats itself, "
        "1 is noise",
    )

    @model_validator(mode="after")
    def _frequencies_in_order(self) -> PitchOptions:
        if self.high <= self.low:
            raise FieldError(("high",), f"must be above low, which is {self.low:g}")
        return self


class AudioExtract(Extract):
    """Extractors for recordings."""

    builtin: ClassVar[tuple[str, ...]] = ("log_mel", "mfcc", "spectral", "pitch", "onnx", "handler")
    log_mel: LogMelOptions | None = Field(default=None, description="Log-mel spectrum over time")
    mfcc: MfccOptions | None = Field(
        default=None, description="Mel-frequency cepstral coefficients over time"
    )
    spectral: SpectralOptions | None = Field(
        default=None, description="Centroid, roll-off, flatness, zero crossings, loudness over time"
    )
    pitch: PitchOptions | None = Field(default=None, description="Fundamental frequency over time")
    onnx: AudioOnnxOptions | None = Field(default=None, description="A model in an ONNX file")
    handler: HandlerOptions | None = Field(default=None, description="A Beam ModelHandler")
