"""The commands, a module a group. Each parses, calls one function, and prints; `harness.cli` puts them together."""
