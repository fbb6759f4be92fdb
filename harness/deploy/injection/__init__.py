"""A runtime's shared library with something added to it, for measuring what a detector finds."""
