"""Records: one small JSON a result, in a folder that several processes may share.

In: identities, counts, costs. Out: files that are whole or absent, and who is at work on what.
May use: errors, paths.
"""
