"""Records: reading manifests, keys and their hashes, payloads, and the ingest of a bucket."""
