"""Series: lists of numbers, of any length, that follow each other in time.

decoding: from a column of lists to arrays.
by_length: series of one length, worked on together.
spectra: power spectra.
statistics, resampled, bands: the extractors.
"""
