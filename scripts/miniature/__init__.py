"""A small drawn world with small models: the whole road on a laptop, through the real code."""
