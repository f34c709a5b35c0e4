"""What a person looks at after a run: score tables, curves and pictures.

Nothing is imported here, so that a command that draws no curves does not load matplotlib.
"""
