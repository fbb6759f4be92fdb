"""How other tools decide that something became slower, written again from their sources, to be compared with ours.

Each takes the values that the tool would have of either side and says whether it would call the second one slower. None
is used for a verdict of this program.
"""
