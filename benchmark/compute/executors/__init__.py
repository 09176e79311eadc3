"""Where cells are computed: in this process, or by workers of an engine. Results are the same; only
time and place differ.

jobs        what is handed out: cells that share a backbone and a dataset, with what they need
worker      how a job is worked off, wherever that happens: claim, compute, log, retry serial
in this process, one cell after the other on_ray      by Ray (the extra `ray`): processes on one
machine or a cluster; flights: jobs under way there limits      how long a cell may take logs
what a cell prints
"""
