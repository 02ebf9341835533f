"""Batch builds: files of vectors to a folder of codes, without a server. Knows no SQL and no HTTP."""
