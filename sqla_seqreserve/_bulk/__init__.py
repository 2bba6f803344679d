"""The bulk functions: rows given as data and not as objects, how they are checked and written."""
