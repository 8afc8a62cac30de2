"""Benchmarks of towers and of multimodal LLMs, and the paired comparison of two of them."""
