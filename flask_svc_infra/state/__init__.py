"""What all workers of a service know together: circuits, switches and a journal.

- ``store``: the protocol, and the store of one process.
- ``ledger``: the rules every store follows, pure; ``redis.lua`` says the same where the server decides.
- ``sqlite`` for the processes of a host, ``redis`` for a fleet.
- ``reporter``: the one thread of a process that talks to its store.

Importing this package starts nothing and imports no driver.
"""
