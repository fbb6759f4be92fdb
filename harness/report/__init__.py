"""Stage 6: say it. A stored run becomes a table, a page, or a file that other programs read."""
