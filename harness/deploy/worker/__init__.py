"""The Python timing program: runtimes that have no C library, and every runtime where no native loop is built.

It runs on the device in a process of its own, imports nothing but NumPy and the runtime, and speaks `harness.protocol`.
"""
