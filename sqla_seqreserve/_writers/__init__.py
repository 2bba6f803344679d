"""Sends rows, and reads back the values that the database filled in."""
