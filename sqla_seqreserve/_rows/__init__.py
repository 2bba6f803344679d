"""Prepares the rows of a class before they are sent: plan, division, codecs. No I/O happens
here.
"""
