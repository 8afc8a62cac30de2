"""Writing a comparison down: plots, a page, a Markdown file and json."""
