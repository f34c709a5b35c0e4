"""Private names of Lightning, torch and jsonargparse, which an upgrade may change; below all rooms.

Any room may import it. `inherited` lists what subclasses take over under its own name. A test for
each name in tests/test_lightning_compat.py says what to look at when an upgrade has changed it.
"""
