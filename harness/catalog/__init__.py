"""Stage 1: what is measured. A name, a file or the user's own code becomes a `Checkpoint`."""
