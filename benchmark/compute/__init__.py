"""A cell becomes an episode, an adapter learns from it, and its predictions are scored.

In: cells. Out: records, one by one, wherever an executor runs them. The only reader of test labels.
May use: every wing but report and commands.
"""
