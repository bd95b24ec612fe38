"""Figures for the README, each printed by one of these programs; no test asserts a time."""
