"""Cases for test_hostile.py: files and the command that reads them."""
