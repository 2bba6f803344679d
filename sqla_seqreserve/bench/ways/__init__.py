"""The ways to write payments with other libraries, one file for each library."""
