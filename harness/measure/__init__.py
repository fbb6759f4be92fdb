"""Stage 5: how fast, how much memory. `Deployment -> Measurement`."""
