"""Recordings.

decoding: from the bytes of a file to a signal.
over_time: windows over a signal, and pooling over time of what is measured in each.
spectra: power spectra of windows, and mel bands.
log_mel, mfcc, spectral, pitch: the extractors.
"""
