"""Modal's Python API on your own cloud account, and on your own machine."""
