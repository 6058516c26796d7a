"""Plain twins: the obvious version of whatever is clever in pugd, slow and right."""
