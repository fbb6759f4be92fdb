"""`python -m harness`, where the `harness` script is not on the path."""

from harness.cli import main

main()
