"""`proxybox serve`: boxes as a service.

Rules: the service itself has no box; its worker processes have the boxes (worker.py), and get no secret. All doors use
the same path: Service, gate, worker, and then the public API. Each protocol is one file in doors/.
"""
