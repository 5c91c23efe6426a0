"""Many runs on many processes and machines: `proxybox.map`, and the engine that `proxybox batch` and grading share.

    map ── engine: chunks of items, tries, answers ── a carrier: processes, an Executor, dask, Ray ── working: boxes

mapping.py is what users call. engine.py distributes items and collects answers; carriers.py and clusters.py send items
to workers; working.py runs there. jobs.py and results.py read and write the two files of the command.

Rule: an item that has an answer is never run again, and whatever happens to a worker, every item gets an answer.
"""
