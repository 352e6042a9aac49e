"""Benchmarks: metrics, peer codecs, the measuring loop, BD-rate, reports and plots;
and evaluations of one model or two (`evaluate*.py`).

Nothing heavy is imported here; `aecodec bench` (aecodec/cli/bench.py) puts the
modules together. What they need beyond aecodec itself is the extra
`aecodec[bench]`.
"""
