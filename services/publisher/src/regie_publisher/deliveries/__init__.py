"""The delivery protocol: how one variant of a post reaches its channel once, or a person is told what is not known.

`intake` makes deliveries of events; `claims` hands them out; `attempts` makes one attempt; `judging` says what an
answer means; `outcomes` writes it down; `worker` runs attempts; `pursuit` finds out what became of the open ones;
`sweeping` takes back what a dead worker held; `timeline` tells it all, and lets a person settle what is unknown.
"""
