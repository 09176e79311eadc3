"""Where cells are computed: in this process, or by the workers of Ray. The results are the same.

scheduling    cells as tasks, batches and jobs; what all jobs of a run share; the Executor protocol
worker        one job: claim its cells, compute them, log, try again
serial        the executor of this process, one cell after the other
ray_executor  the executor of Ray (the extra `ray`), on one machine or a cluster
ray_jobs      the jobs that Ray is running: their reports, their deaths, their time limits
limits        how long a cell may take, and what happens when memory runs out
cell_logs     what a cell prints
"""
