"""Channels: connected accounts, their sealed credentials, and the restrictions that networks put on them.

`connecting` connects and disconnects accounts, which `verification` checks at their network; `queries` reads them.
`accounts` opens their credentials for calls, and `renewal` renews them; `sealing` encrypts them, `key_rotation`
rewraps them. `restrictions` pauses channels and asks people to reconnect them; `events` stages the events.
"""
