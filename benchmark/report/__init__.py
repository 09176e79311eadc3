"""Records -> tables, statistics, figures and a page. Works from records alone, without torch.

Comes in: records of a store. Goes out: text, CSV, LaTeX, PDF, a folder with a page.
May use: `records`, `methods` (cards), `data` (names, suites, labels), `errors`, `paths`.

frames.py            records as pandas frames: `load_results`
record_selection.py  the records of a store that pass the filters of a command
grouping.py          which records may be averaged: settings, variants of methods, priors
averages.py          mean and spread over seeds, means over the datasets of a suite
significance.py      intervals and paired tests; ranking.py marks ties with the best
tables.py            dataset x shots, method x shots, method x dataset, as plain data
rendering.py         a table for the terminal, Markdown, CSV, LaTeX
leaderboard.py       one CSV row per result
"""
