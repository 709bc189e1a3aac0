"""Side-by-side timings, each against a named peer or a roofline of the same run. `python -m benchmarks` runs all."""
