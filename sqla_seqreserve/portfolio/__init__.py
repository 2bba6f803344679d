"""The reference domain: a wealth-management portal, its activities and its rates of return.

It is the application that this package was written for, and the proof that the core carries one.
It imports the core; the core never imports it.
"""
