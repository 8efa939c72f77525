"""
Tests of the measuring programs: of what they make of figures, not of the figures.
"""
