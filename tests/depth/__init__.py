"""Which positions a block processes."""
