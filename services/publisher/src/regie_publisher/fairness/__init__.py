"""Fairness between tenants: nobody's load and nobody's silent server makes others wait (ADR 0021).

`due_work` looks up due work workspace by workspace; `sharing` chooses the work to start; `slots` runs it; `hosts` knows
how many calls each host takes; `concurrency` limits the long calls of people.
"""
