"""A trace as a table, a document, a picture, a page. Pure: text out, nothing written."""
