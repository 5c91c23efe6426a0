"""`proxybox serve`: boxes as a service.

Rules: the service itself has no box; its worker processes have them (worker.py), and are given no secret. All doors go
one way: Service, gate, worker, and from there the public API. Each protocol is one file in doors/.
"""
