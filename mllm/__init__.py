"""The multimodal LLM: assembled from parts, fed with conversations, and talked to."""
