"""A run of everything that the bench measures, as JSON, HTML and Markdown; saved runs and what changed."""
