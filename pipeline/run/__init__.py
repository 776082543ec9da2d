"""A run on Ray: every row of an input made exactly once, whatever dies meanwhile.

`driver` is the process that a command starts; `plan` is what it is given and what it reports to.
It lets a `pool` of actors work. Each actor is a `worker` with a `pump`, which turns prompts into
committed rows by the job's `recipe`. The `ledger` finds the prompts that crash their process.
`cluster` joins or starts Ray. `status` reads how far a run is.
"""
