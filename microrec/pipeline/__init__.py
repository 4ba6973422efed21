"""Between jobs and stages: opens a night's tables once, calls stages on them, returns rows.

A job names its tables and this layer reads what several jobs need alike: what the sources of a night propose, the lists
made of it, the network of a fitted model, what a night is made of. Stages stay pure, jobs stay short.
"""
