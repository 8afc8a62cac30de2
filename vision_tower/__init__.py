"""The CLIP that a multimodal LLM's tower comes from: towers, objectives, data, export."""
