"""Measure the detector itself: how often it alarms at nothing, and how small a slowdown it finds."""
