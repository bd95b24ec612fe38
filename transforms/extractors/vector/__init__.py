"""Vectors.

decoding: from columns to a matrix.
vector: the extractor.
"""
