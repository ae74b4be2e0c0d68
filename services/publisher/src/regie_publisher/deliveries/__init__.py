"""The delivery protocol: a variant of a post reaches its channel once, or it is shown as unknown.

`creation` makes deliveries from events; `claims` hands them out; `attempts` makes one attempt; `decisions` turns
an answer or an error into an outcome; `outcomes` records it, in groups by `outcome_writer`; `worker` runs attempts;
`reconciler` settles open outcomes at the network; `lease_rescue` takes back expired leases; `queries` shows
deliveries; `resolution` lets a person settle an unknown one; `events` stages the events; `retention` deletes old ones.
"""
