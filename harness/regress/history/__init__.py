"""What happened over time: every run's figures in a folder of files, and the changes that are really there."""
