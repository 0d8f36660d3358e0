"""Real processes that start in milliseconds, for tests that run the pipeline hundreds of times.

A job takes a second, nearly all of it for importing libraries. A server imports them once and forks a
process for every job and for every run of Snakemake; ``python`` on the path of the jobs is a client of it.
The package under test is imported by each process for itself. Everything else is as ever: a job has a
process that can be killed, limits of its own, its folder, its environment, its log.
"""
