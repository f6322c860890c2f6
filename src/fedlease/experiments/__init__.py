"""Specs, runs and their records."""
