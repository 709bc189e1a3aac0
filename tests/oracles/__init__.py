"""Oracles: every part once more, as plain as its equation, for one document in float64.

An oracle takes a configuration, the weights by name, and the vectors of one document from its first position on. It
knows no batch, no cache, no chunk and no kernel, and shares no code with the package.
"""
