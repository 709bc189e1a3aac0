"""Which positions does a block process?"""
