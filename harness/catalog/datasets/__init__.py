"""Labelled images to train and evaluate with."""
