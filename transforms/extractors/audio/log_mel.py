"""Log-mel spectra."""

from __future__ import annotations

from typing import Any

import numpy as np

from schemas.options.audio import LogMelOptions
from transforms.extractors.audio.over_time import OverTime
from transforms.extractors.audio.spectra import mel_decibels


class LogMel(OverTime):
    """Log-mel spectrum over time.

    Power spectra of Hann windows, zeros beyond both ends, are summed to mel bands and taken in
    dB, down to 80 dB below the loudest: librosa's `feature.melspectrogram` and `power_to_db`.
    """

    version = 2

    def __init__(self, **options: Any) -> None:
        self.options: LogMelOptions = LogMelOptions(**options)

    def measures(self) -> list[str]:
        """The bands, from the lowest."""
        return [f"band{i}" for i in range(self.options.bands)]

    def measure(self, signal: np.ndarray) -> np.ndarray:
        """Decibels, float32[bands, windows]."""
        return mel_decibels("log_mel", signal, self.options, self.context.rate)
