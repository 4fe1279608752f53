"""Seeded faults under load on a real Kafka and Redis; the audit decides after each run.

scenes   which servers there are, and what may happen to them
faults   each fault
site     the servers of a scene; proxies between them and the workers where connections break
stage    the workers of one run
load     what is sent meanwhile
memory   what a Redis that lost its data may change, and what not
scores   whether scores, decisions and alerts are those of the same scorer offline
straightforward  the yardstick under the same faults
runs     one run from its first worker to the verdict
results  a run as a line of a file, and the table of many
"""
