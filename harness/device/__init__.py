"""The only code that talks to a device: its files, its programs, its state."""
