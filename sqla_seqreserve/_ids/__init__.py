"""Finds the sequence or default that fills each column, as the database has it, and builds and
sends the statement that takes ids.
"""
