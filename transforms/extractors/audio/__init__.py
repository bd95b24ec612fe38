"""Recordings.

decoding: from the bytes of a file to a signal.
spectra: windows, mel bands and pooling over time.
log_mel: the extractors.
"""
