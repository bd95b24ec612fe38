"""Beam's own runner for checking portability, built from source: see ../README.md."""
