"""What happens to the data.

One module a step (ingest, extract, join, fuse, predict): Beam transforms that only wire.
The work is in plain functions on Arrow and NumPy batches in the sub-packages (records,
extractors, fusion, learning), which never import Beam.
"""
