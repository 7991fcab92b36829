"""The pytest suites, the plug-in that builds their matrix, and the running of cells."""
