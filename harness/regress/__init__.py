"""Compare: estimate an effect from trials, decide about it, plan how many trials that takes."""
