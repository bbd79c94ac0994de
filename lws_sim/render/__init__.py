"""A trace as a table, Markdown, HTML or SVG."""
