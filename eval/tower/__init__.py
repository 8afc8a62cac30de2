"""Benchmarks of a bare tower, one file each."""
