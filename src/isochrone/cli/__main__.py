"""`python -m isochrone.cli`: the command where no script is on the path."""

from .app import main

main()
