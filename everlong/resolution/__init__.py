"""At what granularity is the sequence modelled?"""
