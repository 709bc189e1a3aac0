"""The contract: Part, Span, State, Config, and the accounting. Imports nothing above it."""
