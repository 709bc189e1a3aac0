"""The six laws (docs/design.md, section 3), each with the mutants that it must catch."""
