"""Stands before pandas for command lines that tests run: users need not have it.

Arrow and Beam import it wherever it is, which takes each process a while.
"""

raise ImportError("pandas is for the tests themselves")
