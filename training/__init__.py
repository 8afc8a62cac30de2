"""The four stages, each one typed recipe and one page of script."""
