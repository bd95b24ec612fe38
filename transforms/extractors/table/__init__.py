"""Tables.

columns: the extractor.
"""
