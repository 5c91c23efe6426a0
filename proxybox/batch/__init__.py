"""Many runs on many processes and machines: `proxybox.map`, and the engine that `proxybox batch` and grading share.

    map ── engine: chunks of items, tries, what came ── a carrier: processes, an Executor, dask, Ray ── working: boxes

mapping.py is what users call. engine.py hands out items and takes answers; carriers.py and clusters.py bring them to
workers; working.py is what runs there. jobs.py and results.py are the two files of the command.

Rule: what has answered is never run again, and whatever happens to a worker, every item gets an answer.
"""
