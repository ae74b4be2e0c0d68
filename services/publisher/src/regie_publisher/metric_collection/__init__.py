"""Metric collection: the numbers of published posts, read on a plan that thins out.

`schedule` plans and claims collections; `collector` reads them at the networks; `observations` records the results
and stages their `events`.
"""
