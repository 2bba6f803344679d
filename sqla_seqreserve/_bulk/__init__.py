"""Rows that come as data and not as objects: what they may be, and how they are written."""
