"""The model and how it came to be: schema, encoding, the BERT, training, bundles, scoring, reasons.

Works without Kafka and Redis. Of the stream it knows the pure core alone, whose windows it shares:
a training window is a serving window.

    events -> encoding (rows) -> core.window (windows) -> features, network -> calibration
"""
