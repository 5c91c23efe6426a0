"""What a guest may still ask of the kernel (filters.py), the look from outside at whether that holds (inspection.py),
and what stands around it in case it has a hole (layers.py, cgroups.py). Nothing here serves a call."""
