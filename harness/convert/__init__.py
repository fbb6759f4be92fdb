"""Stage 3: change the format, and prove that the function is the same. `Checkpoint -> Artifact`."""
