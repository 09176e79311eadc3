"""Records -> tables, CSV, pictures. Works from records alone and never imports torch.

lines.py    which records may be averaged: settings, lines, exposure of priors
scores.py   mean and spread over seeds, means over the datasets of a suite
tables.py   dataset x shots, method x shots, method x dataset, as plain data
render.py   a table for the terminal, Markdown, CSV, LaTeX
export.py   the leaderboard CSV
"""
