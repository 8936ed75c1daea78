"""What can run on this machine and what cannot, found out without trusting any library.

Only the standard library is imported in the process that reports: each library, driver and engine is tried in
a process of its own, so that one that is missing, broken or crashes is a row and never a traceback.
"""
