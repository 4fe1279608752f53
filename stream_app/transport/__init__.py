"""Faust's Kafka transport in record batches.

The only place that touches private names of Faust and aiokafka; each has a contract test in
`tests/transport`.
"""
