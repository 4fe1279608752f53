"""shopsentry, the running system. One record's way, each line a module, in order:

transport.consumer   Kafka hands Faust whole runs of records of one partition
agents, partition    an agent appends them to the partition's queue; what waits becomes one group
core.decode          bytes -> events; what cannot be an event is rejected with a reason
edges.redis_windows  the events join their users' logs; duplicates and late ones fall out here
core.window          each event gets the window as of itself
models.scorer        windows of several partitions -> calibrated scores, in a thread of its own
core.decision        score against the task's threshold; core.alerting: cool-down, alert
core.messages        every record's one outcome -> edges.outbox: output topics; then ack, commit
"""
