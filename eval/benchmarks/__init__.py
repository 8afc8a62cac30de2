"""Benchmarks of a multimodal LLM, one file each."""
