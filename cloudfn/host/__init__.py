"""The host: a process of one user that keeps deployed apps running, a client of agents like any other."""
